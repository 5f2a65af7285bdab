"""Every spelling of an input is looked at, and a foreign file is never taken for one of ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from scorer.apart import check_apart, check_json, check_rejects
from scorer.errors import OutputError


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in."""
    monkeypatch.chdir(tmp_path)
    Path("deep/er").mkdir(parents=True)
    for name in ("d.jsonl", "a[1].jsonl", "a1.jsonl", "deep/er/e.jsonl", "all.tar"):
        Path(name).write_text("{}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("output", "inputs"),
    [
        ("d.jsonl", ["-", "d.jsonl"]),
        ("d.jsonl", ["a\0b", "nowhere", "*.none", "d.jsonl"]),
        ("d.jsonl", ["file://{place}/d.jsonl"]),
        ("a[1].jsonl", ["a[1].jsonl"]),
        ("a1.jsonl", ["a[1-9].jsonl"]),
        ("deep/er/e.jsonl", ["**/*.jsonl"]),
        ("deep/er/e.jsonl", ["d*/e?/e.jsonl"]),
        ("all.tar", ["tar://e.jsonl::all.tar"]),
        ("all.tar", ["tar://e.jsonl::{place}/all.tar"]),
    ],
)
def test_an_input_is_known_however_it_is_named(place: Path, output: str, inputs: list[str]) -> None:
    with pytest.raises(
        OutputError, match=rf"^{output.replace('[1]', '.1.')}: is an input as well.*name another output"
    ):
        check_apart(Path(output), *(name.format(place=place) for name in inputs))


def test_what_a_name_with_brackets_does_not_name_is_free() -> None:
    check_apart(Path("a1.jsonl"), "a[1].jsonl")  # a file of just that name exists
    check_apart(Path("a1.jsonl"), "file://a1.jsonl.gz", "deep")
    check_apart(Path("deep/new"), "deep/er", "d.jsonl/")
    with pytest.raises(OutputError, match=r"deep/er/new: lies in the input deep, which would read it; name another"):
        check_apart(Path("deep/er/new"), "deep")
    with pytest.raises(OutputError, match=r"deep: holds the input deep/er/e.jsonl, which it would replace"):
        check_apart(Path("deep"), Path("deep/er/e.jsonl"))


@pytest.mark.parametrize(
    "text", ["[1]", '["reason"]', "7", '"reason"', '{"a": 1}\n{"a": 2}\n', "{", "[" * 9000, "\udcff", " "]
)
def test_only_one_record_of_json_is_replaced_by_json(text: str) -> None:
    path = Path("file")
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(
        OutputError, match="file: is no JSON with 'a' that was written here before, so it is not replaced"
    ):
        check_json(path, "a")


@pytest.mark.parametrize(
    "text",
    [
        '["reason"]\n',
        '"reason"\n',
        '{"a": "reason"}\n',
        '{"id": 1}\n{"reason": "x"}\n',
        "reason\n",
        "\udcff\n",
        "[" * 9000,
        " \n",
        '{"reason": "' + "x" * (1 << 24) + '"}\n',  # no more than 16 MiB is read of what may be anything
    ],
)
def test_only_rejects_are_replaced_by_rejects(text: str) -> None:
    path = Path("file")
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(OutputError, match="file: is no file of rejects that was written here before, so it is not"):
        check_rejects(path)


def test_what_is_new_or_empty_may_be_written() -> None:
    Path("empty").touch()
    for name in ("empty", "new"):
        check_json(Path(name), "a")
        check_rejects(Path(name))
    Path("rejects").write_text('{"reason": "no_response"}\nanything\n')
    check_rejects(Path("rejects"))
    Path("record").write_text('{"a": {"b": [1]}}')
    check_json(Path("record"), "a")
    check_rejects(Path("deep"))
    with pytest.raises(OutputError, match="no/file: the folder no does not exist"):
        check_json(Path("no/file"), "a")
