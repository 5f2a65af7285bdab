"""`empathy adapt`: a bundle recalibrated by some labels of one's own domain, without torch.

Per head a line is fitted from the scorer's outputs to the labels and, beside it, a ridge on the scorer's embedding that
predicts what the line leaves. The ridge is taken only where cross-validation by conversation proves it: its penalty is
chosen within the other folds, and the mean gain in squared error is above zero with 95 % confidence. Line and ridge are
then folded into the last linear layer. Cuts and uncertainty come from held-out scores, as in a training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distill.auditing.adapted_bundle import Change, write_adapted
from distill.auditing.last_layer import append_line, find_last_layer, raw_and_embedding, read_model, replace_last_layer
from distill.auditing.ridge import Ridge, fit_ridge
from distill.labelled import LabelledSet, check_trainable
from distill.training.calibrate import (
    Calibration,
    cross_calibrate,
    few_label_cuts,
    fit_calibration,
    fit_line,
    fit_uncertainty,
    measure,
    other_folds,
)
from scorer.arrays import Floats, Ints
from scorer.bundle.bundle import Bundle
from scorer.bundle.cuts import Cuts
from scorer.bundle.encode import Encoder
from scorer.dialogue import HEADS, SCORE_RANGE
from selection.folds import folds_of
from selection.metrics import Pair, all_figures
from selection.rules import to_levels

FOLDS = 5
_PROOF = 1.645
"""So many standard errors above zero the gain of a ridge must lie: 95 %, one-sided."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Adaptation:
    """What some labels make of a scorer's outputs.

    ``line`` and ``ridges`` (None where the line alone is kept) are per head; ``gain`` is the share of the line's
    squared error that the ridge saved in cross-validation, and how sure that is, in standard errors. ``held_out``
    (N, 2) are scores by lines and ridges of other folds, ``shipped`` those that cuts and uncertainty are from.
    """

    line: Calibration
    ridges: tuple[Ridge | None, ...]
    gain: tuple[tuple[float, float], ...]
    held_out: Floats
    shipped: Floats

    def layer(self, weight: Floats, bias: Floats) -> tuple[Floats, Floats]:
        """Return the weights (2, D) and bias (2,) of the adapted last layer."""
        slope, intercept = np.asarray(self.line.slope), np.asarray(self.line.intercept)
        weight, bias = weight * slope[:, None], bias * slope + intercept
        for i, ridge in enumerate(self.ridges):
            if ridge is not None:
                weight[i] += ridge.weight
                bias[i] += ridge.bias
        return weight, bias


def adapt_outputs(
    raw: Floats, embedding: Floats | None, labels: Floats, conversations: Sequence[str], seed: int = 0
) -> Adaptation:
    """Return what labels (N, 2) make of outputs (N, 2) and embeddings (N, D), None where there are none."""
    folds = folds_of(conversations, FOLDS, seed)
    line = fit_calibration(raw, labels)
    held_out = cross_calibrate(raw, labels, folds).astype(np.float64)
    shipped = line.apply(raw).astype(np.float64)
    ridges: list[Ridge | None] = [None] * len(HEADS)
    gain = [(0.0, 0.0)] * len(HEADS)
    for i in range(len(HEADS)) if embedding is not None else ():
        assert embedding is not None
        tried = _cross_ridge(raw[:, i], embedding, labels[:, i], folds)
        gain[i] = _gain(labels[:, i], held_out[:, i], tried, conversations)
        if gain[i][1] > _PROOF:
            rest = labels[:, i] - (raw[:, i] * line.slope[i] + line.intercept[i])
            ridges[i] = fit_ridge(embedding, rest, folds)
            held_out[:, i] = shipped[:, i] = tried
    return Adaptation(line=line, ridges=tuple(ridges), gain=tuple(gain), held_out=held_out, shipped=shipped)


def _cross_ridge(raw: Floats, embedding: Floats, labels: Floats, folds: Ints) -> Floats:
    """Return scores (N,) by line and ridge, each fold's from the others alone, the penalty too."""
    scores = np.zeros(len(raw))
    for others, fold in other_folds(folds):
        slope, intercept = fit_line(raw[others], labels[others])
        straight = raw * slope + intercept
        ridge = fit_ridge(embedding[others], (labels - straight)[others], folds[others])
        scores[fold] = straight[fold] + (0.0 if ridge is None else ridge.of(embedding[fold]))
    return scores.clip(*SCORE_RANGE)


