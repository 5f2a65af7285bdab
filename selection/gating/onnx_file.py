"""Any ONNX sequence classifier as what the gate measures: its file, its tokenizer's folder, texts, a threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from scorer.arrays import Ints, Mask
from scorer.bundle.encode import Encoded
from scorer.bundle.tokenizer.faults import tokenizer_faults
from scorer.engines.base import Scores
from scorer.engines.onnxruntime import onnxruntime_faults
from scorer.errors import BundleError, InputError, reason_of
from selection.errors import GateError
from selection.gating.judge import MIN_CHECKED, Decide
from selection.gating.measure import Subject

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_PADDING = ("[PAD]", "<pad>", "<|padding|>")


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxFile:
    """An ONNX model that is no bundle; ``data`` is its file, which holds its weights."""

    path: Path
    data: bytes
    columns: int
    max_length: int

    def model_for(self, precision: str) -> bytes:
        """Return the model; BundleError for half precision, which would be another file."""
        if precision == "fp16":
            raise BundleError(f"{self.path}: is one file, and fp16 would be another; measure that one")
        return self.data

    def model_file(self, precision: str) -> str:
        """Return its name, for any precision."""
        return self.path.name


def read_subject(
    path: Path, tokenizer: Path, texts: Sequence[str], *, threshold: float | None, max_length: int
) -> Subject:
    """Return what the gate measures; GateError, InputError or BundleError says what is wrong with it.

    ``texts`` are files of JSON lines: {"text": ..., "text_pair": ...} or the text alone. A decision is whether each
    output is at least ``threshold``, and for None which of them is the largest. It runs in this process: only for
    files that are trusted.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({reason_of(error)})") from None
    columns = _columns(path, data)
    if threshold is None and columns < 2:
        raise GateError(f"{path}: gives one number for each text; say from where on it decides, with --threshold")
    reader = _tokenizer(tokenizer)
    pad_id = _pad_id(reader, tokenizer)
    reader.no_padding()
    reader.enable_truncation(max_length)
    rows = [row for source in texts for row in _rows(Path(source))]
    if len(rows) < MIN_CHECKED:
        raise GateError(f"--check holds {len(rows)} texts, expected at least {MIN_CHECKED} to tell 1 % of changes")
    encoded = [
        Encoded(ids=np.array(one.ids, dtype=np.int32), first_segment=len(one.ids) - sum(one.type_ids))
        for one in reader.encode_batch_fast(rows)
    ]
    file = OnnxFile(path=path, data=data, columns=columns, max_length=max_length)
    return Subject(network=file, encoded=encoded, pad_id=pad_id, decide=_decision(threshold))


def _decision(threshold: float | None) -> Decide:
    def decide(scores: Scores) -> Ints | Mask:
        if threshold is None:
            return np.asarray(scores.argmax(axis=1))
        powers = 1 << np.arange(scores.shape[1])
        return np.asarray(((scores >= threshold) * powers).sum(axis=1))

    return decide


def _columns(path: Path, data: bytes) -> int:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"], enable_fallback=0)
        outputs = session.get_outputs()
    except onnxruntime_faults() as error:
        raise BundleError(f"{path}: ONNX Runtime cannot load it: {reason_of(error)}") from None
    shape = list(outputs[0].shape) if len(outputs) == 1 else []
    if len(shape) != 2 or not isinstance(shape[1], int):
        found = ", ".join(f"{one.name} {one.shape}" for one in outputs)
        raise BundleError(f"{path}: has outputs {found}, expected one of (batch, classes)")
    return int(shape[1])


def _tokenizer(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise InputError(f"{file}: no such file, expected the tokenizer that the model was trained with")
    with tokenizer_faults(lambda why: InputError(f"{file}: is no tokenizer ({why})")):
        return Tokenizer.from_file(str(file))


def _pad_id(reader: Tokenizer, folder: Path) -> int:
    if reader.padding is not None:
        return int(reader.padding["pad_id"])
    found = next((number for name in _PADDING if (number := reader.token_to_id(name)) is not None), None)
    if found is None:
        raise InputError(
            f"{folder / 'tokenizer.json'}: has no token to pad with, expected one of {', '.join(_PADDING)}"
        )
    return int(found)


def _rows(file: Path) -> list[Any]:
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({reason_of(error)})") from None
    rows: list[Any] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            rows.append(_texts(msgspec.json.decode(line)))
        except (msgspec.MsgspecError, UnicodeError, ValueError) as error:
            what = f'expected {{"text": "..."}}, with a "text_pair" for pairs ({reason_of(error)})'
            raise InputError(f"{file}:{number}: is no text, {what}") from None
    return rows


def _texts(record: Any) -> Any:
    """Return what the tokenizer takes: a text, or a pair; ValueError if the record is neither."""
    if isinstance(record, str):
        return record
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        raise ValueError('no "text"')
    pair = record.get("text_pair")
    if pair is not None and not isinstance(pair, str):
        raise ValueError('"text_pair" is no text')
    return record["text"] if pair is None else (record["text"], pair)
