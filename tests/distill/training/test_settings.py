"""Settings are checked when they are made, and survive the file that they are saved in."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

import msgspec
import pytest

from distill.errors import TrainError
from distill.training.settings import DEFAULT_BACKBONE, TrainSettings
from scorer.outputs import json_text
from scorer.settings import setting_of

RANGES = [(entry.name, found) for entry in fields(TrainSettings) if (found := setting_of(entry))]


def make(**values: Any) -> TrainSettings:
    return TrainSettings(**values)


def from_json(text: str) -> TrainSettings:
    return msgspec.json.decode(text, type=TrainSettings)


def test_the_defaults_are_allowed_and_name_a_backbone() -> None:
    settings = TrainSettings()
    assert settings.backbone == DEFAULT_BACKBONE
    assert (settings.learning_rate, settings.patience, settings.folds) == (None, None, 0)
    assert make(epochs=3, batch_size=16).steps(33) == 9  # whole passes
    assert [name for name, found in RANGES if found.low is None or found.high is None] == [
        "backbone",
        "allow_pickle",
        "left_out_kind",
    ]


LIMITED = [(name, found.low, found.high) for name, found in RANGES if found.low is not None]


@pytest.mark.parametrize(("name", "low", "high"), LIMITED)
def test_a_value_may_be_at_its_limits_and_not_beyond(name: str, low: float, high: float) -> None:
    for value in (low, high):
        assert getattr(make(**{name: value}), name) == value
    for beyond in (low - 1e-9, high + 1, float("nan"), float("inf")):
        expected = f"{name.replace('_', ' ')} is {beyond}, expected {low:g} to {high:g}"
        with pytest.raises(TrainError, match=f"^{re.escape(expected)}$"):
            make(**{name: beyond})


def test_one_fold_is_none() -> None:
    with pytest.raises(TrainError, match=r"^folds is 1, expected 0 \(one tenth .*\) or at least 2$"):
        TrainSettings(folds=1)
    assert TrainSettings(folds=2).folds == 2


@pytest.mark.parametrize(("hidden", "rate"), [(768, 1.2e-4), (384, 2.4e-4), (1024, 9e-5)])
def test_the_learning_rate_falls_with_the_hidden_size(hidden: int, rate: float) -> None:
    assert TrainSettings().rate_for(hidden) == pytest.approx(rate)
    assert TrainSettings(learning_rate=3e-5).rate_for(hidden) == 3e-5


@pytest.mark.parametrize("given", [{}, {"backbone": "b", "learning_rate": 1e-4, "folds": 3, "patience": 2, "seed": 7}])
def test_settings_survive_json(given: dict[str, Any]) -> None:
    assert from_json(json_text(make(**given))) == make(**given)


def test_fields_of_another_release_are_passed_over_missing_ones_have_their_default_and_values_are_checked() -> None:
    assert from_json('{"epochs": 4, "mood": "sad"}') == TrainSettings(epochs=4)
    with pytest.raises(TrainError, match="epochs is 0"):
        from_json('{"epochs": 0}')
