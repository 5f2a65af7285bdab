"""int8 by ONNX Runtime with fixed scales, plain and after smoothing: what it does to rate and decisions.

``python -m benchmarks.smoothing RELEASE [--scorer BUNDLE] [--count 600]``

Smoothing is SmoothQuant's (Xiao et al., arXiv 2211.10438): each channel of a product's input is divided by
max|x|^a / max|w|^(1 - a) and the weights are multiplied by it, so that both are easier to round. Half as many dialogues
more fix the scales. Rates are processor time on one thread.
"""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from benchmarks.throughput.dialogues import real_dialogues
from scorer.bundle.bundle import Bundle, load_bundle
from scorer.bundle.encode import Encoded, Encoder
from scorer.cli.table import table_lines
from scorer.engines.base import collate
from selection.gating.judge import judge_precision

Batch = dict[str, npt.NDArray[np.int64]]
_LARGE = 4096
_ROWS = 16


@click.command()
@click.argument("release", type=click.Path(path_type=Path, exists=True))
@click.option("--scorer", type=click.Path(path_type=Path), help="[default: the starter]")
@click.option("--count", type=click.IntRange(min=16), default=600, show_default=True)
def main(release: Path, scorer: Path | None, count: int) -> None:
    """Print the table."""
    logging.disable(logging.WARNING)  # it advises a preprocessing that an exported encoder does not need
    bundle = load_bundle(scorer)
    dialogues = real_dialogues(release)[: count + count // 2]
    encoded = Encoder(bundle.tokenizer, bundle.info.max_length).encode(dialogues)
    fixing, checked = batches(encoded[count:], bundle), batches(encoded[:count], bundle)
    model = with_floats(bundle)
    reference, fastest = scored(model, checked)
    rows = [("model", "times", "changed", "largest difference", "correlation")]
    for name, made in variants(model, fixing):
        scores, rate = scored(made, checked)
        verdict = judge_precision(reference, scores, bundle.info.cuts, 0.01)
        figures = (f"{rate / fastest:.2f}", f"{verdict.flips:.2%}", f"{verdict.drift_max:.3f}")
        rows.append((name, *figures, f"{verdict.correlation}"))
    print("\n".join(table_lines(rows)))


def variants(model: onnx.ModelProto, fixing: Sequence[Batch]) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Yield the models that are compared, by name."""
    yield "fixed scales", in_int8(model, fixing)
    most = ranges(model, fixing)
    for share in (0.5, 0.75):
        smooth = smoothed(model, most, share)
        yield f"smoothed by {share}", in_int8(smooth, fixing)
        yield f"smoothed by {share}, weights of 7 bits", in_int8(smooth, fixing, seven=True)
    smooth = smoothed(model, most, 0.6)
    yield "smoothed by 0.6, 7 bits, second feed-forward product in fp32", in_int8(smooth, fixing, seven=True, skip=True)


def batches(encoded: Sequence[Encoded], bundle: Bundle) -> list[Batch]:
    """Return batches of dialogues of like lengths."""
    ordered = sorted(encoded, key=len)
    return [dict(collate(ordered[at : at + _ROWS], bundle.info.pad_id)) for at in range(0, len(ordered), _ROWS)]


def with_floats(bundle: Bundle) -> onnx.ModelProto:
    """Return a bundle's model with the weights that are stored as int8 made floats."""
    model = onnx.load_from_string(bundle.model_for("fp32"))
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            axis = next((one.i for one in node.attribute if one.name == "axis"), 1)
            weight = arrays[node.input[0]].astype(np.float32) * np.expand_dims(arrays[node.input[1]], 1 - axis)
            model.graph.initializer.append(numpy_helper.from_array(weight, node.output[0]))
    return _pruned(model, [node for node in model.graph.node if node.op_type != "DequantizeLinear"])


def products(model: onnx.ModelProto) -> list[tuple[Any, npt.NDArray[np.float32]]]:
    """Return the nodes that multiply by a large matrix, with it, the inputs along its first axis."""
    arrays = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer if np.prod(one.dims) >= _LARGE}
    return [
        (node, arrays[node.input[1]])
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[1] in arrays and arrays[node.input[1]].ndim == 2
    ]


