"""When figures of the latest dialogues are beyond a limit with confidence, and how such an alert begins and ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from scorer.dialogue import HEADS
from selection.rules import PAPER
from selection.watching.counting.counts import Counts, cell_of
from selection.watching.counting.drift import Figure, ks, mean_changes, share, share_change
from selection.watching.counting.reference import Reference, compared
from selection.watching.settings import WatchSettings

if TYPE_CHECKING:
    from selection.watching.counting.store import Store

FIGURES = len(HEADS) + len(PAPER.sets) + 2
"""Figures that are looked at together: drift of both scores, shares of the sets, outside the domain, low on both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A figure beyond its limit: what it is (``name``), its interval, and in words.

    ``began`` and ``ended`` are times of the latest dialogue then, in unix seconds, ``dialogues`` how many were counted
    when it began, ``of`` how many the figure is of. ``told`` counts what was told of it: 1 that it began, 2 also that
    it ended.
    """

    number: int
    name: str
    text: str
    value: float
    low: float
    high: float
    limit: float
    of: int
    dialogues: int
    began: float
    ended: float | None = None
    told: int = 0

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.ended is None

    @property
    def untold(self) -> bool:
        """Whether somebody is to be told that it began or ended."""
        return self.told < (1 if self.is_open else 2)


@dataclass(frozen=True, slots=True)
class Finding:
    """A figure and its limit; ``text`` says it in words."""

    name: str
    figure: Figure
    limit: float
    of: int
    text: str

    @property
    def is_beyond(self) -> bool:
        """Whether the whole interval is beyond the limit."""
        return self.figure.low > self.limit or self.figure.high < -self.limit

    @property
    def is_within(self) -> bool:
        """Whether the figure itself is within its limit again."""
        return abs(self.figure.value) <= self.limit


class Alerts:
    """The alerts of a watch, the latest hundred."""

    def __init__(self, settings: WatchSettings, store: Store, on_alert: Callable[[Alert], None] | None = None) -> None:
        """Take up what the store has; ``on_alert`` is told of each that begins or ends."""
        self._settings, self._store, self.on_alert = settings, store, on_alert
        self.entries: list[Alert] = store.alerts(lambda value: msgspec.convert(value, Alert))

    @property
    def open(self) -> list[Alert]:
        """Those that have not ended."""
        return [alert for alert in self.entries if alert.is_open]

    def look(self, counts: Counts, reference: Reference | None) -> None:
        """Let alerts begin and end, by the latest dialogues."""
        if not len(counts.recent):
            return
        now = float(counts.recent["time"][-1])
        before = {alert.name: alert for alert in self.open}
        changed: list[Alert] = []
        for found in findings(counts, reference, self._settings, self._settings.false_alarms / FIGURES):
            alert = before.get(found.name)
            if alert is None and found.is_beyond:
                number = max((one.number for one in self.entries), default=0) + 1 + len(changed)
                changed.append(
                    Alert(
                        number=number,
                        name=found.name,
                        text=found.text,
                        value=found.figure.value,
                        low=found.figure.low,
                        high=found.figure.high,
                        limit=found.limit,
                        of=found.of,
                        dialogues=counts.total,
                        began=now,
                    )
                )
            elif alert is not None and found.is_within:
                changed.append(replace(alert, ended=now))
        if changed:
            self._keep(changed)
            for alert in changed:
                if self.on_alert is not None:
                    self.on_alert(alert)

    def mark_told(self, number: int, told: int) -> Alert:
        """Note how much of an alert was told, and return it as it is now."""
        alert = next(alert for alert in self.entries if alert.number == number)
        self._keep([replace(alert, told=told)])
        return replace(alert, told=told)

    def _keep(self, changed: list[Alert]) -> None:
        self._store.keep_alerts({alert.number: alert for alert in changed})
        known = {alert.number: alert for alert in self.entries} | {alert.number: alert for alert in changed}
        self.entries = [known[number] for number in sorted(known)][-100:]


def findings(
    counts: Counts, given: Reference | None, settings: WatchSettings, error: float = 0.05
) -> Iterator[Finding]:
    """Yield every figure that alerts are about; each interval misses with a chance of at most ``error``."""
    whole = cell_of(counts.recent)
    outside, known = counts.recent_outside
    if known:
        figure = share(outside, known, error)
        text = f"{figure.value:.0%} of the latest {known:,} dialogues are outside the scorer's training domain"
        yield Finding("outside", figure, settings.outside, known, text)
    figure = share(whole.low, len(whole), error)
    text = f"{figure.value:.0%} of the latest {len(whole):,} dialogues are low on both scores"
    yield Finding("low", figure, settings.low, len(whole), text)
    reference, rows = compared(counts, given)
    if reference is None or not len(rows):
        return
    cell = cell_of(rows)
    means = mean_changes(reference.whole, cell)
    for i, head in enumerate(HEADS):
        figure = ks(reference.whole.histogram(i), cell.histogram(i), error)
        text = (
            f"{head} of the latest {len(cell):,} dialogues is distributed otherwise than in {reference.name}: "
            f"KS {figure.value:.2f}, mean {means[i].value:+.2f}"
        )
        yield Finding(f"drift {head}", figure, settings.drift, len(cell), text)
    for name, count in cell.sets.items():
        before = reference.whole.sets[name], len(reference.whole)
        figure = share_change(before, (count, len(cell)), error)
        text = (
            f"the {name} set has {count / len(cell):.0%} of the latest {len(cell):,} dialogues, and "
            f"{before[0] / before[1]:.0%} of {reference.name}"
        )
        yield Finding(f"set {name}", figure, settings.sets, len(cell), text)


def plain_alert(alert: Alert) -> dict[str, Any]:
    """Return an alert as JSON holds it."""
    found: dict[str, Any] = msgspec.to_builtins(alert)
    found.pop("told")
    return found
