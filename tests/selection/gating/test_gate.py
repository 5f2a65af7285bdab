"""`empathy gate`: measured on this machine, added to the scorer, and what `auto` makes of it."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from scorer.bundle.bundle import INFO_FILE, STARTER, Bundle, add_verdicts, load_bundle
from scorer.engines.auto import choose, make_engine
from scorer.engines.machine import processor_kind
from scorer.engines.verdicts import Verdict, joined
from scorer.errors import BundleError, EngineError
from scorer.model import Scorer
from selection.gating.gate import scorer_subject
from selection.gating.judge import judge_decisions
from selection.gating.measure import MIN_GAIN, measure, ruled
from tests.conftest import Run, make_tokenizer, record, varied, write_lines, write_tiny_bundle
from tests.selection.selection_data import invoke, one_line

HERE = processor_kind()
AMX = frozenset({"x86", "amx_bf16", "avx512_bf16", "avx512_vnni", "avx512f", "avx2"})
OLD = frozenset({"x86", "avx2", "avx512f"})


def row(engine: str = "openvino", precision: str = "bf16", **more: Any) -> Verdict:
    """Return a verdict as it is measured here."""
    known = {"allowed": True, "reason": "as measured", "checked": 200, "processor": HERE, "rate": 10.0, "gain": 2.0}
    return Verdict(engine=engine, precision=precision, **{**known, **more})


@pytest.fixture
def mine(tmp_path: Path) -> Bundle:
    """A tiny scorer of one's own, without any verdict."""
    return write_tiny_bundle(tmp_path / "mine")


