"""A later test of rubrics held against an earlier one: what changed, and what got worse beyond the limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scorer.arrays import Floats
from scorer.dialogue import HEADS
from selection.errors import GoldenError
from selection.rubrics.run import FIGURES, Figure, RubricRun, TriedVariant, read_run
from selection.rules import PAPER, to_levels
from selection.settings import RunLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as expected: what, of which variant, before and after, and the line that says so."""

    what: str
    variant: str
    before: Any
    after: Any
    text: str


@dataclass(slots=True, kw_only=True)
class RunCheck:
    """A later run held against an earlier one: what is not as expected, and what is said beside it."""

    golden: str
    later: str
    variants: int
    dialogues: int
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether all is as expected."""
        return not self.findings

    def to_json(self) -> dict[str, Any]:
        """Return everything, as `empathy check --json` writes it."""
        return {
            "golden": self.golden,
            "later": self.later,
            "passed": self.passed,
            "variants": self.variants,
            "dialogues": self.dialogues,
            "beyond_tolerance": len(self.findings),
            "findings": self.findings,
            "notes": self.notes,
        }


def check_run(golden: Path, later: Path, limits: RunLimits) -> RunCheck:
    """Hold a later run against an earlier one, variant by variant, by their names.

    GoldenError where the two cannot be compared: other dialogues, labels or threshold.
    """
    before, after = read_run(golden), read_run(later)
    _check_comparable(before, after, golden, later)
    found = RunCheck(
        golden=str(golden), later=str(later), variants=len(before.variants), dialogues=len(before.dialogues)
    )
    for finding in (*_changed_rubrics(before, after), *_changed_variants(before, after, limits)):
        if limits.allow_changed and finding.what in {"rubric", "model", "settings"}:
            found.notes.append(finding.text)
        else:
            found.findings.append(finding)
    more = [name for name in after.by_name() if name not in before.by_name()]
    found.notes += [f"{name}: not in {golden.name}, so it is not checked" for name in more]
    return found


def _check_comparable(before: RubricRun, after: RubricRun, golden: Path, later: Path) -> None:
    if before.threshold != after.threshold:
        raise GoldenError(
            f"{later}: threshold {after.threshold}, expected {before.threshold} as in {golden}; give --threshold"
        )
    first, second = ({row.content: row.label for row in run.dialogues} for run in (before, after))
    if set(first) != set(second):
        both = len(set(first) & set(second))
        raise GoldenError(
            f"{later}: {both} of its {len(second)} dialogues are among the {len(first)} of {golden}, expected the "
            "same; give the same --on, --sample, --strategy and --seed"
        )
    moved = sum(first[content] != second[content] for content in first)
    if moved:
        raise GoldenError(
            f"{later}: {moved} labels are not those of {golden}; give the same --on, or make {golden} anew"
        )


def _changed_rubrics(before: RubricRun, after: RubricRun) -> Iterator[Finding]:
    for name, rubric in before.rubrics.items():
        now = after.rubrics.get(name)
        if now is not None and now.hash != rubric.hash:
            text = f"rubric {name}: its text changed ({rubric.hash[:12]} -> {now.hash[:12]})"
            yield Finding(what="rubric", variant=name, before=rubric.hash, after=now.hash, text=text)


def _changed_variants(before: RubricRun, after: RubricRun, limits: RunLimits) -> Iterator[Finding]:
    now = after.by_name()
    for column, variant in enumerate(before.variants):
        if (other := now.get(variant.name)) is None:
            text = f"{variant.name}: is missing (there: {', '.join(now)})"
            yield Finding(what="missing", variant=variant.name, before=variant.name, after=None, text=text)
            continue
        yield from _changed_settings(variant, other)
        yield from _worse(variant, other, limits)
        yield from _flips(before, after, column, after.variants.index(other), limits)


def _changed_settings(variant: TriedVariant, other: TriedVariant) -> Iterator[Finding]:
    def said(what: str, title: str, first: Any, second: Any) -> Iterator[Finding]:
        if first != second:
            text = f"{variant.name}: {title} changed ({first} -> {second})"
            yield Finding(what=what, variant=variant.name, before=first, after=second, text=text)

    yield from said("model", "its server", variant.host, other.host)
    if variant.served and other.served:
        yield from said("model", "the model that answers", *(", ".join(one.served) for one in (variant, other)))
    yield from said("settings", "the temperature", variant.temperature, other.temperature)
    yield from said("settings", "the limit of tokens", variant.max_tokens, other.max_tokens)
    if other.unasked > variant.unasked:
        text = f"{variant.name}: unfinished, {other.unasked} of {other.questions} questions were not asked"
        yield Finding(what="unasked", variant=variant.name, before=variant.unasked, after=other.unasked, text=text)


def _worse(variant: TriedVariant, other: TriedVariant, limits: RunLimits) -> Iterator[Finding]:
    def said(what: str, title: str, values: tuple[float, float], verb: str, most: float) -> Finding:
        first, second = values
        by = f"{verb} by {abs(second - first):.3g}, at most {most:g} may"
        text = f"{variant.name}: {title} {first:.3f} -> {second:.3f} ({by})"
        return Finding(what=what, variant=variant.name, before=first, after=second, text=text)

    for key, title in FIGURES.items():
        first, second = (one.agreement.get(key, Figure(value=None)).value for one in (variant, other))
        if first is None:
            continue
        if second is None:
            text = f"{variant.name}: {title} {first:.3f} -> not defined (every score is the same, or too few came)"
            yield Finding(what=key, variant=variant.name, before=first, after=None, text=text)
            continue
        rises = key.endswith(".mae")
        most = limits.max_rise if rises else limits.max_fall
        if (second - first if rises else first - second) > most + 1e-9:
            yield said(key, title, (first, second), "rose" if rises else "fell", most)
    if other.failures - variant.failures > limits.max_failures + 1e-9:
        yield said("failures", "share of failures", (variant.failures, other.failures), "rose", limits.max_failures)
    for head in HEADS:
        means = (variant.mean, other.mean)
        if all(head in mean for mean in means) and abs(means[1][head] - means[0][head]) > limits.max_shift + 1e-9:
            yield said(f"{head}.mean", f"mean {head}", (means[0][head], means[1][head]), "moved", limits.max_shift)


def _flips(before: RubricRun, after: RubricRun, first: int, second: int, limits: RunLimits) -> Iterator[Finding]:
    """Yield a finding where more decisions changed than may."""
    if limits.max_flips is None:
        return
    now = {row.content: row.scores[second] for row in after.dialogues}
    pairs = [(row.scores[first], now[row.content]) for row in before.dialogues]
    both = np.array([pair for pair in pairs if None not in pair], dtype=float).reshape(-1, 2, len(HEADS))
    share = changed_share(both[:, 0], both[:, 1], before.threshold)
    if share is not None and share > limits.max_flips:
        name = before.variants[first].name
        text = f"{name}: {share:.2%} of {len(both)} decisions changed, at most {limits.max_flips:.2%} may"
        yield Finding(what="decisions", variant=name, before=0.0, after=share, text=text)


def changed_share(first: Floats, second: Floats, threshold: int) -> float | None:
    """Return the share of dialogues that two scores (N, 2) put into different sets of the paper's rule."""
    if not len(first):
        return None
    sets = [PAPER.apply(to_levels(scores), threshold=threshold) for scores in (first, second)]
    return float((sets[0] != sets[1]).mean())
