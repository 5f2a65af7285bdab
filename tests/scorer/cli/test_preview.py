"""The table and the histograms of `empathy demo`."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from scorer.cli.preview import examples_path, histogram, table
from scorer.dialogue import Dialogue
from scorer.inputs.corpus import Corpus
from tests.conftest import Run, make_dialogue, varied


def shown(what: Table, width: int = 90) -> list[str]:
    """Return the lines that a terminal of that width shows."""
    console = Console(file=io.StringIO(), width=width)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_histogram_counts_every_value_and_puts_10_with_9() -> None:
    lines = shown(histogram(np.array([0, 0.5, 3.2, 10, 9.9], dtype=np.float32)))
    assert [int(line.split()[-1]) for line in lines] == [2, 0, 0, 1, 0, 0, 0, 0, 0, 2]
    assert lines[0].count("█") == 2 * lines[3].count("█")


def test_the_table_is_sorted_and_fits_the_width_whatever_the_texts_hold() -> None:
    dialogues = [*varied(99), make_dialogue("👩‍👩‍👧 " * 60, "[bold]我很難過[/bold] " * 30)]
    scores = np.random.default_rng(0).uniform(0, 10, (100, 2)).astype(np.float32)
    scores[99, 0] = 10
    lines = shown(table(dialogues, scores))
    first = [float(line.split()[0]) for line in lines[1:]]
    assert first == sorted(first, reverse=True)
    assert len(first) == 24
    assert first[0] == 10
    assert "[bold]" in lines[1]
    assert max(map(cell_len, lines)) <= 90


def test_the_examples_are_many_varied_and_all_good() -> None:
    found = list(Corpus([str(examples_path())]))
    dialogues = [item for item in found if isinstance(item, Dialogue)]
    assert len(dialogues) == len(found) >= 60
    assert len({dialogue.category for dialogue in dialogues}) == 32
    assert len({len(dialogue.turns) for dialogue in dialogues}) >= 4


def test_the_demo_scores_selects_and_draws(empathy: Run, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    for _ in range(2):  # an earlier demo is replaced
        found = empathy("demo", "-o", str(folder))
        assert found.returncode == 0, found.stderr
    assert "warning" not in found.stdout
    for part in ("64 dialogues, scored by", "sensibility (mean", "rationality (mean", "selected from 64"):
        assert part in found.stdout
    assert "<html" in (folder / "report.html").read_text()
    sets = [len(path.read_text().splitlines()) for path in (folder / "sets").glob("*.jsonl")]
    assert sum(sets) == len(pq.read_table(folder / "scores.parquet")) == 64


def test_the_demo_says_what_it_cannot_use(empathy: Run, tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("x\n")
    found = empathy("demo", str(tmp_path / "bad"), "-o", str(tmp_path / "demo"))
    assert found.returncode == 2
    assert "nothing to score; the first of 1 rejected records" in found.stderr
    found = empathy("demo", "-", "-o", str(tmp_path / "demo"))
    assert found.returncode == 2
    assert "standard input will not do" in found.stderr
