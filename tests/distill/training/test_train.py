"""`empathy train`: fits, folds, teachers, resuming, and every error before the hour of training."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from distill.errors import CheckpointError, TrainError
from distill.labelled import LabelledSet, read_labelled
from distill.training.checkpoint import Checkpoint, load_checkpoint
from distill.training.fits import Progress, plan
from distill.training.network import predict
from distill.training.settings import TrainSettings
from distill.training.train import train
from scorer.dialogue import Dialogue, render
from scorer.errors import OutputError
from tests.conftest import Run, make_dialogue, record, write_lines
from tests.distill.tiny import labelled_file, labelled_records, write_backbone
from tests.selection.selection_data import invoke

EPOCHS = 4


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT."""
    return write_backbone(tmp_path_factory.mktemp("backbone") / "tiny")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> LabelledSet:
    """A hundred and sixty labelled dialogues of eighty conversations."""
    return read_labelled([str(labelled_file(tmp_path_factory.mktemp("labels") / "labels.jsonl", 160))])


def settings(backbone: Path, **more: Any) -> TrainSettings:
    values: dict[str, Any] = {"epochs": EPOCHS, "learning_rate": 5e-3, "max_length": 64, "batch_size": 16, **more}
    return TrainSettings(backbone=str(backbone), **values)


