"""`empathy export`: a bundle that scores as the checkpoint does, in every tool that loads it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
from msgspec import UNSET
from onnx import numpy_helper
from transformers import pipeline

from distill.errors import CheckpointError, ExportError
from distill.exporting.export import export_bundle
from distill.exporting.quantise import to_half
from distill.exporting.settings import ExportSettings
from distill.training.checkpoint import Checkpoint, load_checkpoint
from distill.training.network import predict
from distill.training.train import train_scorer
from scorer.bundle.bundle import Bundle, load_bundle
from scorer.dialogue import Dialogue, render
from scorer.engines.machine import processor_kind
from scorer.engines.names import PRECISIONS
from scorer.engines.onnxruntime import OnnxRuntimeEngine
from scorer.errors import BundleError
from scorer.model import Scorer
from scorer.outputs import json_text
from scorer.progress import Silent
from selection.probing.probe import EXAMPLES, example_contexts, probe
from selection.settings import ProbeSettings
from tests.conftest import Run, read, record, varied, write_lines
from tests.distill.tiny import labelled_records, tiny_settings, write_backbone
from tests.selection.selection_data import invoke, one_line


@pytest.fixture(scope="module", params=["bert", pytest.param("roberta", marks=pytest.mark.slow)])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A tiny checkpoint of either kind: with token types and without."""
    folder = tmp_path_factory.mktemp(request.param)
    backbone = write_backbone(folder / "backbone", kind=request.param)
    labelled = read(folder / "labels.jsonl", labelled_records(160))
    return train_scorer(labelled, tiny_settings(backbone, epochs=2), folder / "checkpoint")


@pytest.fixture(scope="module")
def check() -> list[Dialogue]:
    """Three hundred dialogues that nobody trained on."""
    return varied(300)


