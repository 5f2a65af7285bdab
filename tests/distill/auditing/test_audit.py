"""Intervals against hand computed values, the error of the test under peeking, verdicts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from distill.auditing.audit import Sample, audit_sample
from distill.auditing.ppi import mean_interval, student_quantile
from distill.auditing.sequential import decide_difference, decide_share
from distill.auditing.settings import AuditSettings
from distill.errors import LabelError
from scorer.bundle.cuts import JUDGE_CUTS


def test_a_powered_mean_is_what_the_formulas_give_by_hand() -> None:
    labels, predicted = np.array([1.0, 2.0, 4.0, 5.0]), np.array([[0.0], [1.0], [1.0], [2.0]])
    corpus = np.array([[0.0], [1], [1], [2], [2], [2], [3], [3]])
    # lambda = cov 1 / var 0.5 = 2; errors 1, 0, 2, 1: their mean 1, squares 2, over n - 2: s^2 = 1; the means of x
    # differ by 0.75 and its scatter is 2, so 1/4 + 0.75^2 / 2; times 1 - 4/8.
    found = mean_interval(labels, predicted, corpus)
    assert found.estimate == pytest.approx(1 + 2 * 1.75)
    variance = (1 / 4 + 0.75**2 / 2) / 2
    assert found.width / 2 == pytest.approx(student_quantile(0.975, 2) * variance**0.5)
    # A label's own noise does not shrink as the sample becomes the corpus.
    noisy = mean_interval(labels, predicted, corpus, noise=0.8)
    assert noisy.width / 2 == pytest.approx(student_quantile(0.975, 2) * (variance + 0.1) ** 0.5)
    alone = mean_interval(labels, predicted, corpus, powered=False)
    assert (alone.estimate, alone.width / 2) == pytest.approx((3, student_quantile(0.975, 3) * (10 / 3 / 4 / 2) ** 0.5))


def test_predictions_that_repeat_each_other_or_never_vary_change_nothing() -> None:
    rng = np.random.default_rng(0)
    corpus = rng.normal(size=(500, 1))
    labels = corpus[:60, 0] + rng.normal(size=60)
    one = mean_interval(labels, corpus[:60], corpus)
    more = np.column_stack([corpus, 2 * corpus, np.ones(500)])
    assert mean_interval(labels, more[:60], more).width == pytest.approx(one.width)


def test_quantiles_are_those_of_the_tables() -> None:
    assert [student_quantile(0.975, n) for n in (8, 30, 200)] == pytest.approx([2.306, 2.042, 1.972], abs=0.003)


def test_too_few_labels_give_no_interval() -> None:
    with pytest.raises(ValueError, match="2 labels of 9 rows"):
        mean_interval(np.ones(2), np.ones((2, 1)), np.ones((9, 1)))


def test_the_answer_is_seldom_wrong_however_often_one_looks() -> None:
    rng = np.random.default_rng(0)
    values = np.repeat([1.0, 0.0], [600, 400])
    answers = [decide_share(rng.permutation(values)[:500], 1000, 0.6) for _ in range(200)]
    assert answers.count("open") >= 185


@pytest.mark.parametrize(("share", "answer"), [(0.8, "above"), (0.4, "below")])
def test_a_clear_share_is_decided_and_a_whole_corpus_always(share: float, answer: str) -> None:
    values = np.random.default_rng(1).permutation(np.arange(1000) < 1000 * share).astype(float)
    assert decide_share(values[:300], 1000, 0.6) == answer
    assert decide_share(np.repeat([1.0, 0.0], 5), 10, 0.45) == "above"


def test_what_stays_unknown_counts_against_both_answers() -> None:
    values = np.random.default_rng(1).permutation(np.arange(1000) < 800).astype(np.float64)[:300]
    assert decide_share(np.where(np.arange(300) % 2, np.nan, values), 1000, 0.6) == "open"


def test_a_difference_is_within_or_beyond_a_limit_and_seldom_wrongly_so() -> None:
    rng = np.random.default_rng(3)
    off = rng.permutation(np.repeat([-1.0, 0.0], [250, 750]))[:400]
    assert decide_difference(off, 1000, 0.1) == decide_difference(-off, 1000, 0.1) == "beyond"
    even = rng.permutation(np.repeat([1.0, -1.0, 0.0], [50, 50, 900]))[:300]
    assert decide_difference(even, 1000, 0.1) == "within"
    assert decide_difference(np.where(np.arange(300) % 5, even, np.nan), 1000, 0.1) == "open"
    at = np.repeat([1.0, 0.0], [100, 900])  # the limit itself
    answers = [decide_difference(rng.permutation(at)[:400], 1000, 0.1) for _ in range(100)]
    assert answers.count("open") >= 92


def sample_of(judge: str, count: int = 300) -> Sample:
    rng = np.random.default_rng(2)
    scores = rng.uniform(0, 10, (2000, 2))
    rows = rng.permutation(2000)[:count]
    said = {"same": scores, "moved": scores * [0.5, 1], "other": rng.uniform(0, 10, (2000, 2))}[judge].round()[rows]
    return Sample(
        scores=scores,
        cuts=JUDGE_CUTS,
        rows=rows,
        labels=said,
        draws=[label[None] for label in said],
        conversations=[str(row) for row in rows],
    )


def test_a_scorer_that_agrees_is_not_trusted_while_it_keeps_too_much() -> None:
    sample = sample_of("same", 150)
    labels = sample.labels + np.where(np.arange(150)[:, None] % 6 == 0, [-5, 5], [0, 0])
    found = audit_sample(replace(sample, labels=labels.clip(0, 10)), 0.6, AuditSettings(shift=0.04))
    assert found.answer == "above"
    assert found.near != "within"
    assert found.verdict != "trust"


@pytest.mark.parametrize(
    ("judge", "verdict"), [("same", "trust"), ("moved", "recalibrate"), ("other", "label and retrain")]
)
def test_the_verdict_follows_the_judge(judge: str, verdict: str) -> None:
    found = audit_sample(sample_of(judge), 0.85 if judge == "moved" else 0.65, AuditSettings())
    assert found.verdict == verdict
    assert found.to_json()["judge"]["share.discard"].keys() == {"estimate", "low", "high"}


def test_a_scorer_that_keeps_all_is_not_trusted_for_a_judge_that_keeps_nearly_all() -> None:
    sample = sample_of("same")
    scores = sample.scores * 0 + [9.0, 1.0]
    labels = np.where(np.random.default_rng(0).random((300, 1)) < 0.9, [9.0, 1.0], [2.0, 2.0])
    found = audit_sample(replace(sample, scores=scores, labels=labels), 0.65, AuditSettings(shift=0.5))
    assert (found.answer, found.near) == ("above", "within")
    assert found.verdict == "label and retrain"


def test_fewer_labels_than_cuts_need_give_no_verdict() -> None:
    assert audit_sample(sample_of("same", 60), 0.65, AuditSettings()).verdict == "not sure"
    with pytest.raises(ValueError, match="10 labels"):
        audit_sample(sample_of("same", 10), 0.65, AuditSettings())


def test_a_setting_out_of_range_is_named() -> None:
    with pytest.raises(LabelError, match="limit"):
        AuditSettings(limit=1.5)
    with pytest.raises(LabelError, match=r"5\.5"):
        AuditSettings(threshold=5.5)  # type: ignore[arg-type]
