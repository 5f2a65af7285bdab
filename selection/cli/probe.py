"""`empathy probe`: a behavioural test of a scorer, and what it looks like in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields as fields_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorer.cli import options as opt
from scorer.cli.main import fail
from scorer.cli.streams import say
from selection.settings import ProbeLimits, ProbeSettings

if TYPE_CHECKING:
    from scorer.dialogue import Dialogue
    from selection.probing.probe import ProbeExample, ProbeResult

EXIT_BEYOND = 1

_DEFAULTS = ", ".join(f"{entry.name} {entry.default:g}" for entry in fields_of(ProbeLimits))


@opt.command(
    "probe",
    examples=("empathy probe", "empathy probe dialogues.jsonl --scorer my-scorer --show 3 --limit unrelated=0.5"),
)
@opt.inputs_argument("[IN]...", required=False)
@opt.option_group("Scorer", opt.scorer_option, opt.engine_option)
@opt.option_group("Contexts", opt.map_option, *opt.settings_options(ProbeSettings, "sample", "seed"))
@opt.option_group(
    "Limits",
    opt.option(
        "--limit",
        "given",
        metavar="KIND=SHARE",
        multiple=True,
        help=f"How large a kind's share may be; 1 is no limit.  [default: {_DEFAULTS}]",
    ),
)
@opt.option_group("Output", *opt.settings_options(ProbeSettings, "show"), opt.json_option("probe"), opt.quiet_option)
def probe_scorer(
    inputs: tuple[str, ...],
    fields: dict[str, str],
    bundle: Path | None,
    engine: str,
    given: tuple[str, ...],
    json_path: Path | None,
    *,
    quiet: bool,
    **chosen: Any,
) -> None:
    """Try a scorer on bad replies that no selection should keep.

    Each context of IN (left out: the examples that come with the package) gets its response replaced by open
    hostility, contempt, a dismissal, gibberish, a filler, the speaker's own words, another dialogue's response, a
    refusal, a loop, another language, an instruction to the judge: how many land in the sensibility set? And its
    response edited in ways that should not matter: how many change their set? Sets are those of the paper rule at
    threshold 5, with the scorer's cuts.

    Exit codes: 0 within the limits, 1 beyond one of them, 2 usage or file error.
    """
    from scorer.cli.progress import Bar
    from scorer.model import Scorer
    from scorer.outputs import write_json
    from selection.probing.probe import EXAMPLES, example_contexts, probe

    settings = ProbeSettings(limits=_limits(given), **opt.chosen(chosen))
    dialogues = _read(inputs, fields) if inputs else example_contexts()
    scorer = Scorer.load(bundle, engine=engine)
    with Bar(sys.stderr, quiet=quiet) as progress:
        found = probe(scorer, dialogues, settings, data=", ".join(inputs) or EXAMPLES, progress=progress)
    if json_path is not None:
        write_json(json_path, {"scorer": scorer.bundle.info.name, "sha256": scorer.bundle.sha256, **_json(found)})
    say(*(() if quiet else result_lines(found)))
    if scorer.engine.notice:
        say(f"empathy: warning: {scorer.engine.notice}", err=True)
    if not found.passed:
        sys.exit(EXIT_BEYOND)


def result_lines(found: ProbeResult) -> Iterator[str]:
    """Yield the table of a probe, then the worst examples."""
    from scorer.cli.lines import probe_lines

    yield from probe_lines(found.record)
    if found.examples:
        yield ""
        yield "the worst of each kind:"
    for one in found.examples:
        yield from _example_lines(one)


def _example_lines(one: ProbeExample) -> Iterator[str]:
    (s, r), (real_s, real_r) = one.scores, one.real
    before = f"before: S {real_s:.1f} R {real_r:.1f}, {one.set_before}"
    yield f"  {one.kind}: S {s:.1f} R {r:.1f}, {one.set_after} ({before})"
    yield f"    speaker: {_short(one.speaker)}"
    yield f"    reply:   {_short(one.response)}"


def _short(text: str, width: int = 100) -> str:
    """Return a text as one printable line."""
    line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))
    return line if len(line) <= width else f"{line[: width - 3]}..."


def _read(inputs: Sequence[str], fields: dict[str, str]) -> Iterator[Dialogue]:
    """Yield the dialogues of the inputs; say on standard error how many records were none."""
    from scorer.dialogue import Dialogue
    from scorer.inputs.corpus import Corpus

    rejects = []
    for record in Corpus(inputs, fields=fields):
        if isinstance(record, Dialogue):
            yield record
        else:
            rejects.append(record)
    if rejects:
        said = f"{len(rejects)} records are no dialogues and were left out; the first: {rejects[0]}"
        say(f"empathy: warning: {said}", err=True)


def _limits(given: Sequence[str]) -> ProbeLimits:
    found = {}
    known = [entry.name for entry in fields_of(ProbeLimits)]
    for text in given:
        kind, _, share = text.partition("=")
        if kind not in known:
            fail(f"--limit {text}: {kind!r} is no kind, expected one of {', '.join(known)}")
        try:
            found[kind] = float(share)
        except ValueError:
            fail(f"--limit {text}: {share!r} is no share, expected {kind}=SHARE with a number from 0 to 1")
    return ProbeLimits(**found)


def _json(found: ProbeResult) -> dict[str, Any]:
    from msgspec import to_builtins

    return {"passed": found.passed, "probe": to_builtins(found.record), "examples": to_builtins(found.examples)}
