"""The last layer for the first token only: the same logits for less work, or the graph as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import transformers
from onnx import TensorProto, helper, numpy_helper

from distill.exporting.export import to_onnx
from distill.exporting.first_token import Narrowed, narrow
from distill.exporting.quantise import Batch, static_int8, store_int8
from scorer.bundle.onnx_check import check_onnx

KINDS = ("Bert", "Roberta", "DistilBert", "MPNet")
VOCABULARY, LONGEST, HIDDEN, INNER, LAYERS = 80, 60, 32, 128, 2
PRODUCTS = 6  # queries, scores, weighted values, output, and two of the feed-forward network
SHAPES = ((1, 1), (1, 2), (1, LONGEST), (4, 3), (3, 16), (8, 31))


@cache
def make_plain(kind: str) -> onnx.ModelProto:
    """Return a random classifier of two layers as it is exported; its logits differ as scores do."""
    torch.manual_seed(0)
    values: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "num_labels": 2,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
    }
    if kind == "DistilBert":
        values |= {"dim": HIDDEN, "hidden_dim": INNER, "n_layers": LAYERS, "n_heads": 4}
    else:
        values |= {"hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": LAYERS}
        values |= {"num_attention_heads": 4}
    config = getattr(transformers, f"{kind}Config")(**values)
    model = getattr(transformers, f"{kind}ForSequenceClassification")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return to_onnx(model)


@pytest.fixture(scope="module", params=KINDS)
def plain(request: pytest.FixtureRequest) -> onnx.ModelProto:
    """A tiny random model of each kind that is a backbone."""
    return make_plain(request.param)


@pytest.fixture(scope="module")
def narrowed(plain: onnx.ModelProto) -> Narrowed:
    """The same, narrowed."""
    return narrow(plain, VOCABULARY, LONGEST)


def batch(model: onnx.ModelProto, rows: int, length: int) -> Batch:
    rng = np.random.default_rng(rows * 1000 + length)
    mask = (np.arange(length) < rng.integers(1, length + 1, (rows, 1))).astype(np.int64)
    given = {
        "input_ids": rng.integers(1, VOCABULARY, (rows, length)) * mask,
        "attention_mask": mask,
        "token_type_ids": (np.arange(length) >= length // 2).astype(np.int64) * mask,
    }
    return {port.name: given[port.name] for port in model.graph.input}


def run(model: onnx.ModelProto, inputs: Batch) -> list[Any]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


def work(model: onnx.ModelProto, inputs: Batch) -> int:
    """Return how many multiplications the matrix products of a model take on these inputs."""
    seen = copy.deepcopy(model)
    products = [node for node in seen.graph.node if node.op_type == "MatMul"]
    weights = {tensor.name: tuple(tensor.dims) for tensor in seen.graph.initializer}
    names = sorted({name for node in products for name in (node.input[0], node.output[0])} - set(weights))
    del seen.graph.output[:]
    seen.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    shapes = {name: array.shape for name, array in zip(names, run(seen, inputs), strict=True)} | weights
    return sum(int(np.prod(shapes[node.output[0]])) * shapes[node.input[0]][-1] for node in products)


def test_the_logits_are_the_same_for_every_shape(plain: onnx.ModelProto, narrowed: Narrowed) -> None:
    assert narrowed.products == PRODUCTS
    spread = []
    for rows, length in SHAPES:
        inputs = batch(plain, rows, length)
        expected, found = run(plain, inputs)[0], run(narrowed.model, inputs)[0]
        assert found.shape == (rows, 2)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        spread.append(expected.std())
    assert max(spread) > 0.1  # a model that always says the same would agree with anything


def test_of_the_last_layer_only_keys_and_values_are_computed_for_every_token(
    plain: onnx.ModelProto, narrowed: Narrowed
) -> None:
    rows, length = 3, 40
    inputs = batch(plain, rows, length)
    token = 4 * HIDDEN * HIDDEN + 2 * HIDDEN * INNER + 2 * length * HIDDEN  # of one layer
    assert work(plain, inputs) == LAYERS * rows * length * token
    first = rows * token + rows * (length - 1) * 2 * HIDDEN * HIDDEN
    assert work(narrowed.model, inputs) == (LAYERS - 1) * rows * length * token + first


def test_it_stays_a_standard_model_with_the_same_ports(plain: onnx.ModelProto, narrowed: Narrowed) -> None:
    check_onnx(narrowed.model.SerializeToString())
    onnx.checker.check_model(narrowed.model, full_check=True)
    assert narrowed.model.opset_import == plain.opset_import
    assert narrowed.model.graph.input == plain.graph.input
    assert narrowed.model.graph.output == plain.graph.output


def test_both_ways_to_int8_take_it(plain: onnx.ModelProto, narrowed: Narrowed) -> None:
    inputs = batch(plain, 4, 20)
    expected = run(plain, inputs)[0]
    for make in (store_int8, lambda model: static_int8(model, [inputs])):
        found, former = (run(make(model), inputs)[0] for model in (narrowed.model, plain))
        assert np.abs(found - expected).max() < 2 * np.abs(former - expected).max() + 0.1


def test_a_graph_is_not_changed_in_place(plain: onnx.ModelProto, narrowed: Narrowed) -> None:
    before = plain.SerializeToString(deterministic=True)
    narrow(plain, VOCABULARY, LONGEST)
    assert plain.SerializeToString(deterministic=True) == before
    assert narrowed.model is not plain


# What must stay as it is. `last` is the last hidden state, (batch, length, hidden).


def read_whole(graph: onnx.GraphProto, last: str) -> None:
    """Let the last hidden state be an output."""
    graph.output.append(helper.make_tensor_value_info(last, TensorProto.FLOAT, ["batch", "length", HIDDEN]))


def pool_mean(graph: onnx.GraphProto, last: str) -> None:
    """Read the mean over the tokens in place of the first one."""
    gather = next(node for node in graph.node if node.op_type == "Gather" and node.input[0] == last)
    graph.initializer.append(numpy_helper.from_array(np.array([1], dtype=np.int64), "tokens"))
    gather.CopyFrom(helper.make_node("ReduceMean", [last, "tokens"], list(gather.output), keepdims=0))


def pool_second(graph: onnx.GraphProto, last: str) -> None:
    """Read the last token."""
    gather = next(node for node in graph.node if node.op_type == "Gather" and node.input[0] == last)
    graph.initializer.append(numpy_helper.from_array(np.array(-1, dtype=np.int64), "which"))
    gather.input[1] = "which"


def branch(graph: onnx.GraphProto, last: str) -> None:
    """Read the last hidden state in a branch, where no list of inputs says so."""
    body = helper.make_graph(
        [helper.make_node("ReduceMax", [last], ["m"], keepdims=0)],
        "body",
        [],
        [helper.make_tensor_value_info("m", TensorProto.FLOAT, [])],
    )
    graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    graph.node.append(helper.make_node("If", ["yes"], ["most"], then_branch=body, else_branch=body))
    graph.output.append(helper.make_tensor_value_info("most", TensorProto.FLOAT, []))


@pytest.mark.parametrize("change", [read_whole, pool_mean, pool_second, branch])
def test_a_graph_that_reads_more_of_the_last_layer_is_left_as_it_is(
    change: Callable[[onnx.GraphProto, str], None],
) -> None:
    model = copy.deepcopy(make_plain("Bert"))
    gather = [node for node in model.graph.node if node.op_type == "Gather"][-1]
    change(model.graph, gather.input[0])
    found = narrow(model, VOCABULARY, LONGEST)
    assert (found.model, found.products) == (model, 0)
    expected = "the graph has branches" if change is branch else "more than the first one is read"
    assert found.note == f"every token is computed in every layer: {expected}"


def test_what_else_reads_a_part_of_it_gets_it_whole() -> None:
    """The feed-forward network may be narrowed, and what comes before it not: an output is its input."""
    model = copy.deepcopy(make_plain("Bert"))
    norm = [node for node in model.graph.node if node.op_type == "LayerNormalization"][-2].output[0]
    model.graph.output.append(helper.make_tensor_value_info(norm, TensorProto.FLOAT, ["batch", "length", HIDDEN]))
    found = narrow(model, VOCABULARY, LONGEST)
    assert found.products == 2
    inputs = batch(model, 3, 9)
    for expected, other in zip(run(model, inputs), run(found.model, inputs), strict=True):
        np.testing.assert_allclose(other, expected, atol=1e-5)


def test_a_graph_that_comes_out_wrong_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    from distill.exporting import first_token as module

    model = make_plain("Bert")
    monkeypatch.setitem(module._RULES, "Softmax", lambda node, axis, shapes: {0: axis - 1})  # a head for a token
    found = narrow(model, VOCABULARY, LONGEST)
    assert (found.model, found.products) == (model, 0)
    assert found.note.startswith("every token is computed in every layer: narrowed, it")
