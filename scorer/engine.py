"""Run the network on a batch of token ids: one small protocol, one class an engine, one rule that chooses.

To add an engine, write a class with the members of ``Engine``, and name it in ``ENGINES`` and in ``choose``.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Generator, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from scorer.bundle import Bundle
from scorer.dialogue import HEADS
from scorer.encode import Encoded
from scorer.errors import EngineError

Inputs = dict[str, npt.NDArray[np.int64]]
Scores = npt.NDArray[np.float32]

PRECISIONS = ("fp32", "bf16", "fp16", "int8")
"""What a scorer can compute in; fp32 is always allowed, the others where the bundle's gate let them pass."""

PAD_MULTIPLE = 8
"""Batches are padded to a multiple of so many tokens, unless an engine says otherwise."""


class Engine(Protocol):
    """Runs a bundle's model. ``name`` and ``precision`` are written beside the scores.

    ``notice`` is a line that a user should see, such as why a faster way was not taken, or empty. ``pad_multiple``
    and ``batch_tokens`` are the lengths and the padded tokens a batch that suit it, and ``readers`` the processes that
    read for it.
    """

    name: str
    precision: str
    threads: int
    notice: str
    pad_multiple: int
    batch_tokens: int
    readers: int

    def run(self, inputs: Inputs) -> Scores:
        """Return the raw outputs (B, 2) for input arrays (B, T); EngineError if the model fails."""
        ...

    def stream(self, batches: Iterable[Inputs]) -> Generator[Scores]:
        """Yield the outputs of batch after batch, with as many under way at once as fill the hardware.

        Whatever ends it, the batches under way are finished.
        """
        ...


def _onnxruntime(bundle: Bundle, threads: int | None, precision: str | None) -> Engine:
    from scorer.onnxruntime_engine import OnnxRuntimeEngine  # noqa: PLC0415 - each engine's library loads when chosen

    return OnnxRuntimeEngine(bundle, threads, precision or "fp32")


def _cuda(bundle: Bundle, threads: int | None, precision: str | None) -> Engine:
    from scorer.onnxruntime_engine import OnnxRuntimeEngine  # noqa: PLC0415

    return OnnxRuntimeEngine(bundle, threads, precision or _best_on_gpu(bundle), provider="cuda")


def _tensorrt(bundle: Bundle, threads: int | None, precision: str | None) -> Engine:
    from scorer.onnxruntime_engine import OnnxRuntimeEngine  # noqa: PLC0415

    return OnnxRuntimeEngine(bundle, threads, precision or _best_on_gpu(bundle), provider="tensorrt")


def _openvino(bundle: Bundle, threads: int | None, precision: str | None) -> Engine:
    from scorer.openvino_engine import OpenVinoEngine  # noqa: PLC0415

    return OpenVinoEngine(bundle, threads, precision)


ENGINES: dict[str, Callable[[Bundle, int | None, str | None], Engine]] = {
    "onnxruntime": _onnxruntime,
    "onnxruntime-cuda": _cuda,
    "onnxruntime-tensorrt": _tensorrt,
    "openvino": _openvino,
}
"""Every engine by its name, on the command line and beside the scores."""


_ONLY_IN = {"bf16": "openvino", "int8": "onnxruntime", "fp16": "onnxruntime-cuda"}
"""The engine that computes in a precision which not all of them have."""


def make_engine(name: str, bundle: Bundle, threads: int | None = None, precision: str | None = None) -> Engine:
    """Return the engine of that name; ``auto`` is the one that ``choose`` takes here.

    ``precision`` None is the fastest that the engine has here and the bundle's gate let pass. EngineError if the
    engine is not known or not installed, or cannot compute in that precision faithfully.
    """
    if name != "auto" and name not in ENGINES:
        raise EngineError(f"engine {name!r} is not known, expected auto or one of {', '.join(ENGINES)}")
    if precision is not None and precision not in PRECISIONS:
        raise EngineError(f"precision {precision!r} is not known, expected one of {', '.join(PRECISIONS)}")
    if precision is not None and not bundle.allows(precision):
        reason = bundle.info.get("precisions", {}).get(precision, {}).get("reason", "its export did not check it")
        raise EngineError(f"{bundle.path}: may not score in {precision} ({reason}); use fp32 or export it again")
    if name != "auto":
        return ENGINES[name](bundle, threads, precision)
    notice = ""
    if _cuda_provider_installed():
        try:
            return ENGINES["onnxruntime-cuda"](bundle, threads, precision)
        except EngineError as error:  # the library for a GPU is there, and no GPU: say so and score
            notice = str(error)
    chosen, chosen_precision = choose(bundle, openvino=find_spec("openvino") is not None, features=cpu_features())
    if precision is not None and precision != chosen_precision:
        chosen, chosen_precision = _ONLY_IN.get(precision, chosen), precision
    engine = ENGINES[chosen](bundle, threads, chosen_precision)
    engine.notice = engine.notice or notice
    return engine


