"""Labelled files -> one row per dialogue: judgements averaged, the rest rejected, and too little refused."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distill.errors import TrainError
from distill.labelled import MIN_DIALOGUES, LabelledSet, check_trainable, read_labelled
from scorer.dialogue import training_hash
from scorer.errors import InputError
from tests.conftest import record, varied, write_lines


def labelled_record(*texts: str, s: object = 7, r: object = 4, **more: Any) -> dict[str, Any]:
    return record(*texts, sensibility=s, rationality=r, **more)


def many(count: int, conversations: int = 10_000) -> list[dict[str, Any]]:
    """Return different dialogues with different labels, in so many conversations."""
    return [
        labelled_record(*(turn.content for turn in dialogue.turns), f"number {i}", "so sorry")
        | {"sensibility": i % 11, "rationality": (3 * i) % 11, "conversation": f"c{i % conversations}"}
        for i, dialogue in enumerate(varied(count))
    ]


def read(folder: Path, *files: Sequence[object]) -> LabelledSet:
    """Write each file's records as JSON lines, and read them all."""
    return read_labelled([str(write_lines(folder / f"{i}.jsonl", records)) for i, records in enumerate(files)])


# Reading


def test_each_dialogue_is_a_row_with_its_labels(tmp_path: Path) -> None:
    found = read(tmp_path, [labelled_record("a", "b", s=8, r=2, id="x"), labelled_record("c", "d", s=0, r=10.0)])
    assert len(found) == 2
    assert found.scores.dtype == np.float32
    assert found.scores.tolist() == [[8, 2], [0, 10]]
    assert [dialogue.response for dialogue in found.dialogues] == ["b", "d"]
    assert found.dialogues[0].id == "x"
    assert found.hashes == [training_hash(dialogue) for dialogue in found.dialogues]
    assert found.conversations == [dialogue.conversation for dialogue in found.dialogues]
    assert found.rejects == ()


def test_several_judgements_of_a_dialogue_are_averaged_in_the_order_read(tmp_path: Path) -> None:
    judges = [{"model": "one"}, {"model": "two"}, {"model": "one", "temperature": 0.7}]
    records = [
        labelled_record("a", "b", s=s, r=r, judge=judges[i]) for i, (s, r) in enumerate([(8, 2), (7, 3), (6, 7)])
    ]
    found = read(tmp_path, [records[0], labelled_record("c", "d", s=1, r=1), records[1]], records[2:])
    assert found.scores.tolist() == [[7, 4], [1, 1]]
    assert [labels.sensibility for labels in found.judgements[0]] == [8, 7, 6]
    assert [labels.judge for labels in found.judgements[0]] == judges
    assert found.judgements[1][0].judge is None


def test_a_dialogue_is_known_by_its_text_whatever_its_spelling_spacing_or_id(tmp_path: Path) -> None:
    found = read(
        tmp_path, [labelled_record("I’m  sad", "So\nsorry", s=2, id="1")], [labelled_record("i'm sad", "so sorry", s=5)]
    )
    assert found.scores[:, 0].tolist() == [3.5]
    assert found.dialogues[0].id == "1"
    found = read(tmp_path, [labelled_record("a", b, s=s, id="same") for b, s in (("b", 4), ("b", 5), ("c", 9))])
    assert (found.scores[:, 0].tolist(), found.rejects) == ([4.5, 9], ())


def test_every_form_of_label_is_read(tmp_path: Path) -> None:
    release = {"context": "a</s>b</s>c", "response": "d", "evaluation": "- Rationality: 8 - Sensibility: 5"}
    found = read(tmp_path, [release, labelled_record("c", "d", s=1.5, r=2)])
    assert found.scores.tolist() == [[5, 8], [1.5, 2]]
    table = pa.Table.from_pylist([labelled_record("e", "f", s=3, r=9, judge={"model": "m", "temperature": 0.0})])
    pq.write_table(table, tmp_path / "labels.parquet")
    found = read_labelled([str(tmp_path / "labels.parquet")])
    assert found.scores.tolist() == [[3, 9]]
    assert found.judgements[0][0].judge == {"model": "m", "temperature": 0.0}


def test_a_judgement_weighs_less_the_more_there_are(tmp_path: Path) -> None:
    records = [labelled_record(f"dialogue {k}", "b") for k in (1, 2, 3, 20) for _ in range(k)]
    weights = read(tmp_path, records).weights
    assert weights.mean() == pytest.approx(1)
    assert weights / weights[0] == pytest.approx([1, 4 / 3, 3 / 2, 40 / 21])


