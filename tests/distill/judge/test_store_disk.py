"""What the store keeps when a write fails, what it flushes, and what it says of locks and versions."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distill.errors import StoreError
from distill.judge.records import OPENAI_URL, OpenBatch
from distill.judge.store import MEMORY, Store
from scorer.dialogue import HEADS
from scorer.inputs.parse import to_record
from tests.distill.judge.test_store import ASKING, GOOD, filled, question


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(query).fetchall()


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_what_is_written_in_one_go_is_there_in_whole_or_not_at_all(tmp_path: Path) -> None:
    batch = OpenBatch(name="b", sizes={}, worst_usd=0.5, prices=None)
    with filled(tmp_path / "s.sqlite") as store:
        store.add_batch(batch, OPENAI_URL)
        no_text: Any = object()  # what no database takes
        bad = replace(GOOD, raw=no_text)
        with pytest.raises(StoreError, match=r"s\.sqlite: cannot be used as a label store"):
            store.add_all([(question().key, GOOD), (question().key, bad)], done="b")
        assert store.known([question().key]) == {}
        assert store.open_batches(OPENAI_URL) == [batch]
        store.add(question().key, GOOD)
        assert store.spent() == 0.25
    assert rows(tmp_path / "s.sqlite", "SELECT COUNT(*) FROM replies") == [(1,)]


def test_the_log_that_is_flushed_is_the_stores_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: flushed.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
    )
    before = open_files()
    store = filled(tmp_path / "s.sqlite", GOOD)
    store.sync()
    assert flushed == [str(tmp_path / "s.sqlite-wal")]
    store.close()
    assert open_files() == before
    with filled(tmp_path / "other.sqlite", GOOD) as other:
        other.sync()
    assert open_files() == before
    with pytest.raises(sqlite3.ProgrammingError):
        store._database.execute("SELECT 1")
    with Store(MEMORY) as memory:
        memory.sync()  # nothing is on disk
    assert len(flushed) == 2


def test_readers_do_not_wait_for_writers_and_commits_not_for_the_disk(tmp_path: Path) -> None:
    with filled(tmp_path / "s.sqlite") as store:
        for pragma, value in (("journal_mode", "wal"), ("synchronous", 1), ("user_version", 2)):
            assert store._database.execute(f"PRAGMA {pragma}").fetchone() == (value,)
    assert rows(tmp_path / "s.sqlite", "PRAGMA application_id") == [(0x454D5059,)]
    with Store(tmp_path / "s.sqlite", create=False) as again:
        assert again.known([question().key]) == {}


@pytest.mark.parametrize("kind", ["folder", "text"])
def test_a_lock_that_cannot_be_taken_is_one_line(tmp_path: Path, kind: str) -> None:
    lock = tmp_path / "s.sqlite.lock"
    if kind == "folder":
        lock.mkdir()
    else:
        lock.write_text("no database, but long enough to be looked at " * 40)
    message = r"s\.sqlite\.lock: cannot be locked: "
    with filled(tmp_path / "s.sqlite") as store, pytest.raises(StoreError, match=message), store.locked():
        pass


def test_a_store_by_a_link_has_one_lock(tmp_path: Path) -> None:
    (tmp_path / "link.sqlite").symlink_to("s.sqlite")
    message = r"link\.sqlite: another process labels with this store; wait for it"
    with filled(tmp_path / "s.sqlite") as store, store.locked(), Store(tmp_path / "link.sqlite") as linked:  # noqa: SIM117
        with pytest.raises(StoreError, match=message):
            linked.locked().__enter__()


def test_a_batch_without_prices_has_none(tmp_path: Path) -> None:
    first = OpenBatch(name="b", sizes={"k": (400, 64)}, worst_usd=0.5, prices=None)
    with Store(tmp_path / "s.sqlite") as store:
        for batch in (first, replace(first, name="a", prices=(1.0, 2.0))):
            store.add_batch(batch, OPENAI_URL)
        found = store.open_batches(OPENAI_URL)
        assert {batch.name: batch for batch in found} == {"b": first, "a": replace(first, name="a", prices=(1.0, 2.0))}
        assert isinstance(found[0].sizes["k"], tuple)
    (submitted,) = {len(str(when)) for (when,) in rows(tmp_path / "s.sqlite", "SELECT submitted FROM batches")}
    assert submitted == len("2026-01-01T00:00:00.000+00:00")


def test_a_question_is_kept_short_and_a_reply_with_its_time(tmp_path: Path) -> None:
    filled(tmp_path / "s.sqlite", GOOD).close()
    (dialogue,), (received,) = (
        rows(tmp_path / "s.sqlite", f"SELECT {column} FROM {table}")[0]
        for column, table in (("dialogue", "questions"), ("received", "replies"))
    )
    assert json.loads(str(dialogue)) == to_record(question().dialogue, short=True)
    assert to_record(question().dialogue, short=True) != to_record(question().dialogue)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", str(received))


def test_an_older_and_a_newer_version_are_told_apart(tmp_path: Path) -> None:
    for version, message in ((0, "has store version 0"), (3, "has store version 3, this release reads 2")):
        path = tmp_path / f"{version}.sqlite"
        filled(path).close()
        with closing(sqlite3.connect(path)) as database:
            database.execute(f"PRAGMA user_version = {version}")
        with pytest.raises(StoreError, match=message):
            Store(path)


def test_labels_say_how_they_were_asked(tmp_path: Path) -> None:
    expected: dict[str, Any] = {
        f"{head}_{what}": value for what, value in (("mean", 5.5), ("spread", 0.5)) for head in HEADS
    }
    with filled(tmp_path / "s.sqlite", replace(GOOD, **expected)) as store:
        (label,) = store.labels({"rubric": "r1", "draw": (0, 1)})
        assert (label["sensibility"], label["rationality"]) == (5.5, 5.5)
        assert (label["judge"]["rubric"], label["judge"]["model"]) == (ASKING.rubric, ASKING.model)
        assert list(store.labels({"rubric": "r1", "draw": [1]})) == []
