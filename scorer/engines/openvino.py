"""OpenVINO: the fastest engine on a processor, from the same model.onnx (extra ``openvino``)."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from threading import Lock
from typing import Any

import numpy as np

from scorer.engines.base import Inputs, Network, Scores, available_cores, checked, failing_as
from scorer.engines.forks import survive_forks
from scorer.engines.names import INT8_DYNAMIC
from scorer.errors import BundleError, EngineError, reason_of

_MOST_STREAMS = 16
"""More batches at once than this only cost memory: then several cores share one."""


_GROUP = 128
"""How many neighbouring activations share a scale in int8: fewer are more exact and slower."""


class OpenVinoEngine:
    """OpenVINO on the processor, in fp32, bf16, or int8 with scales by row and group.

    Each stream runs its own batch on its own core, which is faster than all cores on one batch.
    """

    name = "openvino"
    notice = ""
    # oneDNN compiles again for every shape, and attention multiplies tiles of 16: 8 is slower, and 32 pads more.
    pad_multiple = 16
    batch_tokens = 2048

    def __init__(self, bundle: Network, threads: int | None = None, precision: str | None = None) -> None:
        """Compile a bundle's model, in fp32 for None; EngineError if OpenVINO is not installed or lacks that here."""
        try:
            import openvino as ov  # an extra where the processor is no x86-64
        except ModuleNotFoundError:
            raise EngineError("openvino is not installed: pip install 'empathy-scorer[openvino]'") from None
        self.threads = threads or available_cores()
        streams = min(self.threads, _MOST_STREAMS)
        core = ov.Core()
        has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and not has_bf16:
            raise EngineError("this processor does not multiply bf16 in hardware")
        if precision not in (None, "fp32", "bf16", INT8_DYNAMIC):
            raise EngineError(f"OpenVINO computes in fp32, bf16 or {INT8_DYNAMIC} here, not in {precision}")
        self.precision = precision or "fp32"
        settings = {
            "INFERENCE_PRECISION_HINT": ov.Type.bf16 if self.precision == "bf16" else ov.Type.f32,
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": streams,
            # By itself it rounds activations wherever weights are stored as int8, on some processors.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": _GROUP if self.precision == INT8_DYNAMIC else 0,
        }
        try:
            model = core.read_model(bundle.model_for(self.precision))
            if self.precision != INT8_DYNAMIC:
                _fold_weights(model)
            elif not _keeps_int8(model):
                raise EngineError(f"its weights are not stored as int8, so that there is no {INT8_DYNAMIC} of it")
            compiled = core.compile_model(_turned(model), "CPU", settings)
        except RuntimeError as error:
            reason = reason_of(error)
            raise BundleError(f"{bundle.path / 'model.onnx'}: OpenVINO cannot load it: {reason}") from error
        self._columns = bundle.columns
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
            return checked(request.get_output_tensor(0).data, shape[0], self._columns)


def _fold_weights(model: Any) -> None:
    """Make weights that are stored as int8 floats once, not in every batch."""
    from openvino.passes import ConstantFolding, Manager

    passes = Manager()
    passes.register_pass(ConstantFolding())
    passes.run_passes(model)


def _keeps_int8(model: Any) -> bool:
    """Whether a matrix product of a model has weights that are stored as int8."""
    products = (node for node in model.get_ordered_ops() if node.get_type_name() == "MatMul")
    return any(_stored_type(product.input_value(1).get_node()) in ("i8", "u8") for product in products)


def _stored_type(node: Any) -> str:
    """Return the type of the constant that a chain of conversions, products and transposes begins with."""
    while node.get_type_name() in ("Multiply", "Convert", "Subtract", "Transpose", "Reshape"):
        node = node.input_value(0).get_node()
    return str(node.get_element_type().get_type_name()) if node.get_type_name() == "Constant" else ""


def _turned(model: Any) -> Any:
    """Return a model with keys as the attention kernel reads them."""
    from openvino import opset13 as opset

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
