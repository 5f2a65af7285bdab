"""The benchmark of strategies: bought labels alone teach, and a run that was killed goes on."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from benchmarks.sampling import Bench, buy, figures_of, held_out, main, point, ridge
from benchmarks.sampling_figures import FIGURES, saved
from distill.labelled import read_labelled
from distill.sampling.embeddings import embed_dialogues
from distill.settings import STRATEGIES
from tests.distill.tiny import labelled_file, write_backbone

SIZES = (40, 80, 120)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return labels that words explain, and a tiny encoder."""
    folder = tmp_path_factory.mktemp("sampling")
    return labelled_file(folder / "labels.jsonl", 240), write_backbone(folder / "tiny")


@pytest.fixture
def bench(files: tuple[Path, Path], tmp_path: Path) -> Bench:
    labelled = read_labelled([str(files[0])])
    embeddings = embed_dialogues(labelled.dialogues)
    return Bench(labelled, ridge(labelled, embeddings), embeddings, SIZES, tmp_path)


def run(files: tuple[Path, Path], work: Path, *more: str) -> Result:
    command = [str(files[0]), "--backbone", str(files[1]), "--learner", "ridge", "--sizes", "40,80"]
    return CliRunner().invoke(main, [*command, "--work", str(work), *more], catch_exceptions=False)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_rounds_add_to_what_was_bought_and_never_buy_what_is_read(bench: Bench, strategy: str) -> None:
    bought = [point(bench, strategy, 1, size).chosen for size in SIZES]
    for less, more in pairwise(bought):
        np.testing.assert_array_equal(more[: len(less)], less)
    assert [len(set(rows.tolist())) for rows in bought] == list(SIZES)
    assert not held_out(bench, 1)[bought[-1]].any()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_label_that_is_not_bought_changes_no_choice(bench: Bench, strategy: str) -> None:
    before = buy(bench, strategy, 0, 120)
    for path in bench.work.glob("*.npz"):
        path.unlink()
    unknown = np.setdiff1d(np.arange(len(bench.labelled)), before)
    bench.labelled.scores[unknown] = 10 - bench.labelled.scores[unknown]
    np.testing.assert_array_equal(buy(bench, strategy, 0, 120), before)


def test_strategies_that_need_scores_begin_with_the_labels_of_random(bench: Bench) -> None:
    first = [point(bench, strategy, 0, 40).chosen.tolist() for strategy in ("random", "stratified", "uncertain")]
    assert first[0] == first[1] == first[2]
    assert set(figures_of(bench, point(bench, "random", 0, 40), 0)) == set(FIGURES)


@pytest.mark.slow
def test_a_run_that_was_killed_makes_only_what_is_missing(files: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    first = run(files, tmp_path, "--json", str(output), "--chart", str(tmp_path / "chart.png"))
    assert first.output.count("labels: ") == 2 * 6  # two seeds, and two first points for four strategies
    figures = json.loads(output.read_text())
    assert len(figures["rows"]) == 2 * 2 * 4
    assert figures["machine"]["cores"] >= 1
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "ridge" / "diverse-1-80.npz").unlink()
    again = run(files, tmp_path, "--json", str(output))
    assert again.output.count("labels: ") == 1
    assert json.loads(output.read_text())["rows"] == figures["rows"]


def test_points_of_other_labels_are_not_continued(files: tuple[Path, Path], tmp_path: Path) -> None:
    run(files, tmp_path, "--seeds", "0", "--strategies", "random")
    other = labelled_file(tmp_path / "other.jsonl", 240, seed=1)
    refused = run((other, files[1]), tmp_path)
    assert refused.exit_code == 1
    assert "holds points of other labels or settings" in refused.output


def rows(**curves: list[float]) -> list[dict[str, Any]]:
    return [
        {"strategy": strategy, "seed": 0, "labels": size, "kappa": value}
        for strategy, values in curves.items()
        for size, value in zip((250, 500, 1000), values, strict=True)
    ]


def test_labels_saved_are_read_off_the_random_curve() -> None:
    found = saved(rows(random=[0.1, 0.2, 0.3], uncertain=[0.1, 0.3, 0.4]), "kappa")
    assert found == {500: "+500", 1000: "> +0"}
    worse = saved(rows(random=[0.1, 0.2, 0.3], uncertain=[0.1, 0.05, 0.25]), "kappa")
    assert worse == {500: "< -250", 1000: f"{1000 * 0.5**0.5 - 1000:+.0f}"}
