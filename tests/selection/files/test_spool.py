"""The one pass over the dialogues: scores found, labels averaged, every drop with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scorer.errors import RejectedError
from scorer.inputs.corpus import Corpus, id_hash
from scorer.progress import Progress, Silent
from scorer.run.score_table import read_scores
from selection.errors import SelectionError
from selection.files import spool as module
from selection.files.manifest import REJECTS
from selection.files.spool import ROWS, SPOOL, Spooled, read_rows, spool_corpus
from tests.conftest import make_tokenizer, record, write_lines
from tests.scorer.run.score_data import SCORES, write_scores
from tests.selection.selection_data import dialogues, labelled, labels_of, read_lines, records


@pytest.fixture(params=[3, 8192])
def window(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Windows that end in the middle of the input, and one that holds all of it."""
    monkeypatch.setattr(module, "_WINDOW", request.param)
    size: int = request.param
    return size


def run(folder: Path, items: list[dict[str, Any]], *, progress: Progress | None = None, **more: Any) -> Spooled:
    """Spool records: by scores if ``scores`` are given, else by their own labels."""
    folder.mkdir()
    path = str(write_lines(folder / "in.jsonl", items))
    scores = more.pop("scores", None)
    corpus = Corpus([path]) if scores else Corpus([path], labels="required", unique_ids=False)
    table = read_scores(write_scores(folder / "scores.parquet", scores)) if scores else None
    return spool_corpus(corpus, folder, progress or Silent(), table=table, **more)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for batch in read_rows(folder / ROWS) for row in batch.to_pylist()]


@pytest.mark.usefixtures("window")
def test_each_dialogue_finds_its_scores_wherever_they_stand(tmp_path: Path) -> None:
    backwards = dict(reversed(list(SCORES.items())))
    found = run(tmp_path / "x", records(), scores=backwards)
    assert [tuple(row) for row in found.evidence.scores.tolist()] == list(SCORES.values())
    assert found.evidence.hashes.tolist() == [id_hash(id_) for id_ in SCORES]
    assert len(found.evidence) == 7
    assert not found.evidence.judged.any()
    assert (found.rejected.total(), found.evidence.tokens) == (0, None)
    assert (tmp_path / "x" / REJECTS).read_text() == ""


@pytest.mark.usefixtures("window")
def test_the_spool_and_the_rows_hold_every_dialogue_in_order(tmp_path: Path) -> None:
    items = [
        record("hi", "well", "i am sad", "so sorry to hear", id="a", category="sad", conversation="k"),
        record("we won\nthe game", "that\u2028is great", id="b", category="joyful"),
        record("hello", "one  two\tthree", id="c"),
        *records(["d", "e"], category="sad"),
    ]
    found = run(tmp_path / "x", items, scores=dict.fromkeys("abcde", (5.0, 5.0)))
    assert dialogues(tmp_path / "x" / SPOOL) == dialogues(tmp_path / "x" / "in.jsonl")
    rows = rows_of(tmp_path / "x")
    assert [row["id"] for row in rows] == [*"abcde"]
    assert [row["category"] for row in rows] == ["sad", "joyful", None, "sad", "sad"]
    assert [row["turns"] for row in rows] == [4, 2, 2, 2, 2]
    assert [row["words"] for row in rows] == [4, 3, 3, 3, 3]
    assert found.evidence.categories.tolist() == [0, 1, -1, 0, 0]
    assert found.evidence.conversations[0] == id_hash("k")


@pytest.mark.usefixtures("window")
def test_a_dialogue_without_a_score_is_a_counted_reject(tmp_path: Path) -> None:
    scores = {id_: pair for id_, pair in SCORES.items() if id_ not in "bf"} | {"nobody": (5.0, 5.0)}
    found = run(tmp_path / "x", [*records(), {"messages": []}, *records(["a"])], scores=scores)
    assert [row["id"] for row in rows_of(tmp_path / "x")] == [*"acdeg"]
    assert found.rejected == {"no_score": 2, "no_response": 1, "duplicate_id": 1}
    missing = [line for line in read_lines(tmp_path / "x" / REJECTS) if line["reason"] == "no_score"]
    assert [(line["line"], line["id"]) for line in missing] == [(2, "b"), (6, "f")]
    assert missing[0]["detail"] == "id 'b' is not in scores.parquet, expected a score for every dialogue"


def test_ids_that_do_not_match_at_all_are_an_error_that_shows_one(tmp_path: Path) -> None:
    expected = r"no dialogue has a score among 7 records; the first: .*in.jsonl:1: no_score: id 'a' is not in scores"
    with pytest.raises(SelectionError, match=expected):
        run(tmp_path / "x", records(), scores={"other": (5.0, 5.0)})


def test_an_empty_input_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match=r"no dialogue has a score .* empty_file"):
        run(tmp_path / "x", [], scores=SCORES)
    with pytest.raises(SelectionError, match=r"no dialogue has a label .* no_label"):
        run(tmp_path / "y", records())


