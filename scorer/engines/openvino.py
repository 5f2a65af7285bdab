"""OpenVINO: the fastest engine on a processor, from the same model.onnx (extra ``openvino``)."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from threading import Lock
from typing import Any

import numpy as np

from scorer.bundle.bundle import Bundle
from scorer.engines.base import Inputs, Scores, available_cores, checked, failing_as
from scorer.engines.forks import survive_forks
from scorer.errors import BundleError, EngineError, reason_of

_MOST_STREAMS = 16
"""More batches at once than this only cost memory: then several cores share one."""


class OpenVinoEngine:
    """OpenVINO on the processor: bf16 where it multiplies that in hardware and the bundle allows it, else fp32.

    Each stream runs its own batch on its own core, which is faster than all cores on one batch.
    """

    name = "openvino"
    notice = ""
    # oneDNN compiles again for every shape, and attention multiplies tiles of 16: 8 is slower, and 32 pads more.
    pad_multiple = 16
    batch_tokens = 2048

    def __init__(self, bundle: Bundle, threads: int | None = None, precision: str | None = None) -> None:
        """Compile the model of a bundle; EngineError if OpenVINO is not installed or lacks ``precision`` here."""
        try:
            import openvino as ov  # an extra
        except ModuleNotFoundError:
            raise EngineError("openvino is not installed: pip install 'empathy-scorer[openvino]'") from None
        self.threads = threads or available_cores()
        streams = min(self.threads, _MOST_STREAMS)
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
            "NUM_STREAMS": streams,
        }
        try:
            compiled = core.compile_model(_ready(core.read_model(bundle.model_for("fp32"))), "CPU", settings)
        except RuntimeError as error:
            reason = reason_of(error)
            raise BundleError(f"{bundle.path / 'model.onnx'}: OpenVINO cannot load it: {reason}") from error
        self._inputs = [port.get_any_name() for port in compiled.inputs]
        self._turn = Lock()
        self._requests = [compiled.create_infer_request() for _ in range(2 * streams)]  # each stream has one waiting
        survive_forks(self)

    def run(self, inputs: Inputs) -> Scores:
        """Return the raw outputs (B, 2) for input arrays (B, T); EngineError if the model fails."""
        (scores,) = self.stream([inputs])
        return scores

    def stream(self, batches: Iterable[Inputs]) -> Generator[Scores]:
        """Yield the outputs of each batch in turn. One thread drives all streams: OpenVINO's own can deadlock.

        Threads that share the engine take turns.
        """
        with self._turn:
            yield from self._stream(batches)

    def _stream(self, batches: Iterable[Inputs]) -> Generator[Scores]:
        idle = deque(self._requests)
        running: deque[tuple[Any, tuple[int, int]]] = deque()
        try:
            for batch in batches:
                if not idle:
                    yield self._finish(running[0])
                    idle.append(running.popleft()[0])
                request = idle.popleft()
                running.append((request, batch["input_ids"].shape))
                self._begin(request, batch)
            while running:
                yield self._finish(running[0])
                running.popleft()
        finally:
            for request, _ in running:
                request.wait()

    def _begin(self, request: Any, batch: Inputs) -> None:
        with failing_as("OpenVINO", RuntimeError, batch["input_ids"].shape):
            # Inputs are copied: OpenVINO frees shared ones in threads that wait for Python.
            request.start_async({name: batch[name] for name in self._inputs}, share_inputs=False)

    def _finish(self, begun: tuple[Any, tuple[int, int]]) -> Scores:
        request, shape = begun
        with failing_as("OpenVINO", RuntimeError, shape):
            request.wait()
            return checked(request.get_output_tensor(0).data, shape[0])


def _ready(model: Any) -> Any:
    """Return a model with weights as floats, and with keys as the attention kernel reads them."""
    from openvino import opset13 as opset
    from openvino.passes import ConstantFolding, Manager

    passes = Manager()
    passes.register_pass(ConstantFolding())  # weights stored as int8 are made floats once, not in every batch
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
