"""The documentation says what is there; `python -m tests.test_docs` (`make docs`) writes docs/commands.md."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from scorer.cli.main import main

ROOT = Path(__file__).parent.parent
COMMANDS = ROOT / "docs" / "commands.md"
COLLEAGUES = ROOT / "CONTRIBUTING.md"
PAGES = [ROOT / "README.md", COLLEAGUES, ROOT / "benchmarks/README.md", *sorted(ROOT.glob("docs/**/*.md"))]
FOLLOWED = ["quickstart", "tutorials/select"]
"""Pages whose commands can be run as they stand, with the examples as dialogues.jsonl."""


def commands_page() -> str:
    """Return the page: the help of the group, of each of this repository's commands and of their subcommands."""
    head = "# Commands\n\nWhat `--help` prints; made by `make docs`, do not edit.\n"
    return "\n".join([head, *_blocks("empathy", main, None)])


def _blocks(title: str, command: click.Command, parent: click.Context | None) -> Iterator[str]:
    width = {"max_content_width": 100, "terminal_width": 100}
    context = command.context_class(
        command, info_name=title.rpartition(" ")[2], parent=parent, **{**command.context_settings, **width}
    )
    yield f"## {title}\n\n```\n{click.unstyle(command.get_help(context))}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _blocks(f"{title} {name}", inner, context)


def test_the_commands_page_is_what_the_commands_print() -> None:
    assert COMMANDS.read_text() == commands_page(), "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for path, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", page.read_text()):
        target = page.parent / path if path else page
        assert target.exists(), path
        headings = re.findall(r"^#+ (.*)", target.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in [re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings]


def command_lines(pages: Sequence[Path]) -> Iterator[str]:
    """Yield every line of the pages that begins with a command of ours, its continuation lines joined, no comment."""
    for page in pages:
        if page != COMMANDS:
            text = page.read_text().replace("\\\n", " ")
            for line in re.findall(r"^    (?:.*(?:\| |\$\(which )|)empathy\)? ([a-z].*)", text, re.MULTILINE):
                yield re.split(r" +#| \| ", line)[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLLOWED)
def test_a_tutorial_can_be_followed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "examples" / "dialogues.jsonl", tmp_path)
    monkeypatch.chdir(tmp_path)
    for line in command_lines([ROOT / "docs" / f"{name}.md"]):
        done = CliRunner().invoke(main, shlex.split(line), catch_exceptions=False)
        assert done.exit_code == int(line.startswith("probe")), f"empathy {line}\n{done.output}"


@pytest.mark.parametrize("line", list(dict.fromkeys(command_lines(PAGES))))
def test_the_commands_that_the_pages_show_exist_with_their_options(line: str) -> None:
    command: click.Command = main
    words = shlex.split(line)
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None
        command = found
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    given = {word.split("=")[0] for word in words if re.match("-[-a-z]", word)}
    assert given <= known


@pytest.mark.parametrize("package", ["scorer", "selection", "distill", "moe"])
def test_the_plan_of_the_house_lists_every_module_once(package: str) -> None:
    plan = COLLEAGUES.read_text().partition(f"### `{package}/`")[2].partition("\n#")[0]
    modules = [str(path.relative_to(ROOT / package).with_suffix("")) for path in (ROOT / package).rglob("*.py")]
    listed = re.findall(r"^\| `(.*?)` \|", plan, re.MULTILINE)
    assert sorted(listed) == sorted(name for name in modules if not name.endswith("__init__"))


def test_the_paths_that_contributing_names_exist() -> None:
    text = COLLEAGUES.read_text()
    paths = re.findall(r"`((?:scorer|selection|distill|moe|tests|docs)/[\w/.]+)`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("package", ["scorer", "selection", "distill", "moe"])
def test_no_module_and_no_folder_is_longer_than_contributing_says(package: str) -> None:
    said = re.search(r"No module has more than (\d+) lines and no folder more than (\d+)", COLLEAGUES.read_text())
    assert said
    lines, modules = map(int, said.groups())
    paths = [*(ROOT / package).rglob("*.py")]
    assert [path for path in paths if len(path.read_text().splitlines()) > lines] == []
    assert [folder for folder, count in Counter(path.parent for path in paths).items() if count > modules] == []


def reasons_in_code() -> set[str]:
    """Return every reason that a reject can have: the constant that is passed where a reason belongs."""
    place = {"RecordError": 0, "reject": 0, "Reject": 2}
    reasons = set()
    for path in (ROOT / "scorer").rglob("*.py"):
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
