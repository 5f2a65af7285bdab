"""The scorer on disk: a folder with the model, its tokenizer and everything one should know before trusting it.

    model.onnx      the network, one file, standard operators
    tokenizer.json  of the `tokenizers` library
    scorer.json     what it is, how it scores, where it comes from, the SHA-256 of every other file
    README.md       optional: a model card for people

Loading verifies all of it and runs nothing: there is no pickle, no custom operator and no path in a bundle. What is to
run is opened by `scorer.bundle.trial`, which first tries it out in a process that can be ended.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from scorer.bundle.info import FORMAT, FORMAT_VERSION, ScorerInfo, is_plain_name
from scorer.bundle.tokenizer.faults import tokenizer_faults
from scorer.bundle.tokenizer.spelling import unspelt
from scorer.dialogue import HEADS, SCORE_RANGE, TEMPLATE_VERSION
from scorer.engines.machine import processor_kind
from scorer.engines.verdicts import Verdict, joined, verdict_here
from scorer.errors import BundleError, reason_of
from scorer.hub.names import hub_name
from scorer.locks import locked
from scorer.outputs import json_text, new_folder, replacing_binary, writing

if TYPE_CHECKING:
    from tokenizers import Tokenizer

STARTER = Path(__file__).parents[1] / "starter"
"""The scorer that comes with the package."""

STARTER_SHA256 = "4fd9af31cf896741909701c4e7dac76eeaabc9a66a534d2445b3d6bc5cfa980c"
"""Its hash: it was checked and tried out before the package was made, and is not again at every start."""

HALF_MODEL = "model.fp16.onnx"
"""The model in half precision, for a GPU, in bundles whose export was asked for it and let it pass."""

INFO_FILE = "scorer.json"
"""What a bundle is known by: it says what the scorer is, and lists all other files."""

_TOKENIZER = "tokenizer.json"
_SUFFIXES = (".onnx", ".json", ".md", ".txt", "")
_MOST_FILES = 64
_MOST_BYTES = 256 << 20  # a million hashes in scorer.json come to 64 MiB, the largest tokenizers to 40
_MOST_MODEL_BYTES = 2 << 30  # protobuf has no larger ones
_NO_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_MODELS = {"fp16": HALF_MODEL}
_GATES = "gates"


@dataclass(frozen=True)
class Bundle:
    """A verified bundle: ``sha256`` is the hash of scorer.json and so of all, ``files`` the content of every file.

    What `empathy gate` adds to scorer.json does not count in the hash: the scorer stays the same one.
    ``checked_tokenizer`` is tokenizer.json as it may be loaded.
    """

    path: Path
    info: ScorerInfo
    sha256: str
    files: Mapping[str, bytes]
    checked_tokenizer: bytes

    def model_for(self, precision: str) -> bytes:
        """Return the ONNX model that a precision computes with; BundleError if the bundle has none."""
        name = self.model_file(precision)
        if name not in self.files:
            again = "export it again" + (" with --half" if name == HALF_MODEL else "")
            raise BundleError(f"{self.path}: holds no {name}, so it does not compute in {precision}; {again}")
        return self.files[name]

    def model_file(self, precision: str) -> str:
        """Return the name of the file that a precision computes with, whether the bundle has it or not."""
        return _MODELS.get(precision, "model.onnx")

    def allows(self, precision: str) -> bool:
        """Whether a gate let a precision pass on a processor like this machine's; fp32 always does."""
        return precision == "fp32" or self.verdict(precision).allowed

    def verdict(self, precision: str, kind: str | None = None) -> Verdict:
        """Return what is known of a precision on a kind of processor, None for this machine's."""
        return verdict_here(precision, self.info.gates, self.info.precisions, kind or processor_kind(), self.path)

    @property
    def columns(self) -> int:
        """How many numbers the network gives for a dialogue."""
        return len(HEADS)

    @property
    def max_length(self) -> int:
        """How many tokens a dialogue may have."""
        return self.info.max_length

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer; BundleError if its file is none."""
        from tokenizers import Tokenizer  # 50 ms that reading a bundle's card need not cost

        with tokenizer_faults(lambda why: _no_tokenizer(self.path, why)):
            tokenizer = Tokenizer.from_buffer(self.checked_tokenizer)
            tokenizer.encode("a", "b")
        return tokenizer

    def to_json(self) -> dict[str, Any]:
        """Return scorer.json as it is on disk."""
        return dict(msgspec.json.decode(self.files[INFO_FILE]))

    def provenance(self) -> dict[str, Any]:
        """Return what every score file says of its scorer: enough to name it and to select with its cuts.

        ``half_widths`` are its uncertainty as JSON, ``judge`` and ``rubric`` whose judgement it learnt, ``probe`` what
        it makes of bad replies; each is None where it is not known.
        """
        info = self.info
        return {
            "name": info.name,
            "created": info.created,
            "backbone": info.backbone,
            "template_version": info.template_version,
            "score_range": list(info.score_range),
            "sha256": self.sha256,
            "cuts": {head: list(info.cuts[head]) for head in HEADS},
            "half_widths": msgspec.to_builtins(info.uncertainty),
            "judge": info.training.judge,
            "rubric": info.training.rubric,
            "probe": None if info.probe is None else info.probe.to_json(),
        }


def load_bundle(path: Path | str | None = None) -> Bundle:
    """Return the verified bundle in a folder, the starter for None; BundleError says what is wrong with it.

    What is no folder and has the form of a name on the hub is fetched from there.
    """
    if path is not None and (name := hub_name(path)) is not None:
        from scorer.hub.fetch import fetch

        return fetch(name)
    folder = STARTER if path is None else Path(path)
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such folder, expected a scorer bundle (made by `empathy export`)")
    file = folder / INFO_FILE
    if not os.path.lexists(file):
        raise BundleError(f"{folder}: holds no {INFO_FILE}, so it is no scorer bundle (see `empathy export`)")
    raw = _read(folder, INFO_FILE)
    info = _info(raw, file)
    files = _verified_files(folder, info.files)
    sha = _identity(raw, info, file)
    tokenizer = unspelt(files[_TOKENIZER]) if sha == STARTER_SHA256 else _checked(folder, info, files)
    return Bundle(folder, info, sha, {**files, INFO_FILE: raw}, tokenizer)


def write_bundle(folder: Path, info: Mapping[str, Any], files: Mapping[str, bytes]) -> Bundle:
    """Write a bundle whole or not at all, and load it; ``info`` lacks format, heads, range, template and hashes.

    BundleError if ``folder`` exists or what would be written is no valid bundle, OutputError if the disk does not take
    it.
    """
    if folder.exists():
        raise BundleError(f"{folder}: exists already; name a new folder or remove it first")
    for name in files:
        if not is_plain_name(name):
            raise BundleError(f"{folder}: cannot hold a file {name!a}, expected names without folders")
    whole = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "heads": HEADS,
        "score_range": SCORE_RANGE,
        "template_version": TEMPLATE_VERSION,
        **info,
        "files": {name: sha256(data).hexdigest() for name, data in sorted(files.items())},
    }
    with new_folder(folder) as unfinished:
        for name, data in {**files, INFO_FILE: json_text(whole).encode()}.items():
            with replacing_binary(unfinished / name) as file:
                file.write(data)
        _ = load_bundle(unfinished).tokenizer
    return load_bundle(folder)


def add_verdicts(bundle: Bundle, found: Sequence[Verdict]) -> Bundle:
    """Add verdicts to a bundle's scorer.json, whole or not at all, and return it; its hash stays what it is.

    Those on the same kind of processor, engine and precision are replaced. Of two processes the second waits for
    nothing and says so. BundleError where the bundle was changed meanwhile, OutputError where it cannot be written.
    """
    file = bundle.path / INFO_FILE
    with writing(file), locked(file):
        now = load_bundle(bundle.path)
        if now.sha256 != bundle.sha256:
            raise BundleError(f"{bundle.path}: was changed while it was measured; measure it again")
        whole = {**now.to_json(), _GATES: [row.to_json() for row in joined(now.info.gates, found)]}
        raw = json_text(whole).encode()
        if _identity(raw, _info(raw, file), file) != bundle.sha256:
            raise BundleError(f"{file}: is not as `empathy export` wrote it, so nothing can be added; export it again")
        with replacing_binary(file) as stream:
            stream.write(raw)
    return load_bundle(bundle.path)


def _identity(raw: bytes, info: ScorerInfo, file: Path) -> str:
    """Return the hash of scorer.json without what `empathy gate` added: as it was before."""
    if not info.gates:
        return sha256(raw).hexdigest()
    whole = dict(msgspec.json.decode(raw))
    if json_text(whole).encode() != raw:  # else two files that read alike might have one hash
        raise BundleError(f"{file}: has verdicts that `empathy gate` did not write; remove {_GATES!r} from it")
    del whole[_GATES]
    return sha256(json_text(whole).encode()).hexdigest()


def listed_files(raw: bytes, where: str) -> dict[str, str]:
    """Return the SHA-256 of every other file by its name, as a scorer.json says; BundleError if no bundle has them."""
    info = _info(raw, f"{where}/{INFO_FILE}")
    _check_listed(info.files, where)
    return dict(info.files)


def most_bytes(name: str) -> int:
    """Return how large a file of this name may be."""
    return _MOST_MODEL_BYTES if name.endswith(".onnx") else _MOST_BYTES


def _info(raw: bytes, where: Path | str) -> ScorerInfo:
    try:
        return msgspec.json.decode(raw, type=ScorerInfo)
    except msgspec.ValidationError as error:
        what = ascii(str(error))[1:-1]
        raise BundleError(f"{where}: {what}; expected a scorer of format version {FORMAT_VERSION}") from None
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where}: cannot be read as JSON ({reason_of(error)}); copy the bundle again") from None


def _check_listed(hashes: Mapping[str, str], where: Path | str) -> None:
    if len(hashes) > _MOST_FILES:
        raise BundleError(f"{where}/{INFO_FILE}: lists {len(hashes)} files, expected at most {_MOST_FILES}")
    for name in hashes:
        if Path(name).suffix not in _SUFFIXES:
            known = ", ".join(filter(None, _SUFFIXES))
            raise BundleError(f"{where}/{name}: is nothing that a scorer needs, expected files of {known}")


def _checked(folder: Path, info: ScorerInfo, files: Mapping[str, bytes]) -> bytes:
    """Check models and tokenizer as data, and against each other; return the tokenizer as it may be loaded."""
    from scorer.bundle.onnx_check import OnnxFileError, check_onnx  # not needed for the starter
    from scorer.bundle.tokenizer.check import TokenizerFileError, check_tokenizer

    rows = []
    for name in sorted(name for name in files if name.endswith(".onnx")):
        try:
            rows.append(check_onnx(files[name]))
        except OnnxFileError as error:
            raise BundleError(f"{folder / name}: {error}") from None
    if info.pad_id >= min(rows):
        what = f"pad_id is {info.pad_id}, expected an id below the {min(rows):,} rows of the model's embedding"
        raise BundleError(f"{folder / INFO_FILE}: {what}")
    try:
        return check_tokenizer(files[_TOKENIZER], min(rows))
    except TokenizerFileError as error:
        raise _no_tokenizer(folder, str(error)) from None


def _no_tokenizer(folder: Path, why: str) -> BundleError:
    return BundleError(f"{folder / _TOKENIZER}: no tokenizer of a scorer ({why}); export it again")


def _verified_files(folder: Path, hashes: Mapping[str, str]) -> dict[str, bytes]:
    """Return the content of every listed file, each with the hash that is listed, and no other file beside them."""
    _check_listed(hashes, folder)
    # Dot files are what desktops and version control leave; nothing here ever reads one.
    present = (entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    foreign = sorted(islice((name for name in present if name not in hashes and name != INFO_FILE), _MOST_FILES))
    if foreign:
        names = ", ".join(map(repr, foreign[:5])) + ("" if len(foreign) <= 5 else " and others")
        raise BundleError(f"{folder}: holds {names}, which {INFO_FILE} does not list; remove it")
    files = {}
    for name, expected in hashes.items():
        files[name] = _read(folder, name)
        actual = sha256(files[name]).hexdigest()
        if actual != expected:
            said = f"SHA-256 {actual[:12]}..., {INFO_FILE} says {expected[:12]!a}..."
            raise BundleError(f"{folder / name}: was changed ({said}); copy the bundle again")
    return files


def _read(folder: Path, name: str) -> bytes:
    """Return the content of a regular file in a folder, which a link may name only if it stays there."""
    path, most = folder / name, most_bytes(name)
    try:
        real = path.resolve(strict=True)
        if real.parent != folder.resolve():
            raise BundleError(f"{path}: is a link out of the bundle, expected the file itself; copy it with cp -L")
        # Looked at before it is opened, which may do something to a device and waits for the writer of a pipe.
        if not stat.S_ISREG(real.lstat().st_mode):
            raise BundleError(f"{path}: cannot be read (it is no regular file); copy the bundle again")
        with open(os.open(real, os.O_RDONLY | _NO_WAITING), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_size > most:
                raise BundleError(f"{path}: has {found.st_size:,} bytes, expected a file of at most {most:,}")
            return file.read(most)
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise BundleError(f"{path}: cannot be read ({reason_of(error)}); copy the bundle again") from None
