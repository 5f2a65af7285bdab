"""`empathy train`: fits, folds, teachers, resuming, and every error before the hour of training."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from msgspec import UNSET
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from distill.errors import CheckpointError, TrainError
from distill.labelled import LabelledSet
from distill.training.calibrate import balanced_cuts, cross_calibrate, fit_calibration, fit_uncertainty, measure
from distill.training.checkpoint import Checkpoint, load_checkpoint
from distill.training.fits import assign
from distill.training.network import fold_affine, predict
from distill.training.train import train_scorer
from scorer.dialogue import HEADS, Dialogue, render
from scorer.errors import OutputError
from scorer.progress import Silent
from tests.conftest import Run, make_dialogue, read, record, write_lines
from tests.distill.tiny import labelled_file, labelled_records, tiny_settings, write_backbone
from tests.selection.selection_data import invoke, one_line

EMPATHY = str(Path(sys.executable).with_name("empathy"))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> LabelledSet:
    """A hundred and sixty labelled dialogues of eighty conversations."""
    return read(tmp_path_factory.mktemp("labels") / "labels.jsonl", labelled_records(160))


@pytest.fixture(scope="module")
def folded(backbone: Path, labelled: LabelledSet, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A checkpoint of three folds."""
    return train_scorer(labelled, tiny_settings(backbone, folds=3), tmp_path_factory.mktemp("folded") / "checkpoint")


def logits(path: Path, dialogues: tuple[Dialogue, ...]) -> np.ndarray[Any, Any]:
    """Return what transformers alone makes of dialogues, from nothing but the folder."""
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModelForSequenceClassification.from_pretrained(path)
    pairs = [render(dialogue) for dialogue in dialogues]
    inputs = tokenizer([a for a, _ in pairs], [b for _, b in pairs], padding=True, return_tensors="pt")
    with torch.inference_mode():
        scores: np.ndarray[Any, Any] = model.eval()(**inputs).logits.numpy()
    return scores


def raw_scores(checkpoint: Path) -> np.ndarray[Any, Any]:
    """Return the held-out predictions before calibration, (N, 2)."""
    table = pq.read_table(checkpoint / "oof.parquet")
    return np.stack([table[f"{head}_raw"].to_numpy() for head in ("sensibility", "rationality")], axis=1)


class Watch(Silent):
    """Notes the stages and steps of a training, and ends it in a step of one of its fits, as a kill would."""

    def __init__(self, fit: str = "", step: int = 0) -> None:
        self.fit, self.step = fit, step
        self.stages: list[tuple[str, float | None, float]] = []
        self.steps: list[tuple[str, float]] = []

    def stage(self, name: str, total: float | None = None, done: float = 0) -> None:
        self.stages.append((name, total, done))

    def update(self, done: float, *, total: float | None = None, note: str = "") -> None:
        fit = note.split(",", maxsplit=1)[0]
        self.steps.append((fit, done))
        if [name for name, _ in self.steps].count(self.fit) == self.step > 0:
            raise KeyboardInterrupt


def test_it_learns_and_measures_on_conversations_it_did_not_see(folded: Checkpoint, labelled: LabelledSet) -> None:
    measured = folded.info.measured
    assert measured
    assert min(measured["sensibility.pearson"], measured["rationality.pearson"]) > 0.7
    table = pq.read_table(folded.path / "oof.parquet").to_pydict()
    assert len(table["id"]) == len(labelled)
    folds = dict(zip(table["conversation"], table["fold"], strict=True))
    assert [folds[name] for name in table["conversation"]] == table["fold"]
    for k in range(3):
        held_out = {c for c, f in zip(table["content"], table["fold"], strict=True) if f == k}
        assert held_out
        assert not held_out & set(folded.fold(k).info.training.content_hashes)
    place = {content: row for row, content in enumerate(labelled.hashes)}
    rows = [n for n, fold in enumerate(table["fold"]) if fold == 1]
    dialogues = tuple(labelled.dialogues[place[table["content"][n]]] for n in rows)
    np.testing.assert_allclose(logits(folded.path / "folds" / "1", dialogues), raw_scores(folded.path)[rows], atol=1e-4)


