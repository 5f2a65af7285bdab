"""A synthesis as a record, and as lines for the terminal: per region how many were asked for, kept, and why not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal

from distill.judge.budget import Spending
from distill.judge.labelling import Labelling
from distill.judge.records import host_of
from distill.synthesis.plan import Cell
from distill.synthesis.run import ELSEWHERE, KEPT, UNASKED, Fate, by_region, replies_of
from distill.synthesis.settings import SynthesisSettings
from scorer.cli.table import table_lines
from scorer.dialogue import Dialogue
from scorer.errors import printable
from scorer.model import Scorer

KEY = "synthesis"
"""The key by which the JSON of a synthesis is known."""

_SHOWN = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthesisReport:
    """What a synthesis came to. ``replies`` counts all that ever came to its requests, by status.

    ``regions`` and ``cells`` hold planned = asked + not yet asked, and asked = kept + the reasons of ``not_kept``.
    """

    synthesis: Literal[1] = 1
    created: str
    version: str
    model: str
    host: str
    frame: str
    scorer: Mapping[str, str]
    settings: SynthesisSettings
    corpus: Mapping[str, int]
    replies: Mapping[str, int]
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    this_run: Spending
    stopped: str | None
    regions: Mapping[str, Any]
    cells: Sequence[Mapping[str, Any]]


def report_of(
    fates: Sequence[Fate],
    cells: Sequence[Cell],
    labelling: Labelling,
    settings: SynthesisSettings,
    corpus: Sequence[Dialogue],
    scorer: Scorer,
    spending: Spending,
    stopped: str | None,
) -> SynthesisReport:
    """Return everything that a synthesis came to."""
    replies = replies_of(labelling)
    return SynthesisReport(
        created=datetime.now(UTC).date().isoformat(),
        version=version("empathy-scorer"),
        model=labelling.asking.model,
        host=host_of(labelling.asking.base_url),
        frame=labelling.asking.rubric,
        scorer={"name": scorer.bundle.info.name, "sha256": scorer.bundle.sha256},
        settings=settings,
        corpus={"dialogues": len(corpus), "synthetic": sum(dialogue.synthetic for dialogue in corpus)},
        replies=dict(replies.by_status.most_common()),
        prompt_tokens=replies.prompt_tokens,
        completion_tokens=replies.completion_tokens,
        cost_usd=replies.cost_usd,
        this_run=spending,
        stopped=stopped,
        regions=by_region(fates, settings.regions),
        cells=list(_cells(fates, cells)),
    )


def _cells(fates: Sequence[Fate], cells: Sequence[Cell]) -> Iterator[dict[str, Any]]:
    mine: dict[Cell, list[str]] = {}
    for fate in fates:
        mine.setdefault(fate.request.cell, []).append(fate.fate)
    for cell in cells:
        ends = mine.get(cell, [])
        yield {
            "category": cell.category,
            "region": cell.region,
            "had": cell.has,
            "planned": cell.ask,
            "asked": len(ends) - ends.count(UNASKED),
            "kept": ends.count(KEPT),
        }


def plan_lines(cells: Sequence[Cell]) -> Iterator[str]:
    """Yield what is planned: by region, and the categories of which most is asked for."""
    regions = dict.fromkeys(cell.region for cell in cells)
    rows = [["region", "the corpus has", "to ask for"]]
    for region in regions:
        mine = [cell for cell in cells if cell.region == region]
        rows.append([region, f"{sum(cell.has for cell in mine):,}", f"{sum(cell.ask for cell in mine):,}"])
    yield from table_lines(rows)
    most = sorted((cell for cell in cells if cell.ask), key=lambda cell: -cell.ask)
    if any(cell.category is not None for cell in cells):
        yield ""
        rows = [["category", "region", "the corpus has", "to ask for"]]
        rows += [
            [printable(str(cell.category)), cell.region, f"{cell.has:,}", f"{cell.ask:,}"] for cell in most[:_SHOWN]
        ]
        yield from table_lines(rows, left=(0, 1))
        yield from [f"... and {len(most) - _SHOWN:,} more"] if len(most) > _SHOWN else []


def region_lines(report: SynthesisReport) -> Iterator[str]:
    """Yield the table by region, and what all of it cost."""
    rows = [["region", "planned", "asked", "kept", "not kept"]]
    for name, entry in report.regions.items():
        why = [f"{reason} {count:,}{_fell(reason, entry)}" for reason, count in entry["not_kept"].items()]
        rows.append([name, *(f"{entry[key]:,}" for key in ("planned", "asked", "kept")), ", ".join(why) or "-"])
    yield from table_lines(rows, left=(0, 4))
    replies = ", ".join(f"{status} {count:,}" for status, count in report.replies.items())
    cost = "no price is known" if report.cost_usd is None else f"${report.cost_usd:.4f}"
    yield f"replies, all runs: {sum(report.replies.values()):,} ({replies or 'none'}); cost: {cost}"
    spent = report.this_run
    lost = f", {spent.lost:,} of them without a whole answer" if spent.lost else ""
    yield f"this run: {spent.requests:,} requests{lost}, ${spent.usd:.4f}"


def _fell(reason: str, entry: Mapping[str, Any]) -> str:
    places = ", ".join(f"{place} {count:,}" for place, count in entry["fell"].items())
    return f" ({places})" if reason == ELSEWHERE and places else ""
