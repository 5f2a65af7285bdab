"""`empathy export`: from a checkpoint to a bundle that scores, with a gate for every precision."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import onnx
import torch
from msgspec import UNSET
from transformers import PreTrainedModel

from distill.errors import CheckpointError
from distill.exporting.first_token import export_first_token
from distill.exporting.quantise import store_int8, to_half
from distill.exporting.settings import ExportSettings
from distill.pretrained import RAW_SCORES, tokenizer_files
from distill.training.card import behaviour_card, checkpoint_card
from distill.training.checkpoint import Checkpoint
from distill.training.network import predict
from scorer.bundle.bundle import HALF_MODEL, Bundle, write_bundle
from scorer.bundle.cuts import Cuts
from scorer.bundle.encode import Encoded
from scorer.bundle.probed import Probed
from scorer.dialogue import SCORE_RANGE, Dialogue, training_hash
from scorer.engines.base import Engine, Scores
from scorer.engines.names import INT8_DYNAMIC
from scorer.engines.onnxruntime import OnnxRuntimeEngine
from scorer.engines.openvino import OpenVinoEngine
from scorer.engines.verdicts import Verdict
from scorer.errors import BundleError, EngineError
from scorer.model import Scorer
from scorer.outputs import json_text, writing
from scorer.progress import Progress, Silent
from selection.gating.judge import MIN_CHECKED, judge_precision
from selection.gating.measure import Subject, rates, ruled
from selection.probing.probe import EXAMPLES, example_contexts, probe
from selection.rules import PAPER
from selection.settings import ProbeSettings

_WHY = "not checked: export with --check IN, dialogues that were not trained on"
_UNCHECKED = Verdict(allowed=False, reason=_WHY)
_FP32_UNCHECKED = Verdict(allowed=True, reason=f"computes as the checkpoint does; {_WHY}")


def export_bundle(
    checkpoint: Checkpoint,
    output: Path,
    check: Sequence[Dialogue] = (),
    settings: ExportSettings | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """Write the bundle of a checkpoint, whole or not at all; ``progress`` is told what is checked, in dialogues.

    ``check`` are dialogues on which every precision is compared with the checkpoint; those that were trained on are
    left out. Without them only fp32 is allowed. CheckpointError if the checkpoint was never calibrated or too few
    dialogues are left, BundleError if ``output`` exists, OutputError if the disk does not take it.
    """
    settings = settings or ExportSettings()
    if checkpoint.info.cuts is UNSET:
        raise CheckpointError(
            f"{checkpoint.path}: is one fold of a training and has no cuts; export the whole checkpoint"
        )
    if output.exists():
        raise BundleError(f"{output}: exists already; name a new folder or remove it first")
    with writing(output):
        return _write(checkpoint, checkpoint.info.cuts, output, check, settings, progress or Silent())


def _write(
    checkpoint: Checkpoint,
    cuts: Cuts,
    output: Path,
    dialogues: Sequence[Dialogue],
    settings: ExportSettings,
    progress: Progress,
) -> Bundle:
    progress.stage("writing the graph")
    model = checkpoint.load_model()
    plain, note = export_first_token(model, checkpoint.info.max_length)
    check = _Check.of(checkpoint, model, dialogues, progress) if dialogues else None
    info = {**_info(checkpoint, settings, model), "graph": note}
    gate = _Gate(info, _texts(checkpoint, settings), cuts, settings.max_flips, check, progress)
    files = {"model.onnx": plain.SerializeToString()}
    verdicts = {"fp32": gate.judge(files, "fp32")}
    weights = "fp32"
    if settings.weights == "int8":
        small = {"model.onnx": store_int8(plain).SerializeToString()}
        stored = gate.judge(small, "int8 weights")
        info["weights"] = {"int8": stored.to_json()}
        if stored.allowed:
            files, weights = small, "int8"
    for name in ("bf16", INT8_DYNAMIC):
        if name in settings.precisions:
            verdicts[name] = gate.judge(files, name)
    if settings.half:
        verdicts["fp16"] = gate.admit(files, HALF_MODEL, to_half(plain), "fp16")
    elif "fp16" in settings.precisions:
        verdicts["fp16"] = gate.judge_half(model)
    info["precision"] = f"{weights} weights, fp32 compute"
    info["precisions"] = {name: verdict.to_json() for name, verdict in verdicts.items()}
    if settings.probe:
        found = gate.probe(info, files, _unseen(checkpoint, dialogues), settings.probe)
        info["probe"] = found.to_json()
        gate.texts["README.md"] += behaviour_card(found).encode()
    return write_bundle(output, info, gate.texts | files)


@dataclass(frozen=True, slots=True, eq=False)
class _Check:
    """Dialogues for the gate, with the checkpoint's scores (N, 2)."""

    judged: list[Encoded]
    reference: Scores

    @classmethod
    def of(
        cls, checkpoint: Checkpoint, model: PreTrainedModel, dialogues: Sequence[Dialogue], progress: Progress
    ) -> _Check:
        """Return the check of the dialogues that were not trained on; CheckpointError if they are too few."""
        unseen = _unseen(checkpoint, dialogues)
        if len(unseen) < MIN_CHECKED:
            raise CheckpointError(
                f"{len(unseen)} of {len(dialogues)} --check dialogues were not trained on, expected at least "
                f"{MIN_CHECKED} to tell 1 % of changed decisions"
            )
        judged = checkpoint.encoder.encode(unseen)
        progress.stage("scoring with the checkpoint", len(judged))
        return cls(judged, predict(model, judged, progress=progress).clip(0, 10))


