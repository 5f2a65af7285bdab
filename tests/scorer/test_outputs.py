"""Files take their name only once they are whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest

from scorer.errors import OutputError
from scorer.outputs import (
    Existing,
    begin_work,
    check_folder,
    end_work,
    read_json,
    replacing,
    replacing_binary,
    write_json,
    writing,
)


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with replacing(path) as file:
        file.write("new\n")
        assert path.read_text() == "old"
    assert path.read_bytes() == b"new\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_fault_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def half() -> None:
        with replacing_binary(path) as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_faults_of_the_file_system_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"nowhere.*No such file.*go on"), writing(tmp_path / "x", then="; go on"):
        (tmp_path / "nowhere" / "x").write_text("")
    with pytest.raises(BrokenPipeError), writing(tmp_path / "x"):
        raise BrokenPipeError


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A record as the product keeps them."""

    name: str
    sizes: tuple[int, ...] = ()


def test_a_record_survives_its_file_and_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    write_json(path, Note(name="a", sizes=(1, 2)))
    assert path.read_text() == '{\n "name": "a",\n "sizes": [\n  1,\n  2\n ]\n}\n'
    assert read_json(path, Note, "make it again") == Note(name="a", sizes=(1, 2))
    for damaged in ("", "{", '{"name": 7}', "{}", '{"name": "a", "sizes": [1.5]}', "[" * 100_000, '{"name": "\udc80"}'):
        path.write_bytes(damaged.encode("utf-8", "surrogateescape"))
        with pytest.raises(OutputError, match=r"note.json: is damaged \(.*\); make it again") as caught:
            read_json(path, Note, "make it again")
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none.json", Note, "make it again")


def test_a_run_is_resumed_only_with_what_it_was_begun_with(tmp_path: Path) -> None:
    output = tmp_path / "out"
    work = begin_work(output, {"settings": {"batch_size": 4}, "inputs": "ab"}, "error")
    assert work == tmp_path / "out.partial"
    (work / "half").touch()
    with pytest.raises(OutputError, match=r"out.partial: an earlier run's"):
        begin_work(output, {}, "error")
    with pytest.raises(OutputError, match=r"begun with batch size 4 and this run has 5; use the same, or start afresh"):
        begin_work(output, {"settings": {"batch_size": 5}, "inputs": "ab"}, "resume")
    assert begin_work(output, {"settings": {"batch_size": 4}, "inputs": "ab"}, "resume") == work
    assert (work / "half").exists()
    begin_work(output, {"settings": {}}, "overwrite")
    assert not (work / "half").exists()
    (work / "folds").mkdir()
    (work / "folds" / "half").touch()
    end_work(output, {"settings": {"batch_size": 5}})  # another run's, which goes on
    assert (work / "folds" / "half").exists()
    end_work(output, {"settings": {}})
    assert not work.exists()
    work.mkdir()  # as a kill leaves it in the middle of that
    end_work(output, {"settings": {}})
    assert not work.exists()


def test_a_folder_of_others_is_never_replaced(tmp_path: Path) -> None:
    output = tmp_path / "out"
    for existing in get_args(Existing):
        check_folder(output, existing, "mark.json", "`empathy x`")
    output.mkdir()
    check_folder(output, "error", "mark.json", "`empathy x`")
    (output / "thesis.txt").touch()
    with pytest.raises(OutputError, match=r"holds no mark.json, so `empathy x` did not make it"):
        check_folder(output, "overwrite", "mark.json", "`empathy x`")
    (output / "mark.json").touch()
    check_folder(output, "overwrite", "mark.json", "`empathy x`")
    with pytest.raises(OutputError, match="--overwrite"):
        check_folder(output, "error", "mark.json", "`empathy x`")
    with pytest.raises(OutputError, match="it is finished"):
        check_folder(output, "resume", "mark.json", "`empathy x`")
    with pytest.raises(OutputError, match="does not exist; create it first"):
        check_folder(tmp_path / "no" / "out", "error", "mark.json", "`empathy x`")
