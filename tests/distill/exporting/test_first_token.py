"""The last layer for the first token only: the same logits for less work, or the whole graph."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel
from transformers.models.bert.modeling_bert import BertPooler

from distill.exporting import first_token
from distill.exporting.first_token import export_first_token, to_onnx
from distill.exporting.quantise import store_int8
from scorer.bundle.onnx_check import check_onnx
from tests.distill.tiny import KINDS

VOCABULARY, LONGEST, HIDDEN, INNER, LAYERS = 80, 60, 32, 128, 2
SHAPES = ((1, 1), (1, 2), (1, LONGEST), (4, 3), (3, 16), (8, 31))
CUT = "matrix products computed for the first token only: 6"
WHOLE = "every token is computed in every layer: "


def make_model(kind: str) -> PreTrainedModel:
    """Return a random classifier of two layers; its logits differ as scores do."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": VOCABULARY, "num_labels": 2, "max_position_embeddings": 64}
    sizes |= {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "pad_token_id": 0}
    sizes["hidden_dim" if kind == "distilbert" else "intermediate_size"] = INNER
    config = AutoConfig.for_model(kind, **sizes)
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


@pytest.fixture(scope="module", params=KINDS)
def graphs(request: pytest.FixtureRequest) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """A tiny random model of each kind that is a backbone: its whole graph, and the one for the first token."""
    model = make_model(request.param)
    before = copy.deepcopy(model.state_dict())
    cut, note = export_first_token(model, LONGEST)
    assert note == CUT
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    return to_onnx(model), cut


def batch(model: onnx.ModelProto, rows: int, length: int) -> dict[str, Any]:
    rng = np.random.default_rng(rows * 1000 + length)
    mask = (np.arange(length) < rng.integers(1, length + 1, (rows, 1))).astype(np.int64)
    given = {
        "input_ids": rng.integers(1, VOCABULARY, (rows, length)) * mask,
        "attention_mask": mask,
        "token_type_ids": (np.arange(length) >= length // 2).astype(np.int64) * mask,
    }
    return {port.name: given[port.name] for port in model.graph.input}


def run(model: onnx.ModelProto, inputs: dict[str, Any]) -> list[Any]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


def work(model: onnx.ModelProto, inputs: dict[str, Any]) -> int:
    """Return how many multiplications the matrix products of a model take on these inputs."""
    seen = copy.deepcopy(model)
    products = [node for node in seen.graph.node if node.op_type == "MatMul"]
    weights = {tensor.name: tuple(tensor.dims) for tensor in seen.graph.initializer}
    names = sorted({name for node in products for name in (node.input[0], node.output[0])} - set(weights))
    del seen.graph.output[:]
    seen.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    shapes = {name: array.shape for name, array in zip(names, run(seen, inputs), strict=True)} | weights
    return sum(int(np.prod(shapes[node.output[0]])) * shapes[node.input[0]][-1] for node in products)


def test_the_logits_are_the_same_for_every_shape(graphs: tuple[onnx.ModelProto, onnx.ModelProto]) -> None:
    spread = []
    for rows, length in SHAPES:
        expected, found = (run(model, batch(model, rows, length))[0] for model in graphs)
        assert found.shape == (rows, 2)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        spread.append(expected.std())
    assert max(spread) > 0.1  # a model that always says the same would agree with anything


def test_of_the_last_layer_only_keys_and_values_are_computed_for_every_token(
    graphs: tuple[onnx.ModelProto, onnx.ModelProto],
) -> None:
    rows, length = 3, 40
    token = 4 * HIDDEN * HIDDEN + 2 * HIDDEN * INNER + 2 * length * HIDDEN  # of one layer
    last = rows * token + rows * (length - 1) * 2 * HIDDEN * HIDDEN
    whole, cut = (work(model, batch(model, rows, length)) for model in graphs)
    assert whole == LAYERS * rows * length * token
    assert cut == (LAYERS - 1) * rows * length * token + last


def test_it_is_a_standard_model_that_is_stored_as_int8(graphs: tuple[onnx.ModelProto, onnx.ModelProto]) -> None:
    whole, cut = graphs
    check_onnx(cut.SerializeToString())
    onnx.checker.check_model(cut, full_check=True)
    assert cut.opset_import == whole.opset_import
    assert (cut.graph.input, cut.graph.output) == (whole.graph.input, whole.graph.output)
    inputs = batch(whole, 32, 20)
    expected = run(whole, inputs)[0]
    found, former = (run(store_int8(model), inputs)[0] for model in (cut, whole))
    assert np.abs(found - expected).mean() < 1.3 * np.abs(former - expected).mean() + 0.01


def mean_pooled(self: BertPooler, states: torch.Tensor) -> torch.Tensor:
    """Read the mean over the tokens in place of the first one."""
    pooled: torch.Tensor = self.activation(self.dense(states.mean(dim=1)))
    return pooled


@pytest.mark.parametrize(
    ("kind", "pooled", "cut", "note"),
    [
        ("albert", None, "query key value", "where AlbertForSequenceClassification has its last layer is not known"),
        ("bert", mean_pooled, "query key value", "cut to the first token, its scores differ by "),
        ("bert", None, "query key", "cut to the first token, it does not run ("),
    ],
)
def test_a_model_that_cannot_be_cut_is_exported_whole(
    kind: str, pooled: Any, cut: str, note: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BertPooler, "forward", pooled or BertPooler.forward)
    last = [("encoder.layer", "attention.self", cut, "attention.output.LayerNorm")]
    monkeypatch.setattr(first_token, "_LAST_LAYERS", last)
    model = make_model(kind)
    found, why = export_first_token(model, LONGEST)
    assert why.startswith(WHOLE + note)
    inputs = batch(found, 3, 9)
    expected = model(**{name: torch.from_numpy(array) for name, array in inputs.items()}).logits
    np.testing.assert_allclose(run(found, inputs)[0], expected.detach().numpy(), atol=1e-4)
