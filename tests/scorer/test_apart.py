"""No output replaces what it is made from, nor a file that holds something else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from scorer.apart import check_apart, check_json, check_rejects
from scorer.bundle.bundle import Bundle
from scorer.cli.main import main
from scorer.errors import OutputError
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.run.score import score_files
from scorer.run.settings import ScoreSettings
from tests.conftest import Killed, kill_after, read_scores, record, write_lines


def content(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(said: str, *arguments: str | Path) -> None:
    """Run a command that must end with one line and exit code 2."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 2, (result.output, result.exception)
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with dialogues in d.jsonl, d/, links to both, and a store of paid labels."""
    monkeypatch.chdir(tmp_path)
    lines = [record("hello", f"number {n}") | {"sensibility": 8, "rationality": 3} for n in range(4)]
    write_lines(tmp_path / "d.jsonl", lines)
    (tmp_path / "d").mkdir()
    write_lines(tmp_path / "d" / "part-000000.parquet", lines)
    (tmp_path / "link").symlink_to("d.jsonl")
    (tmp_path / "linked").symlink_to("d")
    os.link("d.jsonl", "hard.jsonl")
    (tmp_path / "x").write_bytes(b"paid")
    (tmp_path / "d.jsonl.meta.json").write_text("{}")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "report.html").write_text("of mine")
    return tmp_path


@pytest.mark.parametrize(
    ("said", "command"),
    [
        ("is an input as well", "score d -o d --overwrite"),
        ("is an input as well", "score d.jsonl --rejects d.jsonl"),
        ("is an input as well", "agree d.jsonl --json d.jsonl"),
        ("is an input as well", "check d.jsonl --json d.jsonl"),
        ("would be written twice", "label d.jsonl --store x -o x --model m --overwrite"),
        ("`empathy demo` did not make it", "demo d.jsonl -o mine"),
        ("is an input as well", "score d -o linked --overwrite"),
        ("is an input as well", "score link -o hard.jsonl --overwrite"),
        ("is an input as well", "score *.jsonl -o d.jsonl --overwrite"),
        ("holds the input", "score d/part-000000.parquet -o linked --overwrite"),
        ("lies in the input", "score d -o linked/new.parquet"),
        ("is an input as well", "look d.jsonl --json link"),
        ("is an input as well", "check d.jsonl --json d.jsonl.meta.json"),
        ("is an input as well", "agree x --against d.jsonl --json hard.jsonl"),
        ("is no JSON with 'sources'", "look d.jsonl --json x"),
        ("is no file of rejects", "score d.jsonl --rejects x"),
        ("holds the input", "demo mine/report.html -o mine"),
        ("is an input as well", "check d.jsonl --write link --overwrite"),
    ],
)
def test_a_command_leaves_its_inputs_and_foreign_files_as_they_are(place: Path, said: str, command: str) -> None:
    before = content(place)
    refused(said, *command.split())
    assert content(place) == before


@pytest.mark.usefixtures("place")
def test_what_lies_elsewhere_is_no_fault() -> None:
    for output in ("new.jsonl", "new/", "d2", "d.json"):
        check_apart(Path(output), "d.jsonl", "d", "nowhere", "*.none", "-", "s3://a/b", "tar://x::none.tar", "a\0b")


@pytest.mark.usefixtures("place")
def test_a_file_that_standard_input_reads_is_an_input() -> None:
    kept = os.dup(0)
    with open("d.jsonl", "rb") as file:
        os.dup2(file.fileno(), 0)
    try:
        with pytest.raises(OutputError, match="standard input reads"):
            check_apart(Path("hard.jsonl"), "-")
    finally:
        os.dup2(kept, 0)
        os.close(kept)


@pytest.mark.usefixtures("place")
def test_json_and_rejects_replace_their_like_alone() -> None:
    Path("a.json").write_text('{"a": 1}\n')
    check_json(Path("a.json"), "a")
    check_json(Path("new.json"), "a")
    Path("r").write_text('{"source": "a", "reason": "empty"}\n')
    check_rejects(Path("r"))
    check_rejects(Path("/dev/null"))
    for path in ("d.jsonl", "x", "/dev/null"):
        with pytest.raises(OutputError):
            check_json(Path(path), "a")


@pytest.mark.usefixtures("place")
def test_earlier_shards_stay_until_the_new_ones_are_whole(bundle: Bundle) -> None:
    scorer = Scorer.load(bundle.path)
    score_files(scorer, Corpus(["d.jsonl"]), Path("out"), ScoreSettings())
    earlier = content(Path("out"))
    with pytest.raises(Killed):
        score_files(scorer, Corpus(["d.jsonl"]), Path("out"), ScoreSettings(existing="overwrite"), kill_after(0))
    for _ in range(2):
        assert content(Path("out/.earlier")) == {name: earlier[name] for name in content(Path("out/.earlier"))}
        assert "part-000000.parquet" in content(Path("out/.earlier"))
        with pytest.raises(Killed):
            score_files(scorer, Corpus(["d.jsonl"]), Path("out"), ScoreSettings(existing="overwrite"), kill_after(0))
    score_files(scorer, Corpus(["d.jsonl"]), Path("out"), ScoreSettings(existing="resume"))
    assert not Path("out/.earlier").exists()
    assert read_scores(Path("out")).num_rows == 4


@pytest.mark.parametrize(
    ("said", "command"),
    [
        ("is no score file", "score d.jsonl -o thesis.csv --overwrite"),
        ("is no score file", "score d.jsonl -o thesis.parquet --overwrite"),
        ("is no score file", "score d.jsonl -o other.jsonl --overwrite"),
        ("is no file of rejects", "score d.jsonl -o new.jsonl"),
        ("is no file of labels", "label d.jsonl -o other.jsonl --store s --model m --overwrite"),
        ("is no report", "report sets -o mine/report.html --overwrite"),
        ("is no report", "report sets -o sets/selection.parquet --overwrite"),
        ("is no JSON with 'drift'", "report sets -o new.html --json sets/selection.json --overwrite"),
        ("is no JSON with 'sources'", "look d.jsonl --json package.json"),
        ("is no picture", "agree d.jsonl --against d.jsonl --pictures mine"),
        ("lies in the input", "score . -o out.csv"),
    ],
)
def test_overwrite_is_for_earlier_outputs_of_the_same_kind(place: Path, said: str, command: str) -> None:
    lines = [record("hello", f"number {n}") | {"sensibility": 8, "rationality": 3, "id": f"{n}"} for n in range(4)]
    write_lines(place / "other.jsonl", lines)
    for name in ("thesis.csv", "thesis.parquet", "package.json", "new.jsonl.rejects.jsonl", "mine/scatter.png"):
        Path(name).write_text('{"name": "of mine"}\n')
    assert CliRunner().invoke(main, "select d.jsonl -o sets -q".split()).exit_code == 0
    before = content(place)
    refused(said, *command.split())
    assert content(place) == before


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.parquet"])
def test_earlier_outputs_are_replaced(bundle: Bundle, name: str) -> None:
    for _ in range(2):
        command = ["score", "d.jsonl", "-o", name, "--scorer", str(bundle.path), "--overwrite", "-q"]
        assert CliRunner().invoke(main, command).exit_code == 0
    assert CliRunner().invoke(main, "select d.jsonl -o sets -q".split()).exit_code == 0
    for _ in range(2):  # a page may lie in the folder that it reports
        result = CliRunner().invoke(main, "report sets -o sets/report.html --json sets/report.json --overwrite".split())
        assert result.exit_code == 0, result.output


@pytest.mark.usefixtures("place")
def test_python_leaves_its_inputs_as_they_are_too(bundle: Bundle) -> None:
    before = content(Path())
    for name in ("hard.jsonl", "d", "./d/../hard.jsonl", "d/new.parquet"):
        inputs = "d" if name.startswith("d") else "link"
        with pytest.raises(OutputError):
            score_files(Scorer.load(bundle.path), Corpus([inputs]), Path(name), ScoreSettings(existing="overwrite"))
    assert content(Path()) == before
