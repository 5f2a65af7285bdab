"""Running the network: padding, stored int8 weights, and models that are not what they should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto, helper, numpy_helper

from scorer.bundle.bundle import Bundle
from scorer.bundle.encode import Encoded
from scorer.bundle.tokens import Tokens
from scorer.engines.auto import make_engine
from scorer.engines.base import Inputs, available_cores, collate, padded
from scorer.engines.names import ENGINE_NAMES
from scorer.engines.onnxruntime import OnnxRuntimeEngine
from scorer.errors import BundleError, EngineError
from tests.conftest import make_model, make_tokenizer, write_tiny_bundle

VOCABULARY = make_tokenizer().get_vocab_size()


def write(folder: Path, model: Any) -> Bundle:
    """Return a bundle with a model that was not checked: an engine has to cope with whatever it is given."""
    data = model if isinstance(model, bytes) else model.SerializeToString()
    made = write_tiny_bundle(folder / "b")
    return replace(made, files={**made.files, "model.onnx": data})


def network(
    nodes: Sequence[Any],
    outputs: Sequence[Any],
    weights: dict[str, npt.NDArray[Any]] | None = None,
    *,
    inputs: Sequence[str] = ("input_ids", "attention_mask", "token_type_ids"),
) -> Any:
    """Return a model of these nodes; the inputs are int64 (batch, length)."""
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in inputs],
        outputs,
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def output(name: str, shape: Sequence[int | str], kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def cast(model: Any, kind: int) -> None:
    """Give the output of a model another type."""
    model.graph.node.append(helper.make_node("Cast", ["logits"], ["cast"], to=kind))
    model.graph.output[0].CopyFrom(output("cast", ["batch", 2], kind))


def inputs(rng: np.random.Generator, rows: int, length: int) -> Inputs:
    """Return random ids, the first half of every row with type 0, and rows of different lengths."""
    lengths = rng.integers(1, length + 1, rows)[:, None]
    mask = (np.arange(length) < lengths).astype(np.int64)
    return {
        "input_ids": rng.integers(0, VOCABULARY, (rows, length)),
        "attention_mask": mask,
        "token_type_ids": (np.arange(length) >= length // 2).astype(np.int64) * mask,
    }


def expected(given: Inputs, table: npt.NDArray[Any], types: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the mean over a row's tokens of what `make_model` looks up for each, in double precision."""
    words = table[given["input_ids"]].astype(np.float64) + types[given["token_type_ids"]]
    mask = given["attention_mask"][:, :, None]
    return np.asarray((words * mask).sum(axis=1) / mask.sum(axis=1))


def item(*ids: int, first: int) -> Encoded:
    return Encoded(ids=np.array(ids, dtype=np.int32), first_segment=first)


# Padding.


def test_a_batch_is_padded_with_its_mask_and_types() -> None:
    found = collate([item(5, 6, 7, first=2), item(8, 9, first=2), item(*range(10, 19), first=4)], pad_id=3)
    assert found["input_ids"].tolist() == [[5, 6, 7, *[3] * 13], [8, 9, *[3] * 14], [*range(10, 19), *[3] * 7]]
    assert found["attention_mask"].tolist() == [[1] * 3 + [0] * 13, [1] * 2 + [0] * 14, [1] * 9 + [0] * 7]
    assert found["token_type_ids"].tolist() == [
        [0, 0, 1] + [0] * 13,
        [0] * 16,  # one segment only
        [0] * 4 + [1] * 5 + [0] * 7,
    ]
    assert all(array.dtype == np.int64 for array in found.values())


@pytest.mark.parametrize(("length", "width"), [(1, 8), (7, 8), (8, 8), (9, 16), (64, 64), (65, 72)])
def test_a_batch_is_as_long_as_the_next_multiple_of_eight(length: int, width: int) -> None:
    found = collate([item(*[1] * length, first=1), item(1, first=1)], pad_id=0)
    assert {array.shape for array in found.values()} == {(2, width)}


