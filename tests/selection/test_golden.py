"""`empathy check` and its golden files: what passes, what moved, and what is no golden file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scorer.bundle.bundle import Bundle, write_bundle
from scorer.dialogue import HEADS, Dialogue
from scorer.engines.base import Inputs, Scores
from scorer.errors import EmpathyError
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.run.score_file import meta_path, read_metadata
from selection.cli.check import check_lines, check_warnings
from selection.errors import GoldenError
from selection.golden import Check, check_scorer, read_golden, write_golden
from selection.settings import CheckSettings
from tests.conftest import Parts, Run, record, write_lines, write_tiny_bundle

Lines = list[dict[str, Any]]


@pytest.fixture
def golden(source: Path, scorer: Scorer, tmp_path: Path) -> Path:
    """60 dialogues with the tiny scorer's scores."""
    write_golden(tmp_path / "golden.jsonl", [str(source)], scorer)
    return tmp_path / "golden.jsonl"


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A scorer with other weights."""
    return write_tiny_bundle(tmp_path_factory.mktemp("other") / "tiny", seed=1)


class Nudged:
    """An engine that adds a number to another one's scores, and calls itself of another precision."""

    def __init__(self, scorer: Scorer, by: float, precision: str = "fp32") -> None:
        self._engine, self._by = scorer.engine, np.float32(by)
        self.name, self.precision, self.threads, self.notice = "nudged", precision, 1, ""
        self.pad_multiple, self.batch_tokens = 8, 1024

    def run(self, inputs: Inputs) -> Scores:
        return self._engine.run(inputs) + self._by

    def stream(self, batches: Iterable[Inputs]) -> Generator[Scores]:
        yield from map(self.run, batches)


def lines(path: Path) -> Lines:
    return [json.loads(line) for line in path.read_text().splitlines()]


def edit(path: Path, change: Callable[[Lines], object]) -> None:
    """Change the lines of a golden file by hand."""
    rows = lines(path)
    change(rows)
    write_lines(path, rows)


def run(path: Path, scorer: Scorer, **limits: float) -> Check:
    return check_scorer(read_golden(path), scorer, CheckSettings(**limits))


def test_a_golden_file_holds_the_dialogues_and_the_very_scores(golden: Path, source: Path, scorer: Scorer) -> None:
    dialogues = [item for item in Corpus([str(source)]) if isinstance(item, Dialogue)]
    found = read_golden(golden)
    assert [replace(item, labels=None) for item in found.dialogues] == dialogues
    assert found.scores.dtype == np.float32
    assert found.scores.tobytes() == scorer.score(dialogues).tobytes()
    assert list(Corpus([str(golden)])) == dialogues
    known = read_metadata(golden)
    assert (known["sha256"], known["cuts"]) == (scorer.bundle.sha256, scorer.bundle.info.cuts)
    assert (known["name"], known["engine"], known["precision"]) == ("tiny", scorer.engine.name, "fp32")
    assert (known["threshold"], known["tolerance"]) == (5, None)


def test_the_same_scorer_passes_to_the_last_bit(golden: Path, scorer: Scorer) -> None:
    found = run(golden, scorer, tolerance=0)
    assert found.passed
    assert not [*found.moved(), *check_warnings(found)]
    (line,) = check_lines(found)
    assert "60 dialogues as expected; scores moved by 0 at most (tolerance 0), 0 of 60 decisions changed" in line


def test_what_moved_is_named_largest_first(golden: Path, scorer: Scorer) -> None:
    before = lines(golden)

    def change(rows: Lines) -> None:
        rows[3]["rationality"] += 0.002
        rows[7]["sensibility"] = 9.9 if rows[7]["sensibility"] < 5 else 0.1
        rows[9]["sensibility"] += 0.0009

    edit(golden, change)
    found = run(golden, scorer, max_flips=1)
    assert not found.passed
    moved = [entry for entry in found.moved() if entry["beyond"]]
    assert [(entry["id"], entry["head"]) for entry in moved] == [("d7", "sensibility"), ("d3", "rationality")]
    assert [entry["got"] for entry in moved] == [before[7]["sensibility"], before[3]["rationality"]]
    assert moved[1]["difference"] == pytest.approx(-0.002, abs=1e-5)
    assert found.to_json()["beyond_tolerance"] == 2


