"""`empathy score`: files of dialogues -> files of scores, or lines through a pipe; here or on a cluster."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import click

from scorer.cli.main import EXIT_NOTHING_SCORED, fail
from scorer.cli.options import engine_option, scorer_option


class _ShareType(click.ParamType[Any]):
    """``2/8``: the second of eight."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from scorer.run.manifest import Share

        found = re.fullmatch(r"(\d+)/(\d+)", str(value))
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            self.fail(f"{value!r} is no share, expected I/N with I from 1 to N, such as 2/8", param, ctx)
        return Share(int(found[1]) - 1, int(found[2]))


def _ray_address(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Refuse what is no address before an input that was taken for one is missed."""
    from scorer.cluster.connection import check_address

    return None if value is None else check_address(value)


@click.command()
@click.argument("inputs", metavar="IN...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    type=click.Path(path_type=Path),
    help="A .parquet, .jsonl or .csv file, else a folder of Parquet shards. Left out: JSON lines to standard output.",
)
@scorer_option
@engine_option
@click.option(
    "--precision",
    metavar="fp32|bf16|fp16|int8",
    help="What it computes in.  [default: the fastest that the engine has here and the scorer's export let pass]",
)
@click.option("--threads", type=click.IntRange(min=1), help="Processor threads.  [default: one a core]")
@click.option("--batch-tokens", type=click.IntRange(min=1), help="Padded tokens a batch.  [default: the engine's]")
@click.option("--batch-size", type=click.IntRange(min=1), help="Dialogues a batch, at most.  [default: 256]")
@click.option("--window", type=click.IntRange(min=1), help="Records sorted by length, and a shard.  [default: 8192]")
@click.option(
    "--readers", type=click.IntRange(min=0), help="Processes that read ahead, 0 for a thread.  [default: by need]"
)
@click.option(
    "--shard",
    type=_ShareType(),
    metavar="I/N",
    help="Score every N-th window from the I-th: N processes, anywhere, share the folder OUT.",
)
@click.option(
    "--ray",
    metavar="[ADDRESS]",
    is_flag=False,
    flag_value="auto",
    is_eager=True,
    callback=_ray_address,
    help="Score on a Ray cluster: HOST:PORT, local, or, left out, the one that is there, else a local one.",
)
@click.option("--ray-workers", type=click.IntRange(min=1), help="Workers, at most.  [default: what there is room for]")
@click.option("--ray-gpus", type=click.FloatRange(min=0, min_open=True), help="GPUs a worker.  [default: none]")
@click.option("--uncertainty", is_flag=True, help="Add two columns: how far the judge's score may lie from each score.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run (or begin, if there is none).")
@click.option("--overwrite", is_flag=True, help="Replace an output that exists.")
@click.option("--strict", is_flag=True, help="Stop at the first bad record, with exit code 2.")
@click.option("--rejects", "rejects_path", type=click.Path(path_type=Path), help="Rejects, when there is no OUT.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no closing lines; warnings and errors only.")
def score(
    inputs: tuple[str, ...],
    output: Path | None,
    bundle: Path | None,
    engine: str,
    precision: str | None,
    threads: int | None,
    batch_tokens: int | None,
    batch_size: int | None,
    window: int | None,
    readers: int | None,
    shard: Any,
    ray: str | None,
    ray_workers: int | None,
    ray_gpus: float | None,
    uncertainty: bool,
    resume: bool,
    overwrite: bool,
    strict: bool,
    rejects_path: Path | None,
    quiet: bool,
) -> None:
    """Score the last assistant turn of every dialogue in IN.

    IN is files, folders, globs, URLs or - for standard input: JSON lines, JSON arrays, ShareGPT, the
    Efficient-Empathy release, EmpatheticDialogues CSV, Parquet, Hugging Face datasets folders, each also .gz and
    .zst, recognised by content. Records that are no dialogue go to OUT.rejects.jsonl with source, line and reason.

    Exit codes: 0 done, 1 nothing could be scored, 2 usage or file error, 130 interrupted, 143 terminated.
    """
    from scorer.cli.lines import closing_lines, warnings
    from scorer.cli.progress import ProgressBar
    from scorer.inputs.corpus import Corpus
    from scorer.model import Scorer
    from scorer.run.manifest import begun_with
    from scorer.run.output import work_folder
    from scorer.run.score import ScoreSettings, score_files

    url = output is not None and re.match("[a-z0-9+]{2,}:/", str(output)) is not None
    faults = {
        "--resume goes on with an output and --overwrite replaces it; give one of them": resume and overwrite,
        "--resume, --overwrite, --shard and --ray are about an output; name one with -o": output is None
        and (resume or overwrite or shard or ray),
        "--ray-workers and --ray-gpus are about a cluster; give --ray too": ray is None and (ray_workers or ray_gpus),
        f"rejects go to {output}.rejects.jsonl; --rejects is for runs without -o": output and rejects_path,
        f"{output} is a URL; scores are written to local files, name one and copy it there": url,
    }
    for message in [message for message, found in faults.items() if found]:
        fail(message)
    given = {
        "batch_tokens": batch_tokens,
        "batch_size": batch_size,
        "window": window,
        "readers": readers,
        "share": shard,
    }
    settings = ScoreSettings(
        existing="resume" if resume else "overwrite" if overwrite else "error",
        strict=strict,
        uncertainty=uncertainty,
        **{name: value for name, value in given.items() if value is not None},
    )
    corpus = Corpus(inputs)
    if output is not None and engine == "auto" and not overwrite and (begun := begun_with(work_folder(output))):
        engine, precision = begun["engine"], precision or begun["precision"]  # a run has one, from its first process on
    # On a cluster this process runs no network, and may lack the GPU that workers have.
    here = ("auto", None) if ray_gpus else (engine, precision)
    scorer = Scorer.load(bundle, engine=here[0], threads=threads if ray is None else 1, precision=here[1])
    if output is None:
        _score_to_stdout(scorer, corpus, settings, rejects_path, quiet=quiet)
        return
    told: list[str] = []
    with ProgressBar(corpus.total_bytes, sys.stderr, show=sys.stderr.isatty() and not quiet) as progress:
        if ray is None:
            summary = score_files(scorer, corpus, output, settings, progress)
        else:
            from scorer.cluster.driver import Cluster, ClusterSettings

            where = ClusterSettings(address=ray, workers=ray_workers, threads=threads, gpus=ray_gpus or 0.0)
            with Cluster(scorer, engine, settings, where, precision) as cluster:
                summary = score_files(cluster.scorer, corpus, output, settings, progress, cluster.score)
            scorer, told = cluster.scorer, [cluster.closing()]
    if summary.complete_before:
        click.echo(f"{output} is complete already; nothing was read or scored", err=True)
        return
    for line in [] if quiet else [*closing_lines(summary, scorer, output), *told]:
        click.echo(line, err=True)
    for line in warnings(summary.tally, scorer, corpus):
        click.echo(f"empathy: warning: {line}", err=True)
    if not summary.tally.scored:
        sys.exit(EXIT_NOTHING_SCORED)


def _score_to_stdout(scorer: Any, corpus: Any, settings: Any, rejects_path: Path | None, *, quiet: bool) -> None:
    from scorer.cli.lines import warnings
    from scorer.outputs import writing
    from scorer.run.stream import score_stream

    try:
        if rejects_path is None:
            tally = score_stream(scorer, corpus, sys.stdout, sys.stderr, settings)
        else:
            with writing(rejects_path), open(rejects_path, "w", encoding="utf-8") as file:
                tally = score_stream(scorer, corpus, sys.stdout, file, settings)
    except BrokenPipeError:
        # Whoever read has enough. Python would flush to the closed pipe once more on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        fail(f"standard output: cannot be written: {error.strerror or error}")
    if not quiet:
        click.echo(f"scored {tally.scored}, rejected {tally.rejected.total()}", err=True)
    for line in warnings(tally, scorer, corpus):
        click.echo(f"empathy: warning: {line}", err=True)
    if not tally.scored:
        sys.exit(EXIT_NOTHING_SCORED)
