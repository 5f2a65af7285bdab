"""The command as a user runs it: results, exit codes, one clear line for every mistake."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from scorer.bundle.bundle import Bundle
from scorer.engines.names import BATCH_SIZE
from scorer.run.score_file import METADATA_KEY
from scorer.run.settings import ScoreSettings
from tests.conftest import Run, record, write_lines

GOOD = [record("i am sad", "so sorry", id="a"), record("we won the game", "that is great", id="b")]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write two good records."""
    return write_lines(tmp_path / "in.jsonl", GOOD)


def error_of(result: subprocess.CompletedProcess[str]) -> str:
    """Return the one line of an error with exit code 2."""
    assert result.returncode == 2, result
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("empathy: error: ")
    return lines[0].removeprefix("empathy: error: ")


def test_parquet_holds_ids_scores_and_the_scorers_cuts(
    empathy: Run, bundle: Bundle, source: Path, tmp_path: Path
) -> None:
    result = empathy("score", source, "-o", tmp_path / "out.parquet", "--scorer", bundle.path)
    assert result.returncode == 0
    assert result.stdout == ""
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column_names == ["id", "sensibility", "rationality"]
    assert table["id"].to_pylist() == ["a", "b"]
    meta = json.loads(table.schema.metadata[METADATA_KEY])
    assert meta["sha256"] == bundle.sha256
    assert meta["cuts"] == bundle.info.cuts
    assert meta["engine"] in {"onnxruntime", "openvino"}
    assert meta["precision"] == "fp32"  # the tiny scorer's export checked nothing else


def test_every_kind_of_output_holds_the_same_scores(empathy: Run, bundle: Bundle, source: Path, tmp_path: Path) -> None:
    for name in ("out.parquet", "out.jsonl", "out.csv", "out"):
        assert empathy("score", source, "-o", tmp_path / name, "--scorer", bundle.path).returncode == 0
    expected = [
        (row["id"], row["sensibility"], row["rationality"])
        for row in pq.read_table(tmp_path / "out.parquet").to_pylist()
    ]
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    piped = empathy("score", source, "--scorer", bundle.path)
    rows = list(csv.reader((tmp_path / "out.csv").read_text().splitlines()))
    shard = pq.read_table(tmp_path / "out" / "part-000000.parquet").to_pylist()
    assert rows[0] == ["id", "sensibility", "rationality"]
    assert [tuple(row.values()) for row in shard] == expected
    for found in (
        [tuple(line.values()) for line in lines],
        [tuple(json.loads(line).values()) for line in piped.stdout.splitlines()],
        [(id_, float(first), float(second)) for id_, first, second in rows[1:]],
    ):
        assert [(i, pytest.approx(s, abs=1e-6), pytest.approx(r, abs=1e-6)) for i, s, r in expected] == found
    for name in ("out.jsonl", "out.csv"):
        assert json.loads((tmp_path / f"{name}.meta.json").read_text())["sha256"] == bundle.sha256