def test_a_checkpoint_is_a_plain_folder_whose_logits_are_calibrated_scores(
    folded: Checkpoint, labelled: LabelledSet
) -> None:
    scores = logits(folded.path, labelled.dialogues)
    assert min(np.corrcoef(scores[:, i], labelled.scores[:, i])[0, 1] for i in (0, 1)) > 0.8
    config = json.loads((folded.path / "config.json").read_text())
    assert config["id2label"] == {"0": "sensibility", "1": "rationality"}
    assert config["problem_type"] == "regression"
    info = load_checkpoint(folded.path).info
    assert info == folded.info
    assert info.settings.folds == 3
    assert info.training.content_hashes == sorted(labelled.hashes)
    assert info.cuts
    assert all(len(cuts) == 10 for cuts in info.cuts.values())
    assert info.uncertainty
    assert "Pearson, sensibility" in (folded.path / "README.md").read_text()
    assert not folded.path.with_name("checkpoint.partial").exists()


def columns(checkpoint: Path, ending: str) -> np.ndarray[Any, Any]:
    """Return what the held-out predictions hold for both heads under a name with this ending, (N, 2)."""
    table = pq.read_table(checkpoint / "oof.parquet")
    return np.stack([table[f"{head}{ending}"].to_numpy() for head in HEADS], axis=1)


def test_what_ships_is_fitted_on_the_scores_that_ship(folded: Checkpoint) -> None:
    raw, labels, info = columns(folded.path, "_raw"), columns(folded.path, "_judge"), folded.info
    folds = pq.read_table(folded.path / "oof.parquet")["fold"].to_numpy()
    calibration = info.calibration
    assert calibration
    assert calibration == fit_calibration(raw, labels)
    assert min(abs(slope - 1) for slope in calibration.slope) > 0.005  # else what follows would say nothing
    shipped = calibration.apply(raw)
    uncertainty = fit_uncertainty(shipped, labels)
    assert info.uncertainty == uncertainty != fit_uncertainty(raw, labels)
    assert info.cuts == balanced_cuts(shipped, labels) != balanced_cuts(raw, labels)
    calibrated = columns(folded.path, "")
    np.testing.assert_array_equal(calibrated, cross_calibrate(raw, labels, folds))
    assert not np.allclose(calibrated, raw, atol=1e-3)
    expected = measure(calibrated, labels, folds)
    assert info.measured
    assert {name: info.measured[name] for name in expected} == expected
    about = json.loads(pq.read_schema(folded.path / "oof.parquet").metadata[b"empathy.scorer"])
    assert about["cuts"] == info.cuts


def test_the_network_that_ships_is_the_calibrated_one(
    backbone: Path, labelled: LabelledSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: list[Any] = []

    def watched(model: Any, slope: Any, intercept: Any) -> None:
        before.append(model.eval()(**inputs).logits.detach().numpy())
        fold_affine(model, slope, intercept)

    pairs = [render(dialogue) for dialogue in labelled.dialogues[:8]]
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    inputs = tokenizer([a for a, _ in pairs], [b for _, b in pairs], padding=True, return_tensors="pt")
    monkeypatch.setattr("distill.training.assemble.fold_affine", watched)
    checkpoint = train_scorer(labelled, tiny_settings(backbone), tmp_path / "checkpoint")
    (raw,) = before
    after, calibration = logits(checkpoint.path, labelled.dialogues[:8]), checkpoint.info.calibration
    assert calibration
    assert not np.allclose(after, raw, atol=1e-3)
    np.testing.assert_allclose(after.clip(0, 10), calibration.apply(raw), atol=1e-4)


def test_the_same_settings_give_the_same_scorer_which_never_saw_what_was_held_out(
    backbone: Path, labelled: LabelledSet, tmp_path: Path
) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train_scorer(labelled, tiny_settings(backbone, epochs=2, seed=seed), tmp_path / name)
    first, second, other = (raw_scores(tmp_path / name) for name in "abc")
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)
    held_out = set(pq.read_table(tmp_path / "a" / "oof.parquet")["content"].to_pylist())  # a tenth, without folds
    assert 5 <= len(held_out) <= 50
    assert not held_out & set(load_checkpoint(tmp_path / "a").info.training.content_hashes)
    assert not (tmp_path / "a" / "folds").exists()


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


@pytest.mark.parametrize("epoch", [1, 2, 3])
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


@pytest.mark.parametrize("place", ["transformers.Trainer._load_best_model", "distill.training.train.predict"])
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


