"""Run the network on a batch of token ids: the protocol of every engine, and what they share.

To add an engine, write a class with the members of ``Engine``, and name it in `scorer.engines.names` and
`scorer.engines.auto`.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from scorer.bundle.encode import Encoded
from scorer.bundle.tokens import Tokens
from scorer.errors import EngineError, reason_of

Inputs = dict[str, npt.NDArray[np.int64]]
Scores = npt.NDArray[np.float32]

PAD_MULTIPLE = 8
"""Batches are padded to a multiple of this many tokens, unless an engine says otherwise."""


class Network(Protocol):
    """What an engine runs: a `Bundle`, or another file that `empathy gate` measures."""

    @property
    def path(self) -> Path:
        """What a message names."""
        ...

    @property
    def columns(self) -> int:
        """How many numbers it gives for each row."""
        ...

    @property
    def max_length(self) -> int:
        """How many tokens a row may have."""
        ...

    def model_for(self, precision: str) -> bytes:
        """Return the ONNX model that a precision computes with; BundleError if there is none."""
        ...

    def model_file(self, precision: str) -> str:
        """Return the name of its file."""
        ...


class Engine(Protocol):
    """Runs a bundle's model. ``name`` and ``precision`` are written beside the scores.

    ``notice`` is a line that a user should see, such as why a faster way was not taken, or empty. ``pad_multiple``
    and ``batch_tokens`` are the lengths and the padded tokens per batch that suit it.
    """

    name: str
    precision: str
    threads: int
    notice: str
    pad_multiple: int
    batch_tokens: int

    def run(self, inputs: Inputs) -> Scores:
        """Return the raw outputs (B, 2) for input arrays (B, T); EngineError if the model fails."""
        ...

    def stream(self, batches: Iterable[Inputs]) -> Generator[Scores]:
        """Yield the outputs of each batch in turn, with as many running at once as fill the hardware.

        Whatever ends it, the batches that run are finished.
        """
        ...


def collate(batch: Sequence[Encoded], pad_id: int, multiple: int = PAD_MULTIPLE) -> Inputs:
    """Return the padded inputs of a batch, each (B, T) with T a multiple of ``multiple``."""
    tokens = Tokens.of(batch)
    return padded(tokens, tokens.texts, pad_id, multiple)


def padded(tokens: Tokens, texts: npt.NDArray[Any], pad_id: int, multiple: int = PAD_MULTIPLE) -> Inputs:
    """Return the padded inputs of some texts, each (B, T) with T a multiple of ``multiple``."""
    starts = tokens.starts[texts][:, None]  # (B, 1)
    lengths = tokens.starts[texts + 1][:, None] - starts
    length = -(-int(lengths.max()) // multiple) * multiple
    place = np.arange(length)[None, :]  # (1, T)
    real = place < lengths
    ids = np.full(real.shape, pad_id, dtype=np.int64)
    ids[real] = tokens.ids[(starts + place)[real]]
    return {
        "input_ids": ids,
        "attention_mask": real.astype(np.int64),
        "token_type_ids": (real & (place >= tokens.first_segment[texts][:, None])).astype(np.int64),
    }


@contextmanager
def failing_as(
    library: str, faults: type[Exception] | tuple[type[Exception], ...], shape: tuple[int, ...]
) -> Iterator[None]:
    """Turn what a library raises on a batch of inputs (B, T) into one line: EngineError."""
    try:
        yield
    except faults as error:
        batch = " x ".join(map(str, shape))
        raise EngineError(f"{library} failed on a batch of {batch} tokens: {reason_of(error)}") from error


def checked(scores: npt.NDArray[Any], rows: int, columns: int) -> Scores:
    """Return what a model gave as float32; EngineError if it is not so many numbers for each row."""
    if scores.shape != (rows, columns):
        raise EngineError(f"the model gave {scores.shape} numbers, expected {(rows, columns)}")
    return np.array(scores, dtype=np.float32)


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
