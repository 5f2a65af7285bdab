"""`--map FIELD=COLUMN`: the layouts that nobody foresaw."""

from __future__ import annotations

import json
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest

from scorer.bundle.bundle import Bundle
from scorer.errors import EmpathyError, InputError
from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import FIELDS
from tests.conftest import Run, write_lines

ROOT = Path(__file__).parent.parent

ODD = {"question": "I lost my dog today.", "answer": "I am so sorry.", "uid": 7, "response": "the old answer"}


def test_mapped_columns_go_before_those_that_would_be_found(tmp_path: Path) -> None:
    """The answer that is named is the one that is judged."""
    source = tmp_path / "odd.jsonl"
    source.write_text(json.dumps(ODD) + "\n")
    (dialogue,) = Corpus([str(source)], fields={"response": "answer", "context": "question", "id": "uid"})
    assert (dialogue.id, [turn.content for turn in dialogue.turns]) == ("7", [ODD["question"], ODD["answer"]])  # type: ignore[union-attr]


def test_a_field_that_is_none_names_those_that_are(tmp_path: Path) -> None:
    """From Python and as an option."""
    from scorer.cli.options import _mapping

    with pytest.raises(InputError, match="fields names 'respnse', expected some of response, context"):
        Corpus([str(tmp_path)], fields={"respnse": "answer"})
    for given in ("respnse=answer", "response", "response="):
        with pytest.raises(EmpathyError, match="FIELD is one of response, context"):
            _mapping(None, None, [given])  # type: ignore[arg-type]
    with pytest.raises(EmpathyError, match="says twice what response is"):
        _mapping(None, None, ["response=a", "response=b"])  # type: ignore[arg-type]


def commands() -> dict[str, click.Command]:
    """Return each command of the project by name, those of groups as "moe generate"."""
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["empathy.commands"]
    found: dict[str, click.Command] = {}
    for name, point in points.items():
        module, _, attribute = point.split(" ")[0].partition(":")
        command = getattr(import_module(module), attribute)
        parts = command.commands.items() if isinstance(command, click.Group) else ()
        found.update({f"{name} {part}": one for part, one in parts} or {name: command})
    return found


NO_DIALOGUES = {"push", "inspect", "rubric show", "moe compose", "moe expert", "moe train", "serve", "watch"}
"""Commands that read none, or the sets that `select` wrote."""


@pytest.mark.parametrize("name", commands())
def test_every_command_that_reads_dialogues_takes_columns(name: str) -> None:
    command = commands()[name]
    options = {option for parameter in command.params for option in parameter.opts}
    assert ("--map" in options) is (name not in NO_DIALOGUES)
    if "--map" in options:
        with pytest.raises(
            EmpathyError, match=f"--map respnse=x: expected FIELD=COLUMN, where FIELD is one of {FIELDS[0]}"
        ):
            command.main(["--map", "respnse=x"], standalone_mode=False, resilient_parsing=False)


MAP = ("--map", "response=answer", "--map", "context=question", "--map", "id=uid")


def scored(empathy: Run, bundle: Bundle, tmp_path: Path, *more: str, name: str = "odd.jsonl") -> list[dict[str, Any]]:
    out = tmp_path / f"{name}.scores.jsonl"
    result = empathy("score", tmp_path / name, "-o", out, "--scorer", bundle.path, *more)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_score_of_mapped_columns_is_that_of_the_dialogue_they_are(empathy: Run, bundle: Bundle, tmp_path: Path) -> None:
    plain = {
        "id": "7",
        "messages": [{"role": "user", "content": ODD["question"]}, {"role": "assistant", "content": ODD["answer"]}],
    }
    write_lines(tmp_path / "odd.jsonl", [ODD])
    write_lines(tmp_path / "plain.jsonl", [plain])
    (tmp_path / "odd.csv").write_text("frage;antwort;nr\nI lost my dog today.;I am so sorry.;7\n")
    assert scored(empathy, bundle, tmp_path, *MAP) == scored(empathy, bundle, tmp_path, name="plain.jsonl")
    german = ("--map", "response=antwort", "--map", "context=frage", "--map", "id=nr")
    assert scored(empathy, bundle, tmp_path, *german, name="odd.csv") == scored(
        empathy, bundle, tmp_path, *MAP, "--overwrite"
    )


def test_column_that_no_record_has_is_told_with_those_that_are_there(
    empathy: Run, bundle: Bundle, tmp_path: Path
) -> None:
    write_lines(tmp_path / "odd.jsonl", [ODD])
    result = empathy("score", tmp_path / "odd.jsonl", "--scorer", bundle.path, "--map", "response=nope")
    assert result.returncode == 1
    assert "no_column" in result.stderr
    assert "keys answer, question, response, uid" in result.stderr


def test_check_and_label_read_mapped_columns(empathy: Run, bundle: Bundle, tmp_path: Path) -> None:
    write_lines(tmp_path / "odd.jsonl", [ODD])
    golden = tmp_path / "golden.jsonl"
    assert empathy("check", golden, "--write", tmp_path / "odd.jsonl", "--scorer", bundle.path, *MAP).returncode == 0
    (line,) = golden.read_text().splitlines()
    assert json.loads(line)["messages"][-1]["content"] == ODD["answer"]
    told = empathy("label", tmp_path / "odd.jsonl", "--model", "m", "--dry-run", *MAP)
    assert told.returncode == 0, told.stderr
    assert "to ask: 1 questions" in told.stdout
