"""Intervals against hand computed values, the error of the test under peeking, verdicts."""

from __future__ import annotations

import numpy as np
import pytest

from distill.auditing.audit import audit_rows
from distill.auditing.ppi import mean_interval, student_quantile
from distill.auditing.sequential import decide_share
from distill.auditing.settings import AuditSettings
from distill.errors import LabelError
from scorer.bundle.cuts import JUDGE_CUTS


def test_a_powered_mean_is_what_the_formulas_give_by_hand() -> None:
    labels, predicted = np.array([1.0, 2.0, 4.0, 5.0]), np.array([0.0, 1.0, 1.0, 2.0])
    # lambda = cov 1 / var 0.5 = 2; errors 1, 0, 2, 1: mean 1, squares 2, over n - 2 and n: 0.25, times 1 - 4/8.
    found = mean_interval(labels, predicted, np.array([0.0, 1, 1, 2, 2, 2, 3, 3]))
    assert found.estimate == pytest.approx(1 + 2 * 1.75)
    assert found.width / 2 == pytest.approx(student_quantile(0.975, 2) * 0.125**0.5)


def test_quantiles_are_those_of_the_tables() -> None:
    assert [student_quantile(0.975, n) for n in (8, 30, 200)] == pytest.approx([2.306, 2.042, 1.972], abs=0.003)


def test_too_few_labels_give_no_interval() -> None:
    with pytest.raises(ValueError, match="2 labels of 9 rows"):
        mean_interval(np.ones(2), np.ones(2), np.ones(9))


def test_the_answer_is_seldom_wrong_however_often_one_looks() -> None:
    rng = np.random.default_rng(0)
    values = np.r_[np.ones(600), np.zeros(400)]
    answers = [decide_share(rng.permutation(values)[:500], 1000, 0.6) for _ in range(200)]
    assert answers.count("open") >= 185


@pytest.mark.parametrize(("share", "answer"), [(0.8, "above"), (0.4, "below")])
def test_a_clear_share_is_decided_and_a_whole_corpus_always(share: float, answer: str) -> None:
    values = np.random.default_rng(1).permutation(np.arange(1000) < 1000 * share).astype(float)
    assert decide_share(values[:300], 1000, 0.6) == answer
    assert decide_share(np.r_[np.ones(5), np.zeros(5)], 10, 0.45) == "above"


@pytest.mark.parametrize(
    ("judge", "verdict"), [("same", "trust"), ("moved", "recalibrate"), ("other", "label and retrain")]
)
def test_the_verdict_follows_the_judge(judge: str, verdict: str) -> None:
    rng = np.random.default_rng(2)
    scores = rng.uniform(0, 10, (2000, 2))
    rows = rng.permutation(2000)[:300]
    said = {"same": scores, "moved": scores * [0.5, 1], "other": rng.uniform(0, 10, (2000, 2))}[judge].round()[rows]
    settings = AuditSettings(limit=0.65 if judge != "moved" else 0.85)
    found = audit_rows(scores, JUDGE_CUTS, rows, said, [str(row) for row in rows], settings)
    assert found.verdict == verdict
    assert found.to_json()["judge"]["share.discard"].keys() == {"estimate", "low", "high"}


def test_a_setting_out_of_range_is_named() -> None:
    with pytest.raises(LabelError, match="limit"):
        AuditSettings(limit=1.5)
