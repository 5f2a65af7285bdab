"""Options that the commands of `empathy moe` share, and what they say to people."""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from moe.settings import GenerateSettings
from scorer.cli.main import fail

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scorer.outputs import Existing

PATH = click.Path(path_type=Path)
_GENERATE = GenerateSettings()
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def complete_already(output: Path) -> bool:
    """Whether a training's output is there, so that nothing is left to resume; says so."""
    if not (output / "moe.json").exists():
        return False
    click.echo(f"{output} is complete already; nothing was trained", err=True)
    return True


def setting(default: Any, flag: str, kind: Any, text: str) -> Any:
    """Return an option of a settings record; left out, the record's own default counts, which the help shows."""
    name = flag.removeprefix("--").replace("-", "_")
    shown = getattr(default, name)
    return click.option(flag, name, type=kind, help=f"{text}  [default: {shown}]")


def schedule(default: Any) -> Any:
    """Return the options that every training has."""

    def add(command: Any) -> Any:
        for option in (
            click.option("-q", "--quiet", is_flag=True, help="No progress bar and no closing lines."),
            click.option("--overwrite", is_flag=True, help="Replace an output that exists."),
            click.option("--resume", is_flag=True, help="Go on with an interrupted training (or begin)."),
            setting(default, "--seed", int, "Of the new weights, the order and the dropout."),
            click.option(
                "--checkpointing/--no-checkpointing",
                default=None,
                help="Compute activations twice instead of keeping them.  [default: on]",
            ),
            setting(default, "--held-out", float, "Share of conversations that the evaluation loss is read on."),
            setting(default, "--max-length", int, "Tokens a dialogue, at most; the oldest turns go first."),
            setting(default, "--warmup", float, "Share of the steps in which the learning rate rises."),
            setting(default, "--accumulate", int, "Batches a step."),
            setting(default, "--batch-size", int, "Dialogues a batch and device."),
            setting(default, "--learning-rate", float, "The highest."),
            setting(default, "--epochs", int, "Passes over the data."),
        ):
            command = option(command)
        return command

    return add


def output_option(what: str, metavar: str) -> Any:
    """Return the option -o, which is required."""
    return click.option("-o", "--output", metavar=metavar, type=PATH, required=True, help=what)


def generation(command: Any) -> Any:
    """Add the options of generated responses."""
    for option in (
        setting(_GENERATE, "--seed", int, "Of the samples."),
        setting(_GENERATE, "--top-p", float, "With --sample: from the words that have this share of the chance."),
        setting(_GENERATE, "--temperature", float, "With --sample: below 1 the likelier words are likelier still."),
        click.option("--sample", is_flag=True, help="Sample the responses.  [default: the likeliest word each time]"),
        setting(_GENERATE, "--batch-size", int, "Dialogues a batch."),
        setting(_GENERATE, "--max-length", int, "Tokens of a dialogue and its response, at most."),
        setting(_GENERATE, "--max-new-tokens", int, "Tokens of a response, at most."),
        click.option("--limit", type=click.IntRange(min=1), help="The first so many records only."),
    ):
        command = option(command)
    return command


def given_only(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given: for the others the record's own default counts."""
    return {name: value for name, value in options.items() if value is not None}


def existing_of(*, resume: bool, overwrite: bool) -> Existing:
    """Return what to do with an output that exists."""
    if resume and overwrite:
        fail("--resume goes on with an output and --overwrite replaces it; give one of them")
    return "resume" if resume else "overwrite" if overwrite else "error"


def parse_size(size: str) -> int:
    """Return a number of bytes: 5GB, 200MB, 1000."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?B?)", size.strip(), re.IGNORECASE)
    if not found or not float(found[1]):
        fail(f"max shard size is {size!r}, expected a number of bytes above 0, or one with KB, MB or GB")
    unit = found[2].upper().removesuffix("B")
    return int(float(found[1]) * _UNITS[unit + "B" if unit else ""])


def hush() -> None:
    """Keep transformers' own notices off the terminal: what matters of them, these commands say."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


@contextmanager
def training_bar(*, quiet: bool) -> Iterator[Any]:
    """Give what shows the progress of a training."""
    from distill.cli.train_bar import TrainBar

    hush()
    quiet = quiet or os.environ.get("RANK", "0") != "0"  # under torchrun the first process speaks
    with TrainBar(sys.stderr, show=sys.stderr.isatty() and not quiet, log=not quiet) as bar:
        yield bar


def say(*lines: str) -> None:
    """Write lines to standard error."""
    for line in lines:
        click.echo(line, err=True)


class SetsCommand(click.Command):
    """Takes several files after one --sets, as a shell's glob gives them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put --sets before each file that follows one."""
        spread: list[str] = []
        inside = False
        for argument in args:
            if inside and Path(argument).is_file() and spread[-1] != "--sets":
                spread.append("--sets")
            inside = argument == "--sets" or (inside and not argument.startswith("-"))
            spread.append(argument)
        return super().parse_args(ctx, spread)