def test_the_decision_counts_where_every_score_is_within_its_tolerance(golden: Path, scorer: Scorer) -> None:
    def change(rows: Lines) -> None:
        rows[0] |= {"sensibility": 9.0, "rationality": 1.0, "tolerance": 10}
        rows[1] |= {"sensibility": 1.0, "rationality": 9.0, "tolerance": 10}

    edit(golden, change)
    found = run(golden, scorer)
    assert not found.beyond.any()
    flips = int(found.flipped.sum())
    assert flips >= 1
    assert not found.passed
    assert run(golden, scorer, max_flips=flips / 60).passed
    assert len(list(found.moved())) == 2 * flips
    text = "\n".join(check_lines(found))
    assert f"{flips} of 60 decisions changed" in text
    assert "decisions changed (paper rule, threshold 5): " in text
    assert " -> " in text


def test_each_side_is_read_with_its_own_cuts(golden: Path, parts: Parts, tmp_path: Path) -> None:
    info, files = parts
    cuts = {"sensibility": [0.01 * k for k in range(10)], "rationality": [9 + 0.1 * k for k in range(10)]}
    made = write_bundle(tmp_path / "shifted", {**info, "cuts": cuts}, files)
    shifted = Scorer.load(made.path, engine="onnxruntime", threads=1)
    found = run(golden, shifted, max_flips=0.5)
    assert not found.differences.any()
    assert {after for (_, after), _ in found.changes()} == {"sensibility"}
    assert sum(count for _, count in found.changes()) == found.flipped.sum() > 30
    assert not found.passed
    (warning,) = check_warnings(found)
    assert "the scores of another scorer: tiny" in warning


@pytest.mark.parametrize(
    ("wrote", "runs", "by", "passes"),
    [
        ("fp32", "fp32", 0.0005, True),
        ("fp32", "fp32", 0.002, False),
        ("bf16", "bf16", 0.002, True),
        ("bf16", "bf16", 0.03, False),
        ("fp32", "bf16", 0.2, True),
        ("bf16", "fp32", 0.3, False),
    ],
)
def test_the_precisions_give_the_tolerance(
    wrote: str, runs: str, by: float, *, passes: bool, source: Path, scorer: Scorer, tmp_path: Path
) -> None:
    before, after = (Scorer(scorer.bundle, Nudged(scorer, shift, name)) for shift, name in ((0, wrote), (by, runs)))
    write_golden(tmp_path / "golden.jsonl", [str(source)], before)
    found = run(tmp_path / "golden.jsonl", after, max_flips=1)
    assert found.passed is passes
    assert len(list(check_warnings(found))) == (wrote != runs and not passes)
    assert run(tmp_path / "golden.jsonl", after).max_flips == (0 if wrote == runs == "fp32" else 0.01)


def test_a_lines_own_tolerance_comes_first_then_the_commands_then_the_files(
    source: Path, scorer: Scorer, tmp_path: Path
) -> None:
    path = tmp_path / "golden.jsonl"
    write_golden(path, [str(source)], scorer, tolerance=0.5)
    edit(path, lambda rows: rows[0].update(tolerance=0))
    nudged = Scorer(scorer.bundle, Nudged(scorer, 0.25))
    found = run(path, nudged, max_flips=1)
    assert found.tolerances.tolist() == [0, *[0.5] * 59]
    assert {entry["id"] for entry in found.moved() if entry["beyond"]} <= {"d0"}
    assert run(path, nudged, max_flips=1, tolerance=0.1).tolerances.tolist() == [0, *[0.1] * 59]


def test_overwriting_keeps_own_tolerances_and_replaces_golden_files_only(
    golden: Path, source: Path, other: Bundle
) -> None:
    edit(golden, lambda rows: rows[5].update(tolerance=0.75))
    with pytest.raises(EmpathyError, match="exists already"):
        write_golden(golden, [str(source)], Scorer.load(other.path))
    with pytest.raises(EmpathyError, match="is an input as well"):
        write_golden(golden, [str(golden)], Scorer.load(other.path), overwrite=True)
    copied = golden.with_name("copied.jsonl")
    copied.write_bytes(golden.read_bytes())
    write_golden(golden, [str(copied)], Scorer.load(other.path), overwrite=True)
    assert [row.get("tolerance") for row in lines(golden)] == [*[None] * 5, 0.75, *[None] * 54]
    assert read_metadata(golden)["sha256"] == other.sha256
    assert run(golden, Scorer.load(other.path)).passed
    held = source.read_bytes()
    with pytest.raises(GoldenError, match=r"labels.jsonl.meta.json: is missing"):
        write_golden(source, [str(golden)], Scorer.load(other.path), overwrite=True)
    assert source.read_bytes() == held


