"""How well audits hold: simulated ones on published labels, with scores made out of fold.

    python -m benchmarks.audit FOLDER [--audits 500] [--json OUT]

The judge is the published one; the scorer is TF-IDF + ridge, cross-fitted by conversation. Its cuts are from all
labels, so its share of agreement flatters it a little; the intervals do not depend on that. The shifted judge has the
published judge's two scores exchanged.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from distill.auditing.audit import agrees, judge_intervals
from distill.auditing.sequential import decide_share
from distill.labelled import read_labelled
from distill.training.calibrate import balanced_cuts
from scorer.arrays import Floats
from scorer.dialogue import render
from selection.folds import folds_of
from selection.rules import PAPER

LABELS = 200


def out_of_fold(texts: list[str], labels: Floats, folds: Any) -> Floats:
    """Return TF-IDF + ridge scores (N, 2), each fold's from the other folds."""
    scores = np.zeros(labels.shape)
    for fold in np.unique(folds):
        others = folds != fold
        words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
        seen = words.fit_transform([text for text, use in zip(texts, others, strict=True) if use])
        model = Ridge(alpha=3.0).fit(seen, labels[others])
        scores[~others] = model.predict(words.transform([t for t, use in zip(texts, others, strict=True) if not use]))
    return scores.clip(0, 10)


def coverage(scores: Floats, cuts: Any, labels: Floats, audits: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return per figure how often the interval held the corpus' truth, and its width beside the labels' alone."""
    everything = np.arange(len(scores))
    truth = judge_intervals(scores, cuts, everything, labels, 5.0)
    held = dict.fromkeys(truth, 0)
    widths = {name: [0.0, 0.0] for name in truth}
    for _ in range(audits):
        rows = rng.permutation(len(scores))[:LABELS]
        powered, alone = (judge_intervals(scores, cuts, rows, labels[rows], 5.0, powered=use) for use in (True, False))
        for name in truth:
            held[name] += powered[name].holds(truth[name].estimate)
            widths[name][0] += powered[name].width / audits
            widths[name][1] += alone[name].width / audits
    return {
        name: {
            "truth": truth[name].estimate,
            "held": held[name] / audits,
            "width": widths[name][0],
            "narrower": 1 - widths[name][0] / widths[name][1],
        }
        for name in truth
    }


def peeking(same: Floats, limit: float, audits: int, most: int, rng: np.random.Generator) -> dict[str, float]:
    """Return how often each answer came when looking after every label."""
    answers = [decide_share(same[rng.permutation(len(same))[:most]], len(same), limit) for _ in range(audits)]
    return {name: answers.count(name) / audits for name in ("above", "below", "open")}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--audits", type=int, default=500)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    labelled = read_labelled([str(given.folder / "val_results.json")])
    labels = labelled.scores.astype(float)
    folds = folds_of(labelled.conversations, 3, 0)
    scores = out_of_fold([" ".join(render(dialogue)) for dialogue in labelled.dialogues], labels, folds)
    cuts = balanced_cuts(scores, labels)
    rng = np.random.default_rng(0)
    same = agrees(scores, labels, cuts, 5.0)
    shifted = np.clip(labels[:, ::-1], 0, 10)  # a judge that means the other thing by each word
    found: dict[str, Any] = {
        "dialogues": len(labels),
        "pearson": [float(np.corrcoef(scores[:, i], labels[:, i])[0, 1]) for i in range(2)],
        "accuracy": float(same.mean()),
        "intervals": coverage(scores, cuts, labels, given.audits, rng),
        # At a limit that is the truth itself, either answer is an error.
        "peeking_at_truth": peeking(same, float(same.mean()), given.audits, 2000, rng),
        "shifted_judge": peeking(agrees(scores, shifted, cuts, 5.0), 0.65, given.audits, 400, rng),
        "kept": float((PAPER.apply(labels) == 0).mean()),
    }
    print(json.dumps(found, indent=1))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
