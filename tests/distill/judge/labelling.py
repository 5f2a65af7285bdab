"""What the tests of labelling share: dialogues to judge, a judge in this process, and what its labels must be."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from distill.judge.labelling import Labelling, LabelSettings
from distill.judge.rubric import Rubric
from distill.judge.store import Store
from scorer.dialogue import HEADS, Dialogue
from scorer.inputs.corpus import Corpus
from tests.conftest import make_dialogue, record, write_lines
from tests.distill.judge.judge_server import Running, expected

KEY = "sk-very-secret-7391"


def dialogues(count: int) -> list[Dialogue]:
    """Return so many different dialogues."""
    return [make_dialogue(f"I am sad, number {i}.", f"So sorry {i}.") for i in range(count)]


def dialogues_file(path: Path, count: int) -> Path:
    """Write such dialogues, with ids d0, d1 ..."""
    return write_lines(path, [record(f"I am sad, number {i}.", f"So sorry {i}.", id=f"d{i}") for i in range(count)])


def settings(server: Running, **more: Any) -> LabelSettings:
    """Return settings for the test server."""
    given: dict[str, Any] = {"model": "judge-1", "base_url": server.url, "timeout": 1.0, "concurrency": 8}
    return LabelSettings(**given | more)


def options(server: Running, folder: Path, **more: Any) -> list[str]:
    """Return the options of `empathy label` for the test server; a value True is a flag."""
    given = {"model": "judge-1", "base-url": server.url, "store": folder / "store.sqlite", "timeout": 1} | {
        name.replace("_", "-"): value for name, value in more.items()
    }
    return [
        part
        for name, value in given.items()
        for part in ([f"--{name}"] if value is True else [f"--{name}", str(value)])
    ]


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


def labelling(server: Running, folder: Path, count: int, **more: Any) -> tuple[Labelling, Store]:
    """Return a labelling of so many dialogues, and its open store."""
    store = Store(folder / "store.sqlite")
    return Labelling(dialogues(count), Rubric(), settings(server, **more), store), store


def in_loop(coroutine: Any) -> Any:
    """Run a coroutine in a loop of its own."""
    return asyncio.run(coroutine)
