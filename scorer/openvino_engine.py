"""OpenVINO: the fastest engine on a processor, from the same model.onnx (extra ``openvino``)."""

from __future__ import annotations

from queue import SimpleQueue
from typing import Any

import numpy as np

from scorer.bundle import Bundle
from scorer.dialogue import HEADS
from scorer.engine import Inputs, Scores, available_cores, readers_on_processor, reason_of_library
from scorer.errors import BundleError, EngineError

_MOST_STREAMS = 16
"""More batches at once than this only cost memory: then several cores share one."""


class OpenVinoEngine:
    """OpenVINO on the processor: bf16 where it multiplies that in hardware and the bundle allows it, else fp32.

    Each stream runs a batch of its own on a core of its own, which is faster than all cores on one batch.
    """

    name = "openvino"
    notice = ""
    # oneDNN compiles anew for every shape, and attention multiplies tiles of 16: 8 is slower, and 32 pads more.
    pad_multiple = 16
    batch_tokens = 2048

    def __init__(self, bundle: Bundle, threads: int | None = None, precision: str | None = None) -> None:
        """Compile the model of a bundle; EngineError if OpenVINO is not installed or lacks ``precision`` here."""
        try:
            import openvino as ov  # noqa: PLC0415 - an extra
        except ModuleNotFoundError:
            raise EngineError("openvino is not installed: pip install 'empathy-scorer[openvino]'") from None
        self.threads = threads or available_cores()
        self.streams = min(self.threads, _MOST_STREAMS)
        self.readers = readers_on_processor(self.threads)
        core = ov.Core()
        has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and not has_bf16:
            raise EngineError("this processor does not multiply bf16 in hardware")
        if precision not in (None, "fp32", "bf16"):
            raise EngineError(f"OpenVINO computes in fp32 or bf16 here, not in {precision}")
        self.precision = precision or ("bf16" if has_bf16 and bundle.allows("bf16") else "fp32")
        settings = {
            "INFERENCE_PRECISION_HINT": {"bf16": ov.Type.bf16, "fp32": ov.Type.f32}[self.precision],
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": self.streams,
        }
        try:
            compiled = core.compile_model(_ready(core.read_model(bundle.model)), "CPU", settings)
        except RuntimeError as error:
            reason = reason_of_library(error)
            raise BundleError(f"{bundle.path / 'model.onnx'}: OpenVINO cannot load it: {reason}") from error
        self._inputs = [port.get_any_name() for port in compiled.inputs]
        self._idle: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self.streams):
            self._idle.put(compiled.create_infer_request())

    def run(self, inputs: Inputs) -> Scores:
        """Return the raw outputs (B, 2) for input arrays (B, T); EngineError if the model fails."""
        rows, length = inputs["input_ids"].shape
        request = self._idle.get()
        try:
            outputs = request.infer({name: inputs[name] for name in self._inputs}, share_inputs=True)
            scores = np.array(outputs[0], dtype=np.float32)
        except RuntimeError as error:
            reason = reason_of_library(error)
            raise EngineError(f"OpenVINO failed on a batch of {rows} x {length} tokens: {reason}") from error
        finally:
            self._idle.put(request)
        if scores.shape != (rows, len(HEADS)):
            raise EngineError(f"the model gave {scores.shape} numbers, expected {(rows, len(HEADS))}")
        return scores


def _ready(model: Any) -> Any:
    """Return a model with weights as floats, and with keys as the attention kernel reads them."""
    from openvino import opset13 as opset  # noqa: PLC0415
    from openvino.passes import ConstantFolding, Manager  # noqa: PLC0415

    passes = Manager()
    passes.register_pass(ConstantFolding())  # weights stored as int8 are made float once, not in every batch
    passes.run_passes(model)
    # An exporter lays keys out as (B, heads, size, T), which costs a copy: the product may as well transpose them.
    for product in [node for node in model.get_ordered_ops() if node.get_type_name() == "MatMul"]:
        keys = product.input_value(1).get_node()
        if keys.get_type_name() != "Transpose" or any(product.get_attributes().values()):
            continue
        order = keys.input_value(1).get_node()
        if order.get_type_name() == "Constant" and order.get_data().tolist() == [0, 2, 3, 1]:
            straight = opset.transpose(keys.input_value(0), np.array([0, 2, 1, 3]))
            turned = opset.matmul(product.input_value(0), straight, False, True)
            product.output(0).replace(turned.output(0))
    return model