def test_sigterm_ends_a_training_that_can_be_resumed(backbone: Path, tmp_path: Path, empathy: Run) -> None:
    path, output = labelled_file(tmp_path / "labels.jsonl", 160), tmp_path / "out"
    command = ["train", path, "-o", output, "--backbone", backbone, "--folds", "2", "--max-length", "64"]
    with subprocess.Popen([EMPATHY, *map(str, command)], stderr=subprocess.PIPE, text=True) as process:
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


def test_a_student_learns_from_its_teachers_fold_by_fold(
    backbone: Path, labelled: LabelledSet, folded: Checkpoint, tmp_path: Path
) -> None:
    rows = [make_dialogue(f"i am sad {n}", "that is sad" if n % 2 else "we won the game") for n in range(30)]
    unlabelled = [*rows, *rows, labelled.dialogues[0]]  # said twice, and labelled: left out
    settings, watch = tiny_settings(backbone, folds=3, judge_share=0.0), Watch()
    student = train_scorer(
        labelled, settings, tmp_path / "student", teachers=[folded, folded], unlabelled=unlabelled, progress=watch
    )
    assert student.info.training.unlabelled == 30
    assert student.info.training.teachers == [folded.info.backbone] * 2
    assert student.info.measured
    assert student.info.measured["sensibility.pearson"] > 0.3
    names = [name for name, _, _ in watch.stages]
    assert names == ["re-pairing dialogues", "teachers score", *["training"] * 4]
    assert ("", 2 * 3 * 190) in watch.steps  # two teachers, three folds


def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    backbone: Path, labelled: LabelledSet, folded: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, roberta = tmp_path / "copy", write_backbone(tmp_path / "roberta", kind="roberta")
    shutil.copytree(folded.path, copy)
    shutil.rmtree(copy / "folds" / "2")
    teacher, part = {"teachers": [folded]}, {"teachers": [load_checkpoint(copy)]}
    for settings, given, message in (
        (tiny_settings(backbone, folds=4), teacher, "--folds 3 --split-seed 0"),
        (tiny_settings(backbone), teacher, "--folds 3 --split-seed 0"),
        (tiny_settings(backbone, folds=3, split_seed=1), teacher, "--folds 3 --split-seed 0"),
        (tiny_settings(backbone, folds=3), part, "lacks folds/2"),
        (tiny_settings(backbone), {"unlabelled": labelled.dialogues}, "--teacher"),
        (tiny_settings(backbone, layers=3), {}, "layers is 3, expected 1 to 2"),
        (tiny_settings(roberta, max_length=128), {}, "takes 127 tokens at most"),  # two of its positions are never used
    ):
        with pytest.raises(TrainError, match=message):
            train_scorer(labelled, settings, tmp_path / "x", **given)
    assert not (tmp_path / "x.partial").exists()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100_000))
    with pytest.raises(TrainError, match=r"0\.0 GB are free"):
        train_scorer(labelled, tiny_settings(backbone), tmp_path / "out")


def test_patience_stops_early_and_frozen_layers_stay_as_they_were(
    backbone: Path, labelled: LabelledSet, tmp_path: Path
) -> None:
    settings, watch = tiny_settings(backbone, epochs=40, patience=1, frozen_layers=1), Watch()
    checkpoint = train_scorer(labelled, settings, tmp_path / "frozen", progress=watch)
    assert watch.steps[-1][1] < 40 * 10
    before = AutoModelForSequenceClassification.from_pretrained(backbone).state_dict()
    after = checkpoint.load_model().state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any("embeddings" in name or "layer.0." in name for name in changed)
    assert any("layer.1." in name for name in changed)


