"""`--keep`: columns of the input in the score file, in every kind of output and however a run is read or divided."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scorer.cli.lines import closing_lines, warnings
from scorer.dialogue import HEADS
from scorer.errors import EmpathyError, InputError, OutputError
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.reading.windows import Share
from scorer.run.score import Summary, score_files
from scorer.run.score_file import kept_shard, score_line
from scorer.run.score_table import read_columns
from scorer.run.score_table import read_scores as read_table
from scorer.run.settings import ScoreSettings
from scorer.run.stream import score_stream
from tests.conftest import Killed, kill_after, read_scores, record, varied, write_lines

ODD = ["", "a,b", 'say "no"', "two\nlines", "carriage\rreturn", "grüße 😢", "null", "7", '{"a": 1}', " x "]
VALUES: dict[str, list[Any]] = {
    "text": ODD,
    "whole": [0, -1, 7, None, 1 << 62, 3, 4, 5, 6, 7],
    "number": [0.5, 1, -2, 1234.5678, None, 3.0, 0.1, 2, 2, 2],
    "truth": [True, False, None, True, True, True, True, True, True, True],
    "mixed": [1, "1", None, 0.5, [1, "b"], {"c": None}, True, "", "x", -1],
    "long": [(1 << 70) + 1, *range(9)],
    "nothing": [None] * 10,
    "meta": [{"user": f"u{row}", "n": row} for row in range(10)],
}
KEEP = (*VALUES, "meta.user")


def write(path: Path, count: int = 10) -> Path:
    """Write dialogues with these columns, over and over."""
    said = [[turn.content for turn in dialogue.turns] for dialogue in varied(count)]
    rows = [{name: column[row % 10] for name, column in VALUES.items()} for row in range(count)]
    return write_lines(path, [record(*texts, id=f"d{row}", **rows[row]) for row, texts in enumerate(said)])


def run(scorer: Scorer, source: Path, output: Path, keep: tuple[str, ...] = KEEP, **more: Any) -> Summary:
    progress = more.pop("progress", None)
    settings = ScoreSettings(keep=keep, **more)
    return score_files(scorer, Corpus([str(source)], keep_records=keep), output, settings, progress)


def as_text(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else json.dumps(value, separators=(",", ":"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("keep") / "in.jsonl")


def test_json_lines_hold_the_values_as_they_came(scorer: Scorer, source: Path, tmp_path: Path) -> None:
    run(scorer, source, tmp_path / "out.jsonl", window=3)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().split("\n")[:-1]]
    assert list(lines[0]) == ["id", *HEADS, *KEEP]
    for name, column in VALUES.items():
        assert [line[name] for line in lines] == column, name
    assert [line["meta.user"] for line in lines] == [f"u{row}" for row in range(10)]


def test_csv_holds_text_and_json(scorer: Scorer, source: Path, tmp_path: Path) -> None:
    run(scorer, source, tmp_path / "out.csv", window=3)
    with open(tmp_path / "out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for name, column in VALUES.items():
        assert [row[name] for row in rows] == [as_text(value) or "" for value in column], name
    assert '"",' in (tmp_path / "out.csv").read_text().splitlines()[1]  # a text that is empty is not null


def test_one_parquet_file_has_types_where_a_whole_column_agrees(scorer: Scorer, source: Path, tmp_path: Path) -> None:
    run(scorer, source, tmp_path / "out.parquet", window=3)
    table = pq.read_table(tmp_path / "out.parquet")
    types = {"whole": pa.int64(), "truth": pa.bool_(), "number": pa.float64()}
    for name, column in VALUES.items():
        assert table.schema.field(name).type == types.get(name, pa.string()), name
        typed = name in types
        assert table[name].to_pylist() == (column if typed else [as_text(value) for value in column]), name
    few = write_lines(tmp_path / "b.jsonl", [record("a", "b", n=value) for value in (1, 2.5, None)])
    run(scorer, few, tmp_path / "b.parquet", ("n",), window=1)
    assert pq.read_table(tmp_path / "b.parquet")["n"].to_pylist() == [1.0, 2.5, None]
    assert pq.read_schema(tmp_path / "b.parquet").field("n").type == pa.float64()


def test_shards_hold_text(scorer: Scorer, source: Path, tmp_path: Path) -> None:
    run(scorer, source, tmp_path / "out", window=3)
    table = read_scores(tmp_path / "out")  # one schema, whatever a shard holds
    for name, column in VALUES.items():
        assert table[name].to_pylist() == [as_text(value) for value in column], name


@pytest.mark.parametrize("name", ["out.parquet", "out.csv", "out.jsonl", "out"])
def test_readers_change_no_byte(scorer: Scorer, tmp_path: Path, name: str) -> None:
    source = write(tmp_path / "in.jsonl", 200)
    found = []
    for readers in (0, 1, 4):
        output = tmp_path / str(readers) / name
        output.parent.mkdir()
        run(scorer, source, output, window=16, readers=readers)
        files = sorted(path for path in output.parent.rglob("*") if path.is_file())
        found.append({path.name: path.read_bytes() for path in files})
    assert found[0] == found[1] == found[2]


def test_a_killed_run_resumes_to_the_same_bytes_and_keeps_its_columns(scorer: Scorer, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", 60)
    run(scorer, source, tmp_path / "whole.parquet", window=8)
    output = tmp_path / "out.parquet"
    with pytest.raises(Killed):
        run(scorer, source, output, window=8, existing="resume", progress=kill_after(3))
    for keep in ((), ("text",)):
        with pytest.raises(OutputError, match=r"was begun with keep text, whole, .* and this run has (nothing|text);"):
            run(scorer, source, output, keep, window=8, existing="resume")
    text = source.read_text()
    source.write_text(text.replace("grüße", "gruesse").replace("gr\\u00fc\\u00dfe", "gruesse"))
    with pytest.raises(OutputError, match="changed or reordered"):
        run(scorer, source, output, window=8, existing="resume")
    source.write_text(text)
    assert run(scorer, source, output, window=8, existing="resume").resumed == 24
    assert output.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    with pytest.raises(OutputError, match=r"was made with keep text, .* and this run has nothing"):
        run(scorer, source, output, (), window=8, existing="resume")


def test_processes_that_share_a_folder_keep_the_same(scorer: Scorer, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", 60)
    run(scorer, source, tmp_path / "whole", window=8)
    for index in (1, 0):
        run(scorer, source, tmp_path / "out", window=8, share=Share(index, 2))
    assert read_scores(tmp_path / "out").equals(read_scores(tmp_path / "whole"))


def test_a_column_that_is_nowhere_is_said_at_once_and_at_the_end(scorer: Scorer, tmp_path: Path) -> None:
    class Told:
        said: tuple[str, ...] = ()

        def stage(self, *_: Any) -> None: ...
        def update(self, *_: Any, **__: Any) -> None: ...
        def say(self, text: str) -> None:
            self.said = (*self.said, text)

    told = Told()
    rows = [record("a", "b", uid=1), record("a", "c", uid=2, late=3)]
    source = write_lines(tmp_path / "in.jsonl", rows)
    summary = run(scorer, source, tmp_path / "out.jsonl", ("uuid", "late", "uid.x"), window=1, progress=told)
    where = "no such column in the first 1 records; the first has keys messages, uid"
    assert told.said == tuple(f"--keep {name}: {where}" for name in ("uuid", "late", "uid.x"))
    corpus = Corpus([str(source)])
    warned = [line for line in warnings(summary.tally, scorer, corpus) if "--keep" in line]
    assert [line.split(": ")[0] for line in warned] == ["--keep uuid", "--keep uid.x"]
    assert "--keep late: null for 1 of 2 dialogues, which have no such column" in list(
        closing_lines(summary, scorer, tmp_path / "out.jsonl")
    )
    assert [json.loads(line)["late"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [None, 3]


@pytest.mark.parametrize(("keep", "message"), [(("id",), "a column of that name"), (("a", "a"), "name it once")])
def test_a_name_that_cannot_be_kept_is_refused(keep: tuple[str, ...], message: str) -> None:
    with pytest.raises(EmpathyError, match=message):
        ScoreSettings(keep=keep)


def test_a_corpus_without_its_records_cannot_keep(scorer: Scorer, source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="keep_records=True"):
        score_files(scorer, Corpus([str(source)]), tmp_path / "out.csv", ScoreSettings(keep=("a",)))


@pytest.mark.parametrize("name", ["out.parquet", "out.csv", "out.jsonl", "out"])
def test_kept_columns_are_never_taken_for_the_scorers(scorer: Scorer, tmp_path: Path, name: str) -> None:
    """An ``oof.parquet`` of training has ``fold`` and ``content``: a corpus may have such columns, too."""
    rows = [record("a", f"b{row}", id=f"d{row}", fold=row, content=value) for row, value in enumerate(ODD)]
    source = write_lines(tmp_path / "in.jsonl", rows)
    run(scorer, source, tmp_path / name, ("fold", "content"), uncertainty=False)
    assert list(read_columns(tmp_path / name)) == ["id", *HEADS]
    assert len(read_table(tmp_path / name)) == len(ODD)


def test_a_stream_keeps_as_well(scorer: Scorer, source: Path) -> None:
    out, bad = io.StringIO(), io.StringIO()
    keep = ("meta.user", "whole")
    tally = score_stream(scorer, Corpus([str(source)], keep_records=keep), out, bad, ScoreSettings(keep=keep))
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(line["meta.user"], line["whole"]) for line in lines] == [
        (f"u{row}", value) for row, value in enumerate(VALUES["whole"])
    ]
    assert tally.lacking == {}


def test_tables_and_conversations_keep_their_columns(scorer: Scorer, tmp_path: Path) -> None:
    table = {"uid": [5, 6], "image": [b"x", None], "context": ["i am sad", "we won"], "response": ["so sorry", "great"]}
    pq.write_table(pa.table(table), tmp_path / "in.parquet")
    run(scorer, tmp_path / "in.parquet", tmp_path / "out.parquet", ("uid", "image"))
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.select(["uid", "image"]).to_pydict() == {"uid": [5, 6], "image": ["eA==", None]}
    header = "conv_id,utterance_idx,context,prompt,speaker_idx,utterance\n"
    (tmp_path / "ed.csv").write_text(f"{header}c1,1,sad,why_comma_ so,1,i am sad\nc1,2,sad,why_comma_ so,2,so sorry\n")
    run(scorer, tmp_path / "ed.csv", tmp_path / "ed.parquet", ("prompt", "conv_id"))
    assert pq.read_table(tmp_path / "ed.parquet").select(["prompt", "conv_id"]).to_pylist() == [
        {"prompt": "why, so", "conv_id": "c1"}
    ]


def test_a_line_without_kept_columns_is_as_it_was() -> None:
    assert score_line("a", 1.5, 2.0) == '{"id": "a", "sensibility": 1.5, "rationality": 2.0}\n'  # type: ignore[arg-type]
    field, array = kept_shard(['"a"', None, "3"], final=True)
    assert (field.type, array.to_pylist()) == (pa.string(), ["a", None, "3"])
