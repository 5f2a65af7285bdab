"""The `empathy` command: the group that every package's commands join, and the commands that score."""

from __future__ import annotations

import os
import re
import sys
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from typing import Any, NoReturn

import click

from scorer.errors import EmpathyError, MissingExtraError

COMMANDS = "empathy.commands"
"""Entry points of this group are the commands."""

EXIT_NOTHING_SCORED = 1
EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


class CommandGroup(click.Group):
    """Finds its commands among the installed packages' entry points, and turns errors into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all installed commands."""
        return sorted({point.name for point in entry_points(group=COMMANDS)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command; where its module cannot be imported, a stand-in that says what to install."""
        point = _entry_point(cmd_name)
        if point is None:
            return None
        try:
            command: click.Command = point.load()
        except ModuleNotFoundError as error:
            return _unavailable(point, _missing(point, error))
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; every error a user can cause is one line and an exit code, never a traceback."""
        try:
            return super().invoke(ctx)
        except EmpathyError as error:
            fail(str(error))
        except ModuleNotFoundError as error:  # a command imports what is heavy when it runs
            point = _entry_point(ctx.invoked_subcommand or "")
            if point is None:
                raise
            fail(str(_missing(point, error)))
        except KeyboardInterrupt:
            command = self.get_command(ctx, ctx.invoked_subcommand or "")
            resumes = command is not None and any(option.name == "resume" for option in command.params)
            kept = "with -o, what was finished is kept: go on with --resume" if resumes else "no output was written"
            click.echo(f"empathy: interrupted; {kept}", err=True)
            sys.exit(EXIT_INTERRUPTED)


def run() -> NoReturn:
    """Parse the command line and run: what `empathy` is. A usage error is one line, as every other error is."""
    try:
        result = main.main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(EXIT_ERROR)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        name = context.command_path if context else "empathy"
        fail(f"{error.format_message().rstrip('.')} (see {name} --help)")
    sys.exit(result if isinstance(result, int) else 0)


def fail(message: str) -> NoReturn:
    """Print one line and exit with code 2."""
    click.echo(f"empathy: error: {' '.join(message.split())}", err=True)
    sys.exit(EXIT_ERROR)


def _entry_point(name: str) -> EntryPoint | None:
    return next((point for point in entry_points(group=COMMANDS) if point.name == name), None)


def _missing(point: EntryPoint, error: ModuleNotFoundError) -> EmpathyError:
    """Return the error that names the command's extra: that of its entry point, else its package."""
    module = error.name or point.module
    extra = " ".join(point.extras) or point.module.split(".")[0]
    if extra == "scorer":
        return EmpathyError(f"{module} is not installed and `empathy {point.name}` needs it: pip install {module}")
    return MissingExtraError(extra, module)


def _unavailable(point: EntryPoint, missing: EmpathyError) -> click.Command:
    anything = {"ignore_unknown_options": True, "allow_extra_args": True}

    @click.command(point.name, help=f"({missing})", context_settings=anything)
    def unavailable() -> None:
        raise missing

    return unavailable


@click.command(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("empathy-scorer"), "--version", prog_name="empathy-scorer")
def main() -> None:
    """Score dialogues for sensibility and rationality, offline: the local scorer that replaces an LLM judge."""


scorer_option = click.option(
    "--scorer", "bundle", metavar="BUNDLE", type=click.Path(path_type=Path),
    help="The scorer's folder (made by `empathy export`). Left out: the starter that comes with the package.",
)  # fmt: skip


def _ray_address(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Refuse what is no address before an input that was taken for one is missed."""
    from scorer.connect import check_address  # noqa: PLC0415

    return None if value is None else check_address(value)


@click.command()
@click.argument("inputs", metavar="IN...", nargs=-1, required=True)
@click.option(
    "-o", "--output", metavar="OUT", type=click.Path(path_type=Path),
    help="A .parquet, .jsonl or .csv file, else a folder of Parquet shards. Left out: JSON lines to standard output.",
)  # fmt: skip
@scorer_option
@click.option(
    "--engine", default="auto", show_default=True, metavar="auto|onnxruntime|openvino", help="What runs the network."
)
@click.option("--threads", type=click.IntRange(min=1), help="Processor threads.  [default: one a core]")
@click.option("--batch-tokens", type=click.IntRange(min=1), help="Padded tokens a batch.  [default: 1024]")
@click.option("--batch-size", type=click.IntRange(min=1), help="Dialogues a batch, at most.  [default: 256]")
@click.option("--window", type=click.IntRange(min=1), help="Records sorted by length, and a shard.  [default: 8192]")
@click.option(
    "--ray", metavar="[ADDRESS]", is_flag=False, flag_value="auto", is_eager=True, callback=_ray_address,
    help="Score on a Ray cluster: HOST:PORT, local, or, left out, the one that is there, else a local one.",
)  # fmt: skip
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
    threads: int | None,
    batch_tokens: int | None,
    batch_size: int | None,
    window: int | None,
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

    Exit codes: 0 done, 1 nothing could be scored, 2 usage or file error.
    """
    from scorer.batch import ScoreSettings, score_files  # noqa: PLC0415 - keeps `empathy --help` fast
    from scorer.closing import closing_lines, warnings  # noqa: PLC0415
    from scorer.corpus import Corpus  # noqa: PLC0415
    from scorer.model import Scorer  # noqa: PLC0415
    from scorer.progress import ProgressBar  # noqa: PLC0415

    url = output is not None and re.match("[a-z0-9+]{2,}:/", str(output)) is not None
    faults = {
        "--resume goes on with an output and --overwrite replaces it; give one of them": resume and overwrite,
        "--resume and --overwrite are about an output; name one with -o": output is None and (resume or overwrite),
        "--ray is about an output; name one with -o": output is None and ray is not None,
        "--ray-workers and --ray-gpus are about a cluster; give --ray too": ray is None and (ray_workers or ray_gpus),
        f"rejects go to {output}.rejects.jsonl; --rejects is for runs without -o": output and rejects_path,
        f"{output} is a URL; scores are written to local files, name one and copy it there": url,
    }
    for message in [message for message, found in faults.items() if found]:
        fail(message)
    given = {"batch_tokens": batch_tokens, "batch_size": batch_size, "window": window}
    settings = ScoreSettings(
        existing="resume" if resume else "overwrite" if overwrite else "error",
        strict=strict,
        uncertainty=uncertainty,
        **{name: value for name, value in given.items() if value is not None},
    )
    corpus = Corpus(inputs)
    scorer = Scorer.load(bundle, engine=engine, threads=threads if ray is None else 1)
    if output is None:
        _score_to_stdout(scorer, corpus, settings, rejects_path, quiet=quiet)
        return
    with ProgressBar(corpus, sys.stderr, show=sys.stderr.isatty() and not quiet) as progress:
        if ray is None:
            summary, told = score_files(scorer, corpus, output, settings, progress), []
        else:
            from scorer.cluster import Cluster, ClusterSettings  # noqa: PLC0415

            where = ClusterSettings(address=ray, workers=ray_workers, threads=threads, gpus=ray_gpus or 0.0)
            with Cluster(scorer, engine, settings, where) as cluster:
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
    from scorer.closing import warnings  # noqa: PLC0415
    from scorer.files import writing  # noqa: PLC0415
    from scorer.pipe import score_stream  # noqa: PLC0415

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


@click.command()
@click.argument("bundle", metavar="[BUNDLE]", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print all of scorer.json, and the bundle's hash.")
def inspect(bundle: Path | None, as_json: bool) -> None:
    """Verify a scorer and say what it is, where it comes from and how it was measured.

    Left out, BUNDLE is the starter that comes with the package.
    """
    import json  # noqa: PLC0415

    from scorer.bundle import load_bundle  # noqa: PLC0415
    from scorer.closing import describe  # noqa: PLC0415

    loaded = load_bundle(bundle)
    if as_json:
        click.echo(json.dumps({**loaded.info, "sha256": loaded.sha256}, indent=1))
    else:
        for line in describe(loaded):
            click.echo(line)
