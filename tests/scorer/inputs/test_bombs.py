"""Compressed data that unpack to far more than any text does: cut off, and said so."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from scorer.errors import InputError
from scorer.inputs.corpus import Corpus
from scorer.inputs.files import archives
from scorer.inputs.parse import Reject

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BOMB = b"PAR1" + b"\0" * 4_000_000


@pytest.fixture(autouse=True)
def _low(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MOST_UNPACKED", 100_000)


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("data", [BOMB, b"[" + b" " * 4_000_000, b'{"id": "' + b"x" * 4_000_000])
def test_a_compressed_bomb_is_cut_off(tmp_path: Path, pack: Callable[[bytes], bytes], data: bytes) -> None:
    (tmp_path / "in").write_bytes(pack(data))
    found = list(Corpus([str(tmp_path / "in")]))
    last = found[-1]
    assert isinstance(last, Reject)
    assert last.reason in {"truncated_input", "broken_json"}
    assert "200 times their size" in last.detail


def test_a_bomb_in_an_archive_is_cut_off(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jsonl", BOMB)
    with pytest.raises(InputError, match="200 times their size"):
        list(Corpus([str(tmp_path / "in.zip")]))
