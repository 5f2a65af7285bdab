"""An adapted bundle on disk: what changes, what stays, and a card that says from what it was adapted."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from distill.labelled import LabelledSet
from distill.training.calibrate import Calibration
from distill.training.card import agreement_rows
from scorer.bundle.bundle import Bundle, write_bundle
from scorer.bundle.cuts import Cuts
from scorer.bundle.domain import FEATURES, Domain, fit_domain
from scorer.bundle.encode import Encoded
from scorer.bundle.uncertainty import Uncertainty
from scorer.engines.onnxruntime import OnnxRuntimeEngine
from scorer.engines.verdicts import Verdict
from scorer.errors import BundleError, EngineError
from scorer.model import Scorer
from selection.gating.judge import MIN_CHECKED, judge_precision
from selection.gating.measure import place_of

_MAX_FLIPS = 0.01
# Probe and gates were of other scores; `empathy probe` and `empathy gate` says what the adapted scorer is like.
_WRITTEN_ANEW = ("format", "format_version", "heads", "score_range", "template_version", "files", "probe", "gates")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Change:
    """What labels of ``source`` changed, and ``how``. ``model`` None leaves the network as it is."""

    source: str
    how: str
    cuts: Cuts
    uncertainty: Uncertainty
    measured: Mapping[str, Any]
    before: Mapping[str, float]
    model: bytes | None = None
    calibration: Calibration | None = None


def write_adapted(
    bundle: Bundle, labelled: LabelledSet, encoded: Sequence[Encoded], change: Change, output: Path
) -> tuple[Bundle, tuple[str, ...]]:
    """Write an adapted bundle and return it, with lines that a user should see; BundleError if ``output`` exists."""
    if output.exists():
        raise BundleError(f"{output}: exists already; name a new folder or remove it first")
    files = {name: data for name, data in bundle.files.items() if name in bundle.info.files}
    notes = []
    if known := len({*labelled.hashes} & {*bundle.info.training.content_hashes}):
        whose = f"{bundle.info.name} was trained on {known:,} of these {len(labelled):,} dialogues"
        notes.append(f"{whose}: the figures are too good; adapt with others")
    if change.model is not None:
        dropped = sorted(name for name in files if name.endswith(".onnx") and name != "model.onnx")
        files = {name: data for name, data in files.items() if name not in dropped}
        notes += [f"{name} was left out: it is not of the adapted network" for name in dropped]
        files["model.onnx"] = change.model
    files["README.md"] = _card(bundle, output.name, labelled, change).encode()
    info = _info(bundle, output.name, labelled, encoded, change)
    if change.model is not None:
        info["precisions"] = {name: verdict.to_json() for name, verdict in _verdicts(bundle, info, files, encoded)}
    return write_bundle(output, info, files), tuple(notes)


def _info(
    bundle: Bundle, name: str, labelled: LabelledSet, encoded: Sequence[Encoded], change: Change
) -> dict[str, Any]:
    kept = {key: value for key, value in bundle.to_json().items() if key not in _WRITTEN_ANEW}
    before, judgements = bundle.info.training, [labels for row in labelled.judgements for labels in row]
    said = [labels.judge or {} for labels in judgements]
    training = {
        **kept["training"],
        "data": f"{before.data}; adapted with {len(labelled)} labels of {change.source}",
        "content_hashes": sorted({*before.content_hashes, *labelled.hashes}),
        "judge": sorted({str(judge["model"]) for judge in said if "model" in judge}) or None,
        "rubric": sorted({str(judge["rubric"]) for judge in said if "rubric" in judge}) or None,
    }
    mine = fit_domain(labelled.dialogues, encoded, bundle.info.domain.vocabulary)
    return {
        **kept,
        "name": name,
        "created": datetime.now(UTC).date().isoformat(),
        "cuts": change.cuts,
        "uncertainty": change.uncertainty,
        "measured": change.measured,
        "training": training,
        "domain": _joined(bundle.info.domain, mine),
        **({} if change.calibration is None else {"calibration": change.calibration}),
        "adapted_from": {
            "name": bundle.info.name,
            "sha256": bundle.sha256,
            "labels": len(labelled),
            "source": change.source,
            "changed": change.how,
            "before": {key: change.before[key] for key in change.measured if key in change.before},
        },
    }


def _joined(first: Domain, second: Domain) -> Domain:
    """Return the domain that holds both: what it was trained on, and what it was adapted to."""
    ends = {name: (*first.ranges[name], *second.ranges[name]) for name in FEATURES}
    return Domain(
        ranges={name: (min(of), max(of)) for name, of in ends.items()},
        vocabulary=first.vocabulary,
        seen_tokens=np.packbits(first.seen | second.seen).tobytes(),
        outside_share=max(first.outside_share, second.outside_share),
    )


def _verdicts(
    bundle: Bundle, info: dict[str, Any], files: Mapping[str, bytes], encoded: Sequence[Encoded]
) -> list[tuple[str, Verdict]]:
    """Return the verdicts on fp32, which computes as the adaptation did, and bf16 where the base allowed it."""
    found = [("fp32", Verdict(allowed=True, reason="computes as it was adapted"))]
    if not bundle.allows("bf16"):
        return found
    if len(encoded) < MIN_CHECKED:
        why = f"not checked: {len(encoded)} labels, expected at least {MIN_CHECKED}"
        return [*found, ("bf16", Verdict(allowed=False, reason=why))]
    try:
        from scorer.engines.openvino import OpenVinoEngine

        with tempfile.TemporaryDirectory() as folder:
            trial = write_bundle(Path(folder) / "trial", info, files)
            reference = Scorer(trial, OnnxRuntimeEngine(trial)).run(encoded)
            engine = OpenVinoEngine(trial, precision="bf16")
            scores = Scorer(trial, engine).run(encoded)
        verdict = judge_precision(reference, scores, trial.info.cuts, _MAX_FLIPS)
        verdict = replace(verdict, **place_of(engine))
    except EngineError as error:
        verdict = Verdict(allowed=False, reason=f"not checked: {error}")
    return [*found, ("bf16", verdict)]


def _card(bundle: Bundle, name: str, labelled: LabelledSet, change: Change) -> str:
    before = dict(agreement_rows(change.before))
    rows = "\n".join(
        f"| {title} | {before.get(title, '-')} | {value} |" for title, value in agreement_rows(change.measured)
    )
    own = bundle.files.get("README.md", b"It has no card.\n").decode(errors="replace")
    return f"""# {name}: {bundle.info.name}, adapted

Adapted from the scorer **{bundle.info.name}** (SHA-256 {bundle.sha256}) with {len(labelled)} labels of
{len(set(labelled.conversations))} conversations ({change.source}). Changed: {change.how}.

- **Licence**: {bundle.info.licence}, as the scorer that it was adapted from.
- **Use**: on dialogues like those labels. Scores and cuts repeat that judge's taste and mistakes.

## Agreement with the judge

Before: the scorer as it was, with its own cuts. After: {change.measured["how"]}.

| figure | before | after |
|---|---|---|
{rows}

## The scorer that it was adapted from

{own}"""