def test_a_write_that_fails_leaves_nothing(scorer: Scorer, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", [record("i am sad", "so sorry"), {"messages": []}])
    with pytest.raises(GoldenError, match=r"in.jsonl:2: no_response"):
        write_golden(tmp_path / "golden.jsonl", [str(source)], scorer)
    good = write_lines(tmp_path / "good.jsonl", [record("i am sad", "so sorry")])
    meta_path(tmp_path / "golden.jsonl").mkdir()
    with pytest.raises(EmpathyError, match=r"golden.jsonl.*cannot be written"):
        write_golden(tmp_path / "golden.jsonl", [str(good)], scorer)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["golden.jsonl.meta.json", "good.jsonl", "in.jsonl"]


def test_every_text_and_key_of_a_dialogue_comes_back(scorer: Scorer, tmp_path: Path) -> None:
    turns = ("Ünïcode \u2028 \n and 🐕", "so sorry")
    rows = [record(*turns, category="sad", conversation="c"), record(*turns), record("i am sad", "no", id=7)]
    source = write_lines(tmp_path / "in.jsonl", rows)
    write_golden(tmp_path / "golden.jsonl", [str(source)], scorer)
    back = [replace(item, labels=None) for item in read_golden(tmp_path / "golden.jsonl").dialogues]
    assert back == list(Corpus([str(source)]))


def without(*names: str) -> Callable[[Lines], object]:
    return lambda rows: [rows[1].pop(name) for name in names]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("messages"), "golden.jsonl:2: no_messages"),
        (without(*HEADS), "golden.jsonl:2: no_label"),
        (without("rationality"), "golden.jsonl:2: bad_label: rationality is NoneType"),
        (lambda rows: rows[1].update(id="d0"), "golden.jsonl:2: id 'd0' occurred before"),
        (lambda rows: rows[1].update(tolerance=-0.1), "golden.jsonl:2: tolerance is -0.1, expected a number from 0"),
        (lambda rows: rows[1].update(tolerance=float("nan")), "golden.jsonl:2: tolerance is nan"),
        (lambda rows: rows[1].update(tolerance="wide"), "golden.jsonl:2: tolerance is 'wide'"),
        (lambda rows: rows[1].update(tolerance=True), "golden.jsonl:2: tolerance is True"),
        (lambda rows: rows[1].update(tolerance=10**400), "golden.jsonl:2: tolerance is 1000"),
        (lambda rows: rows.clear(), "golden.jsonl: is empty"),
    ],
)
def test_a_line_that_is_no_golden_one_is_one_line(
    golden: Path, change: Callable[[Lines], object], message: str
) -> None:
    edit(golden, change)
    with pytest.raises(GoldenError) as found:
        read_golden(golden)
    assert message in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("data", [b"nonsense\n", b"\xff\xfe\n", b"[1]\n", b"[" * 100_000])
def test_what_is_no_json_is_one_line(golden: Path, data: bytes) -> None:
    golden.write_bytes(data)
    with pytest.raises(GoldenError, match=r"golden.jsonl:1: "):
        read_golden(golden)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": None}, "$.sha256"),
        ({"name": "\x1b[2J"}, "$.name"),
        ({"cuts": {"sensibility": [1.5]}}, "cuts of sensibility are"),
        ({"cuts": {head: list(range(10, 0, -1)) for head in HEADS}}, "in ascending order"),
        ({"cuts": {}}, "cuts of sensibility are"),
        ({"threshold": 0.5}, "$.threshold"),
        ({"threshold": 10**400}, "$.threshold"),
        ({"tolerance": -1}, "$.tolerance"),
    ],
)
def test_a_record_that_cannot_be_used_is_one_line(golden: Path, change: dict[str, Any], message: str) -> None:
    meta = meta_path(golden)
    meta.write_text(json.dumps(json.loads(meta.read_text()) | change))
    with pytest.raises(GoldenError) as found:
        read_golden(golden)
    assert str(found.value).startswith(f"{meta}: ")
    assert message in str(found.value)
    meta.write_text("{")
    with pytest.raises(GoldenError, match="is damaged"):
        read_golden(golden)
    meta.unlink()
    with pytest.raises(GoldenError, match=r"golden.jsonl.meta.json: is missing"):
        read_golden(golden)


