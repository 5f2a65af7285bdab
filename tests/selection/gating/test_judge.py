"""A precision may change one selection decision in a hundred, and gives numbers."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest

from scorer.bundle.cuts import JUDGE_CUTS
from scorer.dialogue import HEADS
from scorer.engines.verdicts import Verdict
from selection.gating.judge import MIN_CHECKED, judge_precision
from selection.settings import GateSettings

Floats = npt.NDArray[np.float32]

CUTS = {head: [0.5 * cut + 2.3 for cut in JUDGE_CUTS[head]] for head in HEADS}
"""A scorer's own: its scores are 2.3 more than half the judge's."""


def reference(count: int = 200, seed: int = 0) -> Floats:
    """Return scores of which none lies within 0.05 of a cut."""
    judge = np.random.default_rng(seed).integers(0, 11, (count, 2)) + np.random.default_rng(1).uniform(-0.4, 0.4)
    return (0.5 * judge + 2.3).astype(np.float32)


def flipped(count: int, flips: int) -> tuple[Floats, Floats]:
    """Return scores, and others that move so many dialogues from the sensibility set to the discarded one."""
    scores = np.tile(np.array([[7, 3]], dtype=np.float32), (count, 1))
    scores[::2] = [6.5, 2.9]
    other = scores.copy()
    other[:flips] = other[:flips, ::-1]
    return scores, other


def judge(first: Floats, second: Floats, limit: float = GateSettings().max_flips) -> Verdict:
    return judge_precision(first, second, CUTS, limit)


def test_the_same_scores_pass() -> None:
    known = {"allowed": True, "reason": "changes 0.00% of 200 decisions, within 1.00%", "checked": 200}
    figures = {"drift_max": 0.0, "drift_99": 0.0, "correlation": 1.0, "flips": 0.0}
    assert json.loads(json.dumps(judge(reference(), reference()).to_json(), allow_nan=False)) == known | figures


def test_drift_that_crosses_no_cut_passes_and_is_told() -> None:
    drift = np.random.default_rng(2).uniform(-0.04, 0.04, (200, 2)).astype(np.float32)
    drift[5, 1] = 0.045
    verdict = judge(reference(), reference() + drift)
    assert (verdict.allowed, verdict.flips) == (True, 0)
    assert verdict.drift_max == pytest.approx(0.045, abs=1e-5)
    assert verdict.drift_99 == pytest.approx(np.percentile(np.abs(drift), 99), abs=1e-5)
    assert 0.99 < (verdict.correlation or 0) < 1


@pytest.mark.parametrize(
    ("count", "flips", "limit", "allowed"),
    [
        *((200, flips, 0.01, flips < 3) for flips in (0, 1, 2, 3, 200)),
        *((MIN_CHECKED, flips, 0.01, flips < 2) for flips in (1, 2)),
        (200, 20, 0.1, True),
        (200, 21, 0.1, False),
        (200, 1, 0, False),
    ],
)
def test_one_decision_in_a_hundred_may_change_or_as_many_as_are_asked_for(
    count: int, flips: int, limit: float, allowed: bool
) -> None:
    verdict = judge(*flipped(count, flips), limit)
    assert verdict.allowed == allowed
    assert verdict.flips == flips / count
    assert verdict.reason == (
        f"changes {flips / count:.2%} of {count} decisions, {'within' if allowed else 'over'} {limit:.2%}"
    )


def test_decisions_are_read_off_the_scorers_own_cuts() -> None:
    scores = np.full((100, 2), [5.4, 4.0], dtype=np.float32)  # the judge's (6, 3): just above, and below
    lower = scores - np.float32(0.5)  # (5, 2)
    assert judge(scores, lower).flips == 1
    assert judge_precision(scores, lower, JUDGE_CUTS, 0.01).flips == 0


def test_the_lower_of_two_correlations_is_told() -> None:
    scores = reference()
    noisy = scores.copy()
    noisy[:, 1] += np.random.default_rng(3).normal(0, 1, 200)
    verdict = judge(scores, noisy)
    assert verdict.correlation == pytest.approx(np.corrcoef(scores[:, 1], noisy[:, 1])[0, 1], abs=1e-5)
    assert judge(scores[:, ::-1], noisy[:, ::-1]).correlation == pytest.approx(verdict.correlation)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_no_numbers_are_refused(value: float) -> None:
    scores = reference()
    scores[17, 1] = value
    verdict = judge(reference(), scores)
    assert verdict == Verdict(allowed=False, reason="gave scores that are no numbers", checked=200)
    assert verdict.to_json() == {"allowed": False, "reason": "gave scores that are no numbers", "checked": 200}


@pytest.mark.parametrize("head", [0, 1])
def test_a_constant_head_has_no_correlation_and_the_json_stays_valid(head: int) -> None:
    scores = reference()
    scores[:, head] = 4.9
    verdict = judge(reference(), scores)
    assert verdict.correlation is None
    assert "correlation" not in json.loads(json.dumps(verdict.to_json(), allow_nan=False))
