"""What an ONNX file may hold: standard operators and its own weights, wherever a file can hide others."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from scorer.bundle.onnx_check import OnnxFileError, check_onnx
from tests.conftest import make_model

VARINT, BYTES = 0, 2


@cache
def tiny_bytes() -> bytes:
    return bytes(make_model(30).SerializeToString())


def tiny() -> Any:
    """Return a model that the test may spoil."""
    return onnx.load_from_string(tiny_bytes())


def paths(message: Any, target: Any, passed: tuple[Any, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield every path of field names that leads from a message type to another, through no field twice."""
    for field in message.fields:
        if field.message_type is target:
            yield (field.name,)
        if field.message_type is not None and field not in passed:
            for rest in paths(field.message_type, target, (*passed, field)):
                yield (field.name, *rest)


def make_at(model: Any, path: tuple[str, ...]) -> Any:
    """Make the message at a path of field names, and return it."""
    message = model
    for name in path:
        child = getattr(message, name)
        message = child.add() if hasattr(child, "add") else child
        message.SetInParent()
    return message


def places(target: Any) -> list[tuple[str, ...]]:
    """Return every place where a model can hold such a message, as the ONNX library knows them."""
    return sorted(set(paths(onnx.ModelProto.DESCRIPTOR, target.DESCRIPTOR)))


def varint(number: int) -> bytes:
    more = number >> 7
    return bytes([number & 127 | 128]) + varint(more) if more else bytes([number])


def field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | BYTES) + varint(len(value)) + value


def add_external(tensor: Any) -> None:
    tensor.external_data.add(key="location", value="../../secret")


def test_a_model_of_standard_operators_with_its_own_weights_is_accepted() -> None:
    model = tiny()
    check_onnx(model.SerializeToString())
    model.opset_import[0].domain = "ai.onnx"
    model.graph.node[0].domain = "ai.onnx"
    check_onnx(model.SerializeToString())


HARM: list[tuple[Any, Callable[[Any], Any], str]] = [
    (TensorProto, add_external, "another file"),
    (TensorProto, lambda tensor: setattr(tensor, "data_location", TensorProto.EXTERNAL), "another file"),
    (onnx.OperatorSetIdProto, lambda opset: setattr(opset, "domain", "com.microsoft"), "domain 'com.microsoft'"),
    *(
        (onnx.NodeProto, partial(lambda name, node: setattr(node, "domain", name), name), "the domain")
        for name in ("com.microsoft", "my.operators", "ai.onnx.ml", "\n")
    ),
]


@pytest.mark.parametrize("number", range(len(HARM)))
def test_harm_is_refused_wherever_it_stands(number: int) -> None:
    """A tensor that reads another file or only claims to, and operators of another domain."""
    kind, harm, message = HARM[number]
    for path in places(kind):
        model = tiny()
        harm(make_at(model, path))
        with pytest.raises(OnnxFileError, match=f"{message}|functions or training") as caught:
            check_onnx(model.SerializeToString())
        assert "\n" not in str(caught.value), path


@pytest.mark.parametrize("name", ["functions", "training_info"])
def test_a_model_may_not_define_functions_or_training(name: str) -> None:
    model = tiny()
    getattr(model, name).add()
    with pytest.raises(OnnxFileError, match="functions or training steps of its own"):
        check_onnx(model.SerializeToString())


def test_the_places_hold_the_ones_that_matter() -> None:
    # So that the tests above can't pass by looking nowhere.
    found = {".".join(path) for path in places(TensorProto)}
    assert found >= {
        "graph.initializer",
        "graph.sparse_initializer.values",
        "graph.node.attribute.t",
        "graph.node.attribute.g.initializer",
        "graph.node.attribute.graphs.sparse_initializer.indices",
    }


