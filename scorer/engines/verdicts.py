"""Verdicts of the gate: which precision may score, measured where, and what of that holds on the machine at hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from scorer.engines.machine import GPU, NATIVE_BF16
from scorer.values import Amount, Correlation, Count, Portion


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a precision may score, how far its scores are from the reference's, and where that was measured.

    ``drift_max`` and ``drift_99`` are the largest and the 99th percentile of the absolute differences of scores,
    ``correlation`` the lowest of the outputs' (None where one is constant), ``flips`` the share of the ``checked``
    dialogues whose decision changes (of a scorer: the paper rule's, threshold 5, its cuts). ``rate`` counts dialogues
    a second, without tokenising, and ``gain`` is that rate as a multiple of ONNX Runtime's in fp32 in the same run.
    ``processor`` is a kind (`scorer.engines.machine`) and ``model`` what its maker calls it; both are empty in bundles
    of earlier releases, whose verdicts count on all.
    """

    allowed: bool
    reason: str
    checked: Count = 0
    drift_max: Amount | None = None
    drift_99: Amount | None = None
    correlation: Correlation | None = None
    flips: Portion | None = None
    precision: str = ""
    engine: str = ""
    version: str = ""
    processor: str = ""
    model: str = ""
    date: str = ""
    rate: Amount | None = None
    gain: Amount | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what scorer.json keeps: the values that are known."""
        return {name: value for name, value in msgspec.to_builtins(self).items() if value not in (None, "")}

    @property
    def measured(self) -> bool:
        """Whether it rests on scores."""
        return self.checked > 0


def verdict_here(
    precision: str, gates: Sequence[Verdict], exported: Mapping[str, Verdict], kind: str, bundle: object
) -> Verdict:
    """Return what holds for a precision on a processor of this ``kind``; one not measured there is not allowed, yet.

    bf16 that passed where it is multiplied in hardware may score wherever it is: the arithmetic is the same.

    ``gates`` were measured by `empathy gate`, ``exported`` by `empathy export`, by precision; ``bundle`` is what the
    command that measures it has to name.
    """
    where = GPU if precision == "fp16" else kind  # which only GPUs multiply
    for row in gates:
        if (row.precision, row.processor) == (precision, where):
            return row
    said = exported.get(precision)
    if said is not None and (said.measured or said.allowed) and said.processor in ("", where):
        return said
    if precision == "bf16" and where in NATIVE_BF16:
        rows = [*gates, said] if said else [*gates]
        for row in rows:
            if row.allowed and row.precision in ("", precision) and row.processor in NATIVE_BF16:
                return row
    if precision == "fp16":
        return said or Verdict(allowed=False, reason="its export did not check it")
    command = f"empathy gate {bundle} --check IN"
    return Verdict(allowed=False, reason=f"not measured on {where}, which this machine is; `{command}` does that")


def fastest(rows: Iterable[Verdict], kind: str, engines: Sequence[str]) -> tuple[str, str] | None:
    """Return the engine and precision that passed with the highest rate on a kind of processor.

    None unless each of ``engines``, those that are installed, was measured there.
    """
    here = [row for row in rows if row.processor == kind and row.engine in engines and row.gain is not None]
    passed = [row for row in here if row.allowed]
    if {row.engine for row in here} != set(engines) or not passed:
        return None
    best = max(passed, key=lambda row: row.gain or 0.0)
    return best.engine, best.precision


def joined(before: Sequence[Verdict], found: Sequence[Verdict]) -> list[Verdict]:
    """Return verdicts in which new ones replace those of the same kind of processor, engine and precision."""
    by_place = {(row.processor, row.engine, row.precision): row for row in (*before, *found)}
    return [by_place[key] for key in sorted(by_place)]
