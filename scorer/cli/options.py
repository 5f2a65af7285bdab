"""What all commands share: how a command looks, options that are read from settings records, and the common ones.

A command is made like this::

    from scorer.cli import options as opt

    @opt.command(examples=("empathy score dialogues.jsonl -o scores.parquet", "cat in.jsonl | empathy score -"))
    @opt.inputs_argument()
    @opt.option_group("Output", opt.output_option("OUT", "Where the scores go."), *opt.existing_options)
    @opt.option_group("Speed", *opt.settings_options(ScoreSettings, "batch_size", "window"))
    def score(inputs, output, **given): ...

An option of a settings record is None where the user did not give it, so that the record's own default counts:
``ScoreSettings(**chosen(given))``.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields
from itertools import combinations
from pathlib import Path
from typing import Any, get_type_hints

import click
import cloup

from scorer.apart import check_apart, check_json
from scorer.errors import BundleError, EmpathyError, OutputError
from scorer.hub.names import hub_name
from scorer.locks import locked
from scorer.outputs import Existing
from scorer.settings import Setting, setting_of

Decorator = Callable[[Any], Any]
argument, option, option_group = cloup.argument, cloup.option, cloup.option_group

_CONTEXT = cloup.Context.settings(
    help_option_names=["-h", "--help"],
    show_default=True,
    max_content_width=100,
    formatter_settings=cloup.HelpFormatter.settings(col1_max_width=32, col2_min_width=30),
)


class Command(cloup.Command):
    """A command of `empathy`: groups of options, and examples that open its help."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), inside: bool = False, **more: Any) -> None:
        """Make a command as `click.Command` does, with ``examples`` of what a user types.

        ``inside`` says that an output may lie in an input, of whose folder only files with known names are read.
        """
        super().__init__(*args, **_with_context(more))
        self.examples, self.inside = examples, inside

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, unless an output is, holds or lies in an input (what else names a file is an input).

        Of two processes that would write one output, the second says so.
        """
        given = ctx.params
        for entry in self.params:
            if entry.name not in _READ_HERE:
                _check_text(given.get(entry.name or ""))
        outputs = {name: Path(given[name]) for name in _OUTPUTS if given.get(name) is not None}
        named = [
            name
            for entry in self.params
            if entry.name not in (*_OUTPUTS, "store_path") and not isinstance(entry.type, click.Choice)
            for name in _names(given.get(entry.name or ""))
            if os.path.lexists(name) or name == "-" or _may_be_read(name)
        ]
        for name, output in outputs.items():
            for path in (output, Path(f"{output}.rejects.jsonl")) if name != "pictures" else ():  # each guards itself
                check_apart(path, *named, inside=self.inside)
        store = [Path(given["store_path"])] if given.get("store_path") else []
        for one, other in combinations([*outputs.values(), *store], 2):
            if one.resolve() == other.resolve() or (one.exists() and other.exists() and one.samefile(other)):
                raise OutputError(f"{one}: would be written twice; name two files")
        if (found := ctx.params.get("json_path")) is not None:
            check_json(found, ctx.meta[_JSON_KEY])
        with ExitStack() as stack:
            if os.environ.get("RANK", "0") == "0":  # of torchrun's processes the first
                for path in outputs.values():
                    stack.enter_context(locked(path, shared=_shares(given)))
            return super().invoke(ctx)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the first sentence, the examples and the rest of the text."""
        _write_help(self.help, self.examples, formatter)


_OUTPUTS = ("output", "json_path", "rejects_path", "pictures", "write_bundle")
"""The parameters of commands that name what is written."""


def _may_be_read(name: str) -> bool:
    """Whether what is no file may name some: a pattern, an archive's member or file://, but no model or server."""
    return not name.startswith(("http://", "https://")) and bool(set(name) & set(":*?["))


def _shares(given: Mapping[str, Any]) -> bool:
    """Whether a command writes a part of its output, beside others that write theirs."""
    in_parts = given.get("fit") is not None or given.get("ray_shards") is not None
    return in_parts or getattr(given.get("share"), "count", 1) > 1


_READ_HERE = ("inputs", "data")
"""The parameters whose files are opened by this project alone, whatever bytes their names have."""


