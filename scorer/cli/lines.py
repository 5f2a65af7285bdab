"""What a run and a scorer look like in a terminal: functions from results to lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scorer.bundle.bundle import Bundle
from scorer.bundle.info import ScorerInfo
from scorer.bundle.probed import Probed, probe_table, probe_verdict
from scorer.cli.table import table_lines
from scorer.dialogue import HEADS
from scorer.engines.verdicts import Verdict
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.reading.windows import Tally
from scorer.run.look import tally_warnings
from scorer.run.score import Summary

_BAR = 20  # characters of a bar of 100 %
_NAMED = 3  # so many names of many are shown


def closing_lines(summary: Summary, scorer: Scorer, output: Path | str) -> Iterator[str]:
    """Yield what a finished run came to, one line per fact."""
    tally = summary.tally
    engine = scorer.engine
    yield (
        f"scored {tally.scored:,} of {tally.records:,} records in {summary.seconds:.1f} s "
        f"({summary.rate:,.0f} per second; {engine.name} {engine.precision}, {engine.threads} threads)"
    )
    if summary.resumed:
        yield f"resumed: {summary.resumed:,} of them were finished before and not scored again"
    if tally.scored:
        means = ", ".join(f"{head} {total / tally.scored:.2f}" for head, total in zip(HEADS, tally.sums, strict=True))
        yield f"means: {means}"
    if tally.repeats:
        yield f"repeats: {tally.repeats:,} had the text of another one close by, which was scored once for all"
    yield (
        f"truncated: {tally.cut:,}"
        + (f" ({tally.cut_turns:,} context turns and {tally.cut_tokens:,} tokens left out)" if tally.cut else "")
    )
    for column, count in tally.lacking.items():
        yield f"--keep {column}: null for {count:,} of {tally.scored:,} dialogues, which have no such column"
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in Counter(tally.rejected).most_common())
    yield f"rejected: {tally.rejections:,}" + (f" ({reasons}), see {summary.rejects}" if reasons else "")
    yield f"wrote {output}" if tally.scored else f"nothing could be scored, so {output} was not written"


def warnings(tally: Tally, scorer: Scorer, corpus: Corpus) -> Iterator[str]:
    """Yield what should be known before the scores are used."""
    yield from skipped_warning(corpus)
    if scorer.engine.notice:
        yield scorer.engine.notice
    for column, count in tally.lacking.items():
        if count == tally.scored:
            yield f"--keep {column}: no dialogue has such a column, so it is empty; `empathy look` lists the columns"
    if tally.scored:
        yield from tally_warnings(tally, scorer.bundle.info.domain)


def skipped_warning(corpus: Corpus) -> Iterator[str]:
    """Yield the one line on files in folders that hold no dialogues, if there are any."""
    if corpus.skipped:
        names = ", ".join(corpus.skipped[:_NAMED]) + (", ..." if len(corpus.skipped) > _NAMED else "")
        yield f"{len(corpus.skipped)} files in folders hold no dialogues and were passed over: {names}"


def describe(bundle: Bundle) -> Iterator[str]:
    """Yield what a scorer is, where it comes from and how it was measured."""
    info = bundle.info
    facts = {
        "scorer": f"{bundle.info.name} ({bundle.path})",
        "sha256": bundle.sha256,
        "created": info.created,
        "licence": info.licence,
        "backbone": info.backbone,
        "stored as": info.precision,
        "heads": ", ".join(f"{head} (0 to 10)" for head in HEADS),
        "max length": f"{bundle.info.max_length} tokens",
        "template": f"version {info.template_version}",
        "trained on": info.training.data,
        "": f"{len(info.training.content_hashes):,} dialogues, hashes kept",
    }
    for name, value in facts.items():
        yield f"{name:12}{value}"
    if origin := info.adapted_from:
        yield f"adapted from {origin.name} ({origin.sha256[:12]}) with {origin.labels:,} labels: {origin.changed}"
    for head in HEADS:
        yield f"cuts {head}: " + " ".join(f"{cut:.2f}" for cut in bundle.info.cuts[head])
    domain = bundle.info.domain
    yield "domain: " + ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in domain.ranges.items())
    yield from _measured(info)
    if info.probe:
        yield from probe_lines(info.probe)
    for name, verdict in info.precisions.items():
        yield f"precision {name}: {verdict_line(verdict)}{_where(verdict)}"
    for row in info.gates:
        times = "" if row.gain is None else f"; {row.gain:.2f} times ONNX Runtime's rate in fp32"
        yield f"gate, {row.engine} in {row.precision}: {verdict_line(row)}{times}{_where(row)}"
    yield "files verified: " + ", ".join(sorted(info.files))


def verdict_line(verdict: Verdict) -> str:
    """Return whether a precision may be used, and why."""
    what = "allowed" if verdict.allowed else "refused" if verdict.measured else "not measured"
    return f"{what}, {verdict.reason}"


def _where(verdict: Verdict) -> str:
    """Return where a verdict was measured, empty where it does not say."""
    if not verdict.processor:
        return ""
    model = f", {verdict.model}" if verdict.model else ""
    return f" ({verdict.processor}{model}; {verdict.engine} {verdict.version}, {verdict.date})"


def _measured(info: ScorerInfo) -> Iterator[str]:
    if how := info.measured.get("how"):
        yield f"measured: {how}"
    for name, value in info.measured.items():
        if name != "how":
            yield f"  {name:32}{_plain(value)}"
    if uncertainty := info.uncertainty:
        for head in HEADS:
            widths = " ".join(f"{width:.2f}" for width in uncertainty.widths[head])
            yield f"uncertainty {head}: {widths} for {uncertainty.coverage:.0%}, from low scores to high ones"


def probe_lines(found: Probed) -> Iterator[str]:
    """Yield what a probe found: a table, and a line on the limits."""
    yield f"probe: {found.contexts} contexts of {found.data}, seed {found.seed}, {found.engine} {found.precision}"
    bars = ["", *(_bar(share) for share in (found.kept, *(kind.share for kind in found.kinds)))]
    rows = [(*row, bar) for row, bar in zip(probe_table(found), bars, strict=True)]
    yield from (f"  {line}" for line in table_lines(rows, left=(0, 4, 7, 8)))
    yield f"  {probe_verdict(found)}"
    if not found.kept:
        yield "  the scorer keeps no real response either, so that low shares say nothing"


def _bar(share: float) -> str:
    return "█" * round(_BAR * share)


def _plain(value: Any) -> str:
    """Return a figure, or one per head, as text."""
    return " / ".join(map(str, value.values())) if isinstance(value, dict) else str(value)
