"""What a manifest says of a run: read back after every kind of end, also where an earlier version began it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scorer.errors import OutputError
from scorer.reading.windows import WHOLE, Share, Tally, Window
from scorer.run.manifest import Identity, Manifest, begun_with, identity_of, manifest_of, manifests, missing_from

IDENTITY = Identity(scorer="s", engine="onnxruntime", precision="fp32", window=64, uncertainty=False, shards=1)
OF_0_1_0 = (
    '{"identity": {"scorer": "s", "engine": "onnxruntime", "precision": "fp32", "window": 64, "uncertainty": false, '
    '"shards": 1}}\n'
    '{"number": 0, "records": "5578", "tally": {"scored": 64, "repeats": 0, "cut": 0, "cut_turns": 0, "cut_tokens": 0, '
    '"tokens": 2375, "sums": [434.9, 267.5], "rejected": {}, "outside": {"unseen_tokens": 1, "any": 1}}}\n'
)


def test_manifest_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "_manifest.jsonl").write_text(OF_0_1_0)
    manifest = Manifest(tmp_path, WHOLE, IDENTITY)
    done, complete = manifest.read()
    manifest.close()
    assert not complete
    assert (done[0].records, done[0].tally.scored, done[0].tally.noted, done[0].tally.conversations) == (
        "5578",
        64,
        {},
        {},
    )


def window(number: int) -> Window:
    return Window(number, f"hash{number}", Tally(scored=number))


def read(folder: Path, *more: Window, share: Share = WHOLE, end: bool = False) -> tuple[list[int], bool]:
    """Open a manifest, return what it holds, add to it and close it."""
    manifest = Manifest(folder, share, replace(IDENTITY, shards=share.count))
    try:
        done, complete = manifest.read()
        for one in more:
            manifest.add(one)
        if end:
            manifest.end(len(done) + len(more))
    finally:
        manifest.close()
    assert all(done[number] == window(number) for number in done)
    return list(done), complete


@pytest.mark.parametrize(
    "torn", ['{"number": 2, "records": "hash2"', "{", '{"complete": 2}', "\0\0\0", '{"identity"', "é" * 9000]
)
def test_a_torn_line_is_gone_and_what_is_added_after_it_is_read(tmp_path: Path, torn: str) -> None:
    read(tmp_path, window(0), window(1))
    path = tmp_path / "_manifest.jsonl"
    whole = path.read_bytes()
    with path.open("a") as file:
        file.write(torn)
    assert read(tmp_path) == ([0, 1], False)
    assert path.read_bytes() == whole
    with path.open("a") as file:
        file.write(torn)
    assert read(tmp_path, window(2)) == ([0, 1], False)
    assert read(tmp_path, end=True) == ([0, 1, 2], False)
    assert read(tmp_path) == ([0, 1, 2], True)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line.get("number") for line in lines] == [None, 0, 1, 2, None]
    assert lines[-1] == {"complete": 3}


@pytest.mark.parametrize("torn", ["", '{"identity": {"scorer": "s"', "{"])
def test_a_manifest_whose_first_line_was_torn_begins_anew(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "_manifest.jsonl"
    path.write_text(torn)
    assert identity_of(path) is None
    assert begun_with(tmp_path) is None
    assert read(tmp_path) == ([], False)
    assert identity_of(path) == begun_with(tmp_path) == IDENTITY
    assert read(tmp_path, window(0)) == ([], False)
    assert read(tmp_path) == ([0], False)


@pytest.mark.parametrize("line", ["nonsense", '{"number": "x"}', '{"number": 0, "records": "h"}', "\udcff"])
def test_a_damaged_line_is_refused_by_name(tmp_path: Path, line: str) -> None:
    read(tmp_path, window(0))
    path = tmp_path / "_manifest.jsonl"
    kept = path.read_bytes()
    path.write_bytes(kept + line.encode("utf-8", "surrogateescape") + b"\n")
    with pytest.raises(OutputError, match=r"_manifest.jsonl: is damaged \(.*\); start afresh with --overwrite"):
        read(tmp_path)
    path.write_bytes(line.encode("utf-8", "surrogateescape") + b"\n" + kept)
    with pytest.raises(OutputError, match="is damaged"):
        read(tmp_path)
    assert identity_of(path) is None


def test_another_run_or_another_process_is_refused(tmp_path: Path) -> None:
    first = Manifest(tmp_path, WHOLE, IDENTITY)
    with pytest.raises(OutputError, match=r"another process is writing it; wait until it has ended"):
        read(tmp_path)
    first.read()
    first.close()
    other = Manifest(tmp_path, WHOLE, replace(IDENTITY, keep=("a", "b")))
    with pytest.raises(OutputError, match=r"begun with keep nothing and this run has a, b; use the same"):
        other.read()
    other.close()
    assert read(tmp_path) == ([], False)
    with pytest.raises(OutputError, match="begun with shards 1 and this run has 2"):
        read(tmp_path, share=Share(0, 2))


def test_a_folder_that_was_emptied_gets_no_line_without_a_beginning(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path, WHOLE, IDENTITY)
    manifest.read()
    manifest.path.unlink()
    with pytest.raises(FileNotFoundError):
        manifest.add(window(0))
    manifest.close()
    assert manifests(tmp_path) == []


def test_shares_have_manifests_of_their_own_and_each_must_end(tmp_path: Path) -> None:
    assert missing_from(tmp_path) is None
    shares = Share(0, 3), Share(1, 3), Share(2, 3)
    assert [manifest_of(tmp_path, share).name for share in (WHOLE, *shares)] == [
        "_manifest.jsonl",
        "_manifest-1-of-3.jsonl",
        "_manifest-2-of-3.jsonl",
        "_manifest-3-of-3.jsonl",
    ]
    read(tmp_path, window(1), share=shares[1])
    assert missing_from(tmp_path) == "shards 1, 2, 3 of 3 are not finished"
    read(tmp_path, window(2), share=shares[2], end=True)
    assert [path.name for path in manifests(tmp_path)] == ["_manifest-2-of-3.jsonl", "_manifest-3-of-3.jsonl"]
    assert missing_from(tmp_path) == "shards 1, 2 of 3 are not finished"
    read(tmp_path, share=shares[1], end=True)
    read(tmp_path, share=shares[0], end=True)
    assert missing_from(tmp_path) is None
    assert read(tmp_path, share=shares[1]) == ([1], True)
    found = begun_with(tmp_path)
    assert found is not None
    assert found.shards == 3


def test_a_run_of_one_process_is_unfinished_until_its_end(tmp_path: Path) -> None:
    read(tmp_path, window(0))
    assert missing_from(tmp_path) == "it is not finished"
    read(tmp_path, end=True)
    assert missing_from(tmp_path) is None
    (tmp_path / "_manifest.jsonl").write_text("")
    assert missing_from(tmp_path) == "it is not finished"
