"""`empathy watch`: score files that grow in, a live page or a table out."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scorer.cli import options as opt
from scorer.cli.entry import Terminated
from scorer.cli.main import fail
from scorer.cli.streams import say
from scorer.cli.table import table_lines
from scorer.dialogue import HEADS
from selection.watching.settings import WatchSettings

if TYPE_CHECKING:
    from selection.watching.watch import Watch

EXIT_ALERT = 3
STDIN = Path("-")


@opt.command(
    "watch",
    examples=(
        "empathy watch scores/ --state watch.sqlite",
        "empathy watch scores.jsonl --reference last-month.parquet --once",
        "empathy score - < dialogues.jsonl | empathy watch -",
    ),
    inside=True,
)
@opt.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@opt.option_group(
    "Scores",
    opt.path_option("--reference", "SCORES", "Scores from before, which drift is against."),
    opt.option(
        "--scorer",
        metavar="BUNDLE",
        type=opt.SCORER,
        help="Their scorer, where a file does not say its cuts.  [default: the included starter]",
    ),
    opt.option("--raw-cuts", is_flag=True, help="Read them as a judge's, without a scorer's cuts."),
    opt.option("--by", metavar="COLUMN", default="category", help="The column of categories (`score --keep`)."),
    opt.option("--time", "time_column", metavar="COLUMN", help="The column of times.  [default: times of the files]"),
    opt.option("--text", metavar="COLUMN", default="response", help="The column of texts, for --keep-texts."),
    *opt.settings_options(WatchSettings, "reference_rows"),
)
@opt.option_group(
    "State and page",
    opt.path_option("--state", "FILE", "Keep what was counted here (SQLite).  [default: in memory]"),
    opt.option(
        "--port", type=click.IntRange(0, 65535), default=8090, help="The page's port on this machine; 0 is any."
    ),
    opt.option("--title", help="The page's title."),
    *opt.settings_options(WatchSettings, "window", "keep_texts"),
)
@opt.option_group(
    "Alerts",
    *opt.settings_options(WatchSettings, "recent", "drift", "sets", "outside", "low", "false_alarms"),
    opt.option("--webhook", metavar="URL", help="POST a JSON here when an alert begins and when it ends."),
)
@opt.option_group(
    "Once",
    opt.option("--once", is_flag=True, help="Read what is there, print it, and end: for cron."),
    opt.json_option("findings"),
    opt.quiet_option,
)
def watch(
    sources: tuple[Path, ...],
    reference: Path | None,
    scorer: Path | None,
    by: str,
    time_column: str | None,
    text: str,
    state: Path | None,
    port: int,
    title: str | None,
    webhook: str | None,
    json_path: Path | None,
    *,
    raw_cuts: bool,
    once: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Watch scores come in: a live page, drift, alerts.

    SOURCE is what `empathy score` writes: a file (.parquet, .jsonl, .csv), a folder of such files, or - for its lines
    through standard input. What is added is counted, each row once. The page at http://127.0.0.1:8090/dashboard shows
    rate, means, quantiles and sets by window of time and category, drift against the reference, alerts, and what to do.
    Without --reference, drift is against the first dialogues of the source.

    Exit codes: 0 done, 2 usage or file error, 3 (--once) an alert is open, 130 interrupted, 143 terminated.
    """
    from selection.watching.sources.follow import Follower, Reading, read_reference
    from selection.watching.sources.rows import Columns
    from selection.watching.watch import Watch
    from selection.watching.webhook import Webhook

    if scorer is not None and raw_cuts:
        fail("--scorer gives the cuts and --raw-cuts does without; give one of them")
    if json_path is not None and not once:
        fail("--json is about --once; the live page has its figures at /dashboard/state")
    settings = WatchSettings(**opt.chosen(given))
    reading = Reading(Columns(category=by, time=time_column, text=text), scorer, raw_cuts)
    _check_sources(sources, once=once)
    before = None if reference is None else read_reference(reference, reading)
    with ExitStack() as stack:
        counted = stack.enter_context(Watch(state, settings, reference=before, title=title or ""))
        counted.sources = [str(source) for source in sources]
        hook = None if webhook is None else Webhook(webhook, counted)
        follower = Follower([source for source in sources if source != STDIN], counted, reading)
        if once:
            _read_once(sources, follower)
            counted.look()
            failure = hook and hook.tell()
            found = counted.snapshot()
            if json_path is not None:
                from scorer.outputs import write_json

                write_json(json_path, found, allow_nan=False)
            say(*([] if quiet else once_lines(found)))
            _warn(found)
            if failure and hook:
                say(f"empathy: warning: {hook.host} was not told: {failure}; the next run tries again", err=True)
            if not found["total"] and found["problems"]:
                fail(f"{', '.join(counted.sources)}: no scores could be read")
            if counted.alerts.open:
                sys.exit(EXIT_ALERT)
            return
        if hook is not None:
            counted.alerts.on_alert = hook.wake
            stack.callback(hook.close)
            hook.start()
        _serve(sources, follower, counted, port, state, quiet=quiet)


