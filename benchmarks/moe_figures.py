"""The figures of ``benchmarks.moe`` over all seeds, and their table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scorer.dialogue import HEADS
from selection.rules import PAPER

DRAWS = 2000
VARIANTS = (
    "base",
    "all data",
    "random subset",
    "sensibility set",
    "rationality set",
    "experts averaged",
    "MoE, random router",
    "MoE, informed router",
    "MoE, random router, trained",
    "MoE, informed router, trained",
)


def read_points(path: Path) -> list[dict[str, Any]]:
    """Return the points whose line is complete."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def summary(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return each variant's figures over all seeds, and their differences from the random subset's.

    Intervals are 95 %, from a bootstrap over the conversations of all seeds; a difference is drawn with the same
    conversations on both sides.
    """
    seeds = sorted({point["seed"] for point in points})
    by_variant = {
        name: [next(p for p in points if (p["seed"], p["variant"]) == (seed, name)) for seed in seeds]
        for name in VARIANTS
    }
    against = Pool(by_variant["random subset"])
    rows = {}
    for name, mine in by_variant.items():
        pool = Pool(mine)
        rows[name] = {
            "trained_on": [point["trained_on"] for point in mine],
            "perplexity": pool.perplexity(),
            "by_seed": [Pool([point]).perplexity()["value"] for point in mine],
            "log_perplexity_less_random_subset": pool.difference(against),
            "by_set": {PAPER.sets[k]: pool.perplexity(only=k)["value"] for k in (0, 1)},
            "marks": {head: pool.mark(k) for k, head in enumerate(HEADS)},
            "marks_less_random_subset": {head: pool.mark_difference(against, k) for k, head in enumerate(HEADS)},
            **{
                key: float(np.mean([point["texts"][key] for point in mine]))
                for key in ("dist_1", "dist_2", "bleu", "rouge_l", "words", "empty")
            },
        }
    reference = np.concatenate([np.array(point["reference_marks"]) for point in by_variant["base"]])
    return {
        "seeds": seeds,
        "held_out": len(against.losses),
        "rows": rows,
        "reference_marks": dict(zip(HEADS, reference.mean(axis=0).tolist(), strict=True)),
    }


class Pool:
    """The points of one variant over several seeds, as arrays with one value per held-out dialogue."""

    def __init__(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Concatenate them; conversations of different folds are always different."""
        self.losses = np.concatenate([np.array(point["losses"]) for point in points])
        self.tokens = np.concatenate([np.array(point["tokens"], dtype=float) for point in points])
        self.sets = np.concatenate([np.array(point["sets"]) for point in points])
        self.groups = groups([name for point in points for name in point["conversations"]])
        self.marks = np.concatenate([np.array(point["marks"]).reshape(-1, 2) for point in points])
        self.marked = groups([name for point in points for name in point["marked_conversations"]])

    def perplexity(self, only: int | None = None) -> dict[str, Any]:
        """Return perplexity and its interval, on the dialogues of set ``only``, if given."""
        rows = np.ones(len(self.sets), dtype=bool) if only is None else self.sets == only
        drawn = ratios(self.groups[rows], self.losses[rows], self.tokens[rows])
        value = self.losses[rows].sum() / self.tokens[rows].sum()
        return {"value": float(np.exp(value)), "interval_95": np.exp(np.percentile(drawn, [2.5, 97.5])).tolist()}

    def difference(self, other: Pool) -> dict[str, Any]:
        """Return the difference of the mean losses per token, and its interval."""
        less = self.losses - other.losses
        drawn = ratios(self.groups, less, self.tokens)
        return {
            "value": float(less.sum() / self.tokens.sum()),
            "interval_95": np.percentile(drawn, [2.5, 97.5]).tolist(),
        }

    def mark(self, head: int) -> float:
        """Return the mean score of a head."""
        return float(self.marks[:, head].mean())

    def mark_difference(self, other: Pool, head: int) -> dict[str, Any] | None:
        """Return the difference of mean scores, None if an empty response has no score to compare."""
        if len(self.marks) != len(other.marks) or len(self.marks) != len(self.marked):
            return None
        less = self.marks[:, head] - other.marks[:, head]
        drawn = ratios(self.marked, less, np.ones(len(less)))
        return {"value": float(less.mean()), "interval_95": np.percentile(drawn, [2.5, 97.5]).tolist()}


def groups(names: Sequence[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the number of each row's conversation."""
    return np.unique(np.asarray(names), return_inverse=True)[1].astype(np.int64)


def ratios(group: Any, above: Any, below: Any) -> Any:
    """Return sum(above) / sum(below) for each draw of the conversations."""
    count = int(group.max()) + 1
    sums = np.stack([np.bincount(group, weights=values, minlength=count) for values in (above, below)])
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=DRAWS) @ sums.T
    return drawn[:, 0] / np.maximum(drawn[:, 1], 1e-12)


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table as Markdown."""
    yield f"{len(report['seeds'])} seeds, {report['held_out']} held-out dialogues in total"
    yield ""
    yield (
        "| variant | dialogues | perplexity | by seed | log perplexity less the random subset's | on the sensibility "
        "set | on the rationality set | S | R | S less the random subset's | Dist-2 | words |"
    )
    yield "|---|" + "---|" * 11
    for name, row in report["rows"].items():
        marks, less = row["marks"], row["marks_less_random_subset"]["sensibility"]
        cells = [
            name,
            ", ".join(str(count) for count in row["trained_on"] if count) or "-",
            between(row["perplexity"], 2),
            ", ".join(f"{value:.2f}" for value in row["by_seed"]),
            between(row["log_perplexity_less_random_subset"], 4),
            *(f"{row['by_set'][key]:.2f}" for key in ("sensibility", "rationality")),
            *(f"{marks[head]:.2f}" for head in HEADS),
            "-" if less is None else between(less, 2),
            f"{row['dist_2']:.3f}",
            f"{row['words']:.1f}",
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield "scores of the responses in the data: " + ", ".join(
        f"{head} {value:.2f}" for head, value in report["reference_marks"].items()
    )


def between(figure: Mapping[str, Any], digits: int) -> str:
    """Return a figure with its interval."""
    low, high = figure["interval_95"]
    return f"{figure['value']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
