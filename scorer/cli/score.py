"""`empathy score`: files of dialogues -> files of scores, or lines through a pipe; here or on a cluster."""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scorer.cli import options as opt
from scorer.cli.main import EXIT_NOTHING_SCORED, fail
from scorer.cli.streams import GoneError, output_is_all, say
from scorer.engines.names import PRECISIONS
from scorer.errors import without_secrets
from scorer.reading.windows import Share
from scorer.run.settings import ScoreSettings

if TYPE_CHECKING:
    from scorer.inputs.corpus import Corpus
    from scorer.model import Scorer
    from scorer.reading.windows import Tally


class _ShareType(click.ParamType[Any]):
    """``2/8``: the second of eight."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = re.fullmatch(r"(\d+)/(\d+)", str(value))
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            self.fail(f"{value!r} is no share, expected I/N with I from 1 to N, such as 2/8", param, ctx)
        return Share(int(found[1]) - 1, int(found[2]))


class _OutputType(click.Path):
    """A file or folder, or a URL as it stands: as a path it would lose a slash."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and re.match(r"[a-z][a-z0-9+.]+://", value):
            return Path(value.removeprefix("file://")) if value.startswith("file://") else value
        return super().convert(value, param, ctx)


def _ray_address(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Refuse what is no address before an input that was taken for one is missed."""
    from scorer.cluster.connection import check_address

    return None if value is None else check_address(value)


@opt.command(
    examples=(
        "empathy score dialogues.jsonl -o scores.parquet",
        "cat dialogues.jsonl | empathy score - | jq .sensibility",
    )
)
@opt.inputs_argument()
@opt.option_group("Input", opt.map_option)
@opt.option_group(
    "Output",
    opt.output_option(
        "OUT",
        "A .parquet, .jsonl or .csv file, else a folder of Parquet shards; here or at a URL (s3://BUCKET/NAME).  "
        "[default: JSON lines to standard output]",
        required=False,
        kind=_OutputType(path_type=Path),
    ),
    *opt.existing_options,
    *opt.settings_options(ScoreSettings, "uncertainty", "strict"),
    opt.option(
        "--keep",
        metavar="COLUMN",
        multiple=True,
        help="Carry a column of IN into the scores, or a value inside it (meta.user); may be repeated.",
    ),
    opt.option(
        "--rejects", "rejects_path", type=click.Path(path_type=Path), help="Where rejects go if there is no OUT."
    ),
    opt.quiet_option,
)
@opt.option_group(
    "Scorer",
    opt.scorer_option,
    opt.engine_option,
    opt.option(
        "--precision",
        metavar="|".join(PRECISIONS),
        help="What it computes in.  [default: the fastest that the engine has here and the scorer's export let pass]",
    ),
)
@opt.option_group(
    "Speed",
    opt.option("--threads", type=click.IntRange(min=1), help="Processor threads.  [default: one per core]"),
    *opt.settings_options(ScoreSettings, "readers", "batch_tokens", "batch_size", "window"),
)
@opt.option_group(
    "Several processes and machines",
    opt.option(
        "--shard",
        "share",
        type=_ShareType(),
        metavar="I/N",
        help="Score every N-th window from the I-th: N processes, anywhere, share the folder OUT.",
    ),
    opt.option(
        "--ray",
        metavar="[ADDRESS]",
        is_flag=False,
        flag_value="auto",
        is_eager=True,
        callback=_ray_address,
        help="Score on a Ray cluster: HOST:PORT, local, or, left out, the one that is there, else a local one.",
    ),
    opt.option(
        "--ray-workers", type=click.IntRange(min=1), help="Workers, at most.  [default: what there is room for]"
    ),
    opt.option(
        "--ray-shards",
        type=click.IntRange(min=2),
        metavar="N",
        help="Workers read IN and write the folder OUT themselves, in N shares; all machines see both.  [default: the "
        "driver reads and writes]",
    ),
    opt.option("--ray-gpus", type=click.FloatRange(min=0, min_open=True), help="GPUs per worker.  [default: none]"),
)
def score(
    inputs: tuple[str, ...],
    output: Path | str | None,
    bundle: Path | None,
    engine: str,
    precision: str | None,
    threads: int | None,
    ray: str | None,
    ray_workers: int | None,
    ray_shards: int | None,
    ray_gpus: float | None,
    rejects_path: Path | None,
    fields: dict[str, str],
    *,
    resume: bool,
    overwrite: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Score the last assistant turn of every dialogue in IN.

    IN is files, folders, globs, URLs or - for standard input: JSON lines, JSON arrays, ShareGPT, the
    Efficient-Empathy release, EmpatheticDialogues CSV, Parquet, Hugging Face datasets folders, each also .gz,
    .bz2, .xz and .zst, recognised by content. Records that are no dialogue go to OUT.rejects.jsonl with source, line
    and reason.

    Exit codes: 0 done, 1 nothing could be scored, 2 usage or file error, 130 interrupted, 143 terminated.
    """
    from scorer.cli.lines import closing_lines
    from scorer.cli.progress import Bar
    from scorer.inputs.corpus import Corpus
    from scorer.model import Scorer
    from scorer.run.backend import Backend, Local
    from scorer.run.mirror import opened, path_of, score_into
    from scorer.run.output import engine_of

    shown = without_secrets(str(output))
    about_output = resume or overwrite or given["share"] or ray
    faults = {
        "--resume, --overwrite, --shard and --ray are about an output; name one with -o": output is None
        and about_output,
        "--ray-workers, --ray-shards and --ray-gpus are about a cluster; give --ray too": ray is None
        and (ray_workers or ray_shards or ray_gpus),
        "--ray-shards and --shard both divide the windows; leave one out": ray_shards and given["share"],
        f"rejects go to {shown}.rejects.jsonl; --rejects is for runs without -o": output and rejects_path,
    }
    for message in [message for message, found in faults.items() if found]:
        fail(message)
    settings = ScoreSettings(existing=opt.existing_of(resume=resume, overwrite=overwrite), **opt.chosen(given))
    corpus = Corpus(inputs, fields=fields, keep_records=settings.keep)
    if output is None:
        scorer = Scorer.load(bundle, engine=engine, threads=threads, precision=precision)
        _score_to_stdout(scorer, corpus, settings, rejects_path, quiet=quiet)
        return
    with ExitStack() as stack:
        progress = stack.enter_context(Bar(sys.stderr, quiet=quiet))
        mine = None if ray_shards else settings.share  # each worker has its own
        place = stack.enter_context(opened(output, mine, settings.existing, progress))
        if engine == "auto" and not overwrite and (known := engine_of(path_of(place))):
            engine, precision = known[0], precision or known[1]  # a run has one, from its first process on
        # On a cluster this process runs no network, and may lack the GPU that workers have.
        here = ("auto", None) if ray_gpus else (engine, precision)
        scorer = Scorer.load(bundle, engine=here[0], threads=threads if ray is None else 1, precision=here[1])
        backend: Backend = Local(scorer, settings)
        if ray is None:
            summary = score_into(backend, corpus, place, settings, progress)
        else:
            from scorer.cluster.driver import Cluster, ClusterSettings

            where = ClusterSettings(address=ray, workers=ray_workers, threads=threads, gpus=ray_gpus or 0.0)
            backend = cluster = stack.enter_context(Cluster(scorer, settings, where, engine, precision))
            if ray_shards:
                from scorer.cluster.shares import score_shares

                summary = score_shares(cluster, corpus, place, settings, progress, count=ray_shards)
            else:
                summary = score_into(cluster, corpus, place, settings, progress)
    if summary.complete_before:
        say(f"{shown} is complete already; nothing was scored", err=True)
        return
    lines = [*closing_lines(summary, backend.scorer, shown), *backend.closing()]
    _close(lines, summary.tally, backend.scorer, corpus, quiet=quiet)


def _close(lines: list[str], tally: Tally, scorer: Scorer, corpus: Corpus, *, quiet: bool) -> None:
    """Print what a run came to, and exit with code 1 if nothing was scored."""
    from scorer.cli.lines import warnings

    say(*([] if quiet else lines), *(f"empathy: warning: {line}" for line in warnings(tally, scorer, corpus)), err=True)
    if not tally.scored:
        sys.exit(EXIT_NOTHING_SCORED)


def _score_to_stdout(
    scorer: Scorer, corpus: Corpus, settings: ScoreSettings, rejects_path: Path | None, *, quiet: bool
) -> None:
    from scorer.apart import check_rejects
    from scorer.outputs import writing
    from scorer.run.stream import score_stream

    try:
        if rejects_path is None:
            with output_is_all():
                tally = score_stream(scorer, corpus, sys.stdout, sys.stderr, settings)
        else:
            check_rejects(rejects_path)
            with writing(rejects_path), open(rejects_path, "w", encoding="utf-8") as file, output_is_all():
                tally = score_stream(scorer, corpus, sys.stdout, file, settings)
    except GoneError:
        return
    _close([f"scored {tally.scored}, rejected {tally.rejections}"], tally, scorer, corpus, quiet=quiet)