@pytest.fixture(scope="module")
def check_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dialogues that nobody trained on, and a record that is none."""
    records = [record(*(turn.content for turn in one.turns), id=str(n)) for n, one in enumerate(varied(200))]
    return write_lines(tmp_path_factory.mktemp("check") / "check.jsonl", [*records, {"messages": []}])


# Verdicts on disk.


def test_verdicts_are_added_and_the_scorer_stays_the_same_one(mine: Bundle) -> None:
    added = add_verdicts(mine, [row(), row("onnxruntime", "fp32", gain=1.0)])
    assert added.sha256 == mine.sha256 == load_bundle(mine.path).sha256
    assert [(one.engine, one.precision) for one in added.info.gates] == [("onnxruntime", "fp32"), ("openvino", "bf16")]
    again = add_verdicts(added, [row(allowed=False, reason="slower")])
    assert again.sha256 == mine.sha256
    assert [one.allowed for one in again.info.gates] == [True, False]  # replaced, not repeated
    assert sorted(path.name for path in mine.path.iterdir()) == sorted([*mine.info.files, INFO_FILE])


def test_the_starter_takes_verdicts_too(tmp_path: Path) -> None:
    copied = load_bundle(shutil.copytree(STARTER, tmp_path / "starter"))
    assert add_verdicts(copied, [row()]).sha256 == load_bundle().sha256


def test_a_bundle_that_was_changed_meanwhile_takes_none(mine: Bundle) -> None:
    file = mine.path / INFO_FILE
    file.write_text(file.read_text().replace('"tiny"', '"tidy"'))
    with pytest.raises(BundleError, match="was changed while it was measured"):
        add_verdicts(mine, [row()])


def test_what_else_is_written_beside_verdicts_is_another_scorer_or_refused(mine: Bundle) -> None:
    add_verdicts(mine, [row()])
    file = mine.path / INFO_FILE
    whole = file.read_text()
    file.write_text(whole.replace('"tiny"', '"tidy"'))
    assert load_bundle(mine.path).sha256 != mine.sha256
    file.write_text(whole.replace('"name": "tiny"', '"name": "other", "name": "tiny"'))  # reads as before
    with pytest.raises(BundleError, match="verdicts that `empathy gate` did not write"):
        load_bundle(mine.path)


def test_a_scorer_json_of_another_hand_takes_none(mine: Bundle) -> None:
    file = mine.path / INFO_FILE
    file.write_text(json.dumps(json.loads(file.read_text())))
    with pytest.raises(BundleError, match="is not as `empathy export` wrote it"):
        add_verdicts(load_bundle(mine.path), [row()])
    assert load_bundle(mine.path).info.gates == ()


# What holds on a processor.


def gated(bundle: Bundle, *gates: Verdict, **exported: Verdict) -> Bundle:
    return replace(bundle, info=replace(bundle.info, gates=gates, precisions=exported))


@pytest.mark.parametrize(
    ("exported", "gates", "allowed", "reason"),
    [
        ({}, (), False, "not measured on .*`empathy gate .* --check IN`"),
        ({"bf16": Verdict(allowed=False, reason="not checked: no such hardware")}, (), False, "not measured on"),
        ({"bf16": row(processor="x86-64 with AMX of elsewhere")}, (), False, "not measured on"),
        ({"bf16": row(processor="", allowed=True)}, (), True, "as measured"),  # of an earlier release: holds for all
        ({"bf16": row(processor="", allowed=False)}, (), False, "as measured"),
        ({"bf16": row()}, (), True, "as measured"),
        ({"bf16": row(processor="", allowed=True)}, (row(allowed=False, reason="slower"),), False, "slower"),
        ({"bf16": row(processor="", allowed=False)}, (row(reason="here"),), True, "here"),
        ({}, (row(processor="x86-64 with AMX of elsewhere"),), False, "not measured on"),
    ],
)
def test_a_verdict_holds_where_it_was_measured(
    bundle: Bundle, exported: dict[str, Verdict], gates: tuple[Verdict, ...], allowed: bool, reason: str
) -> None:
    found = gated(bundle, *gates, **exported)
    verdict = found.verdict("bf16")
    assert (verdict.allowed, found.allows("bf16")) == (allowed, allowed)
    assert re.search(reason, verdict.reason)
    if not allowed:
        with pytest.raises(EngineError, match=reason):
            make_engine("openvino", found, 1, "bf16")


@pytest.mark.parametrize("known", ["gate", "export"])
def test_bf16_that_passed_in_hardware_holds_where_hardware_multiplies_it(bundle: Bundle, known: str) -> None:
    amx, zen4, ice_lake = (f"x86-64 with {name}" for name in ("AMX", "AVX512-BF16", "AVX512-VNNI"))

    def verdict(where: str, **more: Any) -> Verdict:
        said = row(processor=zen4, **more)
        found = gated(bundle, said) if known == "gate" else gated(bundle, **{said.precision: said})
        return found.verdict(said.precision, where)

    assert verdict(amx).allowed
    assert not verdict(ice_lake).allowed
    assert not verdict(amx, precision="int8-dynamic").allowed
    refused = verdict(amx, allowed=False)  # it may be faster there
    assert "not measured on x86-64 with AMX" in refused.reason


@pytest.mark.parametrize(
    ("rows", "openvino", "expected"),
    [
        ([("onnxruntime", "fp32", 1.0), ("openvino", "fp32", 0.7)], True, ("onnxruntime", "fp32")),
        ([("onnxruntime", "fp32", 1.0), ("openvino", "int8-dynamic", 1.9)], True, ("openvino", "int8-dynamic")),
        ([("onnxruntime", "fp32", 1.0), ("openvino", "int8-dynamic", 1.9)], False, ("onnxruntime", "fp32")),
        ([("onnxruntime", "fp32", 1.0)], True, ("openvino", "fp32")),  # it was not there when that was measured
        ([], True, ("openvino", "fp32")),
    ],
)
def test_auto_takes_the_fastest_that_was_measured_on_such_a_processor(
    bundle: Bundle, rows: list[tuple[str, str, float]], openvino: bool, expected: tuple[str, str]
) -> None:
    gates = [row(engine, precision, gain=gain, processor=processor_kind(OLD)) for engine, precision, gain in rows]
    found = gated(bundle, *gates)
    assert choose(found, openvino=openvino, features=OLD) == expected
    assert choose(found, openvino=openvino, features=AMX) == (("openvino" if openvino else "onnxruntime"), "fp32")


def test_a_refused_precision_is_never_taken_however_fast(bundle: Bundle) -> None:
    kind = processor_kind(OLD)
    gates = [row("onnxruntime", "fp32", gain=1.0, processor=kind), row(allowed=False, gain=9.0, processor=kind)]
    assert choose(gated(bundle, *gates), openvino=True, features=OLD) == ("onnxruntime", "fp32")


def test_verdicts_of_other_processors_stay() -> None:
    there = row(processor="x86-64 with AMX of elsewhere")
    assert set(joined([there, row()], [row(gain=3.0)])) == {there, row(gain=3.0)}


# Measuring.


def test_what_is_no_faster_than_fp32_is_refused() -> None:
    class Named:
        def __init__(self, precision: str) -> None:
            self.name, self.precision = "onnxruntime", precision

    scores = np.zeros((100, 2), np.float32)
    same = judge_decisions(scores, scores, lambda found: found[:, 0] > 0, 0.01)
    engines: Any = [Named("fp32"), Named("fp32"), Named("bf16"), Named("bf16")]
    found = ruled([same] * 4, engines, [10.0, 20.0, 20.0 * MIN_GAIN - 0.1, 20.0 * MIN_GAIN + 0.1])
    assert [one.allowed for one in found] == [True, True, False, True]
    assert [one.gain for one in found[:2]] == [1, 2]
    assert "no faster: 1.04 times the rate of fp32" in found[2].reason
    assert found[0].processor == HERE


def test_each_precision_gets_a_verdict_or_the_reason_why_not(mine: Bundle) -> None:
    pytest.importorskip("openvino")
    rows = measure(scorer_subject(mine, varied(200)), max_flips=0.01, threads=1)
    found = {(one.engine, one.precision): one for one in rows}
    assert found["onnxruntime", "fp32"].gain == 1
    assert found["openvino", "fp32"].flips == 0
    assert found["openvino", "fp32"].checked == len({tuple(one.turns) for one in varied(200)})
    assert "its weights are not stored as int8" in found["openvino", "int8-dynamic"].reason  # they are floats
    assert not found["openvino", "int8-dynamic"].measured


def test_the_command_adds_what_it_measured_and_a_begun_run_resumes(
    check_file: Path, tmp_path: Path, empathy: Run
) -> None:
    made = write_tiny_bundle(tmp_path / "mine")
    common = ("score", check_file, "-o", tmp_path / "out", "--scorer", made.path, "--engine", "onnxruntime")
    assert empathy(*common).returncode == 0
    manifest = tmp_path / "out" / "_manifest.jsonl"
    manifest.write_text(manifest.read_text().splitlines(keepends=True)[0])  # killed before its first window
    figures = tmp_path / "gate.json"
    done = invoke(str(made.path), "--check", str(check_file), "--json", str(figures), command="gate")
    passed = any(one.get("allowed") and one["precision"] != "fp32" for one in json.loads(figures.read_text())["gate"])
    assert done.exit_code == (0 if passed else 1), done.stderr
    assert "--check: 1 records are no dialogues" in done.stderr
    assert done.stdout.splitlines()[1].split()[:2] == ["onnxruntime", "fp32"]
    gates = load_bundle(made.path).info.gates
    assert {one.processor for one in gates} == {HERE}
    assert all(one.version and one.date and one.rate for one in gates)
    assert empathy(*common, "--resume").returncode == 0
    whole = invoke(str(made.path), command="inspect").stdout
    assert "gate, onnxruntime in fp32: allowed" in whole
    assert HERE in whole


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{mine}", "--check", "{few}"), "12 of 12 --check dialogues were not trained on and differ"),
        (("{mine}", "--check", "{check}", "--threshold", "1"), "are about a MODEL.onnx"),
        (("{mine}", "--check", "{check}", "--max-flips", "2"), "max flips is 2.0, expected 0 to 1"),
        (("{onnx}", "--check", "{check}"), "needs the folder of its tokenizer.json"),
        (("{onnx}", "--check", "{check}", "--tokenizer", "{mine}", "--map", "id=x"), "--map is about dialogues"),
        (("{onnx}", "--check", "{check}", "--tokenizer", "{mine}", "--threshold", "1"), "check.jsonl:1: is no text"),
        (("{onnx}", "--check", "{few}", "--tokenizer", "{empty}", "--threshold", "1"), "tokenizer.json: no such file"),
        (("{broken}", "--check", "{few}", "--tokenizer", "{mine}"), "ONNX Runtime cannot load it"),
        (("{nowhere}.onnx", "--check", "{few}", "--tokenizer", "{mine}"), "cannot be read"),
        (("{empty}", "--check", "{check}"), "holds no scorer.json"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    mine: Bundle, check_file: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    names = {
        "mine": mine.path,
        "check": check_file,
        "few": write_lines(tmp_path / "few.jsonl", [record("hi", f"hello {n}", id=str(n)) for n in range(12)]),
        "onnx": mine.path / "model.onnx",
        "empty": tmp_path / "empty",
        "broken": tmp_path / "broken.onnx",
        "nowhere": tmp_path / "nowhere",
    }
    names["empty"].mkdir()
    names["broken"].write_bytes(b"no model")
    done = invoke(*(one.format(**names) for one in arguments), command="gate")
    assert message in one_line(done.exit_code, done.stderr)


def test_any_classifier_with_a_threshold_is_measured(mine: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    texts = [{"text": f"i am {n}", "text_pair": "so sorry"} if n % 2 else f"we won {n}" for n in range(120)]
    check = write_lines(tmp_path / "texts.jsonl", texts)
    common = (str(mine.path / "model.onnx"), "--tokenizer", str(mine.path), "--check", str(check))
    for more in (("--threshold", "5"), ()):
        done = invoke(*common, *more, "--json", str(tmp_path / "gate.json"), command="gate")
        assert done.exit_code in (0, 1), done.stderr
        (tmp_path / "gate.json").unlink()
        rows = [line.split() for line in done.stdout.splitlines()]
        assert [row[:2] for row in rows[1:3]] == [["onnxruntime", "fp32"], ["openvino", "fp32"]]
        assert rows[2][4] == "0.00%"
    assert load_bundle(mine.path).info.gates == ()


def test_a_model_that_gives_no_numbers_is_one_line(mine: Bundle, tmp_path: Path) -> None:
    model = onnx.load(mine.path / "model.onnx")
    model.graph.node.append(helper.make_node("Neg", ["logits"], ["below"]))
    model.graph.node.append(helper.make_node("Log", ["below"], ["log"]))
    model.graph.output[0].name = "log"
    onnx.save(model, tmp_path / "log.onnx")
    check = write_lines(tmp_path / "texts.jsonl", [f"sad dog {n}" for n in range(120)])
    common = (str(tmp_path / "log.onnx"), "--tokenizer", str(mine.path), "--check", str(check))
    done = invoke(*common, "--threshold", "1", command="gate")
    assert re.search(
        r"log\.onnx: gave \[.*nan.*\] for row \d+, expected numbers", one_line(done.exit_code, done.stderr)
    )


# int8 with scales by row and group.


def stored(folder: Path) -> Bundle:
    """Write a scorer of 128 hidden numbers whose two matrices are stored as int8 with a scale per column."""
    rng = np.random.default_rng(0)
    vocabulary = make_tokenizer().get_vocab_size()
    nodes, weights = [], {"table": rng.standard_normal((vocabulary, 128)).astype(np.float32), "one": np.array([1])}
    for name, shape in (("inner", (128, 128)), ("outer", (128, 2))):
        weights[f"{name}8"] = rng.integers(-127, 128, shape).astype(np.int8)
        weights[f"{name}_scale"] = (rng.random(shape[1]) / 500).astype(np.float32)
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}8", f"{name}_scale"], [name], axis=1))
    nodes += [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("MatMul", ["words", "inner"], ["hidden"]),  # (B, T, 128)
        helper.make_node("Tanh", ["hidden"], ["bounded"]),
        helper.make_node("ReduceMax", ["bounded", "one"], ["most"], keepdims=0),
        helper.make_node("MatMul", ["most", "outer"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "stored",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    made = write_tiny_bundle(folder / "stored")
    return replace(made, files={**made.files, "model.onnx": model.SerializeToString()})


def test_int8_dynamic_scores_a_dialogue_alone_as_in_its_batch(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    made = stored(tmp_path)
    made = gated(made, row("openvino", "int8-dynamic"))
    engine = make_engine("openvino", made, 1, "int8-dynamic")
    assert (engine.name, engine.precision) == ("openvino", "int8-dynamic")
    ids = np.random.default_rng(1).integers(0, 50, (16, 16))
    together = engine.run({"input_ids": ids})
    alone = np.concatenate([engine.run({"input_ids": ids[n : n + 1]}) for n in range(16)])
    np.testing.assert_allclose(alone, together, atol=1e-5)
    plain = make_engine("onnxruntime", made, 1).run({"input_ids": ids})
    assert np.abs(together - plain).max() < 0.1


def test_weights_that_are_floats_have_no_int8_dynamic(mine: Bundle) -> None:
    pytest.importorskip("openvino")
    with pytest.raises(EngineError, match="its weights are not stored as int8"):
        make_engine("openvino", gated(mine, row("openvino", "int8-dynamic")), 1, "int8-dynamic")


def test_the_int8_of_earlier_releases_is_one_clear_line(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match=r"precision int8 is no more: .*take fp32 or int8-dynamic"):
        Scorer.load(bundle.path, precision="int8")
