"""What a model may do: known operators, each at most once, and work that follows from a dialogue's length alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from scorer.bundle.bundle import STARTER
from scorer.bundle.onnx_check import OnnxFileError, check_onnx
from tests.conftest import make_model

ROWS = 30


def refusal(model: onnx.ModelProto) -> str:
    with pytest.raises(OnnxFileError) as caught:
        check_onnx(model.SerializeToString())
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_the_rows_of_the_embedding_are_found() -> None:
    assert check_onnx(make_model(ROWS).SerializeToString()) == ROWS
    assert check_onnx((STARTER / "model.onnx").read_bytes()) == 30522  # stored as int8


def converted() -> onnx.ModelProto:
    """Return a model whose ids and whose table are converted first, and whose nodes stand in no order."""
    model = make_model(ROWS)
    nodes = list(model.graph.node)
    nodes[0].input[:] = ["floats", "ids"]
    nodes += [
        helper.make_node("Cast", ["table"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["input_ids"], ["ids"], to=TensorProto.INT32),
    ]
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))
    return model


def smaller() -> onnx.ModelProto:
    """Return a model that looks ids up in a second table, of 7 rows."""
    model = make_model(ROWS)
    model.graph.initializer.append(numpy_helper.from_array(np.ones((7, 2), np.float32), "more"))
    model.graph.node.append(helper.make_node("Gather", ["more", "input_ids"], ["found"], axis=0))
    return model


def across() -> onnx.ModelProto:
    """Return a model whose ids are columns."""
    model = make_model(ROWS)
    table = numpy_helper.to_array(model.graph.initializer[0])
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.tile(table.T, (9, 1)), "table"))
    model.graph.node[0].attribute.append(helper.make_attribute("axis", -1))
    return model


@pytest.mark.parametrize(("make", "rows"), [(converted, ROWS), (smaller, 7), (across, ROWS)])
def test_the_smallest_table_counts_wherever_it_stands(make: Callable[[], onnx.ModelProto], rows: int) -> None:
    assert check_onnx(make().SerializeToString()) == rows


def test_a_model_without_an_embedding_is_refused() -> None:
    model = make_model(ROWS)
    model.graph.node[0].input[1] = "token_type_ids"
    assert "looks input_ids up in no table of its own" in refusal(model)


@pytest.mark.parametrize(
    "operator", ["Loop", "Scan", "SequenceMap", "NonZero", "RandomNormal", "Optional", "StringConcat", "Xyz\n", "if"]
)
def test_an_operator_that_no_export_writes_is_refused(operator: str) -> None:
    model = make_model(ROWS)
    model.graph.node.append(helper.make_node(operator, ["words"], ["new"]))
    assert f"uses the operator {operator!a}, expected those that encoders are exported to" in refusal(model)


def loop() -> Any:
    """Return a loop of 2 ** 62 trips."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, [])],
    )
    return helper.make_node("Loop", ["trips", "yes"], [], body=body)


def branch(*nodes: Any) -> Any:
    graph = helper.make_graph(list(nodes), "branch", [], [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)])
    return helper.make_node("If", ["yes"], ["c"], then_branch=graph, else_branch=graph)


def with_nodes(*nodes: Any) -> onnx.ModelProto:
    model = make_model(ROWS)
    arrays = {"trips": np.array(1 << 62), "yes": np.array(True), "one": np.array([1])}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    model.graph.node.extend(nodes)
    return model


def test_a_loop_is_refused_also_in_a_branch_and_a_branch_in_a_branch() -> None:
    assert "uses the operator 'Loop'" in refusal(with_nodes(loop()))
    assert "uses the operator 'Loop'" in refusal(with_nodes(branch(loop())))
    plain = helper.make_node("Identity", ["words"], ["b"])
    check_onnx(with_nodes(branch(plain)).SerializeToString())
    assert "a branch (If) in a branch" in refusal(with_nodes(branch(branch(plain), plain)))


def node(operator: str, *names: str, output: str = "new") -> Any:
    return helper.make_node(operator, names, [output])


@pytest.mark.parametrize(
    ("nodes", "operator"),
    [
        ([node("Range", "trips", "input_ids", "one")], "Range"),
        ([node("ConstantOfShape", "input_ids")], "ConstantOfShape"),
        ([node("Expand", "one", "attention_mask")], "Expand"),
        ([node("Mul", "input_ids", "trips", output="many"), node("Tile", "words", "many")], "Tile"),
        ([node("Reshape", "words", "many"), node("Where", "yes", "one", "input_ids", output="many")], "Reshape"),
        (
            [node("Identity", "words", output="b2"), node("Cast", "logits", output="many"), node("Pad", "b2", "many")],
            "Pad",
        ),
    ],
)
def test_work_that_grows_with_what_a_dialogue_says_is_refused(nodes: list[Any], operator: str) -> None:
    """A first batch would show nothing: it comes with one word of one dialogue."""
    assert f"how much its operator {operator} does depends on what a dialogue says" in refusal(with_nodes(*nodes))


def test_a_branch_that_a_dialogue_chooses_and_one_that_hands_its_words_on_are_refused() -> None:
    chosen = branch(node("Identity", "one", output="b"))
    chosen.input[0] = "input_ids"
    assert "its operator If does" in refusal(with_nodes(chosen))
    handed = branch(node("Identity", "input_ids", output="b"))
    assert "its operator Range does" in refusal(with_nodes(handed, node("Range", "trips", "c", "one")))


def test_work_that_follows_from_the_shape_is_accepted() -> None:
    check_onnx(with_nodes(node("Shape", "input_ids", output="s"), node("Expand", "one", "s")).SerializeToString())


def test_two_graphs_which_protobuf_would_merge_are_refused() -> None:
    data = make_model(ROWS).SerializeToString()
    with pytest.raises(OnnxFileError, match="it holds 2 graphs"):
        check_onnx(data + data)


def test_a_file_of_endless_small_fields_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scorer.bundle.onnx_check._MOST_FIELDS", 1000)
    with pytest.raises(OnnxFileError, match="has over 1,000 fields"):
        check_onnx(make_model(ROWS).SerializeToString() + b"\x08\x01" * 1000)
