"""A judge's labels by id: means of several judgements, whose they are, and what is no label."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from scorer.inputs.corpus import id_hash
from selection.errors import SelectionError
from selection.files.labels import Index, LabelTable
from tests.conftest import record
from tests.scorer.run.score_data import Pair
from tests.selection.selection_data import labelled, labels_of


def table(tmp_path: Path, *records: object) -> LabelTable:
    return labels_of(tmp_path, records)


def by_id(found: LabelTable, *ids: str) -> list[Pair | None]:
    """Return the scores of some ids, None for those that have none."""
    rows = found.rows_of(np.array([id_hash(id_) for id_ in ids], dtype=np.uint64)).tolist()
    return [None if row < 0 else (float(found.scores[row, 0]), float(found.scores[row, 1])) for row in rows]


def test_labels_are_found_by_id_in_any_order(tmp_path: Path) -> None:
    found = table(tmp_path, labelled("a", (8, 2)), labelled("b", (0, 10)), labelled("c", (5.5, 4.25)))
    assert by_id(found, "c", "nobody", "a", "b", "a") == [(5.5, 4.25), None, (8, 2), (0, 10), (8, 2)]
    assert len(found) == 3
    assert (found.first.shape, found.second.shape) == ((0, 2), (0, 2))


def test_no_ids_and_no_rows_are_found_nowhere() -> None:
    empty = np.zeros(0, dtype=np.uint64)
    assert Index(empty).rows_of(np.array([3], dtype=np.uint64)).tolist() == [-1]
    assert Index(np.array([3, 1], dtype=np.uint64)).rows_of(empty).tolist() == []
    largest = 2**64 - 1
    hashes = np.array([largest, 0, 7], dtype=np.uint64)
    assert Index(hashes).rows_of(np.array([7, largest, 8, 0], dtype=np.uint64)).tolist() == [2, 0, -1, 1]


def test_several_judgements_of_one_dialogue_are_averaged(tmp_path: Path) -> None:
    found = table(tmp_path, labelled("a", (8, 2)), labelled("b", (1, 1)), labelled("a", (5, 3)), labelled("a", (8, 10)))
    assert len(found) == 2
    assert by_id(found, "a", "b") == [(7, 5), (1, 1)]
    assert (found.first.tolist(), found.second.tolist()) == ([[8, 2]], [[5, 3]])
    assert found.judges.judgements == 4


def test_the_same_id_with_another_text_is_another_dialogue_and_is_rejected(tmp_path: Path) -> None:
    found = table(tmp_path, labelled("a", (8, 2)), labelled("a", (0, 10), text="another text"))
    assert by_id(found, "a") == [(8, 2)]
    (reject,) = found.rejects
    assert (reject.reason, reject.line, reject.id) == ("duplicate_id", 2, "a")


def test_conversations_stand_beside_their_rows(tmp_path: Path) -> None:
    found = table(tmp_path, *(labelled(id_, (5, 5), conversation=f"c-{id_}") for id_ in ("b", "a", "b", "c")))
    rows = found.rows_of(np.array([id_hash(id_) for id_ in "abc"], dtype=np.uint64))
    assert [found.conversations[row] for row in rows] == ["c-a", "c-b", "c-c"]


def test_whose_judgements_they_are_and_what_they_cost(tmp_path: Path) -> None:
    found = table(
        tmp_path,
        labelled("a", (8, 2), judge={"model": "judge-1", "rubric": "paper", "cost_usd": 0.25}),
        labelled("a", (7, 2), judge={"model": "judge-2", "rubric": "paper", "cost_usd": 0.75}),
        labelled("b", (8, 2), judge={"model": "judge-1"}),
        labelled("c", (8, 2), judge=None),
    )
    assert msgspec.to_builtins(found.judges.info()) == {
        "models": ["judge-1", "judge-2"],
        "rubrics": ["paper"],
        "judgements": 4,
        "usd_a_judgement": 0.5,
    }
    assert table(tmp_path, labelled("a", (8, 2))).judges.price is None


def test_the_published_form_has_labels(tmp_path: Path) -> None:
    text = "- Rationality: 3 - Sensibility: 9"
    found = table(tmp_path, {"id": "r", "context": "hi", "response": "so sorry", "evaluation": text})
    assert by_id(found, "r") == [(9, 3)]


@pytest.mark.parametrize("value", [-0.5, 10.5, float("nan"), float("inf"), "8", True, None])
def test_what_is_no_label_is_rejected_and_never_guessed(tmp_path: Path, value: object) -> None:
    found = table(tmp_path, labelled("a", (8, 2)), labelled("b", (value, 2)), record("i am sad", "sorry", id="c"))
    assert by_id(found, "a", "b", "c") == [(8, 2), None, None]
    assert [(reject.line, reject.reason) for reject in found.rejects] == [(2, "bad_label"), (3, "no_label")]


def test_no_label_at_all_is_an_error_that_shows_the_first_record(tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match=r"no labelled dialogue among 2 records; the first: .*:1: no_label"):
        table(tmp_path, record("i am sad", "sorry"), record("we won", "great"))
    with pytest.raises(SelectionError, match=r"no labelled dialogue among 1 records; the first: .*: empty_file"):
        table(tmp_path)
