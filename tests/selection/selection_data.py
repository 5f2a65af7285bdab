"""What the tests of selections share: dialogues that are selected from, and a selection read back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from click.testing import CliRunner, Result

from scorer.cli.main import main
from scorer.dialogue import Dialogue
from scorer.inputs.corpus import Corpus
from scorer.outputs import json_text
from scorer.run.score_table import read_scores
from selection.files.labels import LabelTable, read_labels
from selection.select import select_sets
from selection.settings import SelectSettings
from tests.conftest import record, write_lines
from tests.scorer.run.score_data import SCORES, Scores, write_scores

FILES = ["discard.jsonl", "rationality.jsonl", "selection.json", "selection.parquet", "sensibility.jsonl"]
"""What a selection by the paper's rule writes."""


def records(ids: Sequence[str] = tuple(SCORES), **more: Any) -> list[dict[str, Any]]:
    """Return a record an id, each with its own text."""
    return [record(f"i am {id_}", f"so sorry, {id_}", id=id_, **more) for id_ in ids]


@dataclass(frozen=True)
class Selected:
    """A selection as it lies on disk."""

    info: dict[str, Any]
    rows: list[dict[str, Any]]
    lines: dict[str, list[dict[str, Any]]]

    @property
    def sets(self) -> dict[str, str]:
        """The set of each id."""
        return {row["id"]: row["set"] for row in self.rows}

    @property
    def reasons(self) -> dict[str, str]:
        """The reason of each id."""
        return {row["id"]: row["reason"] for row in self.rows}


def read_selection(folder: Path) -> Selected:
    """Read a selection and check what holds for every one: the table, the files and the counts say the same."""
    info = json.loads((folder / "selection.json").read_text())
    rows = pq.read_table(folder / "selection.parquet").to_pylist()
    lines = {name: read_lines(folder / entry["file"]) for name, entry in info["sets"].items()}
    for name, entry in info["sets"].items():
        mine = [row for row in rows if row["set"] == name]
        assert [line["id"] for line in lines[name]] == [row["id"] for row in mine]
        assert (entry["count"], entry["borderline"]) == (len(mine), sum(row["borderline"] for row in mine))
        assert entry["share"] == len(mine) / len(rows)
    assert sum(entry["count"] for entry in info["sets"].values()) == info["dialogues"] == len(rows)
    reasons = [row["reason"] for row in rows]
    assert info["reasons"] == {reason: reasons.count(reason) for reason in set(reasons)}
    assert info["borderline"] == sum(row["borderline"] for row in rows)
    assert info["judged"] == sum(row["judged"] for row in rows)
    rejects = folder / "rejects.jsonl"
    found = [line["reason"] for line in read_lines(rejects)] if rejects.exists() else []
    assert info["rejected"] == {"count": len(found), "reasons": {name: found.count(name) for name in set(found)}}
    assert rejects.exists() == bool(found)
    return Selected(info, rows, lines)


def labelled(id_: str | None, scores: tuple[Any, Any], text: str = "", **more: Any) -> dict[str, Any]:
    """Return a record with a judge's scores."""
    known = {} if id_ is None else {"id": id_}
    return record("i am sad", text or f"sorry {id_}", sensibility=scores[0], rationality=scores[1], **known, **more)


def labels_of(folder: Path, items: Sequence[object]) -> LabelTable:
    """Return the labels of records."""
    return read_labels([str(write_lines(folder / "labels.jsonl", items))])


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the values of JSON lines, which end with a line feed and nothing else."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def dialogues(*paths: Path) -> list[Dialogue]:
    """Return what the scorer reads in files; every record has to be a dialogue."""
    found = list(Corpus([str(path) for path in paths]))
    assert all(isinstance(item, Dialogue) for item in found), found
    return [item for item in found if isinstance(item, Dialogue)]


def select_from(folder: Path, items: Sequence[object], scores: Scores | None = SCORES, **more: Any) -> Selected:
    """Select from records, by their scores or (None) by their own labels; settings by their names."""
    folder.mkdir(exist_ok=True)
    path = str(write_lines(folder / "in.jsonl", items))
    known = {name: more.pop(name) for name in ("raw_cuts",) if name in more}
    given = {name: more.pop(name) for name in ("labels", "aim", "tokenizer", "overwrite", "strict") if name in more}
    table, keep = None, more.pop("keep_records", False)
    if scores is not None:
        shutil.rmtree(folder / "scores", ignore_errors=True)
        table = read_scores(write_scores(folder / "scores", scores), **known)
    how: dict[str, Any] = {"labels": "required", "unique_ids": False} if table is None else {}
    corpus = Corpus([path], keep_records=keep, **how)
    found = select_sets(corpus, folder / "out", SelectSettings(**more), table=table, **given)
    assert found.path.resolve() == (folder / "out").resolve()
    result = read_selection(folder / "out")
    assert result.info == json.loads(json_text(found.info))
    return result


def prepare(folder: Path) -> Path:
    """Write dialogues into in.jsonl, their scores into s.jsonl and a judge's labels of two into labels.jsonl."""
    write_lines(folder / "in.jsonl", records())
    write_scores(folder / "s.jsonl")
    write_lines(folder / "labels.jsonl", records(["b", "g"], sensibility=9, rationality=1, judge={"model": "j"}))
    return folder


def invoke(*arguments: str, command: str = "select") -> Result:
    """Run the command in this process, which is as good for what it says and ten times faster."""
    result = CliRunner().invoke(main, [command, *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def fine(*arguments: str) -> Result:
    """Run the command, which has to succeed."""
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    return result


def refusal(*arguments: str) -> str:
    """Run the command, which has to refuse; return its one line."""
    result = invoke(*arguments)
    return one_line(result.exit_code, result.stderr)


def names(folder: Path) -> list[str]:
    """Return what lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def one_line(code: int, stderr: str) -> str:
    """Return the one line of an error with exit code 2."""
    assert code == 2, stderr
    (line,) = stderr.strip().splitlines()
    assert line.startswith("empathy: error: ")
    return line.removeprefix("empathy: error: ")