def test_a_batch_of_some_texts_is_cut_from_flat_arrays() -> None:
    short, long = item(5, 6, first=1), item(*range(10, 19), first=4)
    tokens = Tokens.of([short, long, short])
    assert (len(tokens), tokens.texts.tolist(), tokens.lengths.tolist()) == (3, [0, 1, 0], [2, 9])
    for chosen, expected in (([1], [long]), ([1, 0], [long, short]), ([0], [short])):
        found, wanted = padded(tokens, np.array(chosen), 3), collate(expected, 3)
        assert {name: array.tolist() for name, array in found.items()} == {
            name: array.tolist() for name, array in wanted.items()
        }
    assert len(Tokens.of([])) == 0


# Results.


def test_the_scores_are_the_network_s(tmp_path: Path) -> None:
    model = make_model(VOCABULARY)
    table, types = (numpy_helper.to_array(tensor) for tensor in model.graph.initializer[:2])
    engine = OnnxRuntimeEngine(write(tmp_path, model), 1)
    for rows, length in [(1, 8), (7, 16), (64, 64)]:
        given = inputs(np.random.default_rng(rows), rows, length)
        scores = engine.run(given)
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, expected(given, table, types), atol=1e-5, rtol=1e-5)


def test_weights_stored_as_int8_score_as_the_floats_they_stand_for(tmp_path: Path) -> None:
    """Weights a channel, (vocabulary, 16) and (16, 2): made float at load, and nothing else is quantised."""
    rng = np.random.default_rng(0)
    words, out = (rng.integers(-127, 128, size, dtype=np.int8) for size in [(VOCABULARY, 16), (16, 2)])
    scales = {"words": (rng.random(VOCABULARY) / 50).astype(np.float32), "out": (rng.random(2) / 50).astype(np.float32)}
    nodes = [
        helper.make_node("DequantizeLinear", ["words8", "words_scale", "words_zero"], ["words"], axis=0),
        helper.make_node("Gather", ["words", "input_ids"], ["found"]),  # (B, T, 16)
        helper.make_node("Tanh", ["found"], ["hidden"]),
        helper.make_node("ReduceMean", ["hidden"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("DequantizeLinear", ["out8", "out_scale", "out_zero"], ["out"], axis=1),
        helper.make_node("MatMul", ["mean", "out"], ["logits"]),
    ]
    weights: dict[str, npt.NDArray[Any]] = {
        "words8": words,
        "words_scale": scales["words"],
        "words_zero": np.zeros(VOCABULARY, np.int8),
        "out8": out,
        "out_scale": scales["out"],
        "out_zero": np.zeros(2, np.int8),
    }
    model = network(nodes, [output("logits", ["batch", 2])], weights, inputs=["input_ids"])
    engine = make_engine("onnxruntime", write(tmp_path, model), 1)
    given = inputs(rng, 20, 24)
    table = words * scales["words"].astype(np.float64)[:, None]
    hidden = np.tanh(table[given["input_ids"]]).mean(axis=1)
    np.testing.assert_allclose(engine.run(given), hidden @ (out * scales["out"].astype(np.float64)), atol=1e-5)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_other_floats_become_float32(tmp_path: Path, kind: int) -> None:
    model = make_model(VOCABULARY)
    cast(model, kind)
    plain = OnnxRuntimeEngine(write(tmp_path / "plain", make_model(VOCABULARY)), 1)
    given = inputs(np.random.default_rng(0), 3, 8)
    scores = OnnxRuntimeEngine(write(tmp_path, model), 1).run(given)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, plain.run(given), rtol=2e-3)


def test_an_engine_says_what_it_is(bundle: Bundle) -> None:
    engine = make_engine("auto", bundle)
    assert engine.name in ENGINE_NAMES
    assert engine.precision == "fp32"
    assert engine.threads == available_cores() >= 1
    assert make_engine("onnxruntime", bundle, 3).threads == 3


def test_an_unknown_engine_is_refused(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match="engine 'tpu' is not known, expected auto or one of onnxruntime"):
        make_engine("tpu", bundle)


# Models that are not what they should be.


def refusal(folder: Path, model: Any) -> str:
    """Return the one line with which the engine refuses a model at load."""
    made = write(folder, model)
    with pytest.raises(BundleError) as caught:
        OnnxRuntimeEngine(made, 1)
    message = str(caught.value)
    assert message.startswith(f"{made.path / 'model.onnx'}: ")
    assert message.isprintable()
    return message


@pytest.mark.parametrize("names", [["tokens"], ["attention_mask"], ["input_ids", "pixel_values"]])
def test_a_model_with_other_inputs_is_refused(tmp_path: Path, names: list[str]) -> None:
    node = helper.make_node("Cast", [names[0]], ["x"], to=TensorProto.FLOAT)
    assert f"has inputs {names}" in refusal(tmp_path, network([node], [output("x", ["batch", 2])], inputs=names))


@pytest.mark.parametrize(
    ("columns", "mean", "shape"),
    [
        ((1,), True, ["batch", 1]),
        ((3,), True, ["batch", 3]),
        ((2,), False, ["batch", "length", 2]),
        ((), False, ["batch", "length"]),
        ((), True, ["batch"]),
    ],
)
def test_a_model_with_other_outputs_is_refused(
    tmp_path: Path, columns: tuple[int, ...], mean: bool, shape: list[int | str]
) -> None:
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["found"])]
    if mean:
        nodes.append(helper.make_node("ReduceMean", ["found"], ["mean"], axes=[1], keepdims=0))
    outputs = [output("mean" if mean else "found", shape)]
    message = refusal(tmp_path, network(nodes, outputs, {"table": np.ones((VOCABULARY, *columns), np.float32)}))
    assert f"has outputs tensor(float) {shape}, expected one of floats (batch, 2)" in message