def _check_sources(sources: tuple[Path, ...], *, once: bool) -> None:
    from scorer.run.score_file import SUFFIXES

    for source in sources:
        if source == STDIN or source.is_dir():
            continue
        if source.suffix not in SUFFIXES:
            fail(f"{source}: expected scores as {', '.join(SUFFIXES)}, a folder of them, or -")
        if once and not source.exists():
            fail(f"{source}: no such file or folder, expected the output of `empathy score`")


def _read_once(sources: tuple[Path, ...], follower: Any) -> None:
    from selection.watching.sources.threads import stdin_blocks

    follower.step()
    if STDIN in sources:
        for block in stdin_blocks():
            follower.add_line(block)


def _serve(
    sources: tuple[Path, ...], follower: Any, counted: Watch, port: int, state: Path | None, *, quiet: bool
) -> None:
    from scorer.errors import MissingExtraError

    try:
        from selection.watching.server import LOOPBACK, listen, serve_page
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "selection":
            raise
        raise MissingExtraError("serve", error.name or "starlette") from None
    from selection.watching.sources.threads import following

    listening = listen(port)
    if not quiet:
        say(f"watching at http://{LOOPBACK}:{listening.getsockname()[1]}/dashboard (Ctrl-C ends)", err=True)
    ended: type[KeyboardInterrupt] | None = None
    try:
        with following(follower, counted, stdin=STDIN in sources):
            found = serve_page(counted, listening)
        if found is not None:
            ended = Terminated if found == signal.SIGTERM else KeyboardInterrupt
    except KeyboardInterrupt as error:  # before or after the server
        ended = type(error)
    if ended:
        where = "in memory and are gone" if state is None else f"in {state}: the same command goes on from there"
        raise ended(f"the counts of {counted.total:,} dialogues are {where}")


def _warn(found: dict[str, Any]) -> None:
    say(*(f"empathy: warning: {one['source']}: {one['text']}" for one in found["problems"]), err=True)


def once_lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield what a watch came to as lines: a table of categories, drift, alerts, hints."""
    yield f"{found['total']:,} dialogues"
    if not found["total"]:
        return
    yield ""
    names = sorted(found["categories"], key=lambda name: -found["categories"][name]["all"]["count"])
    parts = [("latest", found["recent"]), ("all", found["all"])]
    parts += [(name, found["categories"][name]["all"]) for name in names] if len(names) > 1 else []
    parts += [("reference", found["reference"])] if found["reference"] else []
    heading = ("", "dialogues", "mean S", "median S", "mean R", "median R", *found["all"]["sets"], "low", "outside")
    yield from table_lines([heading, *(_row(name, part) for name, part in parts)])
    if found["drift"]:
        yield ""
        rows = [("drift", "mean", "KS", "95 %", "PSI", "95 %")]
        for head in HEADS:
            one = found["drift"]["heads"][head]
            rows.append((head, f"{one['mean']['value']:+.2f}", *_with(one["ks"]), *_with(one["psi"])))
        yield from table_lines(rows)
    elif found["gathering"]:
        yield f"drift needs {found['gathering'][1]:,} dialogues, or --reference"
    for alert in found["alerts"]:
        if alert["ended"] is None:
            yield ""
            yield f"ALERT: {alert['text']}"
    for hint in found["hints"]:
        yield ""
        yield hint["text"]
        if hint["command"]:
            yield f"    {hint['command']}"


def _row(name: str, part: dict[str, Any]) -> tuple[str, ...]:
    count = part["count"]
    figures = [figure for i in range(2) for figure in (part["means"][i], part["quantiles"][i][2])]
    shares = [value / count for value in part["sets"].values()] + [part["low"] / count]
    outside = f"{part['outside'] / part['outside_known']:.1%}" if part["outside_known"] else "-"
    shown = name if len(name) <= 32 else name[:31] + "…"
    return (shown, f"{count:,}", *(f"{one:.2f}" for one in figures), *(f"{one:.1%}" for one in shares), outside)


def _with(figure: dict[str, float]) -> tuple[str, str]:
    return f"{figure['value']:.3f}", f"{figure['low']:.3f} to {figure['high']:.3f}"
