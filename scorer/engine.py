"""Run the network on a batch of token ids: one small protocol, one class an engine.

To add an engine, write a class with the members of ``Engine`` and name it in ``ENGINES``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from scorer.bundle import Bundle
from scorer.dialogue import HEADS
from scorer.encode import Encoded
from scorer.errors import BundleError, EngineError

if TYPE_CHECKING:
    import onnxruntime as ort

Inputs = dict[str, npt.NDArray[np.int64]]
Scores = npt.NDArray[np.float32]

_KNOWN_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}
_FLOATS = {"tensor(float)", "tensor(float16)", "tensor(double)"}

PAD_MULTIPLE = 8
"""Batches are padded to a multiple of so many tokens."""


class Engine(Protocol):
    """Runs a bundle's model. ``name`` and ``precision`` are written beside the scores.

    ``notice`` is a line that a user should see, such as why a faster way was not taken, or empty.
    """

    name: str
    precision: str
    threads: int
    notice: str

    def run(self, inputs: Inputs) -> Scores:
        """Return the raw outputs (B, 2) for input arrays (B, T); EngineError if the model fails."""
        ...


class OnnxRuntimeEngine:
    """ONNX Runtime: on an NVIDIA GPU where its CUDA provider is installed and starts, else on the CPU."""

    def __init__(self, bundle: Bundle, threads: int | None = None, precision: str = "fp32") -> None:
        """Load the model of a bundle, in ``fp32``, ``fp16`` or ``int8``; ``threads`` None is one a core."""
        import onnxruntime as ort  # noqa: PLC0415 - not needed to read corpora or cards

        self.threads = threads or available_cores()
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # errors come as exceptions, and are reported once
        # Lengths vary from batch to batch: planning memory for each shape makes it grow (onnxruntime issue 11118).
        options.enable_mem_pattern = False
        if precision == "fp32":  # weights stored as int8 are made float once at load; activations are never quantised
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        self._faults = onnxruntime_faults()
        model, path = bundle.model_for(precision), bundle.path / bundle.model_file(precision)
        try:
            self._session, self.notice = _session(model, options, self._faults)
        except self._faults as error:
            raise BundleError(f"{path}: ONNX Runtime cannot load it: {_line(error)}") from error
        on_gpu = self._session.get_providers()[0] == "CUDAExecutionProvider"
        self.name = "onnxruntime-cuda" if on_gpu else "onnxruntime"
        self.precision = precision
        self._inputs = [node.name for node in self._session.get_inputs()]
        outputs = self._session.get_outputs()
        unknown = sorted(set(self._inputs) - _KNOWN_INPUTS)
        if unknown or "input_ids" not in self._inputs:
            raise BundleError(f"{path}: has inputs {self._inputs}, expected {_KNOWN_INPUTS}")
        if len(outputs) != 1 or outputs[0].type not in _FLOATS or list(outputs[0].shape[1:]) != [len(HEADS)]:
            found = ", ".join(f"{node.type} {node.shape}" for node in outputs)
            expected = f"expected one of floats (batch, {len(HEADS)})"
            raise BundleError(f"{path}: has outputs {found}, {expected}")
        self._output = outputs[0].name

    def run(self, inputs: Inputs) -> Scores:
        """Return the raw outputs (B, 2) for input arrays (B, T); EngineError if the model fails."""
        rows, length = inputs["input_ids"].shape
        feed = {name: inputs[name] for name in self._inputs}
        try:
            (scores,) = self._session.run([self._output], feed)
        except self._faults as error:
            raise EngineError(f"ONNX Runtime failed on a batch of {rows} x {length} tokens: {_line(error)}") from error
        if scores.shape != (rows, len(HEADS)):
            raise EngineError(f"the model gave {scores.shape} numbers, expected {(rows, len(HEADS))}")
        return np.asarray(scores, dtype=np.float32)


class OpenVinoEngine:
    """OpenVINO on the processor: bf16 where it multiplies that in hardware and the bundle allows it, else fp32."""

    name = "openvino"
    notice = ""

    def __init__(self, bundle: Bundle, threads: int | None = None, precision: str | None = None) -> None:
        """Compile the model of a bundle; EngineError if OpenVINO is not installed or lacks ``precision`` here."""
        try:
            import openvino as ov  # noqa: PLC0415 - an extra
            from openvino.passes import ConstantFolding, Manager  # noqa: PLC0415
        except ModuleNotFoundError:
            raise EngineError("openvino is not installed: pip install 'empathy-scorer[openvino]'") from None
        self.threads = threads or available_cores()
        core = ov.Core()
        has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and not has_bf16:
            raise EngineError("this processor does not multiply bf16 in hardware")
        self.precision = precision or ("bf16" if has_bf16 and bundle.allows("bf16") else "fp32")
        try:
            model = core.read_model(bundle.model)
            passes = Manager()
            passes.register_pass(ConstantFolding())  # weights stored as int8 are made float once, not in every batch
            passes.run_passes(model)
            hint = {"bf16": ov.Type.bf16, "fp32": ov.Type.f32}[self.precision]
            compiled = core.compile_model(
                model, "CPU", {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": self.threads}
            )
        except RuntimeError as error:
            raise BundleError(f"{bundle.path / 'model.onnx'}: OpenVINO cannot load it: {_line(error)}") from error
        self._request = compiled.create_infer_request()
        self._inputs = [port.get_any_name() for port in compiled.inputs]

    def run(self, inputs: Inputs) -> Scores:
        """Return the raw outputs (B, 2) for input arrays (B, T); EngineError if the model fails."""
        rows, length = inputs["input_ids"].shape
        try:
            outputs = self._request.infer({name: inputs[name] for name in self._inputs})
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed on a batch of {rows} x {length} tokens: {_line(error)}") from error
        scores = np.array(outputs[0], dtype=np.float32)
        if scores.shape != (rows, len(HEADS)):
            raise EngineError(f"the model gave {scores.shape} numbers, expected {(rows, len(HEADS))}")
        return scores


Faults = tuple[type[Exception], ...]


def onnxruntime_faults() -> Faults:
    """Return what ONNX Runtime raises: exceptions of its own, which share no base, and those of its C++ code."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # noqa: PLC0415

    own = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*own, RuntimeError, ValueError, MemoryError)


def _session(model: bytes, options: ort.SessionOptions, faults: Faults) -> tuple[ort.InferenceSession, str]:
    """Return a session on CUDA where it starts, else on the CPU, and a notice that says why.

    ONNX Runtime's own fallback would print to standard output, where scores may go.
    """
    import onnxruntime as ort  # noqa: PLC0415 - not needed to read corpora or cards

    notice = ""
    if "CUDAExecutionProvider" in ort.get_available_providers():
        providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
        try:
            return ort.InferenceSession(model, options, providers=providers, enable_fallback=0), notice
        except faults as error:
            notice = f"the CUDA provider does not start, so the processor scores: {_line(error)}"
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0), notice


ENGINES: dict[str, Callable[[Bundle, int | None], Engine]] = {
    "onnxruntime": OnnxRuntimeEngine,
    "openvino": OpenVinoEngine,
}
"""Every engine by its name on the command line."""


def make_engine(name: str, bundle: Bundle, threads: int | None = None) -> Engine:
    """Return the engine of that name; ``auto`` takes the fastest faithful one that is installed."""
    chosen = "onnxruntime" if name == "auto" else name
    if chosen not in ENGINES:
        raise EngineError(f"engine {name!r} is not known, expected auto or one of {', '.join(ENGINES)}")
    return ENGINES[chosen](bundle, threads)


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


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
