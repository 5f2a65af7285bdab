"""A training that was killed, or finds an output: it continues to the same end, or says why not."""

from __future__ import annotations

import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.labelled import LabelledSet
from distill.training.checkpoint import Checkpoint, load_checkpoint
from distill.training.train import train_scorer
from scorer.errors import OutputError
from tests import forks
from tests.conftest import Run
from tests.distill.tiny import Watch, labelled_file, raw_scores, tiny_settings


def test_a_killed_training_is_resumed_and_comes_to_the_same_end(
    backbone: Path, labelled: LabelledSet, folded: Checkpoint, tmp_path: Path
) -> None:
    output, settings = tmp_path / "checkpoint", tiny_settings(backbone, folds=3)
    killed, watch = Watch("fold 2 of 3", 20), Watch()
    with pytest.raises(KeyboardInterrupt):
        train_scorer(labelled, settings, output, progress=killed)
    assert not output.exists()
    kept = (tmp_path / "checkpoint.partial" / "folds" / "0" / "model.safetensors").stat().st_mtime_ns
    with pytest.raises(OutputError, match="--resume"):
        train_scorer(labelled, settings, output)
    with pytest.raises(OutputError, match=r"batch size 16 and this run has 8"):
        train_scorer(labelled, tiny_settings(backbone, folds=3, batch_size=8), output, existing="resume")
    train_scorer(labelled, settings, output, existing="resume", progress=watch)
    assert [*dict(watch.steps)] == ["fold 2 of 3", "fold 3 of 3", "final"]
    total, first = killed.stages[0][1], killed.stages[1][2]
    assert killed.stages == [("training", total, 0), ("training", total, first)]
    assert watch.stages[0] == ("training", total, first)
    assert watch.steps[-1] == ("final", total)
    assert (output / "folds" / "0" / "model.safetensors").stat().st_mtime_ns == kept
    np.testing.assert_allclose(raw_scores(folded.path), raw_scores(output), atol=2e-2)


def test_a_kill_after_the_whole_was_written_leaves_nothing_for_long(
    backbone: Path, labelled: LabelledSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, output = tiny_settings(backbone, epochs=1), tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr("distill.training.train.end_work", _killed)
        with pytest.raises(KeyboardInterrupt):
            train_scorer(labelled, settings, output)
    assert (tmp_path / "out.partial" / "final").is_dir()
    train_scorer(labelled, settings, output, existing="resume")
    assert not (tmp_path / "out.partial").exists()


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("epoch", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("patience", [None, 1])
def test_a_kill_in_any_epoch_changes_not_a_byte(
    epoch: int, patience: int | None, backbone: Path, labelled: LabelledSet, tmp_path: Path
) -> None:
    settings = tiny_settings(backbone, epochs=4, patience=patience, learning_rate=0.02)
    watch = Watch()
    train_scorer(labelled, settings, tmp_path / "whole", progress=watch)
    step = max(1, len(watch.steps) * epoch // 4) + 1
    with pytest.raises(KeyboardInterrupt):
        train_scorer(labelled, settings, tmp_path / "out", progress=Watch("final", step))
    train_scorer(labelled, settings, tmp_path / "out", existing="resume")
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "out"))
    assert first == second


@pytest.mark.parametrize(
    "place",
    ["transformers.Trainer._load_best_model", pytest.param("distill.training.train.predict", marks=pytest.mark.slow)],
)
def test_a_training_that_stopped_early_and_was_killed_then_ends_the_same(
    place: str, backbone: Path, labelled: LabelledSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny_settings(backbone, epochs=12, patience=1, learning_rate=0.02)
    train_scorer(labelled, settings, tmp_path / "whole")

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(place, dies)
        with pytest.raises(KeyboardInterrupt):
            train_scorer(labelled, settings, tmp_path / "out")
    watch = Watch()
    train_scorer(labelled, settings, tmp_path / "out", existing="resume", progress=watch)
    if "best" in place:  # the last epoch is still there, and says that it was the last
        assert watch.steps == []
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "out"))
    assert first == second


@pytest.mark.slow
def test_sigterm_ends_a_training_that_can_be_resumed(backbone: Path, tmp_path: Path, empathy: Run) -> None:
    path, output = labelled_file(tmp_path / "labels.jsonl", 160), tmp_path / "out"
    command = ["train", path, "-o", output, "--backbone", backbone, "--folds", "2", "--max-length", "64"]
    with forks.empathy(*command, stderr=True) as process:
        while not (tmp_path / "out.partial" / "folds" / "0").exists() and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert said.splitlines()[-1] == "empathy: terminated; with -o, what was finished is kept: continue with --resume"
    assert not output.exists()
    assert empathy(*command, "--resume").returncode == 0
    assert load_checkpoint(output).info.cuts


def test_an_output_that_exists_is_replaced_on_demand_only(
    backbone: Path, labelled: LabelledSet, tmp_path: Path
) -> None:
    output = tmp_path / "checkpoint"
    output.mkdir()
    (output / "thesis.txt").write_text("mine")
    for existing in ("error", "overwrite"):
        with pytest.raises(OutputError):
            train_scorer(labelled, tiny_settings(backbone, epochs=1), output, existing=existing)
    assert (output / "thesis.txt").read_text() == "mine"
    shutil.rmtree(output)
    train_scorer(labelled, tiny_settings(backbone, epochs=1), output)
    train_scorer(labelled, tiny_settings(backbone, epochs=2), output, existing="overwrite")
    assert load_checkpoint(output).info.settings.epochs == 2


@pytest.mark.slow
def test_a_disk_that_fills_up_is_one_line_and_the_training_is_resumed_afterwards(
    backbone: Path, tmp_path: Path, empathy: Run
) -> None:
    path = labelled_file(tmp_path / "labels.jsonl", 160)
    arguments = ("train", path, "-o", tmp_path / "out", "--backbone", backbone, "--epochs", "1", "--max-length", "64")
    result = empathy(*arguments, largest_file=30_000)
    assert result.returncode == 2
    assert "cannot be written" in result.stderr.splitlines()[-1]
    assert "--resume" in result.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()
    assert empathy(*arguments, "--resume").returncode == 0


def test_another_backbone_under_the_same_name_or_another_fold_is_another_training(
    backbone: Path, labelled: LabelledSet, tmp_path: Path
) -> None:
    copy = shutil.copytree(backbone, tmp_path / "backbone")
    train_scorer(labelled, tiny_settings(copy, epochs=1), tmp_path / "out")
    known = load_checkpoint(tmp_path / "out").sha256
    assert train_scorer(labelled, tiny_settings(copy, epochs=1), tmp_path / "out", existing="resume").sha256 == known
    moved = tuple(replace(dialogue, conversation=f"{row}") for row, dialogue in enumerate(labelled.dialogues))
    with pytest.raises(OutputError, match="made with inputs"):
        train_scorer(
            replace(labelled, dialogues=moved), tiny_settings(copy, epochs=1), tmp_path / "out", existing="resume"
        )
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(OutputError, match="made with backbone"):
        train_scorer(labelled, tiny_settings(copy, epochs=1), tmp_path / "out", existing="resume")
