"""What the commands of `empathy moe` share beyond the options of all commands."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from moe.settings import GenerateSettings
from scorer.cli.main import fail
from scorer.cli.options import Command, option, option_group, settings_options
from scorer.cli.streams import say

if TYPE_CHECKING:
    from scorer.cli.progress import Bar

PATH = click.Path(path_type=Path)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}

limit_option = option("--limit", type=click.IntRange(min=1), help="The first so many records only.")

generation_options = option_group("Generation", *settings_options(GenerateSettings))
"""How responses are generated."""


def base_option(text: str = "A Llama, Mistral, Phi-3, Qwen2 or Qwen3 causal model.", *, required: bool = True) -> Any:
    """Return --base."""
    return option("--base", metavar="ID_OR_FOLDER", required=required, help=text)


def sets_option(text: str, *, required: bool) -> Any:
    """Return --sets, which takes several files in a command of the class ``SetsCommand``."""
    return option("--sets", metavar="SET...", multiple=True, required=required, type=PATH, help=text)


class SetsCommand(Command):
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


def parse_size(size: str) -> int:
    """Return a number of bytes: 5GB, 200MB, 1000."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)B?", size.strip(), re.IGNORECASE)
    if not found or not float(found[1]):
        fail(f"max shard size is {size!r}, expected a number of bytes above 0, or one with KB, MB or GB")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def is_complete(output: Path) -> bool:
    """Whether a training's output is there."""
    return (output / "moe.json").exists()


def say_complete(output: Path) -> None:
    """Say that nothing was left to train."""
    note(f"{output} is complete already; nothing was trained")


def quiet_bar(*, quiet: bool) -> Bar:
    """Return what shows the progress, and keep transformers' own notices off the terminal."""
    from distill.pretrained import quiet_transformers
    from scorer.cli.progress import Bar

    quiet_transformers()
    # Under torchrun the first process speaks.
    return Bar(sys.stderr, quiet=quiet or os.environ.get("RANK", "0") != "0")


def note(*lines: str) -> None:
    """Write lines to standard error."""
    say(*lines, err=True)
