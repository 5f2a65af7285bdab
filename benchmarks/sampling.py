"""How agreement grows with the number of labels per sampling strategy, and how many labels ``uncertain`` saves.

    python -m benchmarks.sampling LABELS... --backbone ENCODER --work DIR [--seeds 0,1] [--json F] [--chart F]

LABELS act as the judge: a label is used only after it is bought. Every scorer is trained only on the labels bought so
far, and measured on a quarter of the conversations, which no strategy may buy. ``stratified`` and ``uncertain`` need
scores: their first labels are ``random``'s, and each round chooses by the scorer of the round before. DIR keeps each
point, so the same command continues a killed run; figures, tables and chart show the points that exist.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from sklearn.linear_model import RidgeCV

from benchmarks.about import check_same, machine, versions
from benchmarks.sampling_figures import FIGURES, SIZES, draw, print_tables, saved
from distill.labelled import LabelledSet, read_labelled
from distill.sampling.embeddings import embed_dialogues
from distill.sampling.strategies import choose_rows
from distill.settings import STRATEGIES, SampleSettings
from distill.training.calibrate import cross_calibrate, cross_levels, cut_table
from distill.training.fits import identify
from distill.training.network import has_bf16, load_backbone, predict
from distill.training.settings import TrainSettings
from distill.training.trainer import TrainingRows, fine_tune
from scorer.outputs import replacing, replacing_binary
from selection.folds import folds_of
from selection.metrics import Pair, all_figures

_BY_SCORES = ("stratified", "uncertain")
_PASSES = 4000
_PARTS = 4  # one of them is measured on, the others are the pool to buy from

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Learner = Callable[[Rows, Rows, int], Matrix]
"""(Labelled rows, M rows to score, seed) -> scores (M, 2), not calibrated."""


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """What all points share; ``diverse`` chooses by ``embeddings``."""

    labelled: LabelledSet
    learner: Learner
    embeddings: Matrix
    sizes: Sequence[int]
    work: Path


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """The rows that were bought, in the order of choice, and scores (N, 2) of the scorer that learnt from them.

    Scores of the pool are NaN if no strategy chooses by them.
    """

    chosen: Rows
    raw: Matrix


@click.command()
@click.argument("labels", nargs=-1, required=True)
@click.option("--backbone", required=True, help="The encoder that is trained, and whose embeddings `diverse` spreads.")
@click.option(
    "--learner",
    type=click.Choice(["fine-tuned", "ridge"]),
    default="fine-tuned",
    show_default=True,
    help="Fine-tune the encoder, or fit a ridge to its embeddings (weaker, and far faster).",
)
@click.option("--strategies", default=",".join(STRATEGIES), show_default=True)
@click.option("--sizes", default=",".join(map(str, SIZES)), show_default=True)
@click.option("--seeds", default="0,1", show_default=True, help="Seeds of split, sample and training.")
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Keeps each point.")
@click.option("--json", "json_path", type=click.Path(path_type=Path))
@click.option("--chart", type=click.Path(path_type=Path))
@click.option("--report-only", is_flag=True, help="Train nothing: show the points that exist.")
def main(
    labels: tuple[str, ...],
    backbone: str,
    learner: str,
    strategies: str,
    sizes: str,
    seeds: str,
    work: Path,
    json_path: Path | None,
    chart: Path | None,
    *,
    report_only: bool,
) -> None:
    """Buy labels in rounds by each strategy, train on them, and print what each scorer reaches."""
    labelled = read_labelled(labels)
    # At 2e-4, MiniLM's default, 2,000 labels taught less sensibility than 1,000, by any strategy.
    settings = TrainSettings(backbone=backbone, batch_size=16, learning_rate=1e-4)
    work = work / learner
    work.mkdir(parents=True, exist_ok=True)
    check_same(work, {"learner": learner, **asdict(identify(labelled, settings, load_backbone(backbone), (), ()))})
    embeddings = kept(work / "embeddings.npy", lambda: embed_dialogues(labelled.dialogues, backbone))
    learn = ridge(labelled, embeddings) if learner == "ridge" else fine_tuned(labelled, settings)
    bench = Bench(labelled, learn, embeddings, tuple(map(int, sizes.split(","))), work)
    rows: list[dict[str, Any]] = []
    for seed, size, strategy in product(map(int, seeds.split(",")), bench.sizes, strategies.split(",")):
        if path_of(bench, strategy, seed, size).exists() or not report_only:
            found = figures_of(bench, point(bench, strategy, seed, size), seed)
            rows.append({"strategy": strategy, "seed": seed, "labels": size, **found})
    print_tables(rows, bench.sizes)
    if json_path:
        results = {
            "machine": machine() | {"bf16": has_bf16()},
            "versions": versions("torch", "transformers", "scikit-learn"),
            "learner": learner,
            "settings": asdict(settings),
            "rows": rows,
            "saved": {figure: saved(rows, figure) for figure in FIGURES},
        }
        with replacing(json_path) as file:
            file.write(json.dumps(results, indent=1) + "\n")
    if chart:
        with replacing_binary(chart) as picture:
            draw(rows).save(picture, format="png", scale_factor=2)


def fine_tuned(labelled: LabelledSet, settings: TrainSettings) -> Learner:
    """Return a learner that fine-tunes the encoder: 3 to 8 passes, fewer over more labels."""
    backbone = load_backbone(settings.backbone)
    encoded = backbone.encoder(settings.max_length).encode(labelled.dialogues)

    def learn(rows: Rows, wanted: Rows, seed: int) -> Matrix:
        examples = TrainingRows([encoded[row] for row in rows], labelled.scores[rows], labelled.weights[rows])
        mine = replace(settings, seed=seed, epochs=int(np.clip(round(_PASSES / len(rows)), 3, 8)))
        with tempfile.TemporaryDirectory() as folder:
            model = fine_tune(backbone, examples, None, mine, Path(folder))
        return np.asarray(predict(model, [encoded[row] for row in wanted], bf16=has_bf16()))

    return learn


def ridge(labelled: LabelledSet, embeddings: Matrix) -> Learner:
    """Return a learner that does not train the encoder."""

    def learn(rows: Rows, wanted: Rows, seed: int) -> Matrix:
        del seed  # nothing here is random
        model = RidgeCV(alphas=np.logspace(-3, 3, 13)).fit(embeddings[rows], labelled.scores[rows])
        return np.asarray(model.predict(embeddings[wanted]), dtype=np.float32)

    return learn


def held_out(bench: Bench, seed: int) -> npt.NDArray[np.bool_]:
    """Return which rows are measured on and never bought, (N,)."""
    return np.asarray(folds_of(bench.labelled.conversations, _PARTS, seed) == 0)


def path_of(bench: Bench, strategy: str, seed: int, size: int) -> Path:
    """Return the file of a point; the first point of a strategy that chooses by scores is ``random``'s."""
    name = "random" if strategy in _BY_SCORES and size == bench.sizes[0] else strategy
    return bench.work / f"{name}-{seed}-{size}.npz"