def test_a_model_saved_with_external_data_is_refused_though_it_runs(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(tiny(), path, save_as_external_data=True, location="weights.bin", size_threshold=100)
    assert ort.InferenceSession(path).get_inputs()[0].name == "input_ids"
    with pytest.raises(OnnxFileError, match="reads weights from another file; export it as one file"):
        check_onnx(path.read_bytes())


def constant(data: Any) -> Any:
    return helper.make_node("Constant", [], ["c"], value=data)


def test_a_constant_and_a_branch_of_plain_weights_are_accepted_and_external_ones_are_not() -> None:
    """The same, with models that the ONNX checker calls valid."""
    for external in (False, True):
        weights = numpy_helper.from_array(numpy_helper.to_array(tiny().graph.initializer[0]), "w")
        if external:
            add_external(weights)
            weights.data_location = TensorProto.EXTERNAL
        branch = helper.make_graph(
            [constant(weights)], "branch", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, [30, 2])]
        )
        for node in (constant(weights), helper.make_node("If", ["yes"], ["c"], then_branch=branch, else_branch=branch)):
            model = tiny()
            model.graph.node.append(node)
            if external:
                with pytest.raises(OnnxFileError, match="another file"):
                    check_onnx(model.SerializeToString())
            else:
                check_onnx(model.SerializeToString())


def test_a_field_number_that_only_protobuf_cuts_to_32_bits_hides_nothing() -> None:
    """ONNX Runtime drops the upper bits of a tag, and so sees external data where a longer integer does not."""
    tag = 13 << 3 | BYTES | 1 << 32
    hidden = varint(tag) + varint(2) + b"\x0a\x00"
    graph = tiny().graph
    tensor = graph.initializer[0].SerializeToString() + hidden
    data = field(7, graph.SerializeToString() + field(5, tensor))
    with pytest.raises(OnnxFileError, match="damaged"):
        check_onnx(data)


def test_a_model_that_onnx_runtime_takes_for_its_own_format_is_refused() -> None:
    """It looks for four letters at the fifth byte, and then reads no ONNX at all."""
    data = b"\x12\x84\x80\x00ORTM" + tiny().SerializeToString()
    assert onnx.load_from_string(data).producer_name == "ORTM"
    with pytest.raises(OnnxFileError, match="own format"):
        check_onnx(data)


def test_graphs_in_graphs_end_in_an_error_and_not_in_the_stack() -> None:
    graph = b""
    for _ in range(2000):
        graph = field(1, field(5, field(6, graph)))
    with pytest.raises(OnnxFileError, match="nested over 100 deep"):
        check_onnx(field(7, graph))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"this is no model", id="text"),
        pytest.param(pickle.dumps({"weights": [1.0]}), id="pickle"),
        pytest.param(b"PK\x03\x04" + bytes(60), id="zip"),
        pytest.param(b"\x80" * 30, id="endless number"),
        pytest.param(varint(7 << 3 | BYTES) + varint(1 << 62), id="huge size"),
        pytest.param(varint(7 << 3 | VARINT) + b"\x01", id="graph is a number"),
        pytest.param(onnx.ModelProto(ir_version=8).SerializeToString(), id="no graph"),
    ],
)
def test_what_is_no_model_is_refused(data: bytes) -> None:
    with pytest.raises(OnnxFileError, match="expected an ONNX model"):
        check_onnx(data)


def test_every_cut_of_a_model_is_refused_or_has_its_graph() -> None:
    data = make_model(3).SerializeToString()
    refused = 0
    for size in range(len(data)):
        try:
            check_onnx(data[:size])
        except OnnxFileError:
            refused += 1
        else:
            assert len(onnx.load_from_string(data[:size]).graph.node) == 9
    assert refused > len(data) - 10


def accepted(data: bytes) -> bool:
    """Whether the check accepts the bytes; anything but an OnnxFileError fails the test."""
    try:
        check_onnx(data)
    except OnnxFileError:
        return False
    return True


def test_random_bytes_never_raise_anything_else() -> None:
    rng = random.Random(0)
    assert sum(accepted(rng.randbytes(rng.randint(0, 80))) for _ in range(1000)) < 100


def test_changed_models_never_raise_anything_else_and_keep_the_rules() -> None:
    rng = random.Random(0)
    model = make_model(3)
    add_external(model.graph.node[0].attribute.add(name="t").t)
    model.graph.node[1].domain = "com.microsoft"
    data = model.SerializeToString()
    kept = 0
    for _ in range(1000):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        kept += not accepted(bytes(changed))
    assert kept > 900
