"""The label store: what was written is there, whoever was killed; one process labels at a time."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distill.errors import StoreError
from distill.judge.records import LOST, OPENAI_URL, SCORED, Asking, Judged, OpenBatch, Question, Reply, question_key
from distill.judge.rubric import Rubric
from distill.judge.store import Store
from scorer.dialogue import Dialogue
from scorer.inputs.corpus import Corpus
from tests.conftest import make_dialogue, record, write_lines

ASKING = Asking(rubric="r1", base_url=OPENAI_URL, model="m", temperature=0.0, max_tokens=64)
GOOD = Reply(status=SCORED, sensibility=5, rationality=8, raw="{}", cost_usd=0.25, prompt_tokens=9)
BAD = Reply(status="out_of_range", detail="11", raw="eleven", cost_usd=0.5)


def question(text: str = "so sorry", asking: Asking = ASKING, draw: int = 0) -> Question:
    dialogue = make_dialogue("i am sad", text)
    return Question(question_key(dialogue, asking, draw), dialogue, draw)


def filled(path: Path, *replies: Reply) -> Store:
    store = Store(path)
    store.add_questions([question()], ASKING, "the rubric")
    for reply in replies:
        store.add(question().key, reply)
    return store


def test_what_was_written_is_known_to_the_next_process(tmp_path: Path) -> None:
    filled(tmp_path / "s.sqlite", BAD, GOOD).close()
    with Store(tmp_path / "s.sqlite") as store:
        known = store.known([question().key, "other"])
        assert store.spent() == 0.75
    assert set(known) == {question().key}
    found = known[question().key]
    assert (found.scores, found.failures, found.cost_usd) == ((5, 8), 1, 0.75)


def test_a_question_without_a_judgement_says_how_often_and_how_it_failed_last(tmp_path: Path) -> None:
    with filled(tmp_path / "s.sqlite", replace(BAD, raw="first"), Reply(status=LOST, cost_usd=1.0), BAD) as store:
        found = store.known([question().key])[question().key]
    assert (found.scores, found.failures, found.cost_usd) == (None, 2, 2.0)  # a lost call is no failure of the dialogue
    assert (found.status, found.detail, found.raw) == ("out_of_range", "11", "eleven")


def test_a_first_judgement_stays_and_unknown_costs_make_the_sum_unknown(tmp_path: Path) -> None:
    with filled(tmp_path / "s.sqlite", GOOD, replace(GOOD, sensibility=1, cost_usd=None)) as store:
        found = store.known([question().key])[question().key]
        (label,) = store.labels({})
    assert (found.scores, found.cost_usd) == ((5, 8), None)
    assert (label["sensibility"], label["judge"]["cost_usd"]) == (5, None)


def test_everything_that_shapes_an_answer_is_in_the_key_and_nothing_else() -> None:
    changes = ({"rubric": "r2"}, {"base_url": "http://x/v1"}, {"model": "n"}, {"temperature": 0.5}, {"max_tokens": 65})
    others = [question(asking=replace(ASKING, **change)) for change in changes]
    keys = {entry.key for entry in (question(), question("so sorry."), question(draw=1), *others)}
    assert len(keys) == 8
    other = replace(question().dialogue, id="x", category="c", conversation="y", source="z")
    assert question_key(other, ASKING, 0) == question().key


def test_many_questions_are_looked_up(tmp_path: Path) -> None:
    many = [question(str(number)) for number in range(1203)]
    with Store(tmp_path / "s.sqlite") as store:
        store.add_questions(many, ASKING, "")
        store.add_all([(entry.key, GOOD) for entry in many[::2]])
        assert set(store.known([entry.key for entry in many])) == {entry.key for entry in many[::2]}


def test_labels_come_from_the_store_alone_and_are_read_again(tmp_path: Path) -> None:
    dialogue = replace(make_dialogue("i am sad", "so sorry", category="sad"), id="d1", conversation="talk 7")
    asking = replace(ASKING, base_url="http://localhost:8000/v1", temperature=0.5)
    asked = Question(question_key(dialogue, asking, 2), dialogue, 2)
    with filled(tmp_path / "s.sqlite", GOOD) as store:
        store.add_questions([asked], asking, "the rubric")
        store.add(asked.key, replace(GOOD, sensibility=0))
        assert [label["sensibility"] for label in store.labels({})] == [5, 0]
        assert list(store.labels({"model": "other"})) == []
        assert len(list(store.labels({"model": ["other", "m"]}))) == 2
        (label,) = store.labels({"temperature": 0.5})
    judge = {
        "model": "m",
        "base_url": "localhost:8000",
        "rubric": "r1",
        "temperature": 0.5,
        "draw": 2,
        "cost_usd": 0.25,
    }
    expected = record("i am sad", "so sorry", id="d1", category="sad", conversation="talk 7")
    assert label == {**expected, "sensibility": 0, "rationality": 8, "judge": {**judge, "cost_usd": 0.25}}
    (read,) = Corpus([str(write_lines(tmp_path / "l.jsonl", [label]))], labels="required")
    assert isinstance(read, Dialogue)
    assert read == replace(dialogue, labels=read.labels)


def test_a_batch_is_open_from_before_its_submission_until_it_is_collected(tmp_path: Path) -> None:
    batch = OpenBatch(name="b", sizes={question().key: (400, 64)}, worst_usd=0.5, prices=(1.0, 2.0))
    with filled(tmp_path / "s.sqlite") as store:
        store.add_batch(batch, OPENAI_URL)
        assert store.open_batches(OPENAI_URL) == [batch]
        store.set_batch("b", "batch-9")
        assert store.open_batches(OPENAI_URL) == [replace(batch, batch_id="batch-9")]
        assert store.open_batches("http://other/v1") == []
        store.add_all([(question().key, GOOD)], done="b")
        assert store.open_batches(OPENAI_URL) == []
        store.add_batch(replace(batch, name="c"), OPENAI_URL)
        store.set_batch("c", None)
        assert store.open_batches(OPENAI_URL) == []


def test_a_process_that_is_killed_loses_nothing_and_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    code = (
        "import os, sys; from pathlib import Path; from tests.distill.judge.test_store import *\n"
        "store = filled(Path(sys.argv[1]), GOOD)\n"
        "with store.locked(): os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -9
    with Store(path) as store, store.locked():
        assert store.known([question().key])[question().key].scores == (5, 8)


def test_a_second_process_is_told_and_may_read(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with filled(path, GOOD) as store, store.locked(), Store(path) as second:
        assert len(list(second.labels({}))) == 1
        with pytest.raises(StoreError, match="another process labels with this store"), second.locked():
            pass
    with Store(path) as third, third.locked():
        pass


def test_the_log_is_flushed_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    with filled(tmp_path / "s.sqlite", GOOD) as store:
        store.sync()
        store.sync()
        assert len(flushed) == 2

        def fail(_: int) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(StoreError, match=r"s\.sqlite: cannot be written to disk: Input/output error"):
            store.sync()


def test_a_file_that_is_no_store_is_one_line(tmp_path: Path) -> None:
    def refused(name: str, text: str, *, create: bool = True) -> None:
        with pytest.raises(StoreError, match=text):
            Store(tmp_path / name, create=create)

    def change(name: str, statement: str) -> None:
        with closing(sqlite3.connect(tmp_path / name)) as database:
            database.execute(statement)

    (tmp_path / "text").write_text("not a database, but long enough to be looked at " * 40)
    refused("text", "cannot be used as a label store: file is not a database")
    change("other.sqlite", "CREATE TABLE mine (x)")
    refused("other.sqlite", "a database of something else")
    refused("no/s.sqlite", "does not exist; create it first")
    refused("none.sqlite", "no such store", create=False)
    filled(tmp_path / "s.sqlite").close()
    change("s.sqlite", "PRAGMA user_version = 99")
    refused("s.sqlite", "has store version 99, this release reads 2")


def test_a_store_of_the_first_release_is_read_and_continued(tmp_path: Path) -> None:
    expected: dict[str, Any] = {
        "sensibility_mean": 5.5,
        "rationality_mean": 7.5,
        "sensibility_spread": 0.5,
        "rationality_spread": 1.0,
    }
    filled(tmp_path / "s.sqlite", GOOD).close()
    with closing(sqlite3.connect(tmp_path / "s.sqlite")) as database:
        for name in expected:
            database.execute(f"ALTER TABLE replies DROP COLUMN {name}")
        database.execute("PRAGMA user_version = 1")
    with Store(tmp_path / "s.sqlite") as store:
        other = question("another")
        store.add_questions([other], ASKING, "the rubric")
        store.add(other.key, replace(GOOD, **expected))
        found = store.known([question().key, other.key])
        old, new = store.labels({})
        _, said = store.labels({}, logprobs=False)
    assert (found[question().key].judged, found[other.key].judged) == (
        Judged((5, 8)),
        Judged((5, 8), (5.5, 7.5), (0.5, 1.0)),
    )
    assert (old["sensibility"], "said" in old["judge"]) == (5, False)
    assert (new["sensibility"], new["rationality"]) == (5.5, 7.5)
    assert (new["judge"]["said"], new["judge"]["spread"]) == (
        {"sensibility": 5, "rationality": 8},
        {"sensibility": 0.5, "rationality": 1.0},
    )
    assert (said["sensibility"], "said" in said["judge"]) == (5, False)


def test_the_rubrics_text_is_kept(tmp_path: Path) -> None:
    filled(tmp_path / "s.sqlite").close()
    with closing(sqlite3.connect(tmp_path / "s.sqlite")) as database:
        assert database.execute("SELECT * FROM rubrics").fetchall() == [("r1", "the rubric")]
        row = json.loads(database.execute("SELECT dialogue FROM questions").fetchone()[0])
    assert row["messages"][1]["content"] == "so sorry"
    assert Rubric().hash != "r1"
