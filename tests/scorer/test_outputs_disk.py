"""What is on disk when a name appears, and what is left of a folder that is replaced, whenever the process dies."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from scorer.errors import EmpathyError, InputError, OutputError
from scorer.locks import lock
from scorer.outputs import (
    begin_work,
    check_folder,
    check_new,
    check_same,
    is_own_output,
    json_line,
    json_text,
    new_folder,
    read_json,
    replacing,
    replacing_binary,
    write_json,
    writing,
)
from scorer.reading.windows import Tally, Window
from scorer.run.manifest import Identity
from scorer.run.output import Run
from scorer.run.settings import ScoreSettings


@dataclass
class Disk:
    """What was asked of the disk, in order: ("flush", file, bytes in it) and ("rename", new name)."""

    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def of(self, *folders: Path) -> list[tuple[Any, ...]]:
        """Return what was asked, with names relative to the first folder that holds them."""
        return [(what, os.path.relpath(path, folders[0]), *more) for what, path, *more in self.asked]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Record every flush to disk and every rename; both are done as well."""
    found, fsync, rename = Disk(), os.fsync, os.replace

    def flushed(descriptor: int) -> None:
        place = Path(f"/proc/self/fd/{descriptor}").readlink()
        size = None if place.is_dir() else os.fstat(descriptor).st_size
        found.asked.append(("flush", str(place), size))
        fsync(descriptor)

    def renamed(source: Any, target: Any, **more: Any) -> None:
        found.asked.append(("rename", str(target)))
        rename(source, target, **more)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs Linux")
    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    return found


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def write_text(path: Path) -> None:
    with replacing(path) as file:
        file.write("naïve\r\n")


def write_bytes(path: Path) -> None:
    with replacing_binary(path) as file:
        file.write(b"8 bytes.")