@pytest.mark.parametrize("kind", [None, TensorProto.STRING, TensorProto.INT64])
def test_a_model_with_two_outputs_or_one_that_is_no_float_is_refused(tmp_path: Path, kind: int | None) -> None:
    model = make_model(VOCABULARY)
    if kind is None:
        model.graph.output.append(output("sum", ["batch", 2]))
    else:
        cast(model, kind)
    assert "has outputs" in refusal(tmp_path, model)


@pytest.mark.parametrize("name", ["NoSuchOperator", "Broken\nName"])
def test_a_model_that_onnx_runtime_cannot_load_is_refused(tmp_path: Path, name: str) -> None:
    node = helper.make_node(name, ["input_ids"], ["logits"])
    message = refusal(tmp_path, network([node], [output("logits", ["batch", 2])]))
    assert "ONNX Runtime cannot load it" in message


def test_nothing_is_printed_when_a_model_cannot_be_loaded(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Standard output may be the scores; ONNX Runtime's own fallback prints there."""
    data = make_model(VOCABULARY).SerializeToString().replace(b"Unsqueeze", b"Unsque\xffze")
    assert "cannot load it" in refusal(tmp_path, data)
    assert capfd.readouterr() == ("", "")


def test_a_model_that_fails_when_it_runs_is_one_line(tmp_path: Path) -> None:
    """Its vocabulary is smaller than the tokenizer's."""
    engine = OnnxRuntimeEngine(write(tmp_path, make_model(5)), 1)
    with pytest.raises(EngineError) as caught:
        engine.run(collate([item(1, 2, 50, first=2)], 0))
    message = str(caught.value)
    assert message.startswith("ONNX Runtime failed on a batch of 1 x 8 tokens: ")
    assert "out of data bounds" in message
    assert message.isprintable()
    assert np.isfinite(engine.run(collate([item(1, 2, 4, first=2)], 0))).all()


def test_one_pair_of_scores_for_a_whole_batch_is_an_error_and_not_spread_over_it(tmp_path: Path) -> None:
    model = make_model(VOCABULARY)
    model.graph.node.append(helper.make_node("ReduceMean", ["logits"], ["one"], axes=[0], keepdims=1))
    model.graph.output[0].CopyFrom(output("one", ["batch", 2]))
    engine = OnnxRuntimeEngine(write(tmp_path, model), 1)
    with pytest.raises(EngineError, match=r"gave \(1, 2\) numbers, expected \(3, 2\)"):
        engine.run(collate([item(1, 2, first=2)] * 3, 0))
