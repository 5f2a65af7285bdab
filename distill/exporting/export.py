"""`empathy export`: from a checkpoint to a bundle that scores, with a gate for every precision."""

from __future__ import annotations

import copy
import logging
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from optimum.exporters.onnx import onnx_export_from_model
from transformers import PreTrainedModel

from distill.errors import CheckpointError
from distill.exporting.first_token import narrow
from distill.exporting.gate import MAX_FLIPS, MIN_CHECKED, Verdict, judge_precision
from distill.exporting.quantise import Batch, static_int8, store_int8, to_half
from distill.training.card import checkpoint_card
from distill.training.checkpoint import Checkpoint
from distill.training.network import Scores, predict
from scorer.bundle.bundle import HALF_MODEL, INT8_MODEL, Bundle, write_bundle
from scorer.bundle.encode import Encoded
from scorer.dialogue import Dialogue, training_hash
from scorer.engines.base import Engine, collate
from scorer.engines.names import PRECISIONS
from scorer.engines.onnxruntime import OnnxRuntimeEngine
from scorer.engines.openvino import OpenVinoEngine
from scorer.errors import BundleError, EngineError
from scorer.model import Scorer
from scorer.outputs import writing

_CALIBRATION_BATCHES = 32
_CALIBRATION_SIZE = 8
_UNCHECKED = "not checked: export with --check IN, dialogues that were not trained on"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSettings:
    """How to export.

    ``small`` stores weights as int8 if the gate lets them, ``half`` the model in half precision too, if the gate lets
    it; ``max_flips`` is the gate's limit.
    """

    name: str = ""
    licence: str = "not stated"
    precisions: tuple[str, ...] = PRECISIONS
    small: bool = True
    half: bool = False
    max_flips: float = MAX_FLIPS


@dataclass(frozen=True, slots=True, eq=False)
class _Check:
    """Dialogues for the gate: half fix activation scales, half are judged, with the checkpoint's scores (N, 2)."""

    calibration: list[Encoded]
    judged: list[Encoded]
    reference: Scores


def export(
    checkpoint: Checkpoint, output: Path, check: Sequence[Dialogue] = (), settings: ExportSettings | None = None
) -> Bundle:
    """Write the bundle of a checkpoint, whole or not at all.

    ``check`` are dialogues to hold every precision against the checkpoint; those that were trained on are passed
    over. Without them only fp32 is allowed. CheckpointError if the checkpoint was never calibrated or too few
    dialogues are left, BundleError if ``output`` exists, OutputError if the disk does not take it.
    """
    settings = settings or ExportSettings()
    if "cuts" not in checkpoint.info:
        raise CheckpointError(
            f"{checkpoint.path}: is one fold of a training and has no cuts; export the whole checkpoint"
        )
    if output.exists():
        raise BundleError(f"{output}: exists already; name a new folder or remove it first")
    with writing(output):
        return _write(checkpoint, output, check, settings)


def _write(checkpoint: Checkpoint, output: Path, check: Sequence[Dialogue], settings: ExportSettings) -> Bundle:
    model = checkpoint.load_model()
    narrowed = narrow(to_onnx(model), vocabulary=model.config.vocab_size, longest=int(checkpoint.info["max_length"]))
    plain = narrowed.model
    held = _check(checkpoint, model, check) if check else None
    info = {**_info(checkpoint, settings, model), "graph": narrowed.note}
    trial = _Trial(checkpoint, info, settings, held)
    files = {"model.onnx": plain.SerializeToString()}
    verdicts = {"fp32": trial.judge(files, "fp32")}
    weights = "fp32"
    if settings.small:
        small = {"model.onnx": store_int8(plain).SerializeToString()}
        stored = trial.judge(small, "int8 weights")
        info["weights"] = {"int8": stored.to_json()}
        if stored.allowed:
            files, weights = small, "int8"
    if "bf16" in settings.precisions:
        verdicts["bf16"] = trial.judge(files, "bf16")
    if settings.half:
        verdicts["fp16"] = trial.admit(files, HALF_MODEL, to_half(plain), "fp16")
    elif "fp16" in settings.precisions:
        verdicts["fp16"] = _judge_half(trial, model)
    if "int8" in settings.precisions and held is not None:
        fixed = static_int8(plain, _batches(held.calibration, info["pad_id"]))
        verdicts["int8"] = trial.admit(files, INT8_MODEL, fixed, "int8")
    elif "int8" in settings.precisions:
        verdicts["int8"] = Verdict(allowed=False, reason=_UNCHECKED)
    info["precision"] = f"{weights} weights, fp32 compute"
    info["precisions"] = {name: verdict.to_json() for name, verdict in verdicts.items()}
    return write_bundle(output, info, files | _texts(checkpoint, info))