def _gain(labels: Floats, line: Floats, ridge: Floats, conversations: Sequence[str]) -> tuple[float, float]:
    """Return the share of squared error saved, and that in its standard errors, conversations taken whole."""
    before, after = (labels - line) ** 2, (labels - ridge) ** 2
    _, place = np.unique(conversations, return_inverse=True)
    saved = np.bincount(place, weights=before - after)  # (conversations,)
    error = float(saved.std()) / len(saved) ** 0.5
    return float(saved.sum() / max(before.sum(), 1e-12)), float(saved.mean()) / error if error > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """An adapted bundle, and figures before (as the scorer was) and after (held out), by name."""

    bundle: Bundle
    before: Mapping[str, float]
    after: Mapping[str, Any]
    ridge: tuple[str, ...]
    gain: Mapping[str, tuple[float, float]]
    notes: tuple[str, ...]


def adapt_bundle(bundle: Bundle, labelled: LabelledSet, source: str, output: Path, *, seed: int = 0) -> Adapted:
    """Write ``bundle`` adapted to labels, named by ``source``; TrainError where they are too few."""
    check_trainable(labelled, FOLDS)
    encoded = Encoder(bundle.tokenizer, bundle.info.max_length).encode(labelled.dialogues)
    model = read_model(bundle)
    layer = find_last_layer(model.graph)
    raw, embedding = raw_and_embedding(bundle, model, layer, encoded)
    labels = labelled.scores.astype(np.float64)
    folds = folds_of(labelled.conversations, FOLDS, seed)
    found = adapt_outputs(raw, embedding, labels, labelled.conversations, seed)
    if layer is None:
        data = append_line(model, np.asarray(found.line.slope), np.asarray(found.line.intercept))
    else:
        data = replace_last_layer(model, layer, *found.layer(layer.weight, layer.bias))
    ridged = tuple(head for head, ridge in zip(HEADS, found.ridges, strict=True) if ridge is not None)
    measured = measure(found.held_out.astype(np.float32), labels, folds, few_label_cuts)
    change = Change(
        source=source,
        how="line and cuts" + (f", a ridge on the embedding for {' and '.join(ridged)}" if ridged else ""),
        cuts=few_label_cuts(found.shipped, labels),
        uncertainty=fit_uncertainty(found.shipped, labels),
        measured={"how": f"{FOLDS}-fold cross-validation by conversation, {len(labels)} labels", **measured},
        before=_before(raw, labels, bundle.info.cuts),
        model=data,
        calibration=found.line,
    )
    written, notes = write_adapted(bundle, labelled, encoded, change, output)
    gain = dict(zip(HEADS, found.gain, strict=True))
    if layer is None:
        notes = (*notes, "the graph does not end in a linear layer, so no ridge on its embedding was tried")
    return Adapted(bundle=written, before=change.before, after=measured, ridge=ridged, gain=gain, notes=notes)


def recut_bundle(bundle: Bundle, labelled: LabelledSet, scores: Floats, source: str, output: Path) -> Adapted:
    """Write ``bundle`` with cuts and uncertainty from labels of dialogues and its ``scores`` (N, 2) of them alone."""
    labels = labelled.scores.astype(np.float64)
    folds = folds_of(labelled.conversations, FOLDS, 0)
    measured = measure(scores.astype(np.float32), labels, folds, few_label_cuts)
    change = Change(
        source=source,
        how="cuts and uncertainty",
        cuts=few_label_cuts(scores, labels),
        uncertainty=fit_uncertainty(scores, labels),
        measured={"how": f"scores as they were, cuts of {FOLDS} folds, {len(labels)} labels", **measured},
        before=_before(scores, labels, bundle.info.cuts),
    )
    encoded = Encoder(bundle.tokenizer, bundle.info.max_length).encode(labelled.dialogues)
    written, notes = write_adapted(bundle, labelled, encoded, change, output)
    nothing = dict.fromkeys(HEADS, (0.0, 0.0))
    return Adapted(bundle=written, before=change.before, after=measured, ridge=(), gain=nothing, notes=notes)


def _before(raw: Floats, labels: Floats, cuts: Cuts) -> dict[str, float]:
    scores = raw.clip(*SCORE_RANGE)
    figures = all_figures(Pair.of(labels, scores, to_levels(scores, cuts)))
    return {name: round(value, 4) for name, value in figures.items() if not np.isnan(value)}