def test_the_closing_lines_say_what_happened(empathy: Run, bundle: Bundle, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", [*GOOD, {"messages": []}, 7])
    result = empathy("score", source, "-o", tmp_path / "out.csv", "--scorer", bundle.path)
    assert "scored 2 of 4 records in" in result.stderr
    assert f"rejected: 2 (no_response 1, not_an_object 1), see {tmp_path / 'out.csv.rejects.jsonl'}" in result.stderr
    assert "truncated: 0" in result.stderr
    assert empathy("score", source, "-o", tmp_path / "b.csv", "--scorer", bundle.path, "--quiet").stderr == ""


def test_nothing_to_score_is_exit_code_1_and_rejects(empathy: Run, bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("what\never\n")
    result = empathy("score", tmp_path / "in", "-o", tmp_path / "out.jsonl", "--scorer", bundle.path)
    assert result.returncode == 1
    assert not (tmp_path / "out.jsonl").exists()
    assert len((tmp_path / "out.jsonl.rejects.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no.jsonl", "-o", "out.csv"], "no.jsonl: no such file or folder"),
        (["in.jsonl", "-o", "no/out.csv"], "does not exist"),
        (["in.jsonl", "in.jsonl", "-o", "out.csv"], "named twice"),
        (["in.jsonl", "-o", "out.csv", "--resume", "--overwrite"], "give one of them"),
        (["in.jsonl", "--resume"], "name one with -o"),
        (["in.jsonl", "-o", "nosuch://bucket/out.parquet"], "Protocol not known: nosuch"),
        (["in.jsonl", "-o", "out.csv", "--rejects", "r"], "--rejects is for runs without -o"),
        (["in.jsonl", "-o", "out.csv", "--engine", "abacus"], "expected auto or one of onnxruntime"),
        (["in.jsonl", "-o", "out.csv", "--scorer", "nowhere"], "nowhere: no such folder"),
        (["in.jsonl", "--scorer", "."], "holds no scorer.json"),
        (["empty", "-o", "out.csv"], "empty: no file of dialogues there"),
        (["nothing*", "-o", "out.csv"], "matches no file"),
        (["bogus://x/y", "-o", "out.csv"], "bogus://x/y"),
        (["bad.jsonl", "-o", "out.csv", "--strict"], "bad.jsonl:2: broken_json"),
        (["in.jsonl", "-o", "out.csv", "--batch-size", "0"], "batch size is 0, expected at least 1"),
        (["in.jsonl", "-o", "out.csv", "--turbo"], "No such option"),
        (["-o", "out.csv"], "Missing argument 'IN...'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    empathy: Run, bundle: Bundle, source: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.jsonl").write_text(source.read_text().splitlines()[0] + "\nnonsense\n")
    if "--scorer" not in arguments:
        arguments = [*arguments, "--scorer", str(bundle.path)]
    assert message in error_of(empathy("score", *arguments, cwd=tmp_path))
    assert not (tmp_path / "out.csv").exists()


def test_an_existing_output_is_not_touched(empathy: Run, bundle: Bundle, source: Path, tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("mine")
    options = ["score", source, "-o", tmp_path / "out.csv", "--scorer", bundle.path]
    assert "exists already" in error_of(empathy(*options))
    assert (tmp_path / "out.csv").read_text() == "mine"
    assert "is not replaced" in error_of(empathy(*options, "--overwrite"))
    assert (tmp_path / "out.csv").read_text() == "mine"
    (tmp_path / "out.csv").unlink()
    for more in ((), ("--overwrite",)):
        assert empathy(*options, *more).returncode == 0
        assert (tmp_path / "out.csv").read_text().startswith("id,")


def test_resume_of_a_finished_output_changes_nothing(
    empathy: Run, bundle: Bundle, source: Path, tmp_path: Path
) -> None:
    options = ["score", source, "-o", tmp_path / "out.csv", "--scorer", bundle.path, "--resume"]
    assert empathy(*options).returncode == 0
    before = (tmp_path / "out.csv").read_bytes()
    result = empathy(*options)
    assert result.returncode == 0
    assert "is complete already" in result.stderr
    assert (tmp_path / "out.csv").read_bytes() == before


def test_inspect_says_what_the_scorer_is(empathy: Run, bundle: Bundle, tmp_path: Path) -> None:
    result = empathy("inspect", bundle.path)
    assert result.returncode == 0
    assert bundle.sha256 in result.stdout
    assert "Apache-2.0" in result.stdout
    assert json.loads(empathy("inspect", bundle.path, "--json").stdout)["sha256"] == bundle.sha256
    shutil.copytree(bundle.path, tmp_path / "changed")
    with (tmp_path / "changed" / "tokenizer.json").open("a") as file:
        file.write(" ")
    assert "tokenizer.json: was changed" in error_of(empathy("inspect", tmp_path / "changed"))


def test_version_and_help(empathy: Run) -> None:
    assert empathy("--version").stdout.startswith("empathy-scorer, version 0.")
    assert {"demo", "inspect", "score"} <= set(empathy("--help").stdout.split())
    assert "No such command 'nonsense'" in error_of(empathy("nonsense"))
    assert empathy().returncode == 2
    assert "Begin here:" in empathy().stderr


def test_the_help_of_score_gives_the_real_defaults(empathy: Run) -> None:
    text = " ".join(empathy("score", "--help").stdout.split())
    for default in (BATCH_SIZE, ScoreSettings().window):
        assert f"[default: {default}]" in text


def test_commands_join_by_entry_points_and_name_their_extra(tmp_path: Path) -> None:
    """A command of another installed distribution joins the group; one whose extra lacks says what to install."""
    (tmp_path / "more_commands.py").write_text(
        "import click\n@click.command()\ndef hello():\n    click.echo('hello')\n"
    )
    (tmp_path / "distill_like.py").write_text("import a_package_that_is_not_installed\n")
    (tmp_path / "lazy.py").write_text(
        "import click\n@click.command()\ndef compose():\n    import another_that_is_not_installed\n"
    )
    info = tmp_path / "more-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: more\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[empathy.commands]\nhello = more_commands:hello\ntrain = distill_like:train [distill]\n"
        "compose = lazy:compose [moe]\n"
    )
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from scorer.cli.main import run; run()"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)

    assert run("hello").stdout == "hello\n"
    assert {"compose", "hello", "train", "score"} <= set(run("--help").stdout.split())
    for arguments, package, extra in (
        (["train", "labels.jsonl", "-o", "x"], "a_package_that_is_not_installed", "distill"),
        (["compose"], "another_that_is_not_installed", "moe"),
    ):
        assert error_of(run(*arguments)) == (
            f"{package} is not installed; it comes with the extra '{extra}': pip install 'empathy-scorer[{extra}]'"
        )


def test_an_input_unlike_the_training_data_is_warned_of(empathy: Run, bundle: Bundle, tmp_path: Path) -> None:
    foreign = [record(f"zq xj {number} vw", "qqq zzz xxx jjj") for number in range(20)]
    source = write_lines(tmp_path / "in.jsonl", foreign)
    result = empathy("score", source, "-o", tmp_path / "out.csv", "--scorer", bundle.path)
    assert "warning: 100% of the dialogues are unlike the scorer's training data" in result.stderr
    assert "unseen tokens 100%" in result.stderr
