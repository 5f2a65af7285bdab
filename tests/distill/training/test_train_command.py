"""`empathy train`: what it prints and counts, and every error before the hour of training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distill.training.checkpoint import Checkpoint, load_checkpoint
from scorer.bundle.bundle import STARTER
from tests.conftest import Run, record, write_lines
from tests.distill.tiny import labelled_file, labelled_records
from tests.selection.selection_data import invoke, one_line

EMPATHY = str(Path(sys.executable).with_name("empathy"))
LABELS = labelled_records(160)


@pytest.mark.slow
def test_two_processes_train_one_scorer(backbone: Path, tmp_path: Path) -> None:
    path = labelled_file(tmp_path / "labels.jsonl", 160)
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29533"),
        *(EMPATHY, "train", str(path), "-o", str(tmp_path / "out")),
        *("--backbone", str(backbone), "--folds", "2", "--epochs", "6", "--batch-size", "8"),
        *("--learning-rate", "5e-3", "--max-length", "64"),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("written to") == 1
    measured = load_checkpoint(tmp_path / "out").info.measured
    assert measured
    assert measured["sensibility.pearson"] > 0.5


def test_the_command_trains_and_counts_what_it_left_out(folded: Checkpoint, backbone: Path, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "labels.jsonl", [*labelled_records(160), record("i am sad", "so sorry")])
    others = write_lines(tmp_path / "others.jsonl", [record("i am happy", "we won"), {"messages": []}])
    given = (path, "-o", tmp_path / "out", "--backbone", backbone, "--epochs", "1", "--max-length", "64")
    arguments = [str(entry) for entry in (*given, "--folds", "3", "--teacher", folded.path, "--unlabelled", others)]
    result = invoke(*arguments, command="train")
    assert result.exit_code == 0, result.stderr
    assert "--unlabelled: 1 records are no dialogues and were left out; the first: " in result.stderr
    assert "80 conversations and 1 unlabelled ones; 1 records had no dialogue or label" in result.stderr
    reject = json.loads((tmp_path / "out" / "rejects.jsonl").read_text())
    assert (reject["reason"], reject["line"]) == ("no_label", 161)
    assert "complete already" in invoke(*arguments, "--resume", command="train").stderr
    again = invoke(*arguments, command="train")
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr.splitlines()[-1]
    # Complete is only what was made from the same.
    text = path.read_text()
    path.write_text(text.replace('"sensibility": ', '"sensibility": 0.', 1))
    assert "is finished and was made with inputs " in _refused(arguments)
    path.write_text(text)
    said = others.read_text()
    others.write_text(said.replace("we won", "we lost"))
    assert "is finished and was made with inputs " in _refused(arguments)
    others.write_text(said)
    assert "epochs 1 and this run has 2" in _refused([*arguments, "--epochs", "2"])
    (tmp_path / "out" / "oof.parquet").unlink()
    assert "oof.parquet: is missing or was changed" in _refused(arguments)


def _refused(arguments: list[str]) -> str:
    """Return the one line that a resumed training ends with."""
    again = invoke(*arguments, "--resume", command="train")
    assert again.exit_code == 2
    return str(again.stderr.splitlines()[-1])


@pytest.mark.parametrize(
    ("records", "arguments", "message"),
    [
        (LABELS[:40], [], "40 labelled dialogues, expected at least 50"),
        ([record(f"i am {n}", "sad") for n in range(80)], [], "no labelled dialogue among 80 records"),
        ([{**row, "sensibility": 11} for row in LABELS], [], "bad_label"),
        (LABELS, ["--backbone", "./no-such-folder"], "no such folder, and no id of a model"),
        (LABELS, ["--backbone", str(STARTER)], "is a scorer for use"),
        (LABELS, ["--epochs", "0"], "epochs is 0, expected 1 to 1000"),
        (LABELS, ["--folds", "1"], "folds is 1"),
        (LABELS, ["--layers", "0"], "layers is 0, expected 1 to 1000"),
        (LABELS, ["--learning-rate", "nan"], "learning rate is nan"),
        (LABELS, ["--teacher", "nowhere"], "no such folder"),
        (LABELS, ["--resume", "--overwrite"], "give one of them"),
    ],
)
def test_bad_labels_and_arguments_are_one_line_before_anything_is_trained(
    records: list[dict[str, Any]], arguments: list[str], message: str, tmp_path: Path, backbone: Path
) -> None:
    path = write_lines(tmp_path / "labels.jsonl", records)
    result = invoke(str(path), "-o", str(tmp_path / "out"), "--backbone", str(backbone), *arguments, command="train")
    assert message in one_line(result.exit_code, result.stderr)
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_backbone_that_the_hub_does_not_give_is_one_line(tmp_path: Path, empathy: Run) -> None:
    path = labelled_file(tmp_path / "labels.jsonl", 160)
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    result = empathy("train", path, "-o", tmp_path / "out", "--backbone", "nobody/no-such-model", env=offline)
    assert "not in the hub's cache, and HF_HUB_OFFLINE is set" in one_line(result.returncode, result.stderr)


@pytest.mark.parametrize(("name", "wanted"), [("nope", "no such folder"), ("empty", "holds no empathy.json")])
def test_an_export_of_no_checkpoint_is_refused_before_torch_is_loaded(
    name: str, wanted: str, tmp_path: Path, empathy: Run
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was loaded')\n")
    path = os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))
    result = empathy("export", tmp_path / name, "-o", tmp_path / "out", env={**os.environ, "PYTHONPATH": path})
    assert wanted in one_line(result.returncode, result.stderr)
