"""What lies in a bundle's folder is read only where it is a file of bounded size that stays there."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from pathlib import Path

import pytest

from scorer.bundle import bundle as module
from scorer.bundle.bundle import load_bundle
from tests.scorer.bundle.test_bundle import Trap, change, refusal, replace

NAMES = ["model.onnx", "tokenizer.json", "README.md", "scorer.json"]


@pytest.mark.parametrize("name", NAMES)
def test_a_pipe_is_refused_and_nobody_waits_for_its_writer(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert f"{name}: cannot be read (it is no regular file)" in refusal(folder)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("target", ["/dev/zero", "/dev/tty", "/proc/self/mem", "{beside}", "nowhere", "{name}"])
def test_a_link_that_leaves_the_folder_or_leads_nowhere_is_refused(folder: Path, name: str, target: str) -> None:
    """The hash of what it leads to is the right one, so that only the link is wrong."""
    beside = shutil.copy(folder / name, folder.parent / "beside")
    (folder / name).unlink()
    (folder / name).symlink_to(target.format(beside=beside, name=name))
    found = refusal(folder)
    if target == "{beside}":
        assert f"{name}: is a link out of the bundle, expected the file itself" in found
    else:
        assert "is a link out of the bundle" in found or "cannot be read" in found


def test_links_that_stay_and_a_link_to_the_folder_are_followed(folder: Path) -> None:
    (folder / ".kept").mkdir()
    (folder / "model.onnx").rename(folder / ".model")
    (folder / "model.onnx").symlink_to(".model")
    (folder.parent / "link").symlink_to(folder)
    assert load_bundle(folder.parent / "link").sha256 == load_bundle(folder).sha256


@pytest.mark.parametrize("name", NAMES)
def test_a_sparse_file_of_a_terabyte_is_refused_unread(folder: Path, name: str) -> None:
    size = (folder / name).stat().st_size
    os.truncate(folder / name, 1 << 40)
    assert (folder / name).stat().st_blocks * 512 < size + (1 << 20)
    assert f"{name}: has 1,099,511,627,776 bytes, expected a file of at most" in refusal(folder)


def test_a_model_of_zeros_is_refused_at_its_first_byte(folder: Path) -> None:
    replace(folder, "model.onnx", bytes(1 << 24))
    assert "model.onnx: it is damaged, expected an ONNX model" in refusal(folder)


@pytest.mark.parametrize("name", ["evil.py", "weights.pkl", "pytorch_model.bin", "op.so", "model.onnx.data", "a.PT"])
def test_a_file_that_no_scorer_needs_is_refused_though_it_is_listed(folder: Path, name: str) -> None:
    sprung = folder.parent / "sprung"
    data = pickle.dumps(Trap(sprung)) if not name.endswith(".py") else f"open({str(sprung)!r}, 'w')".encode()
    (folder / name).write_bytes(data)
    change(folder, lambda info: info["files"].update({name: hashlib.sha256(data).hexdigest()}))
    assert f"{name}: is nothing that a scorer needs, expected files of .onnx, .json" in refusal(folder)
    assert not sprung.exists()


def test_many_files_are_one_short_line(folder: Path) -> None:
    for number in range(300):
        (folder / f"f{number}.json").touch()
    found = refusal(folder)
    assert len(found) < 300 + len(str(folder))
    assert "and others, which scorer.json does not list" in found
    nothing = hashlib.sha256(b"").hexdigest()
    change(folder, lambda info: info["files"].update({f"f{number}.json": nothing for number in range(300)}))
    assert "scorer.json: lists 303 files, expected at most 64" in refusal(folder)


def test_a_file_that_grew_beyond_the_limit_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_BYTES", (folder / "tokenizer.json").stat().st_size)
    monkeypatch.setattr(module, "_MOST_MODEL_BYTES", (folder / "model.onnx").stat().st_size - 1)
    assert "model.onnx: has" in refusal(folder)
