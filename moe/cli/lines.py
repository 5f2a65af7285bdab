"""What trainings and evaluations look like in a terminal: functions from results to lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from scorer.cli.table import table_lines

if TYPE_CHECKING:
    from moe.evaluation.evaluate import Evaluation
    from moe.provenance import LearntSet, Losses, Routing

_COLUMNS = (
    ("perplexity", "perplexity", 2),
    ("dist_1", "Dist-1", 3),
    ("dist_2", "Dist-2", 3),
    ("bleu", "BLEU", 2),
    ("rouge_l", "ROUGE-L", 3),
    ("words", "words", 1),
    ("empty", "empty", 3),
    ("sensibility", "S", 2),
    ("rationality", "R", 2),
    ("share", "S > T, R < T", 3),
)


def training_lines(losses: Losses, sets: Sequence[LearntSet]) -> Iterator[str]:
    """Yield what of each set was learnt, and what it came to."""
    for entry in sets:
        line = f"{entry.file}: {entry.examples} dialogues"
        if entry.synthetic:
            line += f", {entry.synthetic} of them synthetic"
        if entry.dropped:
            line += ", dropped " + ", ".join(f"{reason} {count}" for reason, count in entry.dropped.items())
        if entry.cut.turns:
            line += f", {entry.cut.turns} oldest turns cut from {entry.cut.dialogues}"
        yield line
    held_out = f", held-out loss {losses.held_out_loss[-1]}" if losses.held_out_loss else ""
    yield f"{losses.steps} steps, training loss {losses.training_loss[-1]}{held_out}"


def routing_lines(routing: Routing, experts: Sequence[str]) -> Iterator[str]:
    """Yield one line per set: the mean routing weight of each expert over the layers."""
    for name, by_layer in routing.items():
        means = [sum(weights) / len(by_layer) for weights in zip(*by_layer, strict=True)]
        yield f"{name}: " + ", ".join(f"{expert} {mean:.1%}" for expert, mean in zip(experts, means, strict=True))


def evaluation_lines(info: Evaluation) -> Iterator[str]:
    """Yield an evaluation as a table, and what to know about it."""
    rows = [["", *(title for _, title, _ in _COLUMNS)]]
    for name, entry in info.models.items():
        found = ((entry.shown.get(key), digits) for key, _, digits in _COLUMNS)
        rows.append([name, *("-" if value is None else f"{value:.{digits}f}" for value, digits in found)])
    yield from table_lines(rows)
    yield ""
    for name, entry in info.models.items():
        if entry.perplexity:
            low, high = entry.perplexity.interval_95
            yield f"{name}: perplexity {low:.2f} to {high:.2f} (95 %, bootstrap over conversations)"
    name, fingerprint = info.scorer["name"], info.scorer["sha256"][:12]
    yield f"S, R, share in the sensibility set (T = 5): marks of the scorer {name} {fingerprint}"
    for note in info.notes:
        yield f"note: {note}"
