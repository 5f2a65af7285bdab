"""A rubric is known by its hash."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.errors import RubricError
from distill.judge.rubric import RUBRIC, Rubric, read_rubric
from tests.conftest import make_dialogue


def test_the_hash_is_of_the_rubric_and_its_frame() -> None:
    assert Rubric().hash == Rubric().hash
    assert Rubric(RUBRIC + "More.").hash != Rubric().hash
    assert "0 to 10" in Rubric("My own.").system
    assert Rubric().messages(make_dialogue("a", "b"))[0] == Rubric().messages(make_dialogue("c", "d"))[0]


def test_the_default_rubric_is_pinned() -> None:
    # A change of what is asked makes every label in every store another question. If it is meant, pin the new one.
    assert Rubric().hash == "4bc0f5f90f4115f615f6e191"


def test_a_rubric_of_ones_own_is_read(tmp_path: Path) -> None:
    assert read_rubric(None) == Rubric()
    path = tmp_path / "mine.txt"
    path.write_text("Sensibility: ...\nRationality: ...\n", encoding="utf-8")
    assert read_rubric(path).system.startswith("Sensibility: ...\nRationality: ...\n\nThe dialogue comes as")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "cannot be read: No such file"),
        (b"", "0 characters, expected a rubric"),
        (b" \n", "0 characters"),
        (b"\xff\xfe", "no UTF-8 text"),
        (b"x" * 100_001, "100001 characters, expected a rubric of 1 to 100000"),
    ],
)
def test_a_file_that_is_no_rubric_is_one_line(tmp_path: Path, content: bytes | None, text: str) -> None:
    path = tmp_path / "mine.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RubricError, match=text) as caught:
        read_rubric(path)
    assert str(caught.value).isprintable()