@pytest.mark.usefixtures("window")
def test_strict_stops_at_the_first_reject(tmp_path: Path) -> None:
    with pytest.raises(RejectedError, match=r"in.jsonl:2: no_score: .*--strict"):
        run(tmp_path / "x", records(), scores={"a": (5.0, 5.0)}, strict=True)
    with pytest.raises(RejectedError, match=r"in.jsonl:2: no_label: .*--strict"):
        run(tmp_path / "y", [labelled("a", (5, 5)), *records(["b"])], strict=True)


@pytest.mark.usefixtures("window")
def test_judgements_of_one_dialogue_are_averaged_wherever_they_stand(tmp_path: Path) -> None:
    judged = zip("abacb", [(8, 1), (1, 9), (5, 3), (0, 10), (2, 9)], strict=True)
    items = [labelled(id_, pair) for id_, pair in judged]
    found = run(tmp_path / "x", [*items, labelled("a", (8, 5), category="late")])
    assert found.evidence.scores.tolist() == [[7, 3], [1.5, 9], [0, 10]]
    assert [row["id"] for row in rows_of(tmp_path / "x")] == ["a", "b", "c"]
    assert found.evidence.judged.all()
    assert found.judges.judgements == 6
    assert len(read_lines(tmp_path / "x" / SPOOL)) == 3


def test_the_order_of_judgements_does_not_move_their_mean_over_a_cut(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    half = [(s, 11.0 - s) for s in (3.0, 4.0, 5.0, 6.0, 7.0, 8.0) for _ in range(3)]  # the mean of both is 5.5
    for k in range(10):
        order = rng.permutation(len(half))
        found = run(tmp_path / str(k), [labelled("a", half[place]) for place in order])
        assert found.evidence.scores.tolist() == [[5.5, 5.5]]


@pytest.mark.usefixtures("window")
def test_the_same_id_with_another_text_is_rejected_and_does_not_count(tmp_path: Path) -> None:
    items = [labelled("a", (8, 1)), labelled("b", (4, 4)), labelled("c", (4, 4)), labelled("a", (0, 10), "another")]
    found = run(tmp_path / "x", items)
    assert found.evidence.scores.tolist() == [[8, 1], [4, 4], [4, 4]]
    assert found.rejected == {"duplicate_id": 1}
    assert found.judges.judgements == 3
    (reject,) = read_lines(tmp_path / "x" / REJECTS)
    assert (reject["line"], reject["id"]) == (4, "a")
    assert "occurred before with another text" in reject["detail"]


def test_records_without_an_id_and_with_one_text_are_one_dialogue(tmp_path: Path) -> None:
    found = run(tmp_path / "x", [labelled(None, (8, 1)), labelled(None, (6, 3)), labelled(None, (1, 1), "else")])
    assert found.evidence.scores.tolist() == [[7, 2], [1, 1]]


@pytest.mark.usefixtures("window")
def test_labels_decide_in_place_of_the_scores(tmp_path: Path) -> None:
    judged = records(["f", "b", "new"], sensibility=1, rationality=2, judge={"model": "j"})
    other = record("what happened", "another text", id="c", sensibility=3, rationality=4)  # the same id is not enough
    found = run(tmp_path / "x", records(), scores=SCORES, labels=labels_of(tmp_path, [*judged, other]))
    expected = {**SCORES, "b": (1, 2), "f": (1, 2)}
    assert [tuple(row) for row in found.evidence.scores.tolist()] == list(expected.values())
    assert found.evidence.judged.tolist() == [id_ in "bf" for id_ in SCORES]
    assert found.judges.models == {"j"}


@pytest.mark.usefixtures("window")
def test_tokens_are_those_of_all_turns(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    items = [record("i am sad", "so sorry", id="a"), record("we won", "great", "what happened", "so sad", id="b")]
    found = run(tmp_path / "x", items, scores={"a": (5, 5), "b": (5, 5)}, tokenizer=tokenizer)
    assert found.evidence.tokens is not None
    assert found.evidence.tokens.tolist() == [5, 7]


def test_the_hash_of_the_corpus_is_that_of_ids_and_texts(tmp_path: Path) -> None:
    first = run(tmp_path / "x", records(), scores=SCORES)
    same = [{key: item[key] for key in ("id", "messages")} for item in records()]
    assert run(tmp_path / "y", same, scores={**SCORES, "more": (1, 1)}).sha256 == first.sha256
    assert run(tmp_path / "z", [*records()[:-1], *records(["g"], category="x")], scores=SCORES).sha256 != first.sha256
    changed = [*records()[:-1], record("i am g", "so very sorry, g", id="g")]
    assert run(tmp_path / "v", changed, scores=SCORES).sha256 != first.sha256


class Watch(Silent):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[float] = []

    def stage(self, name: str, total: float | None = None, done: float = 0) -> None:
        self.told.append(total or 0)

    def update(self, done: float, *, total: float | None = None, note: str = "") -> None:
        self.told.append(done)


def test_the_progress_is_told_of_every_byte(tmp_path: Path, window: int) -> None:
    watch = Watch()
    run(tmp_path / "x", [*records(), {"messages": []}], scores=SCORES, progress=watch)
    total, *read = watch.told
    assert total == read[-1] == (tmp_path / "x" / "in.jsonl").stat().st_size
    assert len(read) == -(-8 // window)
    assert read == sorted(read)
