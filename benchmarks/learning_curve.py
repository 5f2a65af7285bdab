"""How agreement grows with the number of labels, so that a labelling budget can be planned.

    python -m benchmarks.learning_curve LABELS... --backbone ENCODER [--json out.json]

Whole conversations are added until there are enough labels. Every scorer is measured on the same held-out third of the
conversations, which no training used. Cuts come from half of that third and are measured on the other half.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from distill.labelled import read_labelled
from distill.training.calibrate import cross_calibrate, cross_levels
from distill.training.network import load_backbone, predict
from distill.training.settings import TrainSettings
from distill.training.trainer import TrainingRows, fine_tune
from selection.folds import folds_of
from selection.metrics import Pair, all_figures

SIZES = (250, 500, 1000, 2000, 4000)
_SHOWN = ("sensibility.pearson", "rationality.pearson", "sensibility.mae", "rationality.mae", "paper.kappa")
_PASSES = 3 * 2000


@click.command()
@click.argument("labels", nargs=-1, required=True)
@click.option("--backbone", required=True)
@click.option("--sizes", default=",".join(map(str, SIZES)), show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path))
def main(labels: tuple[str, ...], backbone: str, sizes: str, seed: int, json_path: Path | None) -> None:
    """Train on more and more labels and print what each scorer reaches."""
    labelled = read_labelled(labels)
    found = load_backbone(backbone)
    settings = TrainSettings(backbone=backbone, seed=seed)
    encoded = found.encoder(settings.max_length).encode(labelled.dialogues)
    test = folds_of(labelled.conversations, 3, seed) == 0
    half = folds_of((f"half:{conversation}" for conversation in labelled.conversations), 2, seed)[test]
    # A conversation's place in the queue is a hash: the smaller sets are parts of the larger ones.
    place = folds_of((f"queue:{conversation}" for conversation in labelled.conversations), 1 << 40, seed)
    queue = [row for row in np.argsort(place, kind="stable") if not test[row]]
    rows = {}
    print("| labels | r S | r R | MAE S | MAE R | kappa |\n|---|---|---|---|---|---|")
    for size in [*(n for n in map(int, sizes.split(",")) if n < len(queue)), len(queue)]:
        chosen = queue[:size]
        examples = TrainingRows([encoded[i] for i in chosen], labelled.scores[chosen], labelled.weights[chosen])
        # Few labels need more passes: about as many steps as for two thousand labels, at most ten passes.
        epochs = int(np.clip(round(_PASSES / size), 3, 10))
        with tempfile.TemporaryDirectory() as folder:
            model = fine_tune(found, examples, None, replace(settings, epochs=epochs), Path(folder))
        raw = predict(model, [encoded[i] for i in np.flatnonzero(test)])
        truth = labelled.scores[test]
        scores = cross_calibrate(raw, truth, half)
        figures = all_figures(Pair.of(truth, scores, cross_levels(scores, truth, half)))
        rows[size] = {name: figures[name] for name in _SHOWN}
        print(f"| {size} |", " | ".join(f"{value:.3f}" for value in rows[size].values()), "|", flush=True)
    if json_path:
        json_path.write_text(json.dumps({"test": int(test.sum()), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