@pytest.fixture(scope="module")
def check_file(check: list[Dialogue], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in a file, and a record that is none."""
    records = [record(*(turn.content for turn in dialogue.turns), id=str(n)) for n, dialogue in enumerate(check)]
    return write_lines(tmp_path_factory.mktemp("check") / "check.jsonl", [*records, {"messages": []}])


@pytest.fixture(scope="module")
def exported(checkpoint: Checkpoint, check: list[Dialogue], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The checkpoint's bundle, every precision checked."""
    return export_bundle(checkpoint, tmp_path_factory.mktemp("exported") / "bundle", check)


@pytest.fixture(scope="module")
def plain(checkpoint: Checkpoint, exported: Bundle) -> Bundle:
    """The checkpoint's bundle, nothing checked."""
    return export_bundle(checkpoint, exported.path.with_name("plain"))


def test_scoring_gives_the_checkpoints_scores(
    checkpoint: Checkpoint, exported: Bundle, plain: Bundle, check: list[Dialogue]
) -> None:
    expected = predict(checkpoint.load_model(), checkpoint.encoder.encode(check)).clip(0, 10)
    for bundle, tolerance in ((plain, 1e-4), (exported, 0.05)):  # weights as fp32, and as int8
        found = Scorer.load(bundle.path, engine="onnxruntime").score(check)
        np.testing.assert_allclose(found, expected, atol=tolerance)


def test_the_hugging_face_pipeline_gives_the_same_scores(
    checkpoint: Checkpoint, plain: Bundle, check: list[Dialogue], check_file: Path, tmp_path: Path, empathy: Run
) -> None:
    result = empathy("score", check_file, "-o", tmp_path / "out.parquet", "--scorer", plain.path)
    assert result.returncode == 0, result.stderr
    table = pq.read_table(tmp_path / "out.parquet")
    classify = pipeline("text-classification", str(checkpoint.path), function_to_apply="none", top_k=None, device="cpu")
    pairs = [render(dialogue) for dialogue in check[:20]]
    found = classify([{"text": context, "text_pair": response} for context, response in pairs])
    for row, entries in enumerate(found):
        scores = {entry["label"]: entry["score"] for entry in entries}
        for head in ("sensibility", "rationality"):
            assert np.clip(scores[head], 0, 10) == pytest.approx(table[head][row].as_py(), abs=1e-3)


class _Stages(Silent):
    """A progress that keeps each stage's total and how much of it was done."""

    def __init__(self) -> None:
        self.seen: dict[str, list[float | None]] = {}

    def stage(self, name: str, total: float | None = None, done: float = 0) -> None:
        self.seen[name] = [total, done]
        self.last = name

    def update(self, done: float, *, total: float | None = None, note: str = "") -> None:
        self.seen[self.last][1] = done


def test_what_is_checked_shows_how_far_it_is(checkpoint: Checkpoint, check: list[Dialogue], tmp_path: Path) -> None:
    stages = _Stages()
    settings = ExportSettings(precisions=("fp32", "fp16"), probe=4)
    export_bundle(checkpoint, tmp_path / "bundle", check, settings, stages)
    for name in ("scoring with the checkpoint", "checking fp32", "checking int8 weights", "checking fp16"):
        assert stages.seen[name] == [300, 300]
    assert next(iter(stages.seen)) == "writing the graph"


def test_every_precision_has_a_verdict_with_figures(exported: Bundle) -> None:
    verdicts = exported.info.precisions
    assert set(verdicts) == set(PRECISIONS)
    fp32 = verdicts["fp32"]
    assert (fp32.allowed, fp32.flips, fp32.checked) == (True, 0, 300)
    assert 0 <= (fp32.drift_max or 0) < 1e-3
    assert all(verdict.reason for verdict in verdicts.values())
    assert exported.allows("fp32")
    bf16 = verdicts["bf16"]
    assert bf16.measured == (bf16.processor == processor_kind())  # or this processor has none
    assert bf16.measured or not exported.allows("bf16")
    assert exported.info.graph == "matrix products computed for the first token only: 6"


def test_without_a_check_only_fp32_is_allowed(plain: Bundle) -> None:
    assert [name for name, verdict in plain.info.precisions.items() if verdict.allowed] == ["fp32"]
    assert plain.info.precision == "fp32 weights, fp32 compute"
    assert "--check" in plain.info.precisions["bf16"].reason
    assert "empathy gate" in plain.verdict("bf16").reason


def test_what_changes_decisions_is_refused_and_the_reason_kept(
    checkpoint: Checkpoint, check: list[Dialogue], tmp_path: Path
) -> None:
    strict = ExportSettings(max_flips=0.0, precisions=("fp16",))
    verdict = export_bundle(checkpoint, tmp_path / "bundle", check, strict).info.precisions["fp16"]
    assert verdict.allowed == (verdict.flips == 0)
    assert ("within" if verdict.allowed else "over") + " 0.00%" in verdict.reason


@pytest.mark.slow
def test_half_precision_is_stored_on_demand_and_scores_the_same(
    checkpoint: Checkpoint, check: list[Dialogue], tmp_path: Path
) -> None:
    settings = ExportSettings(half=True, precisions=("fp32",), weights="fp32")
    bundle = export_bundle(checkpoint, tmp_path / "bundle", check, settings)
    assert bundle.info.precisions["fp16"].allowed
    assert (bundle.info.precisions["fp16"].drift_max or 0) > 0  # it was this file's
    assert (bundle.path / "model.fp16.onnx").stat().st_size < 0.9 * (bundle.path / "model.onnx").stat().st_size
    model = onnx.load_from_string(bundle.model_for("fp16"))
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds
    assert onnx.TensorProto.FLOAT not in kinds
    scores = Scorer(bundle, OnnxRuntimeEngine(bundle, precision="fp16")).score(check)
    np.testing.assert_allclose(scores, Scorer.load(bundle.path, engine="onnxruntime").score(check), atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("checked", [True, False])
def test_half_precision_that_is_refused_is_not_stored(
    checkpoint: Checkpoint, check: list[Dialogue], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, checked: bool
) -> None:
    def broken(model: onnx.ModelProto) -> onnx.ModelProto:
        """Return the model in half precision, with the two heads exchanged."""
        half = to_half(model)
        for tensor in half.graph.initializer:
            if tuple(tensor.dims) == (2, 32) and "classifier" in tensor.name:
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[::-1].copy(), tensor.name))
        return half

    monkeypatch.setattr("distill.exporting.export.to_half", broken)
    bundle = export_bundle(checkpoint, tmp_path / "bundle", check if checked else [], ExportSettings(half=True))
    verdict = bundle.info.precisions["fp16"]
    assert not verdict.allowed
    assert ("over 1.00%" if checked else "export with --check") in verdict.reason
    assert not (bundle.path / "model.fp16.onnx").exists()
    with pytest.raises(BundleError, match=r"^[^\n]*holds no model\.fp16\.onnx, so it does not compute in fp16; export"):
        bundle.model_for("fp16")