@dataclass(frozen=True, slots=True, eq=False)
class _Gate:
    """Makes a bundle of a candidate model in a temporary folder and scores the check's dialogues with it."""

    info: dict[str, Any]
    texts: dict[str, bytes]
    cuts: Cuts
    max_flips: float
    check: _Check | None
    progress: Progress

    def judge(self, files: dict[str, bytes], what: str) -> Verdict:
        """Return the verdict on candidate model files, run by the engine that runs them when scoring."""
        if self.check is None:
            return _FP32_UNCHECKED if what == "fp32" else _UNCHECKED
        self.progress.stage(f"checking {what}", len(self.check.judged))
        done = 0

        def scored(rows: int, _: int) -> None:
            nonlocal done
            self.progress.update(done := done + rows)

        with tempfile.TemporaryDirectory() as folder:
            bundle = write_bundle(Path(folder) / "trial", {**self.info, "precision": what}, self.texts | files)
            try:
                engine = _ENGINES[what](bundle)
                began = time.perf_counter()
                scores = Scorer(bundle, engine).run(self.check.judged, on_batch=scored)
                seconds = time.perf_counter() - began
                verdict = judge_precision(self.check.reference, scores, self.cuts, self.max_flips)
                return verdict if what not in _BY_RATE else self._by_rate(verdict, bundle, engine, seconds)
            except EngineError as error:
                return Verdict(allowed=False, reason=f"not checked: {error}")

    def _by_rate(self, verdict: Verdict, bundle: Bundle, engine: Engine, seconds: float) -> Verdict:
        """Return a verdict that also says where it was measured and holds the precision to fp32's rate there."""
        assert self.check is not None
        engines: list[Engine] = [OnnxRuntimeEngine(bundle), OpenVinoEngine(bundle), engine]
        subject = Subject(
            network=bundle,
            encoded=self.check.judged,
            pad_id=bundle.info.pad_id,
            decide=lambda scores: PAPER.apply(scores, self.cuts),
            span=SCORE_RANGE,
        )
        found = rates(engines, subject, self.progress, seconds=seconds)
        return ruled([verdict] * len(engines), engines, found)[-1]

    def judge_half(self, model: PreTrainedModel) -> Verdict:
        """Return the verdict on half precision without a file of it, computed by torch: on a GPU where there is one."""
        if self.check is None:
            return _UNCHECKED
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.progress.stage("checking fp16", len(self.check.judged))
        half = copy.deepcopy(model).half().to(device)
        scores = predict(half, self.check.judged, progress=self.progress).clip(0, 10)
        return judge_precision(self.check.reference, scores, self.cuts, self.max_flips)

    def probe(
        self, info: dict[str, Any], files: dict[str, bytes], dialogues: Sequence[Dialogue], sample: int
    ) -> Probed:
        """Return what the bundle that is exported makes of bad replies, on ``dialogues`` or else on the examples."""
        files_of = sorted({Path(one.source).name for one in dialogues if one.source})
        data = ", ".join(files_of) or ("the --check dialogues" if dialogues else EXAMPLES)
        contexts = dialogues or example_contexts()
        with tempfile.TemporaryDirectory() as folder:
            bundle = write_bundle(Path(folder) / "trial", info, self.texts | files)
            scorer = Scorer(bundle, OnnxRuntimeEngine(bundle))
            return probe(
                scorer, contexts, ProbeSettings(sample=sample, show=0), data=data, progress=self.progress
            ).record

    def admit(self, files: dict[str, bytes], name: str, model: onnx.ModelProto, what: str) -> Verdict:
        """Return the verdict on one more model file, which joins ``files`` if it is allowed."""
        data = model.SerializeToString()
        verdict = self.judge({**files, name: data}, what)
        if verdict.allowed:
            files[name] = data
        return verdict