def _check_text(given: Any) -> None:
    """Raise EmpathyError for a name that is no UTF-8: libraries that read and write files take none such."""
    for name in given if isinstance(given, (list, tuple)) else (given,):
        if isinstance(name, (str, Path)) and not _is_text(str(name)):
            raise EmpathyError(f"{name}: the name is no UTF-8; choose another, or rename the file")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _names(given: Any) -> list[str]:
    """Return the names that a parameter holds, with the record beside each; of NAME=MODEL the model."""
    many = given if isinstance(given, (list, tuple)) else (given,)
    names = [str(name) for name in many if isinstance(name, (str, Path)) and str(name)]
    names += [name.partition("=")[2] for name in names if "=" in name and not os.path.lexists(name)]
    return [*names, *(f"{name}.meta.json" for name in names if name != "-")]


class Group(cloup.Group):
    """A command that has commands of its own."""

    command_class = Command

    def __init__(self, *args: Any, examples: Sequence[str] = (), **more: Any) -> None:
        """Make a group as `click.Group` does, with ``examples`` of what a user types."""
        super().__init__(*args, **_with_context(more))
        self.examples = examples

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the first sentence, the examples and the rest of the text."""
        _write_help(self.help, self.examples, formatter)


def _with_context(more: dict[str, Any]) -> dict[str, Any]:
    return {**more, "context_settings": {**_CONTEXT, **(more.get("context_settings") or {})}}


def _write_help(text: str | None, examples: Sequence[str], formatter: click.HelpFormatter) -> None:
    first, _, rest = inspect.cleandoc(text or "").partition("\n\n")
    formatter.write_paragraph()
    with formatter.indentation():
        formatter.write_text(first)
    if examples:
        formatter.write_paragraph()
        formatter.write_heading("Examples")
        for example in examples:
            formatter.write(f"  {example}\n")
    if rest:
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(rest)


def command(name: str | None = None, *, examples: Sequence[str] = (), **more: Any) -> Decorator:
    """Make a command. The first paragraph of its docstring is one sentence of at most 60 characters: lists show it."""
    return cloup.command(name, cls=Command, examples=examples, **more)


def group(name: str | None = None, *, examples: Sequence[str] = (), **more: Any) -> Decorator:
    """Make a group of commands."""
    return cloup.group(name, cls=Group, examples=examples, **more)


def settings_options(record: type, *names: str, **flags: str) -> list[Decorator]:
    """Return the options of some fields of a settings record, all that have a ``setting`` if none is named.

    The option of ``batch_size`` is --batch-size; ``flags`` may call it otherwise (``max_length="--tokens"``).
    """
    hints = get_type_hints(record)
    known = {entry.name: (entry, found) for entry in fields(record) if (found := setting_of(entry)) is not None}
    made = []
    for name in names or known:
        entry, allowed = known[name]
        flag = flags.get(name, f"--{name.replace('_', '-')}")
        made.append(_option(name, flag, hints[name], entry.default, allowed))
    return made


def _option(name: str, flag: str, kind: Any, default: Any, allowed: Setting) -> Decorator:
    if kind is bool and default is False:
        return option(flag, name, is_flag=True, default=None, show_default=False, help=allowed.text)
    shown = allowed.shown or (f"{default:g}" if isinstance(default, (int, float)) else default)
    if kind is bool:
        flag, shown = f"{flag}/--no-{flag.removeprefix('--')}", "yes" if default else "no"
    text = f"{allowed.text}  [default: {shown}]" if isinstance(shown, str) else allowed.text
    return option(flag, name, type=_type(kind, allowed), default=None, show_default=False, help=text)


def _type(kind: Any, allowed: Setting) -> Any:
    if allowed.choices:
        return click.Choice(list(allowed.choices))
    numbers = {found for found in (getattr(kind, "__args__", None) or (kind,)) if found in (int, float, bool)}
    # Ranges are checked by the record itself, whose errors say the same to those who come from Python.
    return numbers.pop() if len(numbers) == 1 else str


def chosen(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that the user gave; for the others the settings record's own default counts."""
    return {name: value for name, value in given.items() if value is not None}


