"""A bundle on disk: it gives back what was written, and is refused in one line for anything wrong with it."""

from __future__ import annotations

import hashlib
import json
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
import pytest

from scorer.bundle.bundle import Bundle, load_bundle
from scorer.bundle.cuts import LEVELS
from scorer.dialogue import HEADS
from scorer.errors import BundleError
from scorer.model import Scorer
from scorer.outputs import json_text
from tests.conftest import MAX_LENGTH, Parts, make_model, make_tokenizer

Change = Callable[[dict[str, Any]], object]


def refusal(path: Path) -> str:
    """Return the one line with which a folder is refused."""
    with pytest.raises(BundleError) as caught:
        load_bundle(path)
    message = str(caught.value)
    assert message.isprintable()
    assert str(path) in message
    return message


def change(folder: Path, edit: Change) -> None:
    info = json.loads((folder / "scorer.json").read_text())
    edit(info)
    (folder / "scorer.json").write_text(json.dumps(info))


def replace(folder: Path, name: str, data: bytes) -> None:
    """Put other content into a bundle, with the hash that it says it has."""
    (folder / name).write_bytes(data)
    change(folder, lambda info: info["files"].update({name: hashlib.sha256(data).hexdigest()}))


def test_a_bundle_gives_back_what_was_written(parts: Parts, written: Bundle) -> None:
    info, files = parts
    assert json.loads(json_text(info)).items() <= written.to_json().items()
    assert (written.info.name, written.info.max_length, written.info.pad_id) == ("tiny", MAX_LENGTH, 0)
    assert written.info.cuts == {head: list(LEVELS) for head in HEADS}
    assert written.model_for("fp32") == files["model.onnx"]
    assert written.tokenizer.to_str().encode() == files["tokenizer.json"]
    assert written.info.domain == info["domain"]
    assert {path.name for path in written.path.iterdir()} == {*files, "scorer.json"}
    assert (written.path / "README.md").read_bytes() == files["README.md"]


def test_the_provenance_names_the_scorer_and_holds_its_cuts(written: Bundle) -> None:
    found = written.provenance()
    assert json.loads(json.dumps(found)) == found
    assert found["sha256"] == hashlib.sha256((written.path / "scorer.json").read_bytes()).hexdigest()
    assert found["cuts"] == written.info.cuts
    assert (found["name"], found["score_range"], found["template_version"]) == ("tiny", [0.0, 10.0], 1)


def test_a_folder_may_be_given_as_text_may_move_and_may_hold_dot_files(folder: Path, written: Bundle) -> None:
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / ".git").mkdir()
    assert load_bundle(str(folder)).sha256 == written.sha256


# Folders and files.


def test_a_folder_that_holds_no_bundle_is_refused(tmp_path: Path) -> None:
    assert "holds no scorer.json" in refusal(tmp_path)
    (tmp_path / "file").write_text("x")
    assert "no such folder" in refusal(tmp_path / "nowhere")
    assert "no such folder" in refusal(tmp_path / "file")


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "README.md"])
@pytest.mark.parametrize("place", [0, 0.5, -1])
def test_a_file_with_one_byte_changed_is_refused(folder: Path, name: str, place: float) -> None:
    data = bytearray((folder / name).read_bytes())
    data[-1 if place < 0 else int(place * len(data))] ^= 1
    (folder / name).write_bytes(data)
    assert f"{name}: was changed" in refusal(folder)


def test_a_manifest_with_one_byte_changed_is_refused_or_has_another_hash(folder: Path, written: Bundle) -> None:
    data = (folder / "scorer.json").read_bytes()
    rng = random.Random(0)
    for place in rng.sample(range(len(data)), 150):
        changed = bytearray(data)
        changed[place] ^= rng.choice([1, 2, 4, 8, 16, 32, 64, 128])
        (folder / "scorer.json").write_bytes(changed)
        try:
            assert load_bundle(folder).sha256 != written.sha256
        except BundleError:
            assert refusal(folder)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "README.md", "scorer.json"])