def choose(bundle: Bundle, *, openvino: bool, features: frozenset[str]) -> tuple[str, str]:
    """Return the engine and precision of ``auto`` on a processor: the fastest whose scores the bundle vouches for.

    1. OpenVINO in bf16, where it is installed, the processor multiplies bf16 (AMX or AVX512-BF16), and the bundle's
       gate let bf16 pass.
    2. ONNX Runtime in int8, where the processor has VNNI and the gate let int8 pass.
    3. OpenVINO in fp32, where it is installed and the processor is an x86: twice ONNX Runtime's rate there.
    4. ONNX Runtime in fp32.
    """
    if openvino and features & {"amx_bf16", "avx512_bf16"} and bundle.allows("bf16"):
        return "openvino", "bf16"
    if features & {"avx512_vnni", "avx_vnni"} and bundle.allows("int8"):
        return "onnxruntime", "int8"
    if openvino and features & {"x86"}:
        return "openvino", "fp32"
    return "onnxruntime", "fp32"


def cpu_features() -> frozenset[str]:
    """Return what this processor multiplies in hardware, by Linux's names, and ``x86`` if it is one.

    Other systems do not tell, so there it counts as a processor without any.
    """
    family = {"x86"} if platform.machine().lower() in ("x86_64", "amd64") else set()
    info = Path("/proc/cpuinfo")
    flags = (
        next((line for line in info.read_text().splitlines() if line.startswith("flags")), "") if info.exists() else ""
    )
    return frozenset(family | ({"amx_bf16", "avx512_bf16", "avx512_vnni", "avx_vnni"} & set(flags.split())))


def collate(batch: Sequence[Encoded], pad_id: int, multiple: int = PAD_MULTIPLE) -> Inputs:
    """Return the padded inputs of a batch, each (B, T) with T a multiple of ``multiple``."""
    length = -(-max(map(len, batch)) // multiple) * multiple
    ids = np.full((len(batch), length), pad_id, dtype=np.int64)
    lengths = np.array([len(item) for item in batch])[:, None]  # (B, 1)
    first = np.array([item.first_segment for item in batch])[:, None]
    for row, item in enumerate(batch):
        ids[row, : len(item)] = item.ids
    place = np.arange(length)[None, :]  # (1, T)
    return {
        "input_ids": ids,
        "attention_mask": (place < lengths).astype(np.int64),
        "token_type_ids": ((place >= first) & (place < lengths)).astype(np.int64),
    }


def readers_on_processor(threads: int) -> int:
    """Return how many processes read for so many cores that score: one reads for some 8 with the starter."""
    return max(1, threads // 8)


def checked(scores: npt.NDArray[Any], rows: int) -> Scores:
    """Return what a model gave as float32; EngineError if it is not two numbers for each row."""
    if scores.shape != (rows, len(HEADS)):
        raise EngineError(f"the model gave {scores.shape} numbers, expected {(rows, len(HEADS))}")
    return np.array(scores, dtype=np.float32)


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def reason_of_library(error: Exception) -> str:
    """Return what a library's exception says, as one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _best_on_gpu(bundle: Bundle) -> str:
    return "fp16" if bundle.allows("fp16") and bundle.holds("fp16") else "fp32"


def _cuda_provider_installed() -> bool:
    """Whether ONNX Runtime's library for CUDA is there. To import it only for asking would slow every start."""
    found = find_spec("onnxruntime")
    folders = (found.submodule_search_locations or []) if found else []
    return any(any(Path(folder, "capi").glob("*onnxruntime_providers_cuda*")) for folder in folders)
