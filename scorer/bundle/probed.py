"""What a behavioural probe found of a scorer: a record that scorer.json, score files and reports keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta, to_builtins

from scorer.values import Line, Portion, Rating


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedKind:
    """One kind of reply or edit over ``contexts`` contexts.

    ``measure`` says what ``share`` counts: replies that are kept, in the paper rule's sensibility set, or edits that
    changed the set. ``sensibility`` and ``rationality`` are the mean changes of the scores against the real response's,
    ``limit`` how large the share may be, None for any.
    """

    kind: Line
    measure: Literal["kept", "changed"]
    contexts: Annotated[int, Meta(ge=1)]
    sensibility: Annotated[float, Meta(ge=-10, le=10)]
    rationality: Annotated[float, Meta(ge=-10, le=10)]
    share: Portion
    interval_95: tuple[Portion, Portion]
    limit: Portion | None

    @property
    def holds(self) -> bool:
        """Whether the share is within its limit."""
        return self.limit is None or self.share <= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """A probe of a scorer: where its contexts come from, what it makes of the real responses, and of each kind.

    ``sensibility`` and ``rationality`` are the real responses' mean scores, ``kept`` the share of them in the paper
    rule's sensibility set (threshold 5, the scorer's cuts), with its 95 % interval.
    """

    data: Line
    contexts: Annotated[int, Meta(ge=1)]
    seed: int
    engine: Line
    precision: Line
    sensibility: Rating
    rationality: Rating
    kept: Portion
    interval_95: tuple[Portion, Portion]
    kinds: Sequence[ProbedKind]

    @property
    def passed(self) -> bool:
        """Whether every kind is within its limit."""
        return not self.beyond

    @property
    def beyond(self) -> list[ProbedKind]:
        """The kinds beyond their limits."""
        return [kind for kind in self.kinds if not kind.holds]

    def to_json(self) -> Mapping[str, Any]:
        """Return what scorer.json keeps."""
        found: Mapping[str, Any] = to_builtins(self)
        return found


def probe_table(found: Probed) -> list[tuple[str, ...]]:
    """Return a heading and a row for each kind, as text: kind, changes of both scores, share, interval, limit, verdict.

    The first row has the real responses and their mean scores.
    """
    rows: list[tuple[str, ...]] = [
        ("kind", "sensibility", "rationality", "share", "counted", "95 % interval", "limit", "verdict")
    ]
    means = f"{found.sensibility:.2f}", f"{found.rationality:.2f}"
    rows.append(("real responses", *means, _percent(found.kept), "kept", _range(found.interval_95), "", ""))
    for kind in found.kinds:
        changes = f"{kind.sensibility:+.2f}", f"{kind.rationality:+.2f}"
        share = _percent(kind.share), kind.measure, _range(kind.interval_95)
        limit = ("none", "") if kind.limit is None else (f"{kind.limit:.0%}", "holds" if kind.holds else "BEYOND")
        rows.append((kind.kind, *changes, *share, *limit))
    return rows


def probe_verdict(found: Probed) -> str:
    """Return one line: whether all limits hold, else which kinds are beyond theirs."""
    limits = sum(kind.limit is not None for kind in found.kinds)
    if found.passed:
        return f"all {limits} limits hold"
    names = ", ".join(kind.kind for kind in found.beyond)
    return f"{len(found.beyond)} of {limits} kinds are beyond their limits: {names}"


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _range(interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{low:.1%} to {high:.1%}"
