"""docs/commands.md holds what the commands print; `python -m tests.test_docs` writes it anew (`make docs`)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click

from scorer.cli.main import main

ROOT = Path(__file__).parent.parent
COMMANDS = ROOT / "docs" / "commands.md"


def commands_page() -> str:
    """Return the page: the help of the group, of each of this repository's commands and of their subcommands."""
    context = click.Context(
        main, info_name="empathy", max_content_width=100, terminal_width=100, **main.context_settings
    )
    head = "# Commands\n\nWhat `--help` prints; made by `make docs`, do not edit.\n"
    return "\n".join([head, *_blocks("empathy", main, context)])


def _blocks(title: str, command: click.Command, context: click.Context) -> Iterator[str]:
    yield _block(title, command, context)
    if not isinstance(command, click.Group):
        return
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None
        below = click.Context(inner, info_name=name, parent=context, max_content_width=100, terminal_width=100)
        yield from _blocks(f"{title} {name}", inner, below)


def _block(title: str, command: click.Command, context: click.Context) -> str:
    return f"## {title}\n\n```\n{command.get_help(context)}\n```\n"


def test_the_commands_page_is_what_the_commands_print() -> None:
    assert COMMANDS.read_text() == commands_page(), "run `make docs`"


def test_the_readme_names_only_files_and_commands_that_exist() -> None:
    text = (ROOT / "README.md").read_text()
    for path in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (ROOT / path).exists(), path
    context = click.Context(main)
    for name in re.findall(r"^empathy ([a-z]+)", text, re.MULTILINE):
        assert name in main.list_commands(context), name


def reasons_in_code() -> set[str]:
    """Return every reason that a reject can have: the constant that is passed where a reason belongs."""
    place = {"RecordError": 0, "reject": 0, "Reject": 2}
    reasons = set()
    for path in (ROOT / "scorer").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            argument = node.args[place[name]] if name in place and len(node.args) > place[name] else None
            if isinstance(argument, ast.Constant):
                reasons.add(str(argument.value))
    return reasons


def test_the_documentation_lists_every_reason_of_a_reject() -> None:
    listed = set(re.findall(r"^\| `([a-z0-9_]+)` \|", (ROOT / "docs" / "scoring.md").read_text(), re.MULTILINE))
    assert listed == reasons_in_code()


if __name__ == "__main__":
    COMMANDS.write_text(commands_page())