def test_rows_can_be_taken(tmp_path: Path) -> None:
    whole = read(tmp_path, [*many(6), {"messages": []}])
    part = whole.take(np.array([4, 1]))
    assert [dialogue.id for dialogue in part.dialogues] == [whole.dialogues[row].id for row in (4, 1)]
    assert part.scores.tolist() == whole.scores[[4, 1]].tolist()
    assert part.judgements == (whole.judgements[4], whole.judgements[1])
    assert (len(whole.rejects), part.rejects) == (1, ())


# Rejects


@pytest.mark.parametrize(
    ("bad", "reason", "detail"),
    [
        (record("a", "b"), "no_label", "no sensibility and rationality, nor evaluation"),
        (labelled_record("a", "b", s=11), "bad_label", "sensibility is int 11, expected a number from 0 to 10"),
        (labelled_record("a", "b", r=-0.5), "bad_label", "rationality is float -0.5, expected a number from 0"),
        (labelled_record("a", "b", s=float("nan")), "bad_label", "sensibility is float nan, expected"),
        (labelled_record("a", "b", s="8"), "bad_label", "sensibility is str '8', expected a number"),
        (labelled_record("a", "b", s=True), "bad_label", "sensibility is bool True, expected a number"),
        (record("a", "b", sensibility=7), "bad_label", "rationality is NoneType None, expected a number"),
        (record("a", "b", evaluation="Sensibility: 5"), "bad_label", "has 0 values of rationality"),
    ],
)
def test_a_record_without_a_good_label_is_a_reject_that_says_why(
    tmp_path: Path, bad: dict[str, Any], reason: str, detail: str
) -> None:
    found = read(tmp_path, [labelled_record("c", "d"), bad, labelled_record("e", "f")])
    assert len(found) == 2
    (reject,) = found.rejects
    assert (reject.line, reject.reason) == (2, reason)
    assert detail in reject.detail


def test_a_bad_judgement_takes_no_part_in_the_mean(tmp_path: Path) -> None:
    found = read(tmp_path, [labelled_record("a", "b", s=s) for s in (4, 10.5, 8)])
    assert found.scores[0].tolist() == [6, 4]
    assert len(found.rejects) == 1


def test_no_label_at_all_is_one_line_with_the_first_reason(tmp_path: Path) -> None:
    with pytest.raises(TrainError) as caught:
        read(tmp_path, [labelled_record("a", "b", s=11), record("c", "d")])
    message = str(caught.value)
    assert "0.jsonl: no labelled dialogue among 2 records; the first: " in message
    assert message.endswith("0.jsonl:1: bad_label: sensibility is int 11, expected a number from 0 to 10")
    assert message.isprintable()


def test_no_file_is_an_error_of_the_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.jsonl"):
        read_labelled([str(tmp_path / "nothing.jsonl")])


# Enough to train on


@pytest.mark.parametrize(
    ("count", "conversations", "parts", "same", "message"),
    [
        (MIN_DIALOGUES, 10_000, 10, {}, ""),
        (MIN_DIALOGUES, 6, 3, {}, ""),
        (MIN_DIALOGUES - 1, 10_000, 2, {}, "49 labelled dialogues, expected at least 50 .*: label more with"),
        (60, 1, 10, {}, "1 conversation in 60 labelled dialogues, expected at least 20: whole conversations are held"),
        (60, 19, 10, {}, "19 conversations in 60 labelled dialogues, expected at least 20: whole conversations are"),
        (60, 5, 3, {}, "5 conversations in 60 labelled dialogues, expected at least 6: whole conversations are held"),
        (60, 60, 10, {"sensibility": 7}, "every sensibility label is 7, so there is nothing to learn"),
        (60, 60, 10, {"rationality": 0.1}, "every rationality label is 0.1, so there is nothing to learn"),
    ],
)
def test_too_few_dialogues_or_conversations_and_equal_labels_are_refused(
    tmp_path: Path, count: int, conversations: int, parts: int, same: dict[str, float], message: str
) -> None:
    records = [record | same for record in many(count, conversations)]
    labelled = read(tmp_path, [*records, *records])  # judged twice, and no more for it
    with pytest.raises(TrainError, match=f"^{message}") if message else nullcontext():
        check_trainable(labelled, parts)
