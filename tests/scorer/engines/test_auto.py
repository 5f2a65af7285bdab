"""Which engine and precision `auto` takes, and that nothing scores in a precision which the bundle does not allow."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pyarrow.parquet as pq
import pytest

from scorer.bundle.bundle import Bundle, write_bundle
from scorer.engines import machine
from scorer.engines.auto import choose, make_engine
from scorer.engines.machine import cpu_features
from scorer.errors import BundleError, EngineError
from scorer.model import Scorer
from scorer.run.score_file import METADATA_KEY
from tests.conftest import Parts, Run, record, varied, write_lines

AMX = frozenset({"x86", "amx_bf16", "avx512_bf16", "avx512_vnni", "avx512f"})
ZEN4 = frozenset({"x86", "avx512_bf16", "avx512_vnni", "avx512f"})
ICE_LAKE = frozenset({"x86", "avx512_vnni", "avx512f"})
OLD = frozenset({"x86", "avx2"})
ARM: frozenset[str] = frozenset()


def gated(folder: Path, parts: Parts, *allowed: str) -> Bundle:
    """Write a bundle whose gate let these precisions pass and refused the others."""
    info, files = parts
    said = {"reason": "changes 7 % of decisions", "checked": 200}
    verdicts = {name: {**said, "allowed": name in allowed} for name in ("bf16", "fp16", "int8-dynamic")}
    return write_bundle(folder / "-".join(("b", *allowed)), {**info, "precisions": verdicts}, files)


@pytest.mark.parametrize(
    ("features", "openvino", "allowed", "expected"),
    [
        (AMX, True, ("bf16", "int8-dynamic"), ("openvino", "bf16")),
        (AMX, True, ("int8-dynamic",), ("openvino", "int8-dynamic")),
        (ZEN4, True, ("bf16",), ("openvino", "bf16")),
        (AMX, True, (), ("openvino", "fp32")),
        (AMX, False, ("bf16", "int8-dynamic"), ("onnxruntime", "fp32")),
        (ICE_LAKE, True, ("bf16", "int8-dynamic"), ("openvino", "int8-dynamic")),
        (ICE_LAKE, True, ("bf16",), ("openvino", "fp32")),
        (OLD, True, ("bf16", "int8-dynamic"), ("onnxruntime", "fp32")),
        (OLD, False, ("bf16", "int8-dynamic"), ("onnxruntime", "fp32")),
        (ARM, True, ("bf16", "int8-dynamic"), ("onnxruntime", "fp32")),
    ],
)
def test_the_rule(
    tmp_path: Path,
    parts: Parts,
    features: frozenset[str],
    openvino: bool,
    allowed: tuple[str, ...],
    expected: tuple[str, str],
) -> None:
    assert choose(gated(tmp_path, parts, *allowed), openvino=openvino, features=features) == expected


def test_this_processor_has_known_features() -> None:
    assert cpu_features() <= AMX | {"avx_vnni", "avx512f", "avx2", "arm", "i8mm", "asimddp"}


@pytest.mark.parametrize(
    ("vendor", "flags", "expected"),
    [
        ("GenuineIntel", "avx512f avx512_vnni avx512_bf16 amx_bf16", AMX),
        ("GenuineIntel", "avx512f avx512_vnni avx512_bf16", ICE_LAKE),  # a Sapphire Rapids whose AMX is masked
        ("AuthenticAMD", "avx512f avx512_vnni avx512_bf16", ZEN4),
    ],
)
def test_bf16_counts_only_where_it_is_faster_than_fp32(
    vendor: str, flags: str, expected: frozenset[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(machine, "_cpuinfo", lambda: [f"vendor_id\t: {vendor}", f"flags\t\t: fpu {flags} rdtscp"])
    assert cpu_features.__wrapped__() == expected


@pytest.mark.parametrize(
    ("name", "precision", "error", "message"),
    [
        *(
            (name, "bf16", EngineError, r"may not score in bf16 \(changes 7 % of decisions\); use fp32")
            for name in ("auto", "onnxruntime", "openvino")
        ),
        ("auto", "fp64", EngineError, "precision 'fp64' is not known, expected one of fp32"),
        ("onnxruntime", "fp16", BundleError, "holds no model.fp16.onnx"),
        ("openvino", "fp16", EngineError, "OpenVINO computes in fp32, bf16 or int8-dynamic here, not in fp16"),
    ],
)
def test_a_precision_that_the_gate_refused_or_an_engine_lacks_is_refused(
    tmp_path: Path, parts: Parts, name: str, precision: str, error: type[Exception], message: str
) -> None:
    if name == "openvino":
        pytest.importorskip("openvino")
    with pytest.raises(error, match=message):
        make_engine(name, gated(tmp_path, parts, "fp16", "int8-dynamic"), 1, precision)


def test_onnx_runtime_does_not_compute_in_bf16(tmp_path: Path, parts: Parts) -> None:
    with pytest.raises(EngineError, match="ONNX Runtime does not compute in bf16"):
        make_engine("onnxruntime", gated(tmp_path, parts, "bf16"), 1, "bf16")


@pytest.mark.parametrize("name", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_a_gpu_that_is_not_there_is_one_line(bundle: Bundle, name: str) -> None:
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this ONNX Runtime is for a GPU")
    with pytest.raises(EngineError, match="pip uninstall onnxruntime && pip install onnxruntime-gpu"):
        make_engine(name, bundle)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_engines_agree_whatever_batches_run_at_once(bundle: Bundle, name: str) -> None:
    if name == "openvino":
        pytest.importorskip("openvino")
    reference = Scorer.load(bundle.path, engine="onnxruntime", threads=1)
    scorer = Scorer.load(bundle.path, engine=name, threads=2, precision="fp32")
    encoded = scorer.encoder.encode(varied(300))
    expected = reference.run(encoded)
    for tokens in (1, 200, 100_000):
        np.testing.assert_allclose(scorer.run(encoded, batch_tokens=tokens), expected, atol=1e-4)


@pytest.fixture
def side_by_side(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Scorer:
    """A scorer whose engine has three batches under way at once, as on a GPU."""
    scorer = Scorer.load(bundle.path, engine="onnxruntime", threads=1)
    monkeypatch.setattr(scorer.engine, "_at_once", 3)
    return scorer


def test_batches_side_by_side_come_back_in_order(side_by_side: Scorer, scorer: Scorer) -> None:
    encoded = scorer.encoder.encode(varied(300))
    found = side_by_side.run(encoded, batch_tokens=100)
    np.testing.assert_allclose(found, scorer.run(encoded), atol=1e-5)


def test_a_fault_in_one_of_many_batches_is_the_run_s(side_by_side: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    real = side_by_side.engine.run
    calls = 0

    def run(inputs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise EngineError("out of memory")
        return real(inputs)

    monkeypatch.setattr(side_by_side.engine, "run", run)
    with pytest.raises(EngineError, match="out of memory"):
        side_by_side.run(side_by_side.encoder.encode(varied(300)), batch_tokens=100)
    assert calls <= 6  # those not begun were given up


@pytest.mark.slow
def test_a_resumed_run_keeps_the_engine_it_was_begun_with(empathy: Run, bundle: Bundle, tmp_path: Path) -> None:
    """Whatever `auto` would take by now: another processor, or OpenVINO installed meanwhile."""
    pytest.importorskip("openvino")
    lines = [record("i am sad", f"so sorry {number}", id=str(number)) for number in range(30)]
    source = write_lines(tmp_path / "in.jsonl", lines)
    common = ("score", source, "--scorer", bundle.path)
    used = set()
    for engine in ("onnxruntime", "openvino"):
        output = tmp_path / engine
        assert empathy(*common, "-o", output, "--engine", engine).returncode == 0
        manifest = output / "_manifest.jsonl"
        manifest.write_text(manifest.read_text().splitlines(keepends=True)[0])  # killed before its first window
        assert empathy(*common, "-o", output, "--resume").returncode == 0
        (shard,) = output.glob("*.parquet")
        used.add(json.loads(pq.read_schema(shard).metadata[METADATA_KEY])["engine"])
        other = ({"onnxruntime", "openvino"} - {engine}).pop()
        refused = empathy(*common, "-o", output, "--resume", "--engine", other)
        assert refused.returncode == 2
        assert f"begun with engine {engine} and this run has {other}" in refused.stderr
    assert used == {"onnxruntime", "openvino"}
