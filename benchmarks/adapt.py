"""What some labels of a moved judge make of a scorer: the kept share, before and after, on all other dialogues.

    python -m benchmarks.adapt FOLDER [--scorer BUNDLE] [--labels 200] [--seeds 20] [--json OUT]

The judge is the published one, moved in several ways. Of the starter it flatters the agreement, since the starter was
trained on the published labels; of the kept share it says little more than that. The last columns are what the labels
alone would say: the kept share among them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from distill.auditing.adapt import adapt_outputs
from distill.auditing.last_layer import find_last_layer, raw_and_embedding, read_model
from distill.labelled import read_labelled
from distill.training.calibrate import few_label_cuts
from scorer.arrays import Floats
from scorer.bundle.bundle import load_bundle
from scorer.bundle.cuts import Cuts
from scorer.bundle.encode import Encoder
from selection.rules import PAPER

MOVES: dict[str, Callable[[Floats], Floats]] = {
    "as published": lambda said: said,
    "two points less sensibility": lambda said: said - [2, 0],
    "one less sensibility, one more rationality": lambda said: said - [1, -1],
    "only from 2 to 8": lambda said: 5 + 0.6 * (said - 5),
    "the two exchanged": lambda said: said[:, ::-1],
}


def kept(scores: Floats, cuts: Cuts | None = None) -> float:
    """Return the share of the sensibility set."""
    return float(((PAPER.apply(scores) if cuts is None else PAPER.apply(scores, cuts)) == 0).mean())


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scorer", type=Path)
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    labelled = read_labelled([str(given.folder / "val_results.json")])
    bundle = load_bundle(given.scorer)
    model = read_model(bundle)
    layer = find_last_layer(model.graph)
    encoded = Encoder(bundle.tokenizer, bundle.info.max_length).encode(labelled.dialogues)
    raw, embedding = raw_and_embedding(bundle, model, layer, encoded)
    assert layer is not None
    assert embedding is not None
    conversations = np.array(labelled.conversations)
    found: dict[str, Any] = {}
    for name, move in MOVES.items():
        judge = np.round(move(labelled.scores.astype(float))).clip(0, 10)
        rows: list[dict[str, float]] = []
        for seed in range(given.seeds):
            order = np.random.default_rng(seed).permutation(len(judge))
            few, rest = order[: given.labels], order[given.labels :]
            made = adapt_outputs(raw[few], embedding[few], judge[few], conversations[few].tolist())
            weight, bias = made.layer(layer.weight, layer.bias)
            scores = (embedding[rest] @ weight.T + bias).clip(0, 10)
            truth = kept(judge[rest])
            rows.append(
                {
                    "judge": truth,
                    "before": kept(raw[rest].clip(0, 10), bundle.info.cuts) - truth,
                    "after": kept(scores, few_label_cuts(made.shipped, judge[few])) - truth,
                    "labels": kept(judge[few]) - truth,
                    "ridges": sum(ridge is not None for ridge in made.ridges),
                    "error_before": float(np.abs(raw[rest].clip(0, 10) - judge[rest]).mean()),
                    "error_after": float(np.abs(scores - judge[rest]).mean()),
                }
            )
        found[name] = summary(rows)
        print(name, json.dumps(found[name]), flush=True)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


def summary(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return means over seeds; of the kept share's errors also those without their sign, in points."""
    found = {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]}
    for name in ("before", "after", "labels"):
        off = np.abs([row[name] for row in rows])
        found[f"{name}_off"] = round(float(off.mean()), 4)
        found[f"{name}_within_2_points"] = round(float((off <= 0.02).mean()), 4)
    return found


if __name__ == "__main__":
    main()
