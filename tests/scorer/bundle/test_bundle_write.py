"""A bundle is written whole or not at all, and its hash is that of all that is in it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from scorer.bundle.bundle import Bundle, write_bundle
from scorer.bundle.cuts import LEVELS
from scorer.dialogue import HEADS
from scorer.errors import BundleError
from tests.conftest import Parts, bundle_info, make_model, make_tokenizer


@pytest.mark.parametrize(
    ("info", "files", "message"),
    [
        ({"cuts": {head: [5.0] * 9 for head in HEADS}}, {}, "expected 10 numbers"),
        ({"max_length": 8}, {}, "Expected `int` >= 16"),
        ({"name": ""}, {}, "`$.name`"),
        ({}, {"model.onnx": b"no model"}, "model.onnx: it "),
        ({}, {"tokenizer.json": b"{}"}, "tokenizer.json: no tokenizer"),
        ({}, {"../evil": b"x"}, "'../evil'"),
        ({}, {"sub/evil": b"x"}, "'sub/evil'"),
        ({}, {"scorer.json": b"{}"}, "scorer.json: was changed"),
        ({}, {"model.onnx": None}, "expected at least"),
        ({}, {"tokenizer.json": None}, "expected at least"),
    ],
)
def test_what_would_be_no_bundle_leaves_nothing_behind(
    parts: Parts, tmp_path: Path, info: dict[str, Any], files: dict[str, bytes | None], message: str
) -> None:
    given = {name: data for name, data in {**parts[1], **files}.items() if data is not None}
    with pytest.raises(BundleError) as caught:
        write_bundle(tmp_path / "tiny", {**parts[0], **info}, given)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()
    assert list(tmp_path.iterdir()) == []


def test_what_json_cannot_hold_leaves_nothing_behind(parts: Parts, tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_bundle(tmp_path / "tiny", {**parts[0], "measured": {"x": object()}}, parts[1])
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_neither_touched_nor_replaced(parts: Parts, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    with pytest.raises(BundleError, match="exists already"):
        write_bundle(tmp_path / "tiny", *parts)
    assert list(tmp_path.rglob("*")) == [tmp_path / "tiny"]


def test_writing_leaves_no_unfinished_folder(parts: Parts, tmp_path: Path) -> None:
    write_bundle(tmp_path / "new" / "tiny", *parts)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["tiny"]


# The hash.


@pytest.mark.parametrize(
    ("info", "files"),
    [
        ({"name": "other"}, {}),
        ({"pad_id": 1}, {}),
        ({"measured": {"how": "otherwise"}}, {}),
        ({"cuts": {head: [*LEVELS[:9], 9.75] for head in HEADS}}, {}),
        ({}, {"README.md": b"Another card.\n"}),
        ({}, {"model.onnx": make_model(make_tokenizer().get_vocab_size(), seed=1).SerializeToString()}),
        ({}, {"LICENSE": b"more\n"}),
    ],
)
def test_the_hash_changes_with_anything(
    parts: Parts, written: Bundle, tmp_path: Path, info: dict[str, Any], files: dict[str, bytes]
) -> None:
    other = write_bundle(tmp_path / "tiny", {**parts[0], **info}, {**parts[1], **files})
    assert other.sha256 != written.sha256


def test_the_same_content_has_the_same_hash(parts: Parts, written: Bundle, tmp_path: Path) -> None:
    info, files = parts
    again = write_bundle(tmp_path / "again", copy.deepcopy(info), dict(reversed(files.items())))
    assert again.sha256 == written.sha256


def test_a_tokenizer_whose_template_names_an_unknown_token_is_one_line(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    value = json.loads(tokenizer.to_str())
    value["post_processor"]["special_tokens"]["[CLS]"]["ids"] = []
    value["post_processor"]["special_tokens"].pop("[SEP]")
    files = {
        "model.onnx": make_model(tokenizer.get_vocab_size()).SerializeToString(),
        "tokenizer.json": json.dumps(value).encode(),
    }
    with pytest.raises(BundleError, match=r"tokenizer.json: no tokenizer"):
        write_bundle(tmp_path / "broken", bundle_info(tokenizer), files)
