"""`empathy serve`: scores over HTTP, and the live page of what was scored."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import click

from scorer.cli import options as opt
from scorer.cli.entry import Terminated
from scorer.cli.streams import say
from scorer.engines.names import PRECISIONS
from selection.serving.settings import ServeSettings


@opt.command(
    examples=(
        "empathy serve",
        "EMPATHY_SERVE_KEYS=$(openssl rand -hex 24) empathy serve --host 0.0.0.0 --watch watch.db",
    )
)
@opt.option_group(
    "Where",
    *opt.settings_options(ServeSettings, "host", "port"),
    opt.option("--without-key", is_flag=True, help="Listen elsewhere than on this machine without a key."),
)
@opt.option_group(
    "Scorer",
    opt.scorer_option,
    opt.engine_option,
    opt.option("--precision", metavar="|".join(PRECISIONS), help="What it computes in.  [default: as `empathy score`]"),
    opt.option("--threads", type=click.IntRange(min=1), help="Processor threads.  [default: one per core]"),
    *opt.settings_options(ServeSettings, "wait_ms"),
)
@opt.option_group(
    "Live page",
    opt.path_option("--watch", "FILE", "Keep what /dashboard shows in this file.  [default: in memory]"),
    opt.option("--keep-texts", is_flag=True, help="Keep the texts of the dialogues that the page shows."),
)
@opt.option_group(
    "Limits",
    *opt.settings_options(
        ServeSettings, "queue_tokens", "body_bytes", "records", "turns", "tokens", "depth", "connections"
    ),
)
@opt.option_group(
    "Patience",
    *opt.settings_options(
        ServeSettings,
        "header_seconds",
        "body_seconds",
        "answer_seconds",
        "send_seconds",
        "idle_seconds",
        "drain_seconds",
    ),
)
def serve(
    bundle: Path | None,
    engine: str,
    precision: str | None,
    threads: int | None,
    watch: Path | None,
    *,
    without_key: bool,
    keep_texts: bool,
    **given: Any,
) -> None:
    """Score over HTTP: POST /v1/score, /predict, /rerank.

    GET /docs says what they take and give, /dashboard shows what was scored, /health, /info and /metrics are for
    machines. Keys that let in stand in the environment variable EMPATHY_SERVE_KEYS, separated by commas; without one
    only this machine may ask. Neither texts nor keys are logged.

    Exit codes: 2 usage error, 130 interrupted, 143 terminated, both after what was in hand is answered.
    """
    from scorer.model import Scorer
    from selection.serving.app import Service
    from selection.serving.keys import VARIABLE, Keys
    from selection.serving.server import listen, run
    from selection.watching.settings import WatchSettings
    from selection.watching.watch import Watch

    settings = ServeSettings(**opt.chosen(given))
    keys = Keys(os.environ.get(VARIABLE))
    sock, is_open = listen(settings, keys, without_key=without_key)

    def log(line: str) -> None:
        say(f"empathy: {line}", err=True)

    with sock:
        scorer = Scorer.load(bundle, engine=engine, threads=threads, precision=precision)
        if scorer.engine.notice:
            log(f"warning: {scorer.engine.notice}")
        with Watch(watch, WatchSettings(keep_texts=keep_texts), title=scorer.bundle.info.name) as watched:
            service = Service(scorer, settings, keys, watched, is_open=is_open, log=log)
            host, port = sock.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            who = "with a key" if keys else "without a key" if is_open else "this machine alone"
            log(f"serving {scorer.bundle.info.name} on http://{shown}:{port} ({who}); /docs says how to ask")
            try:
                ended = run(service, sock, log)
            finally:
                service.close()
    done = "what was in hand is answered"
    raise Terminated(done) if ended == signal.SIGTERM else KeyboardInterrupt(done)