def test_a_missing_file_or_a_folder_in_its_place_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    missing = "holds no scorer.json" if name == "scorer.json" else f"{name}: cannot be read (No such file or directory)"
    assert missing in refusal(folder)
    (folder / name).mkdir()
    assert f"{name}: cannot be read" in refusal(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.onnx.data", "two\nlines", "sub"])
def test_a_file_that_the_manifest_does_not_list_is_refused(folder: Path, name: str) -> None:
    (folder / name).mkdir() if name == "sub" else (folder / name).write_bytes(b"x")
    assert f"holds {name!r}, which scorer.json does not list" in refusal(folder)


# The manifest.


@pytest.mark.parametrize(
    "data",
    [b"", b"[" * 100_000, b"no json", b"\xff\xfe", b'{"format": ' + b"1" * 5000 + b"}", b"PK\x03\x04", 0.1, 0.5, 0.99],
    ids=["empty", "nested", "text", "binary", "endless number", "zip", "a tenth", "half", "nearly whole"],
)
def test_a_manifest_that_is_no_json_is_refused(folder: Path, data: bytes | float) -> None:
    whole = (folder / "scorer.json").read_bytes()
    (folder / "scorer.json").write_bytes(whole[: int(data * len(whole))] if isinstance(data, float) else data)
    assert "scorer.json: " in refusal(folder)


@pytest.mark.parametrize("value", [[], "text", 1, None, True])
def test_a_manifest_that_is_no_object_is_refused(folder: Path, value: Any) -> None:
    (folder / "scorer.json").write_text(json.dumps(value))
    assert "scorer.json: Expected `object`" in refusal(folder)


REQUIRED = (
    *("format", "format_version", "heads", "score_range", "template_version", "name", "backbone", "precision"),
    *("licence", "created", "max_length", "pad_id", "cuts", "measured", "training", "training.content_hashes"),
    *("files", "domain", "domain.ranges", "domain.vocabulary", "domain.seen_tokens", "domain.outside_share"),
)


@pytest.mark.parametrize("path", REQUIRED)
def test_a_manifest_that_lacks_a_key_is_refused(folder: Path, path: str) -> None:
    *parents, key = path.split(".")

    def remove(info: dict[str, Any]) -> None:
        for parent in parents:
            info = info[parent]
        del info[key]

    change(folder, remove)
    assert f"scorer.json: Object missing required field `{key}`" in refusal(folder)


@pytest.mark.parametrize("head", HEADS)
def test_a_manifest_that_lacks_the_cuts_of_a_head_is_refused(folder: Path, head: str) -> None:
    change(folder, lambda info: info["cuts"].pop(head))
    assert f"cuts of {head} are None" in refusal(folder)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_manifest_that_does_not_list_a_needed_file_is_refused(folder: Path, name: str) -> None:
    change(folder, lambda info: info["files"].pop(name))
    assert "scorer.json: files lists" in refusal(folder)


def cuts(*values: Any) -> dict[str, Any]:
    return {"cuts": {"sensibility": list(LEVELS), "rationality": list(values)}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": "other"}, "format 'other' version 1 is not known"),
        ({"format_version": 2}, "version 2 is not known"),
        ({"format_version": "1"}, "format_version"),
        ({"heads": ["rationality", "sensibility"]}, "expected ['sensibility', 'rationality']"),
        ({"heads": ["a\nb"]}, "heads ['a\\\\nb'] on"),
        ({"score_range": [0, 1]}, "on [0.0, 1.0], expected"),
        ({"score_range": None}, "score_range"),
        ({"template_version": 2}, "trained with text template 2"),
        ({"max_length": 15}, "Expected `int` >= 16 - at `$.max_length`"),
        *(({"max_length": value}, "max_length") for value in (64.5, True, "64")),
        ({"pad_id": -1}, "Expected `int` >= 0 - at `$.pad_id`"),
        ({"pad_id": None}, "pad_id"),
        ({"pad_id": 10**6}, "pad_id is 1000000, expected one of the"),
        ({"pad_id": 10**30}, "pad_id"),
        ({"name": ""}, "Expected `str` of length >= 1 - at `$.name`"),
        ({"created": 2026}, "Expected `str`, got `int` - at `$.created`"),
        (cuts(*LEVELS[:9]), "cuts of rationality are"),
        (cuts(*LEVELS, 10.5), "expected 10 numbers"),
        (cuts(*LEVELS[::-1]), "expected them in ascending order"),
        (cuts(*LEVELS[:9], float("nan")), "cannot be read as JSON"),
        *((cuts(*LEVELS[:9], value), "$.cuts") for value in (10**400, "9.5", True)),
        ({"cuts": []}, "$.cuts"),
        ({"cuts": {"sensibility": "0123\n56789"}}, "$.cuts"),
        ({"measured": []}, "measured"),
        ({"training": None}, "training"),
        ({"training": {"content_hashes": [1]}}, "$.training.content_hashes"),
        ({"training": {"content_hashes": "abc"}}, "$.training.content_hashes"),
        ({"files": ["model.onnx", "tokenizer.json"]}, "files"),
        ({"files": None}, "files"),
        ({"domain": None}, "domain"),
        ({"domain": []}, "domain"),
        ({"files": {"model.onnx": None}}, "$.files"),
        ({"files": {"model.onnx": ["x"]}}, "$.files"),
    ],
)
def test_a_manifest_with_a_wrong_value_is_refused(folder: Path, values: dict[str, Any], message: str) -> None:
    change(folder, lambda info: info.update(values))
    found = refusal(folder)
    assert found.startswith(f"{folder / 'scorer.json'}: ")
    assert message in found


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a\\b", "sub/model.onnx", ".", "..", "", "a\nb", "a\0b", "\ud800", "x" * 300]
)
def test_a_manifest_that_lists_a_file_elsewhere_is_refused(folder: Path, name: str) -> None:
    change(folder, lambda info: info["files"].update({name: "0" * 64}))
    found = refusal(folder)
    assert "files names" in found or "cannot be read (File name too long)" in found or "as JSON" in found