def test_the_command_writes_passes_and_fails(
    empathy: Run, bundle: Bundle, other: Bundle, source: Path, tmp_path: Path
) -> None:
    golden, report = tmp_path / "golden.jsonl", tmp_path / "report.json"
    wrote = empathy("check", golden, "--write", source, "--scorer", bundle.path)
    assert (wrote.returncode, wrote.stderr) == (0, "")
    assert wrote.stdout.startswith(f"wrote {golden}: 60 dialogues with the scores of tiny {bundle.sha256[:12]}")
    passed = empathy("check", golden, "--scorer", bundle.path, "--json", report)
    assert (passed.returncode, passed.stderr, len(passed.stdout.splitlines())) == (0, "", 1)
    assert json.loads(report.read_text())["passed"] is True
    failed = empathy("check", golden, "--scorer", other.path, "--json", report)
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"empathy: warning: {golden} has the scores of another scorer")
    rows = failed.stdout.splitlines()
    assert rows[2].split() == ["id", "head", "expected", "got", "difference", "tolerance", "decision"]
    found = json.loads(report.read_text(), parse_constant=pytest.fail)
    assert len(found["moved"]) > 20
    assert rows[23] == f"... and {len(found['moved']) - 20} more scores; --json FILE writes all"
    assert [line.split()[0] for line in rows[3:23]] == [entry["id"] for entry in found["moved"][:20]]
    sizes = [abs(entry["difference"]) for entry in found["moved"]]
    assert sizes == sorted(sizes, reverse=True)
    assert found["decisions_changed"] == sum(entry["count"] for entry in found["changes"]) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl: cannot be read: No such file or directory"),
        (["."], ".: cannot be read: Is a directory"),
        (["new.jsonl", "--tolerance", "-1"], "tolerance is -1.0, expected 0 to 10"),
        (["new.jsonl", "--tolerance", "nan"], "tolerance is nan"),
        (["new.jsonl", "--max-flips", "nan"], "max flips is nan, expected 0 to 1"),
        (["new.jsonl", "--overwrite"], "--overwrite is about a golden file that is written"),
        (["new.jsonl", "--write", "labels.jsonl", "--json", "x"], "leave them out"),
        (["new.parquet", "--write", "labels.jsonl"], "expected a name that ends in .jsonl"),
        (["no/new.jsonl", "--write", "labels.jsonl"], "the folder no does not exist"),
        (["labels.jsonl", "--write", "labels.jsonl"], "labels.jsonl: exists already"),
        (["new.jsonl", "--write", "nowhere.jsonl"], "nowhere.jsonl: no such file or folder"),
        (["labels.jsonl"], "labels.jsonl.meta.json: is missing"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(empathy: Run, source: Path, arguments: list[str], message: str) -> None:
    found = empathy("check", *arguments, cwd=source.parent)
    assert found.returncode == 2
    assert message in found.stderr
    assert len(found.stderr.splitlines()) == 1
    assert [path.name for path in source.parent.iterdir()] == [source.name]


def test_a_name_that_a_terminal_would_obey_is_shown_escaped(scorer: Scorer, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", [record("i am sad", "so sorry", id="\x1b[2J" + "x" * 80)])
    write_golden(tmp_path / "golden.jsonl", [str(source)], scorer)
    found = run(tmp_path / "golden.jsonl", Scorer(scorer.bundle, Nudged(scorer, 0.5)))
    (row,) = [line for line in check_lines(found, rows=1) if "xxx" in line]
    assert row.startswith("\\x1b[2J" + "x" * 30 + "...  ")


def test_a_check_needs_the_base_install_only(golden: Path, bundle: Bundle) -> None:
    heavy = ("torch", "transformers", "sklearn", "altair", "distill")
    arguments = [str(golden), "--scorer", str(bundle.path)]
    code = (
        "import sys; from selection.cli.check import check_golden as command; "
        f"command.main({arguments!r}, standalone_mode=False); "
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
