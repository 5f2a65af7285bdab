"""How agreement grows with the number of labels for each way to choose them, and what ``uncertain`` saves.

    python -m benchmarks.sampling LABELS... --backbone ENCODER --work DIR [--seeds 0,1] [--json F] [--chart F]

LABELS are the judge: a label is read only once it is bought. Every scorer is trained on nothing but the labels bought
so far, and read on a quarter of the conversations that none of them may buy. ``stratified`` and ``uncertain`` need
scores: their first labels are ``random``'s, and each round chooses by the scorer of the round before. DIR keeps each
point, so a run that was killed goes on; figures, tables and chart are made of what is there.
"""

from __future__ import annotations

import json
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import altair as alt
import click
import numpy as np
import numpy.typing as npt
from sklearn.linear_model import RidgeCV

from distill.labelled import LabelledSet, read_labelled
from distill.sampling.strategies import STRATEGIES, choose, embed
from distill.training.calibrate import cross_calibrate, cut_table
from distill.training.measure import cross_levels
from distill.training.network import has_bf16, load_backbone, predict
from distill.training.settings import TrainSettings
from distill.training.trainer import Examples, fit
from distill.training.work_folder import identity
from scorer.engines.base import available_cores
from scorer.outputs import replacing, replacing_binary
from selection.folds import folds_of
from selection.metrics import Pair, all_figures

