"""Training: what is learnt and measured, folds, teachers, and what is refused before the hour of training."""

from __future__ import annotations

import json
import shutil
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
from distill.training.card import agreement_rows, knows_by_heart
from distill.training.checkpoint import Checkpoint, load_checkpoint
from distill.training.fits import assign
from distill.training.network import fold_affine, predict
from distill.training.train import train_scorer
from scorer.dialogue import HEADS, Dialogue, render
from scorer.errors import OutputError
from tests.conftest import make_dialogue
from tests.distill.tiny import Watch, raw_scores, tiny_settings, write_backbone


def logits(path: Path, dialogues: tuple[Dialogue, ...]) -> np.ndarray[Any, Any]:
    """Return what transformers alone makes of dialogues, from nothing but the folder."""
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModelForSequenceClassification.from_pretrained(path)
    pairs = [render(dialogue) for dialogue in dialogues]
    inputs = tokenizer([a for a, _ in pairs], [b for _, b in pairs], padding=True, return_tensors="pt")
    with torch.inference_mode():
        scores: np.ndarray[Any, Any] = model.eval()(**inputs).logits.numpy()
    return scores


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


@pytest.mark.slow
def test_a_training_goes_on_from_a_checkpoint_fold_by_fold(
    folded: Checkpoint, labelled: LabelledSet, backbone: Path, tmp_path: Path
) -> None:
    settings = tiny_settings(folded.path, epochs=1, learning_rate=1e-8, folds=3)
    on = train_scorer(labelled, settings, tmp_path / "on")
    # Next to nothing is learnt, so each fold's scores stay those of the model that did not see it either.
    np.testing.assert_allclose(raw_scores(on.path), raw_scores(folded.path), atol=1e-3)
    assert (on.info.backbone, on.info.epochs_before) == (folded.info.backbone, folded.info.settings.epochs)
    assert "for 1 epochs after 4 of an earlier training" in (on.path / "README.md").read_text()
    kept = train_scorer(labelled, replace(settings, learning_rate=1e-2, earlier_share=1), tmp_path / "kept")
    np.testing.assert_allclose(raw_scores(kept.path), raw_scores(folded.path), atol=1e-3)
    mean = train_scorer(labelled, replace(settings, learning_rate=1e-2, earlier_share=0.5), tmp_path / "mean")
    assert np.abs(raw_scores(mean.path) - raw_scores(folded.path)).max() > 0.1
    with pytest.raises(TrainError, match=r"earlier share is 0.5 and the backbone .* is no checkpoint"):
        train_scorer(labelled, tiny_settings(backbone, earlier_share=0.5), tmp_path / "other")
    earlier = on.fold(1).info.training.content_hashes
    assert earlier == folded.fold(1).info.training.content_hashes
    for more in ({"folds": 0}, {"folds": 3, "split_seed": 9}):
        with pytest.raises(TrainError, match="the backbone was trained with --folds 3 --split-seed 0 "):
            train_scorer(labelled, tiny_settings(folded.path, **more), tmp_path / "other")
    shutil.rmtree(shutil.copytree(folded.path, tmp_path / "bare") / "folds")
    with pytest.raises(TrainError, match="lacks folds/0, its model without that fold"):
        train_scorer(labelled, tiny_settings(tmp_path / "bare", folds=3), tmp_path / "other")


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


@pytest.mark.slow
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
    theirs, own = (pq.read_table(checkpoint.path / "oof.parquet") for checkpoint in (folded, student))
    for head in HEADS:
        r = np.corrcoef(theirs[f"{head}_raw"], own[f"{head}_raw"])[0, 1]
        assert student.info.measured["follows_held_out"][head] == pytest.approx(r, abs=1e-4)
        assert student.info.measured["follows_learnt"][head] > 0.8
    names = [name for name, _, _ in watch.stages]
    assert names == ["re-pairing dialogues", "teachers score", *["training"] * 4]
    assert ("", 2 * 3 * 190) in watch.steps  # two teachers, three folds


def test_a_student_that_follows_only_on_what_it_learnt_is_told_what_would_help() -> None:
    def measured(held_out: float, learnt: float) -> dict[str, dict[str, float]]:
        return {
            "follows_held_out": {"sensibility": held_out, "rationality": 0.93},
            "follows_learnt": {"sensibility": learnt, "rationality": 0.94},
        }

    assert "more dialogues" in knows_by_heart(measured(0.87, 0.98))
    assert knows_by_heart(measured(0.93, 0.97)) == knows_by_heart({}) == ""
    assert ("r with teachers, held out", "0.870 / 0.930") in agreement_rows(measured(0.87, 0.98))


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


@pytest.mark.slow
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
