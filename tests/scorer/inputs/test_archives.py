"""Archives are read like folders, whatever compressed them; and so is the hub, through a file system of fsspec."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from scorer.dialogue import Dialogue
from scorer.errors import InputError
from scorer.inputs.corpus import Corpus
from tests.scorer.inputs.input_data import data, error, ids, zst

FILES = {
    "b.csv": b"id,prompt,response\nb,A,B\n",
    "d/a.jsonl": data("a"),
    "d/c.csv.gz": gzip.compress(b"id,prompt,response\nc,A,B\n"),
    "d/._a.jsonl": data("never"),
    "d/README.md": b"# Data\n",
    "rejects.jsonl": data("never"),
}


def tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def zip_(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


ARCHIVES: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "x.tar": tar,
    "x.tar.gz": lambda files: gzip.compress(tar(files)),
    "x.tgz": lambda files: gzip.compress(tar(files)),
    "x.tar.bz2": lambda files: bz2.compress(tar(files)),
    "x.txz": lambda files: lzma.compress(tar(files)),
    "x.tar.zst": lambda files: zst(tar(files)),
    "x.zip": zip_,
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archive_is_read_like_a_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(ARCHIVES[name](FILES))
    assert ids(str(tmp_path / name)) == ids(str(tmp_path)) == ["b", "a", "c"]
    assert [skipped.partition("::")[0][-11:] for skipped in Corpus([str(tmp_path / name)]).skipped] == ["d/README.md"]
    (tmp_path / "no-suffix").write_bytes((tmp_path / name).read_bytes())
    assert ids(str(tmp_path / "no-suffix")) == ["b", "a", "c"]


@pytest.mark.parametrize("name", ["zip://b.csv::{}", "zip://*.csv::{}", "zip://d::{}", "zip://d/a.jsonl::file://{}"])
def test_member_of_an_archive_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.zip").write_bytes(zip_(FILES))
    assert ids(name.format(tmp_path / "x.zip")) == (["b"] if "csv" in name else ["a", "c"] if "d:" in name else ["a"])


def test_what_a_reject_names_can_be_named(tmp_path: Path) -> None:
    for name, pack in ARCHIVES.items():
        (tmp_path / name).write_bytes(pack({"a.jsonl": b"broken\n" + data("a")}))
        reject, dialogue = Corpus([str(tmp_path / name)])
        assert isinstance(dialogue, Dialogue)
        assert reject.line == 1
        assert list(Corpus([reject.source])) == [reject, dialogue]


@pytest.mark.parametrize("name", ARCHIVES)
def test_archive_that_is_cut_is_one_line(tmp_path: Path, name: str) -> None:
    whole = ARCHIVES[name]({"a.jsonl": random.Random(0).randbytes(1 << 21), "b.jsonl": data("b")})
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    assert "archive" in error(str(tmp_path / name))


def test_archive_without_data_names_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zip_({"word/document.xml": b"<a/>"}))
    assert "it holds only zip://word/document.xml::" in error(str(tmp_path / "x.zip"))
    (tmp_path / "x.xlsx").write_bytes(zip_({"[Content_Types].xml": b"<a/>", "xl/workbook.xml": b"<a/>"}))
    assert "x.xlsx: is an Excel workbook" in error(str(tmp_path / "x.xlsx"))


def test_archive_at_a_url_says_how_its_members_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zip_(FILES))
    (reject,) = Corpus([f"file://{tmp_path}/x.zip"])
    assert not isinstance(reject, Dialogue)
    assert (reject.line, reject.reason) == (0, "broken_file")
    assert "zip://*::URL" in reject.detail


class Hub(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The hub's file system, in memory: datasets/USER/NAME/FILE."""

    protocol = "hf"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("hf://").strip("/")


def test_hub_is_read_like_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "hf", Hub)
    hub = Hub()
    for name in ("train.jsonl", "test/a.jsonl", "README.md"):
        hub.pipe(f"/datasets/me/talks/{name}", data(name) if "jsonl" in name else b"# Talks\n")
    assert ids("hf://datasets/me/talks/train.jsonl") == ["train.jsonl"]
    assert ids("hf://datasets/me/talks") == ["test/a.jsonl", "train.jsonl"]
    assert ids("hf://datasets/me/talks/*.jsonl") == ["train.jsonl"]
    with pytest.raises(InputError, match="hf://datasets/me/none: no such file or folder"):
        Corpus(["hf://datasets/me/none"])
