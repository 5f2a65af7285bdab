"""The scorer on disk: a folder with the model, its tokenizer and everything one should know before trusting it.

    model.onnx      the network, one file, standard operators
    tokenizer.json  of the `tokenizers` library
    scorer.json     what it is, how it scores, where it comes from, the SHA-256 of every other file
    README.md       optional: a model card for people

Loading verifies all of it and runs nothing: there is no pickle, no custom operator and no path in a bundle.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorer.bundle.cuts import read_cuts
from scorer.bundle.domain import Domain
from scorer.bundle.onnx_check import OnnxFileError, check_onnx
from scorer.bundle.uncertainty import Uncertainty
from scorer.dialogue import HEADS, SCORE_RANGE, TEMPLATE_VERSION
from scorer.errors import BundleError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FORMAT = "empathy-scorer"
FORMAT_VERSION = 1

STARTER = Path(__file__).parents[1] / "starter"
"""The scorer that comes with the package."""

INT8_MODEL = "model.int8.onnx"
"""The model that multiplies in int8, in bundles whose export let it pass."""

HALF_MODEL = "model.fp16.onnx"
"""The model in half precision, for a GPU, in bundles whose export was asked for it and let it pass."""

_MODELS = {"int8": INT8_MODEL, "fp16": HALF_MODEL}
_REQUIRED_FILES = ("model.onnx", "tokenizer.json")
_TEXTS = ("name", "backbone", "precision", "licence", "created")


@dataclass(frozen=True)
class Bundle:
    """A verified bundle. ``info`` is scorer.json as it stands; ``sha256`` is the hash of that file and so of all."""

    path: Path
    info: Mapping[str, Any]
    sha256: str
    domain: Domain
    _files: Mapping[str, bytes]

    @property
    def name(self) -> str:
        """What the scorer is called."""
        return str(self.info["name"])

    @property
    def max_length(self) -> int:
        """The number of tokens, special ones included, that the model takes."""
        return int(self.info["max_length"])

    @property
    def pad_id(self) -> int:
        """The token id that fills up a batch."""
        return int(self.info["pad_id"])

    @property
    def cuts(self) -> dict[str, list[float]]:
        """For each head the ten cuts on the scorer's scale that stand for 0.5, 1.5 ... 9.5 on the judge's."""
        return read_cuts(self.info["cuts"])

    @property
    def uncertainty(self) -> Uncertainty | None:
        """How far the judge's scores may lie from this scorer's, None where that was not measured."""
        return Uncertainty.from_json(self.info["uncertainty"]) if "uncertainty" in self.info else None

    @property
    def model(self) -> bytes:
        """The ONNX model."""
        return self._files["model.onnx"]

    def model_for(self, precision: str) -> bytes:
        """Return the ONNX model that a precision computes with; BundleError if the bundle has none."""
        if not self.holds(precision):
            name = self.model_file(precision)
            again = "export it again" + (" with --half" if name == HALF_MODEL else "")
            raise BundleError(f"{self.path}: holds no {name}, so it does not compute in {precision}; {again}")
        return self._files[self.model_file(precision)]

    def holds(self, precision: str) -> bool:
        """Whether the model that a precision computes with is in the bundle."""
        return self.model_file(precision) in self._files

    def model_file(self, precision: str) -> str:
        """Return the name of the file that a precision computes with, whether the bundle has it or not."""
        return _MODELS.get(precision, "model.onnx")

    def allows(self, precision: str) -> bool:
        """Whether the export's gate let a precision pass; fp32 always does."""
        return precision == "fp32" or bool(self.info.get("precisions", {}).get(precision, {}).get("allowed", False))

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer; BundleError if its file is none."""
        from tokenizers import Tokenizer  # 50 ms that reading a bundle's card need not cost

        try:
            tokenizer = Tokenizer.from_buffer(self._files["tokenizer.json"])
            tokenizer.encode("a", "b")
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - a panic in the Rust library is no Exception
            text = " ".join(str(error).split())
            raise BundleError(f"{self.path / 'tokenizer.json'}: no tokenizer ({text}); export it again") from None
        return tokenizer

    def provenance(self) -> dict[str, Any]:
        """Return what every score file says of its scorer: enough to name it and to select with its cuts.

        ``half_widths`` are its ``uncertainty`` as JSON, ``judge`` and ``rubric`` whose judgement it learnt; each is
        None where it is not known.
        """
        kept = ("name", "created", "backbone", "template_version", "score_range")
        return {key: self.info[key] for key in kept} | {
            "sha256": self.sha256,
            "cuts": self.cuts,
            "half_widths": self.info.get("uncertainty"),
            "judge": self.info["training"].get("judge"),
            "rubric": self.info["training"].get("rubric"),
        }


def load_bundle(path: Path | str | None = None) -> Bundle:
    """Return the verified bundle in a folder, the starter for None; BundleError says what is wrong with it."""
    folder = STARTER if path is None else Path(path)
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such folder, expected a scorer bundle (made by `empathy export`)")
    manifest = folder / "scorer.json"
    try:
        raw = manifest.read_bytes()
        info = json.loads(raw)
    except FileNotFoundError:
        raise BundleError(f"{folder}: holds no scorer.json, so it is no scorer bundle (see `empathy export`)") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{manifest}: cannot be read as JSON ({error}); copy the bundle again") from None
    try:
        domain = _validate(info)
    except (KeyError, TypeError, ValueError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise BundleError(f"{manifest}: {what}; expected a scorer of format version {FORMAT_VERSION}") from None
    for name in info["files"]:
        if not _is_plain(name):
            raise BundleError(f"{manifest}: names the file {name!a}, expected names without folders")
    files = _verified_files(folder, info["files"])
    for name in sorted(name for name in files if name.endswith(".onnx")):
        try:
            check_onnx(files[name])
        except OnnxFileError as error:
            raise BundleError(f"{folder / name}: {error}") from None
    return Bundle(folder, info, hashlib.sha256(raw).hexdigest(), domain, files)


def write_bundle(folder: Path, info: Mapping[str, Any], files: Mapping[str, bytes]) -> Bundle:
    """Write a bundle whole or not at all, and load it; ``info`` lacks format, heads, range, template and hashes.

    BundleError if ``folder`` exists or what would be written is no valid bundle.
    """
    if folder.exists():
        raise BundleError(f"{folder}: exists already; name a new folder or remove it first")
    for name in files:
        if not _is_plain(name):
            raise BundleError(f"{folder}: cannot hold a file {name!a}, expected names without folders")
    whole = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "heads": list(HEADS),
        "score_range": list(SCORE_RANGE),
        "template_version": TEMPLATE_VERSION,
        **info,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())},
    }
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.unfinished")
    unfinished.mkdir(parents=True)
    try:
        for name, data in {**files, "scorer.json": (json.dumps(whole, indent=1) + "\n").encode()}.items():
            with open(unfinished / name, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        _ = load_bundle(unfinished).tokenizer
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return load_bundle(folder)


def _validate(info: Any) -> Domain:
    """Check every field of scorer.json; KeyError, TypeError or ValueError says which is wrong."""
    if not isinstance(info, dict):
        raise TypeError(f"it holds a {type(info).__name__}, expected an object")
    _validate_format(info)
    for name, least in (("max_length", 16), ("pad_id", 0)):
        if type(info[name]) is not int or info[name] < least:
            raise ValueError(f"{name} is {info[name]!r}, expected a whole number of at least {least}")
    for name in _TEXTS:
        if not isinstance(info[name], str) or not info[name]:
            raise ValueError(f"{name} is {info[name]!r}, expected text")
    read_cuts(info["cuts"])
    _validate_provenance(info)
    if "uncertainty" in info:
        Uncertainty.from_json(info["uncertainty"])
    if not isinstance(info["files"], dict) or not set(_REQUIRED_FILES) <= set(info["files"]):
        raise ValueError(f"files lists {sorted(info['files'])}, expected at least {list(_REQUIRED_FILES)}")
    domain = Domain.from_json(info["domain"])
    if info["pad_id"] >= len(domain.seen):
        raise ValueError(f"pad_id is {info['pad_id']}, expected one of the {len(domain.seen)} tokens")
    return domain


def _validate_format(info: Mapping[str, Any]) -> None:
    if info["format"] != FORMAT or info["format_version"] != FORMAT_VERSION:
        raise ValueError(f"format {info['format']!r} version {info['format_version']!r} is not known")
    if info["heads"] != list(HEADS) or info["score_range"] != list(SCORE_RANGE):
        raise ValueError(f"heads {info['heads']!r} on {info['score_range']!r}, expected {list(HEADS)} on 0 to 10")
    if info["template_version"] != TEMPLATE_VERSION:
        raise ValueError(
            f"it was trained with text template {info['template_version']!r} and this release renders "
            f"{TEMPLATE_VERSION}: use the release that made it, or train and export again"
        )


def _validate_provenance(info: Mapping[str, Any]) -> None:
    if not isinstance(info["measured"], dict):
        raise TypeError(f"measured is {type(info['measured']).__name__}, expected an object")
    hashes = info["training"]["content_hashes"]
    if not isinstance(hashes, list) or not all(isinstance(text, str) for text in hashes):
        raise TypeError("training.content_hashes is no list of texts")


def _is_plain(name: str) -> bool:
    """Whether a file name is one that may stand in a message and never leads out of its folder."""
    return name.isprintable() and Path(name).name == name and name not in ("", ".", "..") and "\\" not in name


def _verified_files(folder: Path, hashes: Mapping[str, str]) -> dict[str, bytes]:
    """Return the content of every listed file, each with the hash that is listed, and no other file beside them."""
    # Dot files are what desktops and version control leave; nothing here ever reads one.
    present = {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")}
    foreign = present - set(hashes) - {"scorer.json"}
    if foreign:
        names = ", ".join(map(repr, sorted(foreign)))
        raise BundleError(f"{folder}: holds {names}, which scorer.json does not list; remove it")
    files = {}
    for name, expected in hashes.items():
        try:
            files[name] = (folder / name).read_bytes()
        except OSError as error:
            reason = error.strerror or error
            raise BundleError(f"{folder / name}: cannot be read ({reason}); copy the bundle again") from None
        actual = hashlib.sha256(files[name]).hexdigest()
        if actual != expected:
            raise BundleError(
                f"{folder / name}: was changed (SHA-256 {actual[:12]}..., scorer.json says {str(expected)[:12]!a}...); "
                "copy the bundle again"
            )
    return files