_ENGINES: dict[str, Callable[[Bundle], Engine]] = {
    "fp32": OnnxRuntimeEngine,
    "int8 weights": OnnxRuntimeEngine,
    "fp16": lambda bundle: OnnxRuntimeEngine(bundle, precision="fp16"),
    INT8_DYNAMIC: lambda bundle: OpenVinoEngine(bundle, precision=INT8_DYNAMIC),
    "bf16": lambda bundle: OpenVinoEngine(bundle, precision="bf16"),
}
"""What runs each candidate in the gate, and when scoring."""

_BY_RATE = ("bf16", INT8_DYNAMIC)
"""What a processor may lack in hardware: worth its changes only where it is faster than fp32."""


def _unseen(checkpoint: Checkpoint, dialogues: Sequence[Dialogue]) -> list[Dialogue]:
    """Return the dialogues that were not trained on, each once."""
    training = checkpoint.info.training
    trained = {*training.content_hashes, *training.unlabelled_hashes}
    return list({key: one for one in dialogues if (key := training_hash(one)) not in trained}.values())


def _texts(checkpoint: Checkpoint, settings: ExportSettings) -> dict[str, bytes]:
    """Return what a bundle holds beside the model; the configurations let Hugging Face's tools load it as well."""
    card = checkpoint_card(checkpoint.info, _name(checkpoint, settings), settings.licence)
    backbone = checkpoint.backbone
    tokenizer = tokenizer_files(backbone.tokenizer, checkpoint.info.max_length, token_types=backbone.has_token_types)
    config = msgspec.json.decode((checkpoint.path / "config.json").read_bytes())
    config = json_text({**config, "sentence_transformers": RAW_SCORES})
    return {**tokenizer, "config.json": config.encode(), "README.md": card.encode()}


def _info(checkpoint: Checkpoint, settings: ExportSettings, model: PreTrainedModel) -> dict[str, Any]:
    known = checkpoint.info
    kept = ("backbone", "created", "max_length", "cuts", "uncertainty", "calibration", "measured", "training", "domain")
    return {
        "name": _name(checkpoint, settings),
        "licence": settings.licence,
        "precision": "fp32",
        "pad_id": int(model.config.pad_token_id or 0),
        **{name: getattr(known, name) for name in kept},
        # A backbone that was a folder goes by its name: the path is of the machine that trained.
        "settings": replace(known.settings, backbone=known.backbone),
        "checkpoint_sha256": checkpoint.sha256,
    }


def _name(checkpoint: Checkpoint, settings: ExportSettings) -> str:
    return settings.name or checkpoint.path.name