SIZES = (250, 500, 1000, 2000, 4000)
FIGURES = {
    "r S": "sensibility.pearson",
    "r R": "rationality.pearson",
    "kappa": "paper.kappa",
    "F1": "paper.f1.sensibility",
}
_BY_SCORES = ("stratified", "uncertain")
_PASSES = 4000
_PARTS = 4  # one of them is read, the others are bought from

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Learner = Callable[[Rows, Rows, int], Matrix]
"""(Rows that are labelled, M rows to score, seed) -> scores (M, 2), not calibrated."""


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """What all points share; ``embeddings`` are those by which ``diverse`` chooses."""

    labelled: LabelledSet
    learner: Learner
    embeddings: Matrix
    sizes: Sequence[int]
    work: Path


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """The rows that were bought, in the order of choice, and scores (N, 2) by what learnt from them.

    Scores of what may be bought are NaN where no strategy chooses by them.
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
    help="Fine-tune the encoder, or fit a ridge to its embeddings: weaker, and far quicker.",
)
@click.option("--strategies", default=",".join(STRATEGIES), show_default=True)
@click.option("--sizes", default=",".join(map(str, SIZES)), show_default=True)
@click.option("--seeds", default="0,1", show_default=True, help="Of split, sample and training alike.")
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Keeps each point.")
@click.option("--json", "json_path", type=click.Path(path_type=Path))
@click.option("--chart", type=click.Path(path_type=Path))
@click.option("--report-only", is_flag=True, help="Train nothing: make the table of the points that are there.")
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
    check_same(work, {"learner": learner, **identity(labelled, settings, (), ())})
    embeddings = kept(work / "embeddings.npy", lambda: embed(labelled.dialogues, backbone))
    learn = ridge(labelled, embeddings) if learner == "ridge" else fine_tuned(labelled, settings)
    bench = Bench(labelled, learn, embeddings, tuple(map(int, sizes.split(","))), work)
    rows: list[dict[str, Any]] = []
    for seed, size, strategy in product(map(int, seeds.split(",")), bench.sizes, strategies.split(",")):
        if path_of(bench, strategy, seed, size).exists() or not report_only:
            found = figures_of(bench, point(bench, strategy, seed, size), seed)
            rows.append({"strategy": strategy, "seed": seed, "labels": size, **found})
    report(rows, bench, {"learner": learner, "settings": asdict(settings)}, json_path, chart)


def fine_tuned(labelled: LabelledSet, settings: TrainSettings) -> Learner:
    """Return a learner that fine-tunes the encoder: 3 to 8 passes, fewer over more labels."""
    backbone = load_backbone(settings.backbone)
    encoded = backbone.encoder(settings.max_length).encode(labelled.dialogues)

    def learn(rows: Rows, wanted: Rows, seed: int) -> Matrix:
        examples = Examples([encoded[row] for row in rows], labelled.scores[rows], labelled.weights[rows])
        mine = replace(settings, seed=seed, epochs=int(np.clip(round(_PASSES / len(rows)), 3, 8)))
        with tempfile.TemporaryDirectory() as folder:
            model = fit(backbone, examples, None, mine, Path(folder))
        return np.asarray(predict(model, [encoded[row] for row in wanted], bf16=has_bf16()))

    return learn


def ridge(labelled: LabelledSet, embeddings: Matrix) -> Learner:
    """Return a learner that leaves the encoder as it is."""

    def learn(rows: Rows, wanted: Rows, seed: int) -> Matrix:
        del seed  # nothing here is drawn
        model = RidgeCV(alphas=np.logspace(-3, 3, 13)).fit(embeddings[rows], labelled.scores[rows])
        return np.asarray(model.predict(embeddings[wanted]), dtype=np.float32)

    return learn


def held_out(bench: Bench, seed: int) -> npt.NDArray[np.bool_]:
    """Return the rows that are read and never bought, (N,)."""
    return np.asarray(folds_of(bench.labelled.conversations, _PARTS, seed) == 0)


def path_of(bench: Bench, strategy: str, seed: int, size: int) -> Path:
    """Return where a point is kept; the first of a strategy that chooses by scores is that of ``random``."""
    name = "random" if strategy in _BY_SCORES and size == bench.sizes[0] else strategy
    return bench.work / f"{name}-{seed}-{size}.npz"


def point(bench: Bench, strategy: str, seed: int, size: int) -> Point:
    """Return a point, from the work folder or made now."""
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
        return rows[choose(dialogues, size, first, seed=seed, embeddings=bench.embeddings[rows])]
    last = point(bench, strategy, seed, before[-1])
    scores, cuts = (last.raw[rows], pool_cuts(bench, last, rows)) if strategy in _BY_SCORES else (None, None)
    new = choose(
        dialogues,
        size - len(last.chosen),
        strategy,
        seed=seed,
        scores=scores,
        cuts=cuts,
        embeddings=bench.embeddings[rows],
        taken={bench.labelled.dialogues[row].id for row in last.chosen},
    )
    return np.concatenate([last.chosen, rows[new]])


def pool_cuts(bench: Bench, last: Point, rows: Rows) -> dict[str, list[float]]:
    """Return a scorer's cuts from bought labels and from its scores of what may be bought.

    Labels that were chosen by scores are not like the pool, so the first round's count, which are random: the cuts
    beyond which as large a share of the pool's scores lies as of those labels.
    """
    labels = bench.labelled.scores[last.chosen[: bench.sizes[0]]]
    shares = (np.arange(len(labels)) + 0.5) / len(labels)
    return cut_table(np.quantile(last.raw[rows], shares, axis=0), labels)


def figures_of(bench: Bench, found: Point, seed: int) -> dict[str, float]:
    """Return the figures on the held-out quarter, calibrated and cut on one half of it and read on the other."""
    test = held_out(bench, seed)
    half = folds_of((f"half:{name}" for name in bench.labelled.conversations), 2, seed)[test]
    truth = bench.labelled.scores[test]
    scores = cross_calibrate(found.raw[test], truth, half)
    figures = all_figures(Pair.of(truth, scores, cross_levels(scores, truth, half)))
    return {name: figures[key] for name, key in FIGURES.items()}


def saved(rows: Sequence[dict[str, Any]], figure: str) -> dict[int, str]:
    """Return for each number of labels of ``uncertain`` how many fewer they are than ``random`` wants for its figure.

    Read off the means over the seeds, between random's points in the logarithm of the labels. Below its first point,
    above its last, or where it falls before it rises, there is no single answer, and a bound is given.
    """
    sizes, random = curve(rows, "random", figure)
    answers = {}
    for size, value in zip(*curve(rows, "uncertain", figure), strict=True):
        rising = np.maximum.accumulate(random)
        if size == sizes[0]:
            continue
        if value > rising[-1]:
            answers[int(size)] = f"> {sizes[-1] - size:+.0f}"
        elif value < rising[0]:
            answers[int(size)] = f"< {sizes[0] - size:+.0f}"
        else:
            answers[int(size)] = f"{np.exp(np.interp(value, rising, np.log(sizes))) - size:+.0f}"
    return answers


def curve(rows: Sequence[dict[str, Any]], strategy: str, figure: str) -> tuple[Matrix, Matrix]:
    """Return the sizes and the means over the seeds of one strategy's figure, of the sizes that all seeds have."""
    seeds = {row["seed"] for row in rows if row["strategy"] == strategy}
    by_size: dict[int, list[float]] = {}
    for row in rows:
        if row["strategy"] == strategy:
            by_size.setdefault(row["labels"], []).append(row[figure])
    sizes = sorted(size for size, values in by_size.items() if len(values) == len(seeds))
    return np.array(sizes), np.array([np.mean(by_size[size]) for size in sizes])