def to_onnx(model: PreTrainedModel) -> onnx.ModelProto:
    """Return a model as ONNX in fp32: inputs (batch, length) int64, output ``logits`` (batch, 2) float32."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's tracer, about shapes that are constant here
        logging.getLogger("optimum").setLevel(logging.ERROR)
        onnx_export_from_model(copy.deepcopy(model), folder, task="text-classification", do_validation=False)
        return onnx.load(Path(folder) / "model.onnx")


class _Trial:
    """Makes a bundle of a candidate model in a temporary folder and scores the check's dialogues with it."""

    def __init__(
        self, checkpoint: Checkpoint, info: dict[str, Any], settings: ExportSettings, check: _Check | None
    ) -> None:
        self.info, self.settings, self.check = info, settings, check
        self._checkpoint = checkpoint

    def judge(self, files: dict[str, bytes], what: str) -> Verdict:
        """Return the verdict on candidate model files, run by the engine that runs them when scoring."""
        if self.check is None:
            fp32 = what == "fp32"
            return Verdict(
                allowed=fp32, reason="computes as the checkpoint does; " + _UNCHECKED if fp32 else _UNCHECKED
            )
        with tempfile.TemporaryDirectory() as folder:
            whole = files | _texts(self._checkpoint, self.info)
            bundle = write_bundle(Path(folder) / "trial", {**self.info, "precision": what}, whole)
            try:
                scores = Scorer(bundle, _ENGINES[what](bundle)).run(self.check.judged)
            except EngineError as error:
                return Verdict(allowed=False, reason=f"not checked: {error}")
        return self.verdict(scores)

    def admit(self, files: dict[str, bytes], name: str, model: onnx.ModelProto, what: str) -> Verdict:
        """Return the verdict on one model file more, which joins ``files`` if it is allowed."""
        data = model.SerializeToString()
        verdict = self.judge({**files, name: data}, what)
        if verdict.allowed:
            files[name] = data
        return verdict

    def verdict(self, scores: Scores) -> Verdict:
        """Return the verdict on scores of the check's dialogues."""
        assert self.check is not None
        return judge_precision(self.check.reference, scores, self.info["cuts"], self.settings.max_flips)


_ENGINES: dict[str, Callable[[Bundle], Engine]] = {
    "fp32": OnnxRuntimeEngine,
    "int8 weights": OnnxRuntimeEngine,
    "fp16": lambda bundle: OnnxRuntimeEngine(bundle, precision="fp16"),
    "int8": lambda bundle: OnnxRuntimeEngine(bundle, precision="int8"),
    "bf16": lambda bundle: OpenVinoEngine(bundle, precision="bf16"),
}
"""What runs each candidate in the gate, and when scoring."""


def _judge_half(trial: _Trial, model: PreTrainedModel) -> Verdict:
    """Return the verdict on half precision without a file of it, computed by torch: on a GPU where there is one."""
    if trial.check is None:
        return Verdict(allowed=False, reason=_UNCHECKED)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    scores = predict(copy.deepcopy(model).half().to(device), trial.check.judged).clip(0, 10)
    return trial.verdict(scores)


def _check(checkpoint: Checkpoint, model: PreTrainedModel, dialogues: Sequence[Dialogue]) -> _Check:
    training = checkpoint.info["training"]
    trained = {*training["content_hashes"], *training["unlabelled_hashes"]}
    unseen = list({key: d for d in dialogues if (key := training_hash(d)) not in trained}.values())
    if len(unseen) < 2 * MIN_CHECKED:
        raise CheckpointError(
            f"{len(unseen)} of {len(dialogues)} --check dialogues were not trained on, expected at least "
            f"{2 * MIN_CHECKED}: half fix activation scales and half tell 1 % of changed decisions"
        )
    encoded = checkpoint.encoder.encode(unseen)
    judged = encoded[1::2]
    return _Check(encoded[::2], judged, predict(model, judged).clip(0, 10))


def _batches(encoded: Sequence[Encoded], pad_id: int) -> list[Batch]:
    """Return evenly chosen batches of the calibration dialogues."""
    starts = range(0, len(encoded), _CALIBRATION_SIZE)
    step = max(1, len(starts) // _CALIBRATION_BATCHES)
    return [dict(collate(encoded[i : i + _CALIBRATION_SIZE], pad_id)) for i in starts[::step]]


def _texts(checkpoint: Checkpoint, info: dict[str, Any]) -> dict[str, bytes]:
    """Return what a bundle holds beside the model; the configurations let Hugging Face's tools load it as well."""
    files = {
        "tokenizer.json": checkpoint.encoder.tokenizer.to_str().encode(),
        "README.md": checkpoint_card(info).encode(),
    }
    for name in ("config.json", "tokenizer_config.json", "special_tokens_map.json"):
        if (checkpoint.path / name).exists():
            files[name] = (checkpoint.path / name).read_bytes()
    return files


def _info(checkpoint: Checkpoint, settings: ExportSettings, model: PreTrainedModel) -> dict[str, Any]:
    kept = ("backbone", "created", "max_length", "cuts", "uncertainty", "calibration", "measured", "training", "domain")
    return {
        "name": settings.name or checkpoint.path.name,
        "licence": settings.licence,
        "precision": "fp32",
        "pad_id": int(model.config.pad_token_id or 0),
        **{name: checkpoint.info[name] for name in kept},
        # A backbone that was a folder goes by its name: the path is of the machine that trained.
        "settings": {**checkpoint.info["settings"], "backbone": checkpoint.info["backbone"]},
        "checkpoint_sha256": checkpoint.sha256,
    }