def test_a_training_keeps_the_lowest_layers_and_says_so(backbone: Path, labelled: LabelledSet, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_scorer(labelled, tiny_settings(backbone, layers=1), tmp_path / "one", progress=Watch("final", 1))
    with pytest.raises(OutputError, match="was begun with layers 1 and this run has None"):
        train_scorer(labelled, tiny_settings(backbone), tmp_path / "one", existing="resume")
    checkpoint = train_scorer(labelled, tiny_settings(backbone, layers=1), tmp_path / "one", existing="resume")
    assert json.loads((checkpoint.path / "config.json").read_text())["num_hidden_layers"] == 1
    assert checkpoint.info.settings.layers == checkpoint.backbone.layers == 1
    assert ", cut to depth 1, its lowest layers, fine-tuned" in (checkpoint.path / "README.md").read_text()
    assert not any("layer.1." in name for name in checkpoint.load_model().state_dict())
    mine = predict(checkpoint.load_model(), checkpoint.encoder.encode(labelled.dialogues[:5]))
    np.testing.assert_allclose(logits(checkpoint.path, labelled.dialogues[:5]), mine, atol=1e-4)


def test_a_fold_has_no_cuts_and_a_foreign_folder_is_no_checkpoint(folded: Checkpoint, tmp_path: Path) -> None:
    assert folded.fold(0).info.cuts is UNSET
    known = json.loads((folded.path / "empathy.json").read_text())
    for change, message in (
        (None, "such folder"),
        ({}, "holds no empathy.json"),
        ({"format_version": 2}, "is no checkpoint of format version 1"),
        ({"template_version": 0}, "was trained with text template 0"),
        ({"training": 1}, r"is damaged \(Expected `object`, got `int` - at `\$.training`\); train again"),
    ):
        folder = tmp_path / message[:9]
        if change is not None:
            folder.mkdir()
        if change:
            (folder / "empathy.json").write_text(json.dumps({**known, **change}))
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(folder)


def test_the_fits_hold_every_row_out_once(backbone: Path, labelled: LabelledSet) -> None:
    split = assign(labelled.conversations, tiny_settings(backbone, folds=4))
    assert np.sum([fit.held_out for fit in split.fits], axis=0).tolist() == [1] * len(labelled)
    assert split.fits[-1].train.all()
    assert not any((fit.train & fit.held_out).any() for fit in split.fits)
    assert [fit.fold for fit in split.fits] == [0, 1, 2, 3, None]
    assert all(set(split.folds[fit.held_out]) == {fit.fold} for fit in split.fits[:-1])


def test_a_fold_without_conversations_is_an_error(backbone: Path) -> None:
    with pytest.raises(TrainError, match="1 conversations and split seed 0 leave 1 of 2 measured folds empty"):
        assign(["a"], tiny_settings(backbone, folds=2))


def test_a_disk_that_fills_up_is_one_line_and_the_training_is_resumed_afterwards(
    backbone: Path, tmp_path: Path, empathy: Run
) -> None:
    path = labelled_file(tmp_path / "labels.jsonl", 160)
    arguments = ("train", path, "-o", tmp_path / "out", "--backbone", backbone, "--epochs", "1", "--max-length", "64")
    # No file may grow beyond 30 kB: to a program that is what a full disk is.
    result = empathy(*arguments, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)))
    assert result.returncode == 2
    assert "cannot be written" in result.stderr.splitlines()[-1]
    assert "--resume" in result.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()
    assert empathy(*arguments, "--resume").returncode == 0


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


LABELS = labelled_records(160)


@pytest.mark.parametrize(
    ("records", "arguments", "message"),
    [
        (LABELS[:40], [], "40 labelled dialogues, expected at least 50"),
        ([record(f"i am {n}", "sad") for n in range(80)], [], "no labelled dialogue among 80 records"),
        ([{**row, "sensibility": 11} for row in LABELS], [], "bad_label"),
        (LABELS, ["--backbone", "./no-such-folder"], "cannot be loaded"),
        (LABELS, ["--epochs", "0"], "epochs is 0, expected 1 to 1000"),
        (LABELS, ["--folds", "1"], "folds is 1"),
        (LABELS, ["--layers", "0"], "layers is 0, expected 1 to 1000"),
        (LABELS, ["--learning-rate", "nan"], "learning rate is nan"),
        (LABELS, ["--teacher", "nowhere"], "no such folder"),
        (LABELS, ["--resume", "--overwrite"], "give one of them"),
    ],
)
def test_bad_labels_and_arguments_are_one_line_before_anything_is_trained(
    records: list[dict[str, Any]], arguments: list[str], message: str, tmp_path: Path
) -> None:
    path = write_lines(tmp_path / "labels.jsonl", records)
    result = invoke(str(path), "-o", str(tmp_path / "out"), *arguments, command="train")
    assert message in one_line(result.exit_code, result.stderr)
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_backbone_that_the_hub_does_not_give_is_one_line(tmp_path: Path, empathy: Run) -> None:
    path = labelled_file(tmp_path / "labels.jsonl", 160)
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    result = empathy("train", path, "-o", tmp_path / "out", "--backbone", "nobody/no-such-model", env=offline)
    assert "cannot be loaded" in one_line(result.returncode, result.stderr)
