"""ONNX Runtime's variants: as shipped, int32 inputs, two batches under way, fused, in half precision, TensorRT."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from benchmarks.gpu.rows import Batch, Floats, Run
from scorer.engines.base import available_cores

PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider", "cpu": "CPUExecutionProvider"}


def int32_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model that takes int32: half the bytes on their way to the device, where they are made int64."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    casts = []
    for port in changed.graph.input:
        wide = f"{port.name}.int64"
        for node in changed.graph.node:
            for place, name in enumerate(node.input):
                if name == port.name:
                    node.input[place] = wide
        port.type.tensor_type.elem_type = TensorProto.INT32
        casts.append(helper.make_node("Cast", [port.name], [wide], to=TensorProto.INT64))
    nodes = [*casts, *changed.graph.node]
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    return changed


def fused_half(model: onnx.ModelProto, *, heads: int, hidden: int, gpu: bool) -> tuple[onnx.ModelProto, str]:
    """Return ONNX Runtime's own graph of an encoder, attention fused, on a GPU in fp16, and what was fused."""
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        onnx.save(model, path)
        optimised = optimize_model(
            str(path),
            model_type="bert",
            num_heads=heads,
            hidden_size=hidden,
            optimization_options=FusionOptions("bert"),
            opt_level=0,
            use_gpu=gpu,
            only_onnxruntime=False,
        )
    counts = optimised.get_fused_operator_statistics()
    attention = sum(count for name, count in counts.items() if "Attention" in name)
    if attention == 0:
        raise ValueError("the optimiser found no attention to fuse in this graph")
    if gpu:
        optimised.convert_float_to_float16(keep_io_types=True)
    return optimised.model, f"{attention} attentions fused"


def make(model: onnx.ModelProto, provider: str, *, at_once: int = 1, bound: bool = True, half: bool = False) -> Run:
    """Return what runs a model with a provider, ``at_once`` batches under way; RuntimeError where it is not there.

    ``bound`` binds inputs and outputs once to each batch, else they are handed over as arrays.
    """
    import onnxruntime as ort

    wanted = PROVIDERS[provider]
    if wanted not in ort.get_available_providers():
        raise RuntimeError(f"this ONNX Runtime has no {wanted}")
    options = ort.SessionOptions()
    options.intra_op_num_threads = available_cores()
    options.log_severity_level = 4
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=_with_fallback(wanted, half=half), enable_fallback=0
    )
    if session.get_providers()[0] != wanted:
        raise RuntimeError(f"{wanted} does not start")
    kinds = {port.name: np.int32 if "int32" in port.type else np.int64 for port in session.get_inputs()}
    output = session.get_outputs()[0].name

    def one(batch: Batch) -> Floats:
        given = {name: batch[name].astype(kind, copy=False) for name, kind in kinds.items()}
        if not bound:
            return np.asarray(session.run([output], given)[0], dtype=np.float32)
        binding = session.io_binding()
        for name, array in given.items():
            binding.bind_cpu_input(name, array)
        binding.bind_output(output)
        session.run_with_iobinding(binding)
        return np.asarray(binding.copy_outputs_to_cpu()[0], dtype=np.float32)

    def run(batches: Sequence[Batch]) -> list[Floats]:
        if at_once == 1:
            return [one(batch) for batch in batches]
        found: list[Floats] = []
        with ThreadPoolExecutor(at_once) as pool:
            running: deque[Future[Floats]] = deque()
            for batch in batches:
                if len(running) == at_once:
                    found.append(running.popleft().result())
                running.append(pool.submit(one, batch))
            found += [future.result() for future in running]
        return found

    return run


def _with_fallback(wanted: str, *, half: bool) -> list[Any]:
    cuda = ("CUDAExecutionProvider", {"arena_extend_strategy": "kSameAsRequested"})
    if wanted == PROVIDERS["cpu"]:
        return [wanted]
    if wanted == cuda[0]:
        return [cuda, PROVIDERS["cpu"]]
    shapes = {"min": "1x8", "opt": "256x64", "max": "4096x256"}
    names = ("input_ids", "attention_mask", "token_type_ids")
    profile = {
        f"trt_profile_{which}_shapes": ",".join(f"{name}:{shape}" for name in names) for which, shape in shapes.items()
    }
    return [(wanted, {"trt_fp16_enable": half, **profile}), cuda, PROVIDERS["cpu"]]
