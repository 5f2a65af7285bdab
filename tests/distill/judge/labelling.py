"""What the tests of labelling share: dialogues to judge, how the test server is asked, and what its labels must be."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from distill.judge.rubric import Rubric
from distill.settings import LabelSettings
from scorer.dialogue import HEADS, Dialogue
from scorer.inputs.corpus import Corpus
from tests import forks
from tests.conftest import make_dialogue, record, write_lines
from tests.distill.judge.judge_server import Running, expected

KEY = "sk-very-secret-7391"


def environment() -> dict[str, str]:
    """Return this process's environment, with the key of the test server."""
    return {**os.environ, "OPENAI_API_KEY": KEY}


def dialogues(count: int) -> list[Dialogue]:
    """Return so many different dialogues."""
    return [make_dialogue(f"I am sad, number {i}.", f"So sorry {i}.") for i in range(count)]


def dialogues_file(path: Path, count: int) -> Path:
    """Write such dialogues, with ids d0, d1 ..."""
    return write_lines(path, [record(f"I am sad, number {i}.", f"So sorry {i}.", id=f"d{i}") for i in range(count)])


def settings(server: Running, **more: Any) -> LabelSettings:
    """Return settings for the test server."""
    given: dict[str, Any] = {"model": "judge-1", "base_url": server.url, "timeout": 20, "concurrency": 8}
    return LabelSettings(**given | more)


def options(server: Running, folder: Path, **more: Any) -> list[str]:
    """Return the options of `empathy label` for the test server; a value True is a flag."""
    given = {"model": "judge-1", "base_url": server.url, "store": folder / "store.sqlite", "timeout": 20} | more
    flags = {f"--{name.replace('_', '-')}": value for name, value in given.items()}
    return [part for flag, value in flags.items() for part in ([flag] if value is True else [flag, str(value)])]


def true_scores(dialogue: Dialogue) -> tuple[int, int]:
    """Return the scores that the test server gives a dialogue."""
    return expected(Rubric().messages(dialogue)[1]["content"])


def check_labels(output: Path) -> list[dict[str, Any]]:
    """Return the records of a file of labels, after checking that every score is the server's."""
    records = [json.loads(line) for line in output.read_text().splitlines()]
    for found, read in zip(records, Corpus([str(output)], unique_ids=False), strict=True):
        assert isinstance(read, Dialogue)
        assert tuple(found[head] for head in HEADS) == true_scores(read)
    return records


def started(*arguments: object) -> forks.Process:
    """Start the command, and say what it writes to standard error."""
    return forks.empathy(*arguments, env=environment(), stderr=True, text=False)