@pytest.mark.parametrize(
    ("write", "size"), [(write_text, 8), (write_bytes, 8), (lambda path: write_json(path, {"a": 1}), 12)]
)
def test_a_file_is_on_disk_before_it_has_its_name_and_the_name_thereafter(
    write: Callable[[Path], None], size: int, disk: Disk, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    descriptors = open_files()
    write(path)
    assert disk.of(tmp_path) == [("flush", f".file.{os.getpid()}.tmp", size), ("rename", "file"), ("flush", ".", None)]
    assert path.stat().st_size == size
    assert open_files() == descriptors


def test_a_window_is_on_disk_before_the_manifest_names_it(disk: Disk, tmp_path: Path) -> None:
    identity = Identity(scorer="s", engine="onnxruntime", precision="fp32", window=2, uncertainty=False, shards=1)
    with Run(tmp_path / "out", identity, {}, ScoreSettings()) as run:
        manifest = tmp_path / "out" / "_manifest.jsonl"
        assert disk.of(tmp_path) == [("flush", "out/_manifest.jsonl", manifest.stat().st_size)]
        disk.asked.clear()
        run.add(Window(0, "h", Tally(scored=1)), ["a"], np.zeros((1, 2), dtype=np.float32), [])
        shard = tmp_path / "out" / "part-000000.parquet"
        assert disk.of(tmp_path / "out") == [
            ("flush", f".part-000000.parquet.{os.getpid()}.tmp", shard.stat().st_size),
            ("rename", "part-000000.parquet"),
            ("flush", ".", None),
            ("flush", "_manifest.jsonl", manifest.stat().st_size),
        ]
        disk.asked.clear()
        run.finish()
        assert disk.of(tmp_path / "out") == [("flush", "_manifest.jsonl", manifest.stat().st_size)]


def test_line_ends_and_letters_stay_as_they_are(tmp_path: Path) -> None:
    write_text(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == "naïve\r\n".encode()
    assert json_text({"b": 1, "a": "é"}, sort_keys=True) == '{\n "a": "\\u00e9",\n "b": 1\n}\n'
    assert json_line(Tally(scored=1)).startswith('{"scored": 1, ')
    assert json_line([1]) == "[1]\n"


def test_a_device_is_no_place_for_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    for name, overwrite, message in (
        ("pipe", True, "is a device or a pipe"),
        (".", True, "is a folder; name a file"),
        ("file", False, "exists already; name another output or say --overwrite"),
        ("no/file", True, "does not exist; create it first"),
    ):
        with pytest.raises(OutputError, match=message):
            check_new(tmp_path / name, overwrite=overwrite)
    check_new(tmp_path / "file", overwrite=True)
    check_new(tmp_path / "new")
    with pytest.raises(OutputError, match="exists already"):
        check_new(tmp_path / "file")


def test_a_file_that_cannot_be_read_is_one_line_of_the_readers_own_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read: Is a directory; make it again"):
        read_json(tmp_path, dict[str, int], "make it again", InputError)
    (tmp_path / "bad").write_bytes(b"{")
    with pytest.raises(InputError, match=r"bad: is damaged \(.*\); make it again"):
        read_json(tmp_path / "bad", dict[str, int], "make it again", InputError)
    assert issubclass(InputError, EmpathyError)
    with pytest.raises(OutputError, match=r"out: cannot be written: no reason"), writing(Path("out")):
        raise OSError("no reason")


# Folders


def made(
    output: Path, *names: str, mark: str = "mark", written: Any = None, then: Callable[[], Any] = lambda: None
) -> None:
    """Make a folder of such files, each of which holds its own name, and the mark; do something before its end."""
    with new_folder(output, mark=mark, written=written) as work:
        assert work.parent == output.resolve().parent
        assert not any(work.iterdir())
        for name in (*names, "mark"):
            (work / name).write_text(name)
        then()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def written(folder: Path) -> set[str]:
    """Return what a run wrote: what begins with its name, and the mark."""
    return {"mark", *(path.name for path in folder.glob("own*"))}


def test_a_folder_takes_its_name_when_it_is_whole_and_what_fails_leaves_the_old_one(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()  # an empty one is no output of anybody
    made(output, "own1")
    with pytest.raises(ZeroDivisionError):
        made(output, "own2", then=lambda: 1 / 0)
    assert (names(output), names(tmp_path)) == ({"own1", "mark"}, {"out"})
    with new_folder(output, mark="mark") as work:
        (work / "mark").touch()
        assert names(output) == {"own1", "mark"}
    assert (names(output), names(tmp_path)) == ({"mark"}, {"out"})


def test_what_a_run_did_not_write_moves_into_the_new_folder_and_a_clash_is_refused(tmp_path: Path) -> None:
    output = tmp_path / "out"
    made(output, "own1", written=written)
    (output / "thesis").write_text("mine")
    made(output, "own2", written=written)
    assert names(output) == {"own2", "mark", "thesis"}
    with pytest.raises(OutputError, match=r"out/thesis: was not written by the earlier run"):
        made(output, "thesis", written=written)
    assert (output / "thesis").read_text() == "mine"
    assert names(tmp_path) == {"out"}
    made(output, "own3", written=None)  # all of it is replaced
    assert names(output) == {"own3", "mark"}


def test_the_folders_above_are_made_where_they_are_missing(tmp_path: Path) -> None:
    made(tmp_path / "folds" / "0" / "out", "a")
    assert names(tmp_path / "folds" / "0") == {"out"}


def test_without_a_mark_all_of_a_folder_is_replaced_and_nothing_is_left(tmp_path: Path) -> None:
    output = tmp_path / "out"
    for name in ("a", "b", "c"):
        with new_folder(output) as work:
            (work / name).touch()
        assert (names(output), names(tmp_path)) == ({name}, {"out"})


@pytest.mark.parametrize("then", [None, "; go on with --resume"])
def test_a_fault_while_a_folder_is_made_says_how_to_go_on(tmp_path: Path, then: str | None) -> None:
    more: dict[str, Any] = {} if then is None else {"then": then}
    with pytest.raises(OutputError) as caught, new_folder(tmp_path / "out", **more) as work:
        (work / "no" / "file").touch()
    assert str(caught.value).endswith(f"cannot be written: No such file or directory{then or ''}")
    assert not any(tmp_path.iterdir())


def test_a_link_and_a_dot_name_what_they_lead_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "real", "own1")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    made(tmp_path / "link", "own2")
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "real") == {"own2", "mark"}
    monkeypatch.chdir(tmp_path / "real")
    made(Path(), "own3")
    assert names(tmp_path / "real") == {"own3", "mark"}


def test_what_lies_where_the_old_one_would_go_is_not_touched(tmp_path: Path) -> None:
    output, old = tmp_path / "out", tmp_path / ".out.old"
    old.mkdir()
    (old / "thesis").touch()
    with pytest.raises(OutputError, match=r"\.out\.old: holds other files"):
        made(output, "own1")
    assert names(old) == {"thesis"}
    check_folder(output, "error", "mark", "x", written)
    assert names(old) == {"thesis"}


class Died(BaseException):
    """What a kill is to a test."""


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return what ends this process, as it were, before the n-th change of a folder from now on."""
    left, real = [0], {name: getattr(os, name) for name in ("rename", "rmdir", "unlink")}

    def guard(name: str) -> Callable[..., Any]:
        def act(*given: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] <= 0:
                raise Died
            return real[name](*given, **more)

        return act

    def die(calls: int) -> None:
        left[0] = calls
        for name in real:
            monkeypatch.setattr(os, name, guard(name))

    return die


@pytest.mark.parametrize("then", ["again", "check"])
def test_a_process_that_dies_while_folders_are_exchanged_loses_nothing(
    tmp_path: Path, then: str, dying: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    deaths = 0
    for calls in range(1, 40):
        folder = tmp_path / str(calls)
        folder.mkdir()
        output = folder / "out"
        made(output, "own1", "own2", written=written)
        (output / "thesis").write_text("mine")
        (output / "notes").write_text("mine too")
        dying(calls)
        try:
            made(output, "own3", written=written)
        except Died:
            deaths += 1
        else:
            break
        finally:
            monkeypatch.undo()
        if then == "check":
            check_folder(output, "overwrite", "mark", "x", written)
        else:
            made(output, "own4", written=written)
        found = names(output)
        assert {"thesis", "notes", "mark"} < found, (calls, found)
        own = found - {"thesis", "notes", "mark"}
        assert own in ([{"own4"}] if then == "again" else [{"own1", "own2"}, {"own3"}]), (calls, found)
        assert (output / "thesis").read_text() == "mine"
        assert not (folder / ".out.old").exists()
    assert 5 <= deaths < 39


def test_a_folder_is_checked_before_it_is_replaced(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.write_text("a file")
    with pytest.raises(OutputError, match=r"out: holds no mark, so x did not make it"):
        check_folder(output, "overwrite", "mark", "x")
    output.unlink()
    output.mkdir()
    for existing in ("error", "resume", "overwrite"):
        check_folder(output, existing, "mark", "x")


# Work


def test_other_work_is_never_mixed_in(tmp_path: Path) -> None:
    output = tmp_path / "out"
    work = begin_work(output, {"inputs": ["a", "b"], "seed": 1}, "resume")
    (work / "half").touch()
    with pytest.raises(OutputError, match=r"inputs a, b and this run has nothing; use the same, or start afresh"):
        begin_work(output, {"inputs": [], "seed": 1}, "resume")
    with pytest.raises(OutputError, match=r"begun with max length None and this run has 3"):
        begin_work(output, {"inputs": ["a", "b"], "seed": 1, "max_length": 3}, "resume")
    with pytest.raises(OutputError, match=r"begun with seed 1 and this run has None; use the same, or pray"):
        check_same(work, {"seed": 1}, {}, "pray")
    with pytest.raises(OutputError, match=r"depth 2 and this run has 3; use the same, or pray"):
        check_same(work, {"a": {"depth": 2}}, {"a": {"depth": 3}}, "pray")
    with pytest.raises(OutputError, match=r"out.partial: an earlier run's; continue it with --resume"):
        begin_work(output, {"inputs": ["a", "b"], "seed": 1}, "error")
    assert (work / "half").exists()
    (work / "run.json").write_text("{")
    with pytest.raises(OutputError, match=r"run.json: is damaged .*; start afresh with --overwrite"):
        begin_work(output, {}, "resume")
    begin_work(output, {"seed": 2}, "overwrite")
    assert names(work) == {"run.json"}
    (work / "run.json").unlink()  # killed before it was written
    assert begin_work(output, {"seed": 3}, "resume") == work
    shutil.rmtree(work)
    begin_work(output, {"seed": 2}, "overwrite")


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("rejects.jsonl", True),
        ("out.rejects.jsonl", True),
        ("out.csv.meta.json", True),
        ("out.partial", True),
        ("_manifest.jsonl", True),
        ("_manifest-1-of-2.jsonl", True),
        ("my_rejects.jsonl", False),
        ("rejects.jsonl.gz", False),
        ("manifest.jsonl", False),
        ("in.jsonl", False),
    ],
)
def test_what_scoring_writes_is_no_input(name: str, own: bool) -> None:
    assert is_own_output(name) is own


def held(path: Path) -> IO[bytes]:
    file = path.open("ab")
    try:
        lock(file.fileno(), "busy")
    except BaseException:
        file.close()
        raise
    return file


def test_a_lock_holds_until_its_file_is_closed(tmp_path: Path) -> None:
    first = held(tmp_path / "lock")
    with pytest.raises(OutputError, match=r"^busy$"):
        held(tmp_path / "lock")
    first.close()
    held(tmp_path / "lock").close()


@pytest.mark.parametrize(("number", "passes"), [(errno.ENOLCK, True), (errno.ENOTSUP, True), (errno.EBADF, False)])
def test_a_file_system_without_locks_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, passes: bool
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    if passes:
        held(tmp_path / "lock").close()
    else:
        with pytest.raises(OSError, match="Bad file"):
            held(tmp_path / "lock")