@pytest.mark.parametrize("value", ["", "a\nb", "0" * 64])
def test_a_hash_that_is_another_is_refused(folder: Path, value: str) -> None:
    change(folder, lambda info: info["files"].update({"model.onnx": value}))
    assert "model.onnx: was changed" in refusal(folder)


# Files with the hash that the manifest says, and the wrong content.


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_in_place_of_the_model_is_refused_and_not_loaded(folder: Path, tmp_path: Path) -> None:
    data = pickle.dumps(Trap(tmp_path / "sprung"))
    replace(folder, "model.onnx", data)
    assert refusal(folder).startswith(f"{folder / 'model.onnx'}: ")
    assert not (tmp_path / "sprung").exists()
    pickle.loads(data)
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize("data", [b"", b"text", b"{}", b"PK\x03\x04" + bytes(50), b"\x08"])
def test_a_model_that_is_none_is_refused(folder: Path, data: bytes) -> None:
    replace(folder, "model.onnx", data)
    found = refusal(folder)
    assert found.startswith(f"{folder / 'model.onnx'}: ")
    assert "expected an ONNX model" in found


@pytest.mark.parametrize("data", [b"", b"text", b"{}", b"[]", b"\xff\x00", pickle.dumps({"a": 1}), b"[" * 10_000])
def test_a_tokenizer_that_is_none_is_refused(folder: Path, data: bytes) -> None:
    replace(folder, "tokenizer.json", data)
    with pytest.raises(BundleError) as caught:
        Scorer.load(folder)
    assert str(caught.value).startswith(f"{folder / 'tokenizer.json'}: no tokenizer")
    assert str(caught.value).isprintable()


def test_weights_outside_the_bundle_are_refused_before_onnx_runtime_is_there(folder: Path) -> None:
    """ONNX Runtime would read them: it must not be asked."""
    beside = folder.parent / "model.onnx"
    tokens = make_tokenizer().get_vocab_size()
    onnx.save(make_model(tokens), beside, save_as_external_data=True, location="weights.bin", size_threshold=100)
    assert ort.InferenceSession(beside).get_inputs()[0].name == "input_ids"
    replace(folder, "model.onnx", beside.read_bytes())
    assert "model.onnx: it reads weights from another file" in refusal(folder)
    code = (
        "import sys, scorer\n"
        "try:\n    scorer.Scorer.load(sys.argv[1])\n"
        "except scorer.EmpathyError as error:\n    print(error, 'onnxruntime' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    assert ran.stdout.endswith("export it as one file False\n")
