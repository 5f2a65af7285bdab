"""Files take their name only once they are whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from scorer.errors import OutputError
from scorer.outputs import replacing, replacing_binary, writing


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