def report(
    rows: Sequence[dict[str, Any]], bench: Bench, about: dict[str, Any], json_path: Path | None, chart: Path | None
) -> None:
    """Print the tables, and write the figures and the chart where they are wanted."""
    print(f"| strategy | labels | {' | '.join(FIGURES)} | seeds |\n|---|---|{'---|' * len(FIGURES)}---|")
    for strategy in dict.fromkeys(row["strategy"] for row in rows):
        for size in bench.sizes:
            mine = {row["seed"]: row for row in rows if (row["strategy"], row["labels"]) == (strategy, size)}
            base = {row["seed"]: row for row in rows if (row["strategy"], row["labels"]) == ("random", size)}
            if mine:
                cells = (cell(mine, {} if strategy == "random" else base, figure) for figure in FIGURES)
                print(f"| {strategy} | {size:,} |", " | ".join(cells), f"| {len(mine)} |")
    savings = {figure: saved(rows, figure) for figure in FIGURES}
    print("\nLabels that `uncertain` saves against `random`:\n")
    print(f"| labels | {' | '.join(FIGURES)} |\n|---|{'---|' * len(FIGURES)}")
    for size in bench.sizes[1:]:
        print(f"| {size:,} |", " | ".join(savings[figure].get(size, "-") for figure in FIGURES), "|")
    if json_path:
        machine = {
            "processor": platform.processor() or platform.machine(),
            "cores": available_cores(),
            "bf16": has_bf16(),
        }
        versions = {name: version(name) for name in ("empathy-scorer", "torch", "transformers", "scikit-learn")}
        found = {"machine": machine, "versions": versions, **about, "rows": rows, "saved": savings}
        with replacing(json_path) as file:
            file.write(json.dumps(found, indent=1) + "\n")
    if chart:
        with replacing_binary(chart) as picture:
            draw(rows).save(picture, format="png", scale_factor=2)


def cell(mine: dict[int, dict[str, Any]], base: dict[int, dict[str, Any]], figure: str) -> str:
    """Return a mean over seeds and, where both have them, the mean difference from random and its standard error."""
    value = f"{np.mean([row[figure] for row in mine.values()]):.3f}"
    differences = [mine[seed][figure] - base[seed][figure] for seed in mine if seed in base]
    if not any(differences):
        return value
    error = f" ± {np.std(differences, ddof=1) / np.sqrt(len(differences)):.3f}" if len(differences) > 1 else ""
    return f"{value} ({np.mean(differences):+.3f}{error})"


def draw(rows: Sequence[dict[str, Any]]) -> Any:
    """Return a panel a figure: the mean over the seeds against the number of labels, a line a strategy."""
    long = [{**row, "figure": name, "value": row[name]} for row in rows for name in FIGURES]
    return (
        alt.Chart(alt.Data(values=long))
        .mark_line(point=True)
        .encode(
            x=alt.X("labels:Q", scale=alt.Scale(type="log", nice=False), axis=alt.Axis(values=list(SIZES), format=",")),
            y=alt.Y("mean(value):Q", title=None, scale=alt.Scale(zero=False)),
            color=alt.Color("strategy:N", sort=list(STRATEGIES)),
        )
        .properties(width=280, height=240)
        .facet(alt.Facet("figure:N", sort=list(FIGURES), title=None), columns=2)
        .resolve_scale(y="independent")
    )


def kept(path: Path, make: Callable[[], Matrix]) -> Matrix:
    """Return the array in a file, made now if it is not there."""
    if not path.exists():
        array = make()
        with replacing_binary(path) as file:
            np.save(file, array)
    found: Matrix = np.load(path)
    return found


def check_same(work: Path, mine: dict[str, Any]) -> None:
    """Refuse a work folder whose points are of other labels or settings."""
    path = work / "run.json"
    if not path.exists():
        with replacing(path) as file:
            file.write(json.dumps(mine, indent=1) + "\n")
    if json.loads(path.read_text()) != mine:
        raise click.ClickException(f"{work}: holds points of other labels or settings; name another --work")


if __name__ == "__main__":
    main()