def point(bench: Bench, strategy: str, seed: int, size: int) -> Point:
    """Return a point, from the work folder or computed now."""
    path = path_of(bench, strategy, seed, size)
    if not path.exists():
        started = time.monotonic()
        chosen = buy(bench, strategy, seed, size)
        chooses = size == bench.sizes[0] or strategy in _BY_SCORES
        wanted = np.flatnonzero(held_out(bench, seed) | chooses)
        raw = np.full(bench.labelled.scores.shape, np.nan, dtype=np.float32)
        raw[wanted] = bench.learner(chosen, wanted, seed)
        with replacing_binary(path) as file:
            np.savez(file, chosen=chosen, raw=raw)
        print(f"{strategy}, seed {seed}, {size} labels: {time.monotonic() - started:.0f} s", flush=True)
    with np.load(path) as arrays:
        return Point(arrays["chosen"], arrays["raw"])


def buy(bench: Bench, strategy: str, seed: int, size: int) -> Rows:
    """Return the rows of the round before and those that are bought in this one."""
    rows = np.flatnonzero(~held_out(bench, seed))
    dialogues = [bench.labelled.dialogues[row] for row in rows]
    before = [other for other in bench.sizes if other < size]
    if not before:
        first = "random" if strategy in _BY_SCORES else strategy
        settings = SampleSettings(strategy=first, seed=seed)
        return rows[choose_rows(dialogues, size, settings, embeddings=bench.embeddings[rows])]
    last = point(bench, strategy, seed, before[-1])
    scores, cuts = (last.raw[rows], pool_cuts(bench, last, rows)) if strategy in _BY_SCORES else (None, None)
    new = choose_rows(
        dialogues,
        size - len(last.chosen),
        SampleSettings(strategy=strategy, seed=seed),
        scores=scores,
        cuts=cuts,
        embeddings=bench.embeddings[rows],
        taken={bench.labelled.dialogues[row].id for row in last.chosen},
    )
    return np.concatenate([last.chosen, rows[new]])


def pool_cuts(bench: Bench, last: Point, rows: Rows) -> dict[str, list[float]]:
    """Return a scorer's cuts from bought labels and from its scores of the pool.

    Labels that were chosen by scores do not resemble the pool, so only the first round's, which are random, are used:
    the share of the pool's scores beyond each cut equals the share of those labels.
    """
    labels = bench.labelled.scores[last.chosen[: bench.sizes[0]]]
    shares = (np.arange(len(labels)) + 0.5) / len(labels)
    return cut_table(np.quantile(last.raw[rows], shares, axis=0), labels)


def figures_of(bench: Bench, found: Point, seed: int) -> dict[str, float]:
    """Return the figures on the held-out quarter, calibrated and cut on one half, measured on the other."""
    test = held_out(bench, seed)
    half = folds_of((f"half:{name}" for name in bench.labelled.conversations), 2, seed)[test]
    truth = bench.labelled.scores[test]
    scores = cross_calibrate(found.raw[test], truth, half)
    figures = all_figures(Pair.of(truth, scores, cross_levels(scores, truth, half)))
    return {name: figures[key] for name, key in FIGURES.items()}


def kept(path: Path, make: Callable[[], Matrix]) -> Matrix:
    """Return the array in a file; compute it if the file does not exist."""
    if not path.exists():
        array = make()
        with replacing_binary(path) as file:
            np.save(file, array)
    found: Matrix = np.load(path)
    return found


if __name__ == "__main__":
    main()