def inputs_argument(metavar: str = "IN...", text: str = "", *, required: bool = True) -> Decorator:
    """Return the argument of files, folders, globs, URLs or - for standard input, as ``inputs``."""
    return argument("inputs", metavar=metavar, nargs=-1, required=required, help=text or None)


def output_option(metavar: str, text: str, *, required: bool = True, kind: Any = None) -> Decorator:
    """Return -o, as ``output``: a path, or what another type makes of it."""
    kind = kind or click.Path(path_type=Path)
    return option("-o", "--output", metavar=metavar, type=kind, required=required, help=text)


def path_option(flag: str, metavar: str, text: str) -> Decorator:
    """Return an option that names a file or folder."""
    return option(flag, metavar=metavar, type=click.Path(path_type=Path), help=text)


existing_options: tuple[Decorator, ...] = (
    option("--resume", is_flag=True, help="Continue an interrupted run, or begin if there is none."),
    option("--overwrite", is_flag=True, help="Replace an output that exists."),
)
"""--resume and --overwrite; ``existing_of`` turns them into what the core takes."""


def existing_of(*, resume: bool, overwrite: bool) -> Existing:
    """Return what to do with an output that exists; EmpathyError if both options are given."""
    if resume and overwrite:
        raise EmpathyError("--resume continues a run and --overwrite replaces it; give one of them")
    return "resume" if resume else "overwrite" if overwrite else "error"


class _ScorerType(click.Path):
    """A bundle's folder or a name on the hub; as a path, ``./user/repo`` would look like one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        here = isinstance(value, str) and (value.startswith((".", "~")) or value.endswith(("/", os.sep)))
        if here and hub_name(Path(value)) is not None:
            raise BundleError(f"{value}: no such folder, expected a scorer bundle (made by `empathy export`)")
        return super().convert(value, param, ctx)


SCORER = _ScorerType(path_type=Path)
"""The type of an option or argument that names a scorer: a folder, user/repo or user/repo@revision."""

scorer_option = option(
    "--scorer",
    "bundle",
    metavar="BUNDLE",
    type=SCORER,
    help="A folder made by `empathy export`, or USER/REPO[@REVISION] on the hub.  [default: the included starter]",
)

engine_option = option(
    "--engine",
    default="auto",
    metavar="NAME",
    help="What runs the network: auto, onnxruntime, openvino, onnxruntime-cuda or onnxruntime-tensorrt.",
)

quiet_option = option("-q", "--quiet", is_flag=True, help="No progress and no closing lines; warnings and errors only.")

_JSON_KEY = "key of --json"


def json_option(key: str) -> Decorator:
    """Return --json, as ``json_path``; ``key`` is in all that the command writes there: no other JSON is replaced."""

    def noted(context: click.Context, _option: click.Parameter, path: Path | None) -> Path | None:
        context.meta[_JSON_KEY] = key
        return path

    text = "Write every figure here as JSON."
    return option("--json", "json_path", metavar="FILE", type=click.Path(path_type=Path), callback=noted, help=text)


def _mapping(_context: click.Context, _option: click.Parameter, given: Sequence[str]) -> dict[str, str]:
    """Return the column of each field; EmpathyError names the fields that there are."""
    from scorer.inputs.parse import FIELDS

    found: dict[str, str] = {}
    for entry in given:
        name, equals, column = (part.strip() for part in entry.partition("="))
        if not equals or not column or name not in FIELDS:
            raise EmpathyError(
                f"--map {ascii(entry)[1:-1]}: expected FIELD=COLUMN, where FIELD is one of {', '.join(FIELDS)}"
            )
        if name in found:
            raise EmpathyError(f"--map says twice what {name} is: {found[name]!a} and {column!a}")
        found[name] = column
    return found


map_option = option(
    "--map",
    "fields",
    metavar="FIELD=COLUMN",
    multiple=True,
    callback=_mapping,
    help="For layouts that are not known: the column of a field (response, context, messages, id, ...) or the name of "
    "a speaker (user_name, assistant_name), one each.",
)
"""--map, as ``fields``: a dict, empty where it was not given, that ``Corpus(..., fields=...)`` takes."""