@pytest.fixture(scope="module")
def folded(backbone: Path, labelled: LabelledSet, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A checkpoint of three folds."""
    return train(labelled, settings(backbone, folds=3), tmp_path_factory.mktemp("folded") / "checkpoint")


def logits(path: Path, dialogues: tuple[Dialogue, ...]) -> np.ndarray[Any, Any]:
    """Return what transformers alone makes of dialogues, from nothing but the folder."""
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModelForSequenceClassification.from_pretrained(path)
    pairs = [render(dialogue) for dialogue in dialogues]
    inputs = tokenizer([a for a, _ in pairs], [b for _, b in pairs], padding=True, return_tensors="pt")
    with torch.inference_mode():
        scores: np.ndarray[Any, Any] = model.eval()(**inputs).logits.numpy()
    return scores


def test_it_learns_and_measures_on_conversations_it_did_not_see(folded: Checkpoint, labelled: LabelledSet) -> None:
    measured = folded.info["measured"]
    assert measured["sensibility.pearson"] > 0.7
    assert measured["rationality.pearson"] > 0.7
    table = pq.read_table(folded.path / "oof.parquet").to_pydict()
    assert len(table["id"]) == len(labelled)
    fold_by_conversation: dict[str, set[int]] = {}
    for conversation, fold in zip(table["conversation"], table["fold"], strict=True):
        fold_by_conversation.setdefault(conversation, set()).add(fold)
    assert all(len(folds) == 1 for folds in fold_by_conversation.values())
    for k in range(3):
        held_out = {c for c, f in zip(table["content"], table["fold"], strict=True) if f == k}
        assert held_out
        assert not held_out & set(folded.fold(k).info["training"]["content_hashes"])


def test_out_of_fold_scores_are_those_of_the_folds_own_model(folded: Checkpoint, labelled: LabelledSet) -> None:
    table = pq.read_table(folded.path / "oof.parquet").to_pydict()
    place = {content: row for row, content in enumerate(labelled.hashes)}
    rows = [n for n, fold in enumerate(table["fold"]) if fold == 1]
    dialogues = tuple(labelled.dialogues[place[table["content"][n]]] for n in rows)
    raw = np.array([[table["sensibility_raw"][n], table["rationality_raw"][n]] for n in rows])
    np.testing.assert_allclose(logits(folded.path / "folds" / "1", dialogues), raw, atol=1e-4)


def test_a_checkpoint_is_a_plain_folder_whose_logits_are_calibrated_scores(
    folded: Checkpoint, labelled: LabelledSet
) -> None:
    scores = logits(folded.path, labelled.dialogues)
    assert min(np.corrcoef(scores[:, i], labelled.scores[:, i])[0, 1] for i in (0, 1)) > 0.8
    config = json.loads((folded.path / "config.json").read_text())
    assert config["id2label"] == {"0": "sensibility", "1": "rationality"}
    assert config["problem_type"] == "regression"


def test_everything_is_saved(folded: Checkpoint, labelled: LabelledSet) -> None:
    info = load_checkpoint(folded.path).info
    assert folded.settings.folds == 3
    assert info["training"]["content_hashes"] == sorted(labelled.hashes)
    assert all(len(cuts) == 10 for cuts in info["cuts"].values())
    assert set(info["uncertainty"]) == {"coverage", "edges", "widths"}
    assert "Pearson, sensibility" in (folded.path / "README.md").read_text()
    assert not folded.path.with_name("checkpoint.partial").exists()


def test_the_same_settings_give_the_same_scorer(backbone: Path, labelled: LabelledSet, tmp_path: Path) -> None:
    first, second = (train(labelled, settings(backbone, epochs=2), tmp_path / name) for name in ("a", "b"))
    a, b = (pq.read_table(c.path / "oof.parquet")["sensibility_raw"].to_numpy() for c in (first, second))
    np.testing.assert_array_equal(a, b)
    other = train(labelled, settings(backbone, epochs=2, seed=1), tmp_path / "c")
    assert not np.array_equal(a, pq.read_table(other.path / "oof.parquet")["sensibility_raw"].to_numpy())


def test_without_folds_a_tenth_is_held_out_and_never_trained_on(
    backbone: Path, labelled: LabelledSet, tmp_path: Path
) -> None:
    checkpoint = train(labelled, settings(backbone), tmp_path / "single")
    contents = set(pq.read_table(checkpoint.path / "oof.parquet")["content"].to_pylist())
    assert 5 <= len(contents) <= 50
    assert not contents & set(checkpoint.info["training"]["content_hashes"])
    assert not (checkpoint.path / "folds").exists()


class Killed(Progress):
    """Stops a training in a step of one of its fits, as a kill would."""

    def __init__(self, name: str, after: int) -> None:
        self.name, self.after, self.fits = name, after, list[str]()

    def fit(self, name: str) -> None:
        """Note the fit."""
        self.fits.append(name)

    def step(self, done: int, loss: float) -> None:
        """Die."""
        if self.fits[-1] == self.name and done == self.after:
            raise KeyboardInterrupt


def test_a_killed_training_goes_on_and_comes_to_the_same_end(
    backbone: Path, labelled: LabelledSet, folded: Checkpoint, tmp_path: Path
) -> None:
    output = tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        train(labelled, settings(backbone, folds=3), output, progress=Killed("fold 2 of 3", 20))
    assert not output.exists()
    kept = (tmp_path / "checkpoint.partial" / "folds" / "0" / "model.safetensors").stat().st_mtime_ns
    with pytest.raises(OutputError, match="--resume"):
        train(labelled, settings(backbone, folds=3), output)
    with pytest.raises(OutputError, match=r"batch size 16 and this run has 8"):
        train(labelled, settings(backbone, folds=3, batch_size=8), output, existing="resume")
    watch = Killed("never", 0)
    train(labelled, settings(backbone, folds=3), output, existing="resume", progress=watch)
    assert watch.fits == ["fold 2 of 3", "fold 3 of 3", "final"]
    assert (output / "folds" / "0" / "model.safetensors").stat().st_mtime_ns == kept
    first, second = (pq.read_table(path / "oof.parquet") for path in (folded.path, output))
    for column in ("sensibility_raw", "rationality_raw"):
        np.testing.assert_allclose(first[column].to_numpy(), second[column].to_numpy(), atol=2e-2)


def test_an_output_that_exists_is_replaced_on_demand_only(
    backbone: Path, labelled: LabelledSet, tmp_path: Path
) -> None:
    output = tmp_path / "checkpoint"
    output.mkdir()
    (output / "thesis.txt").write_text("mine")
    for existing in ("error", "overwrite"):
        with pytest.raises(OutputError):
            train(labelled, settings(backbone, epochs=1), output, existing=existing)
    assert (output / "thesis.txt").read_text() == "mine"
    shutil.rmtree(output)
    train(labelled, settings(backbone, epochs=1), output)
    train(labelled, settings(backbone, epochs=2), output, existing="overwrite")
    assert load_checkpoint(output).settings.epochs == 2


def test_a_student_learns_from_its_teachers_fold_by_fold(
    backbone: Path, labelled: LabelledSet, folded: Checkpoint, tmp_path: Path
) -> None:
    rows = [make_dialogue(f"i am sad {n}", "that is sad" if n % 2 else "we won the game") for n in range(30)]
    unlabelled = [*rows, *rows, labelled.dialogues[0]]  # said twice, and labelled: left out
    student = train(
        labelled,
        settings(backbone, folds=3, judge_share=0.0),
        tmp_path / "student",
        teachers=[folded, folded],
        unlabelled=unlabelled,
    )
    assert student.info["training"]["unlabelled"] == 30
    assert student.info["training"]["teachers"] == [folded.info["backbone"]] * 2
    assert student.info["measured"]["sensibility.pearson"] > 0.3


def test_a_teacher_that_saw_the_held_out_conversations_is_refused(
    backbone: Path, labelled: LabelledSet, folded: Checkpoint, tmp_path: Path
) -> None:
    for wrong in ({"folds": 4}, {"folds": 0}, {"folds": 3, "split_seed": 1}):
        with pytest.raises(TrainError, match=r"--folds 3 --split-seed 0"):
            train(labelled, settings(backbone, **wrong), tmp_path / "x", teachers=[folded])
    copy = tmp_path / "copy"
    shutil.copytree(folded.path, copy)
    shutil.rmtree(copy / "folds" / "2")
    with pytest.raises(TrainError, match="lacks folds/2"):
        train(labelled, settings(backbone, folds=3), tmp_path / "x", teachers=[load_checkpoint(copy)])
    with pytest.raises(TrainError, match="--teacher"):
        train(labelled, settings(backbone), tmp_path / "x", unlabelled=list(labelled.dialogues))
    assert not (tmp_path / "x.partial").exists()


def test_patience_stops_early_on_an_inner_split(backbone: Path, labelled: LabelledSet, tmp_path: Path) -> None:
    watch = Killed("never", 0)
    steps: list[int] = []
    watch.step = lambda done, loss: steps.append(done)  # type: ignore[method-assign]
    train(labelled, settings(backbone, epochs=40, patience=1), tmp_path / "patient", progress=watch)
    assert steps[-1] < 40 * 10


def test_frozen_layers_stay_as_they_were(backbone: Path, labelled: LabelledSet, tmp_path: Path) -> None:
    checkpoint = train(labelled, settings(backbone, epochs=1, frozen_layers=1), tmp_path / "frozen")
    before = AutoModelForSequenceClassification.from_pretrained(backbone).state_dict()
    after = checkpoint.load_model().state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any("embeddings" in name or "layer.0." in name for name in changed)
    assert any("layer.1." in name for name in changed)


def test_a_training_keeps_the_lowest_layers_and_says_so(backbone: Path, labelled: LabelledSet, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="layers is 3, expected 1 to 2"):
        train(labelled, settings(backbone, layers=3), tmp_path / "x")
    assert not (tmp_path / "x.partial").exists()
    with pytest.raises(KeyboardInterrupt):
        train(labelled, settings(backbone, layers=1), tmp_path / "one", progress=Killed("final", 1))
    with pytest.raises(OutputError, match="was begun with layers 1 and this run has None"):
        train(labelled, settings(backbone), tmp_path / "one", existing="resume")
    checkpoint = train(labelled, settings(backbone, layers=1), tmp_path / "one", existing="resume")
    assert json.loads((checkpoint.path / "config.json").read_text())["num_hidden_layers"] == 1
    assert checkpoint.settings.layers == checkpoint.backbone.layers == 1
    assert ", cut to depth 1, its lowest layers, fine-tuned" in (checkpoint.path / "README.md").read_text()
    names = checkpoint.load_model().state_dict()
    assert any("layer.0." in name for name in names)
    assert not any("layer.1." in name for name in names)
    np.testing.assert_allclose(
        logits(checkpoint.path, labelled.dialogues[:5]),
        predict(checkpoint.load_model(), checkpoint.encoder.encode(labelled.dialogues[:5])),
        atol=1e-4,
    )


def test_a_roberta_is_trained_and_its_positions_are_counted(labelled: LabelledSet, tmp_path: Path) -> None:
    roberta = write_backbone(tmp_path / "roberta", kind="roberta")
    with pytest.raises(TrainError, match="takes 127 tokens at most"):
        train(labelled, settings(roberta, max_length=128), tmp_path / "x")
    checkpoint = train(labelled, settings(roberta, epochs=2), tmp_path / "checkpoint")
    assert np.isfinite(logits(checkpoint.path, labelled.dialogues[:5])).all()


def test_a_fold_is_no_checkpoint_to_export_and_a_foreign_folder_is_none_at_all(
    folded: Checkpoint, backbone: Path
) -> None:
    assert "cuts" not in folded.fold(0).info
    with pytest.raises(CheckpointError, match=r"empathy\.json"):
        load_checkpoint(backbone)
    with pytest.raises(CheckpointError, match="no such folder"):
        load_checkpoint(backbone / "nowhere")


def test_the_plan_holds_every_row_out_once(backbone: Path, labelled: LabelledSet) -> None:
    parts = plan(labelled, settings(backbone, folds=4))
    assert sum(part.held_out.astype(int) for part in parts).tolist() == [1] * len(labelled)  # type: ignore[union-attr]
    assert parts[-1].train.all()
    assert not any((part.train & part.held_out).any() for part in parts)


def test_a_disk_without_room_is_said_before_anything_is_trained(
    backbone: Path, labelled: LabelledSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100_000))
    with pytest.raises(TrainError, match=r"0\.0 GB are free"):
        train(labelled, settings(backbone), tmp_path / "out")


def test_a_disk_that_fills_up_is_one_line_and_the_training_goes_on_afterwards(
    backbone: Path, tmp_path: Path, empathy: Run
) -> None:
    path = labelled_file(tmp_path / "labels.jsonl", 160)
    arguments = ("train", path, "-o", tmp_path / "out", "--backbone", backbone, "--epochs", "1", "--max-length", "64")
    # No file may grow beyond 30 kB: to a program that is what a full disk is.
    result = empathy(*arguments, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)))
    assert result.returncode == 2
    assert len(result.stderr.splitlines()[-1:]) == 1
    assert "cannot be written" in result.stderr
    assert "--resume" in result.stderr
    assert not (tmp_path / "out").exists()
    assert empathy(*arguments, "--resume").returncode == 0


@pytest.mark.slow
def test_two_processes_train_one_scorer(backbone: Path, tmp_path: Path) -> None:
    path = labelled_file(tmp_path / "labels.jsonl", 160)
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29533"),
        *(str(Path(sys.executable).with_name("empathy")), "train", str(path), "-o", str(tmp_path / "out")),
        *("--backbone", str(backbone), "--folds", "2", "--epochs", "6", "--batch-size", "8"),
        *("--learning-rate", "5e-3", "--max-length", "64"),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("written to") == 1
    assert load_checkpoint(tmp_path / "out").info["measured"]["sensibility.pearson"] > 0.5


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (labelled_records(40), "40 labelled dialogues, expected at least 50"),
        ([{**row, "conversation": "one"} for row in labelled_records(80)], "1 conversation in 80 labelled dialogues"),
        ([{**row, "rationality": 4} for row in labelled_records(80)], "every rationality label is 4"),
        ([record(f"i am {n}", "sad") for n in range(80)], "no labelled dialogue among 80 records"),
        ([{**row, "sensibility": 11} for row in labelled_records(80)], "bad_label"),
    ],
)
def test_bad_labels_are_an_error_before_anything_is_trained(
    records: list[dict[str, Any]], message: str, backbone: Path, tmp_path: Path, empathy: Run
) -> None:
    path = write_lines(tmp_path / "labels.jsonl", records)
    result = empathy("train", path, "-o", tmp_path / "out", "--backbone", backbone)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == [path]


def test_the_command_trains_and_counts_what_had_no_label(backbone: Path, tmp_path: Path, empathy: Run) -> None:
    rows = [*labelled_records(160), record("i am sad", "so sorry")]
    path = write_lines(tmp_path / "labels.jsonl", rows)
    arguments = ("train", path, "-o", tmp_path / "out", "--backbone", backbone, "--epochs", "1", "--max-length", "64")
    result = empathy(*arguments)
    assert result.returncode == 0, result.stderr
    assert "1 records had no dialogue or label" in result.stderr
    reject = json.loads((tmp_path / "out" / "rejects.jsonl").read_text())
    assert (reject["reason"], reject["line"]) == ("no_label", 161)
    assert "complete already" in empathy(*arguments, "--resume").stderr
    again = empathy(*arguments)
    assert again.returncode == 2
    assert "--overwrite" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backbone", "./no-such-folder"], "cannot be loaded"),
        (["--epochs", "0"], "epochs is 0, expected 1 to 1000"),
        (["--folds", "1"], "folds is 1"),
        (["--layers", "0"], "layers is 0, expected 1 to 1000"),
        (["--learning-rate", "nan"], "learning rate is nan"),
        (["--teacher", "nowhere"], "no such folder"),
        (["--resume", "--overwrite"], "give one of them"),
    ],
)
def test_bad_arguments_are_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    path = labelled_file(tmp_path / "labels.jsonl", 160)
    result = invoke(str(path), "-o", str(tmp_path / "out"), *arguments, command="train")
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_backbone_that_the_hub_does_not_give_is_one_line(tmp_path: Path, empathy: Run) -> None:
    path = labelled_file(tmp_path / "labels.jsonl", 160)
    result = empathy("train", path, "-o", tmp_path / "out", "--backbone", "nobody/no-such-model", env=_offline())
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert "cannot be loaded" in result.stderr


def _offline() -> dict[str, str]:
    import os

    return {**os.environ, "HF_HUB_OFFLINE": "1"}
