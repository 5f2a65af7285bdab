"""The `empathy` command: the group that every package's commands join, and the one that shows a scorer."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from typing import Any, NoReturn

import click
import cloup

from scorer.cli.entry import EXIT_INTERRUPTED, EXIT_TERMINATED, Terminated, answer_signals, end_on_signals
from scorer.cli.options import SCORER, Group, argument, command, option
from scorer.cli.streams import output_fault, say, settle
from scorer.errors import EmpathyError, MissingExtraError

COMMANDS = "empathy.commands"
"""Entry points of this group are the commands."""

EXIT_NOTHING_SCORED = 1
EXIT_ERROR = 2

_SECTIONS = {
    "Begin here": ("demo",),
    "Make a scorer": ("label", "rubric", "train", "teach", "export", "agree", "distill", "adapt", "push"),
    "Score": ("look", "score", "serve", "watch", "inspect", "gate", "check", "probe", "audit"),
    "Select training sets": ("select", "report", "synthesize"),
    "Train experts": ("moe", "run"),
}
"""The commands by what they are for, in the order of the data's way; those of other packages come last."""


class CommandGroup(Group):
    """Finds its commands among the installed packages' entry points, and turns errors into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all installed commands, in the order of the data's way."""
        installed = sorted({point.name for point in entry_points(group=COMMANDS)})
        known = [name for names in _SECTIONS.values() for name in names if name in installed]
        return known + [name for name in installed if name not in known]

    def list_sections(self, ctx: click.Context, include_default_section: bool = True) -> list[cloup.Section]:
        """Return the commands in their sections."""
        rest = {name: name for name in self.list_commands(ctx)}
        sections = []
        for title, names in (*_SECTIONS.items(), ("Others", ())):
            found = {name: self.get_command(ctx, name) for name in names or tuple(rest) if rest.pop(name, None)}
            if found:
                sections.append(cloup.Section(title, {name: made for name, made in found.items() if made}))
        return sections

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
            if point is None or (error.name or "").split(".")[0] == point.module.split(".")[0]:  # a fault of ours
                raise
            fail(str(_missing(point, error)))
        except UnicodeEncodeError as error:  # some libraries take no name that is no UTF-8, as of the folder this is in
            fail(f"{error.object[:300]}: the name is no UTF-8; rename the file or folder")
        except KeyboardInterrupt as error:
            command = self.get_command(ctx, ctx.invoked_subcommand or "")
            resumes = command is not None and any(option.name == "resume" for option in command.params)
            kept = "with -o, what was finished is kept: continue with --resume" if resumes else "no output was written"
            kept = str(error) or kept  # a command may know better
            terminated = isinstance(error, Terminated)
            say(f"empathy: {'terminated' if terminated else 'interrupted'}; {kept}", err=True)
            sys.exit(EXIT_TERMINATED if terminated else EXIT_INTERRUPTED)


def run() -> NoReturn:
    """Parse the command line and run: what `empathy` is. A usage error is one line, as every other error is.

    What a command does is done also where nobody can read what it prints; then the exit code is 2, but 0 where whoever
    read it has enough (`| head`).
    """
    answer_signals()
    settle()
    try:
        code = _run()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else EXIT_ERROR
    except (click.Abort, KeyboardInterrupt) as error:  # before or behind a command
        terminated = isinstance(error, Terminated) or isinstance(error.__cause__, Terminated)
        code = EXIT_TERMINATED if terminated else EXIT_INTERRUPTED
    end_on_signals()
    if (fault := output_fault()) and code < EXIT_ERROR:
        say(f"empathy: error: standard output: {fault}", err=True)
        code = EXIT_ERROR
    sys.exit(code)


def _run() -> int:
    try:
        result = main.main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return EXIT_ERROR
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        name = context.command_path if context else "empathy"
        fail(f"{error.format_message().rstrip('.')} (see {name} --help)")
    return result if isinstance(result, int) else 0


def fail(message: str) -> NoReturn:
    """Print one line and exit with code 2."""
    say(f"empathy: error: {' '.join(message.split())}", err=True)
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

    @command(point.name, help=f"({missing})", context_settings=anything)
    def unavailable() -> None:
        raise missing

    made: click.Command = unavailable
    return made


@cloup.command(cls=CommandGroup, examples=("empathy demo", "empathy score dialogues.jsonl -o scores.parquet"))
@click.version_option(version("empathy-scorer"), "--version", prog_name="empathy-scorer")
def main() -> None:
    """Score dialogues for sensibility and rationality, offline: the local scorer that replaces an LLM judge."""


@command(examples=("empathy inspect", "empathy inspect my-scorer --json"))
@argument("bundle", metavar="[BUNDLE]", required=False, type=SCORER)
@option("--json", "as_json", is_flag=True, help="Print all of scorer.json, and the bundle's hash.")
def inspect(bundle: Path | None, as_json: bool) -> None:
    """Verify a scorer; say where it comes from and what it is worth.

    BUNDLE is a folder, or USER/REPO[@REVISION] on the Hugging Face hub; left out, the starter that is included.
    """
    import json

    from scorer.bundle.trial import open_bundle
    from scorer.cli.lines import describe

    loaded = open_bundle(bundle)
    everything = {**loaded.to_json(), "sha256": loaded.sha256}
    say(*(json.dumps(everything, indent=1).splitlines() if as_json else describe(loaded)))
