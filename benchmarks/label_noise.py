"""What less noise in labels buys a student, per call: a judge whose noise is known, on real dialogues.

    python -m benchmarks.label_noise FOLDER [--json OUT]

FOLDER holds the published labels. The judge is simulated: of each dialogue it means the published score, put at random
somewhere in the interval that rounds to it, and its tokens have the probabilities of a normal distribution around that,
cut to 0 to 10. An even judge is just that, one has favourites (2, 3, 7 and 8 are seven times as likely), and of a
ragged one each number's logit is off by a normal error of 1, drawn once per dialogue. It is asked at temperature 0 (the
likeliest number), at temperature 1 (a number drawn, once or several times) or for its log-probabilities (the
expectation). The student is TF-IDF + ridge; its figure is Pearson's r with what the judge means on held-out
conversations, the mean of both heads and of some seeds. Beside it stand the label's own r, and how many calls at
temperature 1 reach the same as 1,000. Then several judges, each with errors of its own that no draw shows.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from benchmarks.about import machine, versions
from distill.labelled import read_labelled
from distill.panel.reliability import estimate_reliability
from scorer.arrays import Floats, Ints
from scorer.dialogue import render
from selection.folds import folds_of

CALLS = (250, 500, 1000, 2000, 4000)
WAYS = {"temperature 0": 1, "temperature 1": 1, "mean of 2 draws": 2, "mean of 4 draws": 4, "expectation": 1}
ERRORS = (0.8, 1.5, 3.0)
LEVELS = np.arange(11)
KINDS = ("even", "favourites", "ragged")
FAVOURITES = [2, 3, 7, 8]


class Corpus:
    """Texts as TF-IDF rows, what the judge means of each, and which rows are held out."""

    def __init__(self, folder: Path) -> None:
        """Read the published labels; a fifth of the conversations is held out."""
        labelled = read_labelled([str(folder / "val_results.json")])
        rng = np.random.default_rng(0)
        published = labelled.scores.astype(float)
        self.meant: Floats = np.clip(published + rng.uniform(-0.5, 0.5, published.shape), 0, 10)
        held = folds_of(labelled.conversations, 5, 0) == 0
        self.learn: Ints = np.flatnonzero(~held)
        self.check: Ints = np.flatnonzero(held)
        words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
        self.words = words.fit_transform([" ".join(render(dialogue)) for dialogue in labelled.dialogues])

    def reached(self, rows: Ints, labels: Floats) -> float:
        """Return the agreement of a student of these labels with what the judge means."""
        said = Ridge(alpha=3.0).fit(self.words[rows], labels).predict(self.words[self.check])
        return _r(said, self.meant[self.check])


def _r(a: Floats, b: Floats) -> float:
    """Return the mean of both heads' correlations."""
    return float(np.mean([np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(2)]))


def chances(meant: Floats, noise: float, kind: str) -> Floats:
    """Return the probability of each score, (N, 2, 11)."""
    raw = np.exp(-((LEVELS - meant[..., None]) ** 2) / (2 * noise**2))
    if kind == "favourites":
        raw[..., FAVOURITES] *= 7
    elif kind == "ragged":
        raw *= np.exp(np.random.default_rng(0).normal(0, 1, raw.shape))
    return np.asarray(raw / raw.sum(axis=-1, keepdims=True))


def labels(way: str, opinion: Floats, rng: np.random.Generator) -> Floats:
    """Return what one way of asking gives, (N, 2)."""
    if way == "temperature 0":
        return np.asarray(opinion.argmax(axis=-1), float)
    if way == "expectation":
        return np.asarray(opinion @ LEVELS)
    edges = opinion.cumsum(axis=-1)[..., None]
    drawn = (edges < rng.random((*opinion.shape[:2], 1, WAYS[way]))).sum(axis=-2)  # (N, 2, draws)
    return np.asarray(drawn.clip(0, 10).mean(axis=-1))


def ways(corpus: Corpus, noise: float, seeds: int, kind: str) -> dict[str, Any]:
    """Return the agreement by way of asking and number of calls, the labels' own, and the judge's with itself."""
    opinion = chances(corpus.meant, noise, kind)
    table: dict[str, dict[int, float]] = {way: {} for way in WAYS}
    for way, draws in WAYS.items():
        for calls in CALLS:
            found = []
            for seed in range(seeds):
                rng = np.random.default_rng(seed)
                rows = rng.permutation(corpus.learn)[: calls // draws]
                found.append(corpus.reached(rows, labels(way, opinion[rows], rng)))
            table[way][calls] = float(np.mean(found))
    rng = np.random.default_rng(0)
    given = {way: labels(way, opinion, rng) for way in WAYS}
    label = {way: _r(one, corpus.meant) for way, one in given.items()}
    twice = [labels("temperature 1", opinion, rng) for _ in range(2)]
    return {"itself": _r(*twice), "label": label, "agreement": table, "calls_for_the_same": _calls_for_the_same(table)}


def _calls_for_the_same(table: dict[str, dict[int, float]]) -> dict[str, float]:
    """Return how many calls at temperature 1 reach what each way reaches with 1,000, by interpolation of their logs."""
    known = table["temperature 1"]
    at, logs = np.array(list(known.values())), np.log(list(known))
    return {way: round(float(np.exp(np.interp(row[1000], at, logs)))) for way, row in table.items()}


def judges(corpus: Corpus, seeds: int, count: int = 1000) -> dict[str, float]:
    """Return the agreement from three judges on ``count`` dialogues, and from one on three times as many."""
    found: dict[str, list[float]] = {}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        rows = rng.permutation(corpus.learn)[: 3 * count]
        said = [corpus.meant[rows] + rng.normal(0, error, (len(rows), 2)) for error in ERRORS]
        values = np.stack([one.round().clip(0, 10) for one in said], axis=1)  # (N, J, 2)
        reliability = estimate_reliability([str(error) for error in ERRORS], values[:count])
        assert reliability is not None
        ways = {
            "mean of three": (count, values[:count].mean(axis=1)),
            "three by reliability": (count, reliability.combine(values[:count])),
            **{f"error {error}, once": (count, values[:count, j]) for j, error in enumerate(ERRORS)},
            **{f"error {error}, thrice as many": (3 * count, values[:, j]) for j, error in enumerate(ERRORS)},
        }
        for way, (size, given) in ways.items():
            found.setdefault(way, []).append(corpus.reached(rows[:size], given))
    return {way: float(np.mean(reached)) for way, reached in found.items()}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    corpus = Corpus(given.folder)
    found = {f"{kind}, noise {noise}": ways(corpus, noise, given.seeds, kind) for kind in KINDS for noise in (1.0, 2.0)}
    for name, row in found.items():
        print(f"{name}: with itself r {row['itself']:.3f}")
        print("calls".ljust(18), *(f"{calls:>7}" for calls in CALLS), "  label   calls")
        for way, reached in row["agreement"].items():
            more = f"{row['label'][way]:7.3f} {row['calls_for_the_same'][way]:7,}"
            print(way.ljust(18), *(f"{value:7.3f}" for value in reached.values()), more)
    several = judges(corpus, given.seeds)
    for way, value in several.items():
        print(way.ljust(32), f"{value:.3f}")
    if given.json:
        about = {**machine(), **versions("scikit-learn")}
        given.json.write_text(json.dumps({"noise": found, "judges": several, "about": about}, indent=1) + "\n")


if __name__ == "__main__":
    main()