def test_the_bundle_carries_what_the_checkpoint_knows(checkpoint: Checkpoint, exported: Bundle) -> None:
    loaded, known = load_bundle(exported.path), json.loads(json_text(checkpoint.info))
    for name in ("cuts", "measured", "uncertainty", "training", "domain"):
        assert loaded.to_json()[name] == known[name]
    assert loaded.info.name == "checkpoint"
    assert loaded.info.uncertainty is not None
    assert (exported.path / "README.md").read_text().startswith("# checkpoint")


def test_the_bundle_and_its_card_say_what_the_scorer_makes_of_bad_replies(
    checkpoint: Checkpoint, exported: Bundle, plain: Bundle, check: list[Dialogue], tmp_path: Path
) -> None:
    for bundle, contexts, data in ((exported, check, "the --check dialogues"), (plain, example_contexts(), EXAMPLES)):
        scorer = Scorer(bundle, OnnxRuntimeEngine(bundle))
        assert bundle.info.probe == probe(scorer, contexts, ProbeSettings(), data=data).record
        assert bundle.info.probe is not None
        card = (bundle.path / "README.md").read_text()
        for kind in bundle.info.probe.kinds:
            assert f"| {kind.kind} | {kind.sensibility:+.2f} | {kind.rationality:+.2f} | {kind.share:.1%} |" in card
    none = export_bundle(checkpoint, tmp_path / "none", settings=ExportSettings(probe=0))
    assert none.info.probe is None
    assert "Behaviour" not in (none.path / "README.md").read_text()


def test_the_command_exports_and_a_second_time_refuses(
    checkpoint: Checkpoint, check_file: Path, tmp_path: Path
) -> None:
    arguments = [str(checkpoint.path), "-o", str(tmp_path / "b"), "--check", str(check_file), "--half", "--name", "x"]
    result = invoke(*arguments, "--precision", "fp16", command="export")
    assert result.exit_code == 0, result.stderr
    assert "fp16" in result.stderr
    assert "--check: 1 records are no dialogues and were left out; the first: " in result.stderr
    bundle = load_bundle(tmp_path / "b")
    assert bundle.info.name == "x"
    assert "model.fp16.onnx" in bundle.info.files
    again = invoke(*arguments, command="export")
    assert "exists already" in one_line(again.exit_code, again.stderr.splitlines()[-1])


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_no_bundle(checkpoint: Checkpoint, tmp_path: Path, empathy: Run) -> None:
    arguments = ("export", checkpoint.path, "-o", tmp_path / "b")
    result = empathy(*arguments, largest_file=30_000)
    assert result.returncode == 2
    assert "cannot be written" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_refused_at_once(checkpoint: Checkpoint, tmp_path: Path) -> None:
    part = Checkpoint(checkpoint.path, replace(checkpoint.info, cuts=UNSET))
    with pytest.raises(CheckpointError, match="one fold"):
        export_bundle(part, tmp_path / "bundle")
    trained = read(tmp_path / "labels.jsonl", labelled_records(160)).dialogues
    with pytest.raises(CheckpointError, match="were not trained on, expected at least 100"):
        export_bundle(checkpoint, tmp_path / "bundle", trained)
    with pytest.raises(ExportError, match=r"^max flips is 1\.5, expected 0 to 1$"):
        ExportSettings(max_flips=1.5)
    with pytest.raises(CheckpointError, match="no such folder"):
        load_checkpoint(tmp_path / "nowhere")
    assert not (tmp_path / "bundle").exists()
