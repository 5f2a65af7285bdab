"""Settings are checked when they are made, and survive the file that they are saved in."""

from __future__ import annotations

import json
import re
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from distill.errors import TrainError
from distill.training.settings import DEFAULT_BACKBONE, TrainSettings

LIMITS: list[tuple[str, float, float]] = [
    ("epochs", 1, 1000),
    ("learning_rate", 1e-8, 1),
    ("batch_size", 1, 4096),
    ("layers", 1, 1000),
    ("layer_decay", 0.1, 1),
    ("frozen_layers", 0, 1000),
    ("weight_decay", 0, 1),
    ("warmup", 0, 0.9),
    ("max_length", 16, 8192),
    ("seed", 0, 2**32 - 1),
    ("folds", 0, 100),
    ("split_seed", 0, 2**32 - 1),
    ("patience", 1, 1000),
    ("judge_share", 0, 1),
]


def make(**values: Any) -> TrainSettings:
    return TrainSettings(**values)


def test_the_defaults_are_allowed_and_name_a_backbone() -> None:
    settings = TrainSettings()
    assert settings.backbone == DEFAULT_BACKBONE
    assert (settings.learning_rate, settings.patience, settings.folds) == (None, None, 0)


def test_every_number_has_limits() -> None:
    assert {entry.name for entry in fields(TrainSettings)} == {"backbone", *(name for name, _, _ in LIMITS)}


@pytest.mark.parametrize(("name", "low", "high"), LIMITS)
def test_a_value_may_be_at_its_limits_and_not_beyond(name: str, low: float, high: float) -> None:
    assert getattr(make(**{name: low}), name) == low
    assert getattr(make(**{name: high}), name) == high
    for beyond in (low - 1, high + 1, low - 1e-9, float("nan"), float("inf"), -float("inf")):
        expected = f"{name.replace('_', ' ')} is {beyond}, expected {low:g} to {high:g}"
        with pytest.raises(TrainError, match=f"^{re.escape(expected)}$"):
            make(**{name: beyond})


def test_an_error_gives_the_value_and_what_was_expected() -> None:
    with pytest.raises(TrainError, match=r"^layer decay is 1\.5, expected 0\.1 to 1$"):
        TrainSettings(layer_decay=1.5)


def test_one_fold_is_none() -> None:
    with pytest.raises(TrainError, match=r"^folds is 1, expected 0 \(one tenth .*\) or at least 2$"):
        TrainSettings(folds=1)
    assert TrainSettings(folds=2).folds == 2


@pytest.mark.parametrize(("hidden", "rate"), [(768, 5e-5), (384, 2e-4), (1024, 2.8125e-5)])
def test_the_learning_rate_falls_with_the_square_of_the_hidden_size(hidden: int, rate: float) -> None:
    assert TrainSettings().rate_for(hidden) == pytest.approx(rate)
    assert TrainSettings(learning_rate=3e-5).rate_for(hidden) == 3e-5


def test_settings_survive_json() -> None:
    settings = TrainSettings(backbone="some/encoder", epochs=5, learning_rate=1e-4, folds=3, patience=2, seed=7)
    again = TrainSettings.from_json(json.loads(json.dumps(settings.to_json())))
    assert again == settings
    assert TrainSettings.from_json(TrainSettings().to_json()) == TrainSettings()


def test_fields_of_another_release_are_passed_over_and_missing_ones_have_their_default() -> None:
    assert TrainSettings.from_json({"epochs": 4, "mood": "sad"}) == TrainSettings(epochs=4)


def test_settings_from_a_file_are_checked_too() -> None:
    with pytest.raises(TrainError, match="epochs is 0"):
        TrainSettings.from_json({**TrainSettings().to_json(), "epochs": 0})


def test_settings_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        TrainSettings().epochs = 4  # type: ignore[misc]
