"""`empathy export`: a bundle that scores as the checkpoint does, in every tool that loads it."""

from __future__ import annotations

import json
import resource
import warnings
from pathlib import Path

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
from onnx import numpy_helper
from transformers import AutoTokenizer, pipeline

from distill.errors import CheckpointError
from distill.exporting.export import ExportSettings, export, to_onnx
from distill.exporting.quantise import static_int8, to_half
from distill.labelled import read_labelled
from distill.training.checkpoint import Checkpoint, load_checkpoint
from distill.training.network import Scores, predict
from distill.training.settings import TrainSettings
from distill.training.train import train
from scorer.bundle.bundle import Bundle, load_bundle
from scorer.dialogue import Dialogue, render
from scorer.engines.onnxruntime import OnnxRuntimeEngine
from scorer.errors import BundleError
from scorer.model import Scorer
from tests.conftest import Run, make_dialogue, varied, write_lines
from tests.distill.tiny import labelled_file, labelled_records, write_backbone


@pytest.fixture(scope="module", params=["bert", "roberta"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A tiny checkpoint of either kind: with token types and without."""
    folder = tmp_path_factory.mktemp(request.param)
    backbone = write_backbone(folder / "backbone", kind=request.param)
    labelled = read_labelled([str(labelled_file(folder / "labels.jsonl", 160))])
    settings = TrainSettings(backbone=str(backbone), epochs=2, learning_rate=5e-3, max_length=64, batch_size=16)
    return train(labelled, settings, folder / "checkpoint")


@pytest.fixture(scope="module")
def check() -> list[Dialogue]:
    """Three hundred dialogues that nobody trained on."""
    return varied(300)


@pytest.fixture(scope="module")
def exported(checkpoint: Checkpoint, check: list[Dialogue], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The checkpoint's bundle, every precision checked."""
    return export(checkpoint, tmp_path_factory.mktemp("exported") / "bundle", check)


def checkpoint_scores(checkpoint: Checkpoint, dialogues: list[Dialogue]) -> Scores:
    scores: Scores = predict(checkpoint.load_model(), checkpoint.encoder.encode(dialogues))
    return scores.clip(0, 10)


def test_scoring_gives_the_checkpoints_scores(checkpoint: Checkpoint, exported: Bundle, check: list[Dialogue]) -> None:
    expected = checkpoint_scores(checkpoint, check)
    plain = export(checkpoint, exported.path.with_name("plain"))
    np.testing.assert_allclose(Scorer.load(plain.path, engine="onnxruntime").score(check), expected, atol=1e-4)
    np.testing.assert_allclose(
        Scorer.load(exported.path, engine="onnxruntime").score(check), expected, atol=0.05
    )  # weights as int8


def test_the_hugging_face_pipeline_gives_the_same_scores(
    checkpoint: Checkpoint, check: list[Dialogue], tmp_path: Path, empathy: Run
) -> None:
    records = [
        {"id": str(n), "messages": [{"role": t.role, "content": t.content} for t in d.turns]}
        for n, d in enumerate(check[:20])
    ]
    plain = export(checkpoint, tmp_path / "plain")
    path = write_lines(tmp_path / "in.jsonl", records)
    result = empathy("score", path, "-o", tmp_path / "out.parquet", "--scorer", plain.path)
    assert result.returncode == 0, result.stderr
    table = pq.read_table(tmp_path / "out.parquet")
    classify = pipeline("text-classification", str(checkpoint.path), function_to_apply="none", top_k=None, device="cpu")
    pairs = [render(dialogue) for dialogue in check[:20]]
    found = classify([{"text": context, "text_pair": response} for context, response in pairs])
    for row, entries in enumerate(found):
        scores = {entry["label"]: entry["score"] for entry in entries}
        for head in ("sensibility", "rationality"):
            assert np.clip(scores[head], 0, 10) == pytest.approx(table[head][row].as_py(), abs=1e-3)


def test_optimum_loads_the_exported_model_and_gives_the_same_scores(exported: Bundle, check: list[Dialogue]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optimum's own, of modules that it moved
        from optimum.onnxruntime import ORTModelForSequenceClassification

        model = ORTModelForSequenceClassification.from_pretrained(exported.path, file_name="model.onnx")
    tokenizer = AutoTokenizer.from_pretrained(exported.path)
    pairs = [render(dialogue) for dialogue in check[:20]]
    inputs = tokenizer([a for a, _ in pairs], [b for _, b in pairs], padding=True, return_tensors="pt")
    scores = model(**inputs).logits.numpy().clip(0, 10)
    np.testing.assert_allclose(scores, Scorer.load(exported.path, engine="onnxruntime").score(check[:20]), atol=1e-3)


def test_every_precision_has_a_verdict_with_figures(exported: Bundle) -> None:
    verdicts = exported.info["precisions"]
    assert set(verdicts) == {"fp32", "bf16", "fp16", "int8"}
    assert verdicts["fp32"]["allowed"]
    assert verdicts["fp32"]["flips"] == 0
    assert verdicts["fp32"]["checked"] == 150
    assert verdicts["fp32"]["drift_max"] < 1e-3
    assert all(verdict["reason"] for verdict in verdicts.values())
    assert exported.allows("fp32")
    assert exported.allows("int8") == ("model.int8.onnx" in exported.info["files"])


def test_the_last_layer_is_computed_for_the_first_token_only(exported: Bundle) -> None:
    assert exported.info["graph"] == "matrix products computed for the first token only: 6"
    names = [node.name for node in onnx.load_from_string(exported.model).graph.node]
    assert sum(".first." in name for name in names) == 1  # a slice of the layer below


def test_without_a_check_only_fp32_is_allowed(checkpoint: Checkpoint, tmp_path: Path) -> None:
    bundle = export(checkpoint, tmp_path / "bundle")
    assert [name for name, verdict in bundle.info["precisions"].items() if verdict["allowed"]] == ["fp32"]
    assert bundle.info["precision"] == "fp32 weights, fp32 compute"
    assert "--check" in bundle.info["precisions"]["bf16"]["reason"]
    with pytest.raises(BundleError, match=r"no model\.int8\.onnx"):
        bundle.model_for("int8")


def test_what_changes_decisions_is_refused_and_the_reason_kept(
    checkpoint: Checkpoint, check: list[Dialogue], tmp_path: Path
) -> None:
    strict = ExportSettings(max_flips=0.0, precisions=("int8",))
    verdict = export(checkpoint, tmp_path / "bundle", check, strict).info["precisions"]["int8"]
    if not verdict["allowed"]:
        assert "over 0.00%" in verdict["reason"]
    else:
        assert verdict["flips"] == 0


def test_half_precision_is_stored_on_demand_and_scores_the_same(
    checkpoint: Checkpoint, check: list[Dialogue], tmp_path: Path
) -> None:
    settings = ExportSettings(half=True, precisions=("fp32",), small=False)
    bundle = export(checkpoint, tmp_path / "bundle", check, settings)
    assert bundle.info["precisions"]["fp16"]["allowed"]
    assert bundle.info["precisions"]["fp16"]["drift_max"] > 0  # it was this file's
    assert (bundle.path / "model.fp16.onnx").stat().st_size < 0.8 * (bundle.path / "model.onnx").stat().st_size
    model = onnx.load_from_string(bundle.model_for("fp16"))
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds
    assert onnx.TensorProto.FLOAT not in kinds
    scores = Scorer(bundle, OnnxRuntimeEngine(bundle, precision="fp16")).score(check)
    np.testing.assert_allclose(scores, Scorer.load(bundle.path, engine="onnxruntime").score(check), atol=0.02)


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
    bundle = export(checkpoint, tmp_path / "bundle", check if checked else [], ExportSettings(half=True))
    verdict = bundle.info["precisions"]["fp16"]
    assert not verdict["allowed"]
    assert ("over 1.00%" if checked else "export with --check") in verdict["reason"]
    assert not (bundle.path / "model.fp16.onnx").exists()
    with pytest.raises(BundleError, match=r"^[^\n]*holds no model\.fp16\.onnx, so it does not compute in fp16; export"):
        bundle.model_for("fp16")


def test_dialogues_that_were_trained_on_do_not_count_as_a_check(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "labels.jsonl", labelled_records(160))
    trained = list(read_labelled([str(path)]).dialogues)
    with pytest.raises(CheckpointError, match="were not trained on, expected at least 200"):
        export(checkpoint, tmp_path / "bundle", trained)
    assert not (tmp_path / "bundle").exists()


def test_the_bundle_carries_what_the_checkpoint_knows(checkpoint: Checkpoint, exported: Bundle) -> None:
    loaded = load_bundle(exported.path)
    for name in ("cuts", "measured", "uncertainty", "training", "domain"):
        assert loaded.info[name] == json.loads(json.dumps(checkpoint.info[name]))
    assert loaded.name == "checkpoint"
    assert loaded.uncertainty is not None
    assert (exported.path / "README.md").read_text().startswith("# checkpoint")


def test_the_command_exports_and_a_second_time_refuses(
    checkpoint: Checkpoint, check: list[Dialogue], tmp_path: Path, empathy: Run
) -> None:
    records = [{"messages": [{"role": t.role, "content": t.content} for t in d.turns]} for d in check]
    path = write_lines(tmp_path / "check.jsonl", records)
    arguments = (
        "export",
        checkpoint.path,
        "-o",
        tmp_path / "b",
        "--check",
        path,
        "--half",
        "--precision",
        "fp16",
        "--name",
        "x",
    )
    result = empathy(*arguments)
    assert result.returncode == 0, result.stderr
    assert "fp16" in result.stderr
    bundle = load_bundle(tmp_path / "b")
    assert bundle.name == "x"
    assert "model.fp16.onnx" in bundle.info["files"]
    again = empathy(*arguments)
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_a_full_disk_is_one_line_and_leaves_no_bundle(checkpoint: Checkpoint, tmp_path: Path, empathy: Run) -> None:
    # No file may grow beyond 30 kB: to a program that is what a full disk is.
    limit = (30_000, 30_000)
    result = empathy(
        "export",
        checkpoint.path,
        "-o",
        tmp_path / "b",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    assert result.returncode == 2
    assert "cannot be written" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_fold_is_not_exported(checkpoint: Checkpoint, tmp_path: Path) -> None:
    half = Checkpoint(checkpoint.path, {k: v for k, v in checkpoint.info.items() if k != "cuts"})
    with pytest.raises(CheckpointError, match="one fold"):
        export(half, tmp_path / "bundle")
    with pytest.raises(CheckpointError, match="no such folder"):
        load_checkpoint(tmp_path / "nowhere")


def test_fixed_scales_ignore_the_rest_of_the_batch(checkpoint: Checkpoint) -> None:
    import onnxruntime as ort

    plain = to_onnx(checkpoint.load_model())
    names = [node.name for node in plain.graph.input]
    encoded = checkpoint.encoder.encode([make_dialogue("i am sad", "so sorry"), make_dialogue("we won", "great")])
    batch = {
        "input_ids": np.stack([np.pad(item.ids, (0, 16 - len(item))) for item in encoded]).astype(np.int64),
        "attention_mask": np.stack([np.arange(16) < len(item) for item in encoded]).astype(np.int64),
        "token_type_ids": np.zeros((2, 16), dtype=np.int64),
    }
    batch = {name: batch[name] for name in names}
    fixed = static_int8(plain, [batch])
    session = ort.InferenceSession(fixed.SerializeToString(), providers=["CPUExecutionProvider"])
    (together,) = session.run(None, batch)
    (alone,) = session.run(None, {name: array[:1] for name, array in batch.items()})
    np.testing.assert_allclose(alone[0], together[0], atol=1e-5)