def ranges(model: onnx.ModelProto, fixing: Sequence[Batch]) -> dict[str, npt.NDArray[np.float32]]:
    """Return the largest absolute value of each channel of each product's input."""
    names = sorted({node.input[0] for node, _ in products(model)})
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = ort.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    most: dict[str, npt.NDArray[np.float32]] = {}
    for batch in fixing:
        given = {port.name: batch[port.name] for port in session.get_inputs()}
        for name, found in zip(names, session.run(names, given), strict=True):
            here = np.abs(found).reshape(-1, found.shape[-1]).max(axis=0)
            most[name] = np.maximum(most.get(name, np.float32(0)), here)
    return most


def smoothed(model: onnx.ModelProto, most: dict[str, npt.NDArray[np.float32]], share: float) -> onnx.ModelProto:
    """Return a model of the same scores whose products' inputs have no channel far larger than the others."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    by_input: dict[str, list[tuple[Any, npt.NDArray[np.float32]]]] = {}
    for node, weight in products(changed):
        by_input.setdefault(node.input[0], []).append((node, weight))
    added = {}
    for name, users in by_input.items():
        weights = np.max([np.abs(weight).max(axis=1) for _, weight in users], axis=0)
        scale = (np.maximum(most[name], 1e-5) ** share / np.maximum(weights, 1e-5) ** (1 - share)).astype(np.float32)
        changed.graph.initializer.append(numpy_helper.from_array(1 / scale, f"{name}.scale"))
        added[name] = helper.make_node("Mul", [name, f"{name}.scale"], [f"{name}.smooth"])
        for node, weight in users:
            heavier = numpy_helper.from_array(weight * scale[:, None], f"{node.input[1]}.smooth")
            changed.graph.initializer.append(heavier)
            node.input[0], node.input[1] = f"{name}.smooth", heavier.name
    nodes = []
    for node in changed.graph.node:
        nodes += [node, *(added[name] for name in node.output if name in added)]
    return _pruned(changed, nodes)


def in_int8(
    model: onnx.ModelProto, fixing: Sequence[Batch], *, seven: bool = False, skip: bool = False
) -> onnx.ModelProto:
    """Return a model that multiplies in int8 with fixed scales; ``skip`` leaves the largest inputs' products out."""
    found = [(node.name, weight) for node, weight in products(model)]
    widest = max(weight.shape[0] for _, weight in found)
    chosen = [name for name, weight in found if not (skip and weight.shape[0] == widest)]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source, target = Path(folder, "fp32.onnx"), Path(folder, "int8.onnx")
        onnx.save(model, source)
        quantize_static(
            source,
            target,
            _Batches([{port.name: batch[port.name] for port in model.graph.input} for batch in fixing]),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=seven,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=chosen,
        )
        return onnx.load(target)


def scored(model: onnx.ModelProto, checked: Sequence[Batch]) -> tuple[npt.NDArray[np.float32], float]:
    """Return the scores of all batches and how many dialogues a second of processor time that is, the best of two."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = [{port.name: batch[port.name] for port in session.get_inputs()} for batch in checked]
    best, scores = float("inf"), np.zeros((0, 2), np.float32)
    for _ in range(2):
        began = time.process_time()
        scores = np.concatenate([session.run(None, one)[0] for one in given])
        best = min(best, time.process_time() - began)
    return scores.clip(0, 10), len(scores) / best


def _pruned(model: onnx.ModelProto, nodes: Sequence[Any]) -> onnx.ModelProto:
    """Return a model with these nodes, and of its weights those that they use."""
    kept = onnx.ModelProto()
    kept.CopyFrom(model)
    used = {name for node in nodes for name in node.input}
    for entries, left in (
        (kept.graph.node, list(nodes)),
        (kept.graph.initializer, [one for one in model.graph.initializer if one.name in used]),
    ):
        del entries[:]
        entries.extend(left)
    onnx.checker.check_model(kept)
    return kept


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    """Hands the calibration one batch after another."""

    def __init__(self, given: Sequence[Batch]) -> None:
        self._batches = iter(given)

    def get_next(self) -> Batch | None:
        """Return the next batch, None after the last."""
        return next(self._batches, None)


if __name__ == "__main__":
    main()
