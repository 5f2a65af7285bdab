"""A judge against scores on disk: what `empathy score` writes, and out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distill.agreement.compare import MIN_PAIRS, judge_against_scorer, judge_against_scores
from distill.errors import AgreementError
from distill.labelled import LabelledSet, read_labelled
from distill.training.calibrate import cross_levels
from scorer.dialogue import HEADS
from scorer.errors import InputError, OutputError
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.run.score import score_files
from scorer.run.settings import ScoreSettings
from tests.conftest import COUNT, labels, read, record, same, write_lines

# Against scores on disk


def score(scorer: Scorer, source: Path, output: Path, **settings: Any) -> Path:
    score_files(scorer, Corpus([str(source)]), output, ScoreSettings(window=16, **settings))
    return output


@pytest.mark.parametrize("name", ["out.parquet", "out.jsonl", "out.csv", "out"])
def test_every_kind_of_score_file_gives_the_scorers_own_figures(
    scorer: Scorer, labelled: LabelledSet, source: Path, tmp_path: Path, name: str
) -> None:
    output = score(scorer, source, tmp_path / name)
    found = judge_against_scores(labelled, output, 6).measure(0)
    same(found.figures, judge_against_scorer(labelled, scorer, 6).measure(0).figures)
    assert (found.reference, found.other, found.notes) == ("judge-1", name, [])


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
@pytest.mark.parametrize("id_", ["00{}", "2024-01-{:02}", "{}e5"])
def test_ids_that_look_like_something_else_are_text(scorer: Scorer, tmp_path: Path, name: str, id_: str) -> None:
    source = write_lines(tmp_path / "in.jsonl", [{**entry, "id": id_.format(i)} for i, entry in enumerate(labels(20))])
    labelled = read_labelled([str(source)])
    found = judge_against_scores(labelled, score(scorer, source, tmp_path / name))
    assert (len(found.pair), found.notes) == (20, [])


def test_rejects_and_the_order_of_scores_do_not_matter(
    scorer: Scorer, labelled: LabelledSet, source: Path, tmp_path: Path
) -> None:
    more = write_lines(tmp_path / "more.jsonl", [{"messages": []}, *labels()])
    expected = judge_against_scores(labelled, score(scorer, more, tmp_path / "out")).pair.other.tolist()
    table = pq.read_table(score(scorer, source, tmp_path / "out.parquet"))
    pq.write_table(table.take(list(reversed(range(COUNT)))), tmp_path / "reversed.parquet")
    assert judge_against_scores(labelled, tmp_path / "reversed.parquet").pair.other.tolist() == expected


def test_labels_without_a_score_are_noted(scorer: Scorer, labelled: LabelledSet, tmp_path: Path) -> None:
    part = write_lines(tmp_path / "part.jsonl", labels()[10:55])
    found = judge_against_scores(labelled, score(scorer, part, tmp_path / "out.parquet"))
    assert found.notes == ["15 labelled dialogues have no score"]
    assert found.pair.reference.tolist() == labelled.scores[10:55].tolist()
    assert found.conversations == labelled.conversations[10:55]


def test_scores_of_other_dialogues_are_refused(scorer: Scorer, labelled: LabelledSet, tmp_path: Path) -> None:
    few = [{**entry, "id": f"other {i}"} if i >= MIN_PAIRS - 1 else entry for i, entry in enumerate(labels())]
    output = score(scorer, write_lines(tmp_path / "few.jsonl", few), tmp_path / "out.parquet")
    with pytest.raises(AgreementError, match=r"out\.parquet: 9 of its 60 ids are among the 60 labelled dialogues"):
        judge_against_scores(labelled, output)


def test_scores_that_name_no_cuts_are_refused(
    scorer: Scorer, labelled: LabelledSet, source: Path, tmp_path: Path
) -> None:
    output = score(scorer, source, tmp_path / "out.csv")
    (tmp_path / "out.csv.meta.json").unlink()
    with pytest.raises(AgreementError, match=r"out\.csv: says nothing of its scorer's cuts; .* --scorer"):
        judge_against_scores(labelled, output)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("out.txt", "id\n", r"expected scores as \.parquet, \.jsonl, \.csv or a folder"),
        ("out.jsonl", '{"id": "d0", "rationality": 3}\n', "has columns id, rationality, and no sensibility"),
        ("out.parquet", "no parquet", "cannot be read as scores"),
    ],
)
def test_a_file_that_holds_no_scores_is_one_line(
    labelled: LabelledSet, tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises((InputError, OutputError), match=message):
        judge_against_scores(labelled, tmp_path / name)


# Against out-of-fold predictions


def write_oof(path: Path, labelled: LabelledSet, folds: Sequence[int]) -> Path:
    """Write held-out predictions as `empathy train` does: shrunk, with ids of their own."""
    rng = np.random.default_rng(5)
    scores = (5 + 0.3 * (labelled.scores - 5) + rng.normal(0, 0.3, labelled.scores.shape)).astype(np.float32)
    columns: dict[str, Any] = {
        "id": [f"row {i}" for i in range(len(labelled))],
        "conversation": labelled.conversations,
        "fold": np.asarray(folds),
        **{head: scores[:, i] for i, head in enumerate(HEADS)},
        "content": labelled.hashes,
    }
    pq.write_table(pa.table(columns), path)
    return path


FOLDS = [(i // 2) % 3 for i in range(COUNT)]


def test_out_of_fold_scores_are_read_off_the_cuts_of_the_other_folds(labelled: LabelledSet, tmp_path: Path) -> None:
    oof = write_oof(tmp_path / "oof.parquet", labelled, FOLDS)
    found = judge_against_scores(labelled, oof).measure(0)
    expected = cross_levels(found.pair.other.astype(np.float32), labelled.scores, np.array(FOLDS))
    assert found.pair.other_levels.tolist() == expected.tolist()
    assert found.notes == ["out-of-fold scores; the cuts of each fold come from the other folds"]
    assert found.figures["sensibility.pearson"] > 0.8


def test_labels_of_a_fold_do_not_move_its_own_cuts(labelled: LabelledSet, tmp_path: Path) -> None:
    oof = write_oof(tmp_path / "oof.parquet", labelled, FOLDS)
    mine = np.array(FOLDS) == 1
    changed = labelled.take(np.arange(COUNT))
    changed.scores[mine] = 10 - changed.scores[mine]
    before, after = (judge_against_scores(entry, oof).pair.other_levels for entry in (labelled, changed))
    assert after[mine].tolist() == before[mine].tolist()
    assert after[~mine].tolist() != before[~mine].tolist()


def test_out_of_fold_scores_are_matched_by_content(labelled: LabelledSet, tmp_path: Path) -> None:
    oof = write_oof(tmp_path / "oof.parquet", labelled, FOLDS)
    rows = np.arange(COUNT)[::-3]
    found = judge_against_scores(labelled.take(rows), oof)
    assert found.pair.other[:, 0].tolist() == pq.read_table(oof)["sensibility"].to_numpy()[rows].tolist()
    others = read(tmp_path / "others.jsonl", labels(12, **record("another", "text")))
    with pytest.raises(AgreementError, match="0 of its 60 contents are among the 1 labelled dialogues"):
        judge_against_scores(others, oof)


def test_one_fold_has_no_others_to_take_cuts_from(labelled: LabelledSet, tmp_path: Path) -> None:
    oof = write_oof(tmp_path / "oof.parquet", labelled, FOLDS)
    with pytest.raises(AgreementError, match="the 20 dialogues in both are of one fold, expected two at least"):
        judge_against_scores(labelled.take(np.flatnonzero(np.array(FOLDS) == 2)), oof)
