"""How sure a decision is: its chances against a judge that is simulated, and what is borderline."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scorer.bundle.cuts import JUDGE_CUTS
from selection.deciding.decide import Evidence, decide
from selection.deciding.ranking import rank_key
from selection.rules import PAPER, RULES
from selection.settings import BY, RANKED, Limits, SelectSettings
from tests.selection.deciding.evidence_data import ERROR, make_evidence, some_judged


def judgements(evidence: Evidence, draws: int, seed: int = 0) -> npt.NDArray[np.float64]:
    """Return what the judge may say, (draws, N, 2): normal around the scorer's scores, its own as they are."""
    assert evidence.error is not None
    spread = evidence.error.of(evidence.scores) / 1.6448536269514722  # of a coverage of 0.9
    spread = np.where(evidence.judged[:, None], 0, spread)
    return np.asarray(evidence.scores + spread * np.random.default_rng(seed).standard_normal((draws, *spread.shape)))


@pytest.mark.parametrize("whole", [False, True])
def test_a_chance_is_how_often_the_judge_would_take_it(*, whole: bool) -> None:
    evidence = make_evidence(120, error=ERROR)
    evidence = evidence if whole else some_judged(evidence)
    found = decide(evidence, SelectSettings(threshold=(5.0, 6.0), whole_conversations=whole))
    judged = judgements(evidence, 3000)
    if whole:
        for key in np.unique(evidence.conversations):
            mine = evidence.conversations == key
            judged[:, mine] = judged[:, mine].mean(axis=1, keepdims=True)
    taken = PAPER.apply(judged.reshape(-1, 2), threshold=(5.0, 6.0)).reshape(judged.shape[:2]) == 0
    assert found.chance == pytest.approx(taken.mean(axis=0), abs=0.04)


@pytest.mark.parametrize(("rule", "by"), [("paper", "margin"), *product(RANKED, BY)])
def test_where_a_rank_decides_a_chance_is_of_reaching_the_level_that_as_many_reach(rule: str, by: str) -> None:
    evidence = make_evidence(200, error=ERROR, tokens=np.ones(200, dtype=np.int64))
    limits = Limits(share=0.2) if rule == "quantile" else Limits(count=40)
    found = decide(evidence, SelectSettings(rule=rule, limits=limits, by=by))
    level = np.sort(rank_key(evidence.scores.astype(np.float64), by))[-40]
    if rule == "paper":
        level = max(level, 0.5)
    keys = np.stack([rank_key(judged, by) for judged in judgements(evidence, 3000)])
    assert found.chance == pytest.approx((keys > level).mean(axis=0), abs=0.04)


def test_no_budget_makes_the_rule_ask_for_less() -> None:
    generous = {"sensibility": [2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8], "rationality": [1, 2, 3, 4, 5.5, 6, 6.5, 7, 8, 9]}
    evidence = make_evidence(200, error=ERROR, cuts=generous)
    free = decide(evidence, SelectSettings())
    found = decide(evidence, SelectSettings(limits=Limits(count=free.counts()["sensibility"] - 1)))
    assert found.counts()["surplus"] == 1
    assert found.chance is not None
    assert free.chance is not None
    assert found.chance.tolist() == free.chance.tolist()


@pytest.mark.parametrize("settings", [{}, {"rule": "top-k", "limits": Limits(count=90)}])
@pytest.mark.parametrize("doubt", [0.1, 0.4, 0.5])
def test_a_dialogue_is_borderline_by_the_chance_of_the_other_decision(settings: dict[str, Any], doubt: float) -> None:
    found = decide(make_evidence(error=ERROR), SelectSettings(**settings, doubt=doubt))
    assert found.chance is not None
    other = np.where(found.sets == 0, 1 - found.chance.astype(np.float64), found.chance)
    sure = np.abs(other - doubt) > 1e-6
    assert found.borderline[sure].tolist() == (other >= doubt)[sure].tolist()


def test_what_the_judge_decided_is_certain() -> None:
    scores = [[5.5, 1], [6, 4.5], [6, 5], [5, 3], [5.5, 4.5], [9, 0], [8, 2]]
    evidence = make_evidence(7, scores=scores, judged=np.array([True] * 6 + [False]), error=ERROR)
    found = decide(evidence, SelectSettings())
    assert found.chance is not None
    assert found.chance[:6].round(6).tolist() == (found.sets[:6] == 0).tolist()
    assert not found.borderline[:6].any()


@pytest.mark.parametrize("by", BY)
def test_where_there_is_room_for_all_nothing_is_in_doubt(by: str) -> None:
    evidence = make_evidence(error=ERROR)
    found = decide(evidence, SelectSettings(rule="top-k", limits=Limits(count=300), by=by))
    assert found.counts() == {"selected": 300, "rest": 0}
    assert not found.borderline.any()


def test_without_an_error_borderline_is_one_point_from_another_set() -> None:
    evidence = make_evidence(cuts=JUDGE_CUTS)
    found = decide(evidence, SelectSettings(rule="release", threshold=(5.0, 4.0)))
    assert found.chance is None
    for (s, r), mine, doubtful in zip(evidence.scores.tolist(), found.sets, found.borderline, strict=True):
        near = np.array([(s - 1, r), (s + 1, r), (s, r - 1), (s, r + 1)]).clip(0, 10)
        assert doubtful == (RULES["release"].apply(near, threshold=(5.0, 4.0)) != mine).any()
