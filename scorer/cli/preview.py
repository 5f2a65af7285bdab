"""Scores in the terminal: a table of dialogues and a histogram per head."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from rich.bar import Bar
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scorer.dialogue import HEADS, Dialogue
from scorer.engines.base import Scores
from scorer.errors import InputError
from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import Reject
from scorer.model import Scorer
from scorer.text import plain

_TABLE_ROWS = 24
_BAR = 40


def examples_path() -> Path:
    """Return the example dialogues: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    for path in (package / "examples.jsonl", package.parent / "examples" / "dialogues.jsonl"):
        if path.is_file():
            return path
    raise InputError("the example dialogues are not installed; name a file of dialogues instead")


def show_scores(scorer: Scorer, corpus: Corpus, path: Path, stream: IO[str]) -> None:
    """Print a table of the highest, middle and lowest dialogues by sensibility, and a histogram of each head.

    ``path`` is the score file that ``scorer`` made of ``corpus``. InputError if nothing could be scored.
    """
    import pyarrow.parquet as pq

    records = list(corpus)
    dialogues = [record for record in records if isinstance(record, Dialogue)]
    rejects = [record for record in records if isinstance(record, Reject)]
    if not dialogues:
        raise InputError(f"nothing to score; the first of {len(rejects)} rejected records: {rejects[0]}")
    columns = pq.read_table(path, columns=list(HEADS))
    scores = np.stack([columns[head].to_numpy() for head in HEADS], axis=1)
    width = shutil.get_terminal_size((100, 24)).columns
    console = Console(file=stream, width=width, highlight=False, markup=False)
    by = plain(f"{scorer.bundle.info.name} ({scorer.bundle.info.backbone})")
    console.print(f"{len(dialogues)} dialogues, scored by {by}\n")
    console.print(table(dialogues, scores))
    for index, head in enumerate(HEADS):
        console.print(f"\n{head} (mean {scores[:, index].mean():.2f})")
        console.print(histogram(scores[:, index]))
    outside = scorer.bundle.info.domain.outside(dialogues, scorer.encoder.encode(dialogues))
    counts = {name: int(rows.sum()) for name, rows in outside.items()}
    if warning := scorer.bundle.info.domain.warning(counts, len(dialogues)):
        console.print(f"\nwarning: {warning}")
    if rejects:
        console.print(f"\n{len(rejects)} records rejected, the first: {plain(str(rejects[0]))}")


def table(dialogues: Sequence[Dialogue], scores: Scores) -> Table:
    """Return one row per dialogue, highest sensibility first, evenly chosen where there are more than fit."""
    order = np.argsort(-scores[:, 0], kind="stable")
    shown = order[np.unique(np.linspace(0, len(order) - 1, min(_TABLE_ROWS, len(order))).round().astype(int))]
    made = Table(box=None, padding=(0, 1, 0, 0), expand=True)
    for name in ("sens.", "rat."):
        made.add_column(name, justify="right", no_wrap=True)
    for name in ("last turn before", "response"):
        made.add_column(name, ratio=1, no_wrap=True, overflow="ellipsis")
    for row in shown:
        texts = (plain(" ".join(turn.content.split())) for turn in dialogues[row].turns[-2:])
        made.add_row(*(f"{score:.1f}" for score in scores[row]), *map(Text, texts))
    return made


def histogram(values: npt.NDArray[np.float32]) -> Table:
    """Return one bar per whole score: how many values lie in [n, n + 1), 10 counted with 9."""
    counts, _ = np.histogram(values, bins=np.arange(11))
    made = Table.grid(padding=(0, 1, 0, 0))
    for low, count in enumerate(counts):
        made.add_row(f"{low:3} - {low + 1:<2}", Bar(max(1, counts.max()), 0, count, width=_BAR), str(count))
    return made
