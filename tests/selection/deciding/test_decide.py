"""The decision: every dialogue's set and reason against the rules read plainly; conversations, limits, empty sets."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import selection.deciding.decide
from scorer.bundle.cuts import JUDGE_CUTS
from scorer.bundle.uncertainty import Uncertainty
from scorer.dialogue import HEADS
from selection.deciding.decide import Decision, Evidence, count_both_low, decide
from selection.deciding.ranking import rank_key
from selection.errors import SelectionError
from selection.rules import BOTH_LOW, PAPER, RULES, to_judge_scale
from selection.settings import BY, Limits, SelectSettings
from tests.selection.deciding.evidence_data import ERROR, SHRUNK, make_evidence, reasons, rows, sets, some_judged


def place(score: float, cuts: Any, at: float) -> str:
    """Return how a score lies to a whole threshold."""
    return ">" if score > cuts[int(at)] else "<" if score <= cuts[int(at) - 1] else "="


def plainly(evidence: Evidence, at: tuple[float, float], rule: str = "paper") -> list[tuple[str, str]]:
    """Return the set and the reason of each dialogue."""
    found = []
    for pair, judged in zip(evidence.scores.tolist(), evidence.judged, strict=True):
        cuts = JUDGE_CUTS if judged else evidence.cuts
        s, r = (place(score, cuts[head], t) for score, head, t in zip(pair, HEADS, at, strict=True))
        names = {"paper": ("discard", "rationality"), "release": ("rational", "neutral")}[rule]
        where = {">": {"<": "sensibility"}, "<": {">": names[0]}}.get(s, {}).get(r, names[1])
        mark = "judged: " if judged and not evidence.judged.all() else ""
        found.append((where, f"{mark}S {s} {at[0]:g}, R {r} {at[1]:g}"))
    return found


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("threshold", [(5.0, 5.0), (6.0, 4.0), (2.0, 8.0)])
@pytest.mark.parametrize("judged", [0, 0.3, 1])
def test_every_dialogue_goes_where_its_scores_say_and_is_told_so(
    rule: str, threshold: tuple[float, float], judged: float
) -> None:
    evidence = some_judged(make_evidence(), judged)
    found = decide(evidence, SelectSettings(rule=rule, threshold=threshold))
    assert list(zip(sets(found), reasons(found), strict=True)) == plainly(evidence, threshold, rule)
    assert any(reason.startswith("judged: ") for reason in reasons(found)) == (judged == 0.3)


@pytest.mark.parametrize("judged", [0, 0.3, 1])
def test_what_is_low_on_both_is_counted_and_may_be_discarded(judged: float) -> None:
    evidence, at = some_judged(make_evidence(), judged), (6.0, 5.0)
    kept, discarded = (decide(evidence, SelectSettings(threshold=at, both_low=how)) for how in ("keep", "discard"))
    low = [reason.endswith("S < 6, R < 5") for reason in reasons(kept)]
    assert count_both_low(evidence, SelectSettings(threshold=at)) == sum(low) > 0
    pairs = (zip(sets(one), reasons(one), strict=True) for one in (kept, discarded))
    for is_low, before, after in zip(low, *pairs, strict=True):
        mark = "judged: " if before[1].startswith("judged: ") else ""
        assert after == (("discard", f"{mark}{BOTH_LOW}") if is_low else before)


def test_a_count_of_what_is_low_on_both_is_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = some_judged(make_evidence(), 0.3)
    whole = count_both_low(evidence, SelectSettings())
    monkeypatch.setattr(selection.deciding.decide, "_PART", 7)
    assert count_both_low(evidence, SelectSettings()) == whole


def test_only_the_papers_rule_has_a_set_to_discard_into() -> None:
    for more in ({"rule": "release"}, {"rule": "top-k", "limits": Limits(count=3)}):
        with pytest.raises(SelectionError, match="has no discard set; use the rule paper"):
            SelectSettings(both_low="discard", **more)


def test_a_threshold_between_integers_is_not_equalled_but_neared() -> None:
    found = decide(make_evidence(), SelectSettings(threshold=(5.5, 5.0)))
    assert {reason.split(", ")[0] for reason in reasons(found)} == {"S < 5.5", "S ~ 5.5", "S > 5.5"}
    assert {reason.split(", ")[1] for reason in reasons(found)} == {"R < 5", "R = 5", "R > 5"}


@pytest.mark.parametrize("error", [None, ERROR])
@pytest.mark.parametrize("size", [1, 7, 299, 300, 1000])
def test_parts_joined_give_the_same_as_one(
    monkeypatch: pytest.MonkeyPatch, error: Uncertainty | None, size: int
) -> None:
    evidence = replace(some_judged(make_evidence()), error=error)
    order = np.argsort(~evidence.judged, kind="stable")  # whole parts of judged ones, whole parts of others
    evidence = rows(evidence, order)
    expected = decide(evidence, SelectSettings())
    monkeypatch.setattr(selection.deciding.decide, "_PART", size)
    same(decide(evidence, SelectSettings()), expected)


def same(first: Decision, second: Decision) -> None:
    assert (first.names, first.texts) == (second.names, second.texts)
    for name in ("sets", "reasons", "borderline"):
        assert getattr(first, name).tolist() == getattr(second, name).tolist(), name
    assert (first.chance is None) == (second.chance is None)
    if first.chance is not None and second.chance is not None:
        assert first.chance == pytest.approx(second.chance, abs=1e-6)


LIMITED = {
    "quantile": {"rule": "quantile", "limits": Limits(share=0.4)},
    "floors and caps": {"rule": "top-k", "limits": Limits(count=120, floor=5, cap=60)},
    "tokens": {"rule": "budget", "limits": Limits(tokens=900), "by": "difference"},
    "published": {"limits": Limits(count=40, floor=3)},
    "release": {"rule": "release", "limits": Limits(cap=12), "by": "sensibility"},
}


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("settings", LIMITED.values(), ids=list(LIMITED))
def test_the_order_of_the_input_changes_no_dialogues_fate(settings: dict[str, Any], *, whole: bool) -> None:
    evidence = make_evidence(error=ERROR)
    chosen = SelectSettings(**settings, whole_conversations=whole)
    found, order = decide(evidence, chosen), np.random.default_rng(3).permutation(len(evidence))
    assert found.chance is not None
    same(decide(rows(evidence, order), chosen), rows(found, order))


@pytest.mark.parametrize("settings", [{}, *LIMITED.values()], ids=["paper", *LIMITED])
def test_a_conversation_stays_together_and_its_mean_decides(settings: dict[str, Any]) -> None:
    evidence = make_evidence(error=ERROR)
    found = decide(evidence, SelectSettings(**settings, whole_conversations=True))
    assert found.chance is not None
    means = {}
    for key in np.unique(evidence.conversations):
        mine = np.flatnonzero(evidence.conversations == key)
        for column in (found.sets, found.reasons, found.borderline, found.chance):
            assert len(np.unique(column[mine])) == 1
        means[int(mine[0])] = evidence.scores[mine].astype(np.float64).mean(axis=0)
    if "limits" not in settings:
        firsts = list(means)
        alone = replace(make_evidence(len(means)), scores=np.array(list(means.values())))
        expected = plainly(alone, (5.0, 5.0))
        assert [sets(found)[row] for row in firsts] == [name for name, _ in expected]
        assert [reasons(found)[row] for row in firsts] == [f"conversation's mean {reason}" for _, reason in expected]
        each = decide(evidence, SelectSettings())
        assert (each.sets != found.sets).mean() > 0.1


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_a_ranked_rule_takes_the_best(by: str, share: float) -> None:
    evidence = some_judged(make_evidence())
    found = decide(evidence, SelectSettings(rule="quantile", limits=Limits(share=share), by=by, threshold=(6.0, 4.0)))
    scale = np.where(evidence.judged[:, None], evidence.scores, to_judge_scale(evidence.scores, SHRUNK))
    key = rank_key(scale, by, (6.0, 4.0))
    order = sorted(range(300), key=lambda row: (-key[row], int(evidence.hashes[row])))
    assert np.flatnonzero(found.sets == 0).tolist() == sorted(order[: round(300 * share)])
    assert found.names == ("selected", "rest")
    best, beyond = f"among the best by {by}", f"beyond the best {share:g} of all by {by}"
    assert reasons(found) == [best if name == "selected" else beyond for name in sets(found)]


def test_a_limit_leaves_out_what_the_rule_would_take_and_a_floor_adds_what_it_would_not() -> None:
    evidence = make_evidence()
    free = decide(evidence, SelectSettings())
    found = decide(evidence, SelectSettings(limits=Limits(count=40, floor=20), by="sensibility"))
    assert found.names == (*PAPER.sets, "surplus")
    assert found.counts()["sensibility"] == 40
    for before, now, why in zip(sets(free), sets(found), reasons(found), strict=True):
        if now == "surplus":
            assert (before, why) == ("sensibility", "beyond the best 40 dialogues by sensibility")
        elif now != before:
            assert (now, why) == ("sensibility", "floor of 20 a category")
        elif now != "sensibility":
            assert why.startswith("S ") or why == "beyond the best 40 dialogues by sensibility"
    capped = decide(evidence, SelectSettings(limits=Limits(cap=4)))
    assert set(reasons(capped)) - set(reasons(free)) == {"cap of 4 a category"}
    assert capped.counts()["surplus"] == free.counts()["sensibility"] - capped.counts()["sensibility"]
    taken = evidence.categories[(capped.sets == 0) & (evidence.categories >= 0)]
    assert np.bincount(taken).max() == 4


def test_every_budget_is_named_in_the_reason() -> None:
    limits = Limits(share=0.5, count=90, tokens=800)
    found = decide(make_evidence(), SelectSettings(rule="budget", limits=limits))
    beyond = "beyond the best 0.5 of all and best 90 dialogues and best 800 tokens by margin"
    taken, left = found.counts().values()
    assert found.reason_counts() == {"among the best by margin": taken, beyond: left}


def test_counts_are_of_every_set_and_of_the_reasons_given() -> None:
    found = decide(make_evidence(), SelectSettings(threshold=(8.0, 8.0)))
    assert found.counts() == {name: sets(found).count(name) for name in PAPER.sets}
    counts = found.reason_counts()
    assert counts == {reason: reasons(found).count(reason) for reason in set(reasons(found))}
    assert list(counts.values()) == sorted(counts.values(), reverse=True)


def test_what_a_limit_or_a_mean_needs_has_to_be_there() -> None:
    with pytest.raises(SelectionError, match="a conversation's mean would mix the judge's scores with the scorer's"):
        decide(some_judged(make_evidence()), SelectSettings(whole_conversations=True))
    bare = make_evidence(categories=np.full(300, -1))
    for limits in (Limits(floor=1), Limits(cap=1)):
        with pytest.raises(SelectionError, match="--floor and --cap are numbers per category, and no dialogue has one"):
            decide(bare, SelectSettings(limits=limits))
    assert decide(bare, SelectSettings(limits=Limits(count=1))).counts()["sensibility"] == 1


NOTHING = (
    "the sensibility set is empty: no dialogue has S > 9 and R < 1 (on the judge's scale S is 2.5 to 7.5 and R 4.0 to "
    "6.0); choose other thresholds"
)


def pair() -> Evidence:
    """Return two dialogues of one conversation, one of them in the sensibility set."""
    scores, together, tokens = [[7.5, 4], [2.5, 6]], np.ones(2, dtype=np.uint64), np.full(2, 10)
    categories = np.zeros(2, np.int64)
    return make_evidence(
        2, scores=scores, cuts=JUDGE_CUTS, conversations=together, categories=categories, tokens=tokens
    )


@pytest.mark.parametrize("limits", [Limits(), Limits(cap=1), Limits(tokens=9)])
def test_an_empty_first_set_is_an_error_that_says_how_far_the_scores_reach(limits: Limits) -> None:
    with pytest.raises(SelectionError, match=re.escape(NOTHING) + "$"):
        decide(pair(), SelectSettings(threshold=(9.0, 1.0), limits=limits))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"limits": Limits(tokens=9), "rule": "budget"}, "9 tokens"),
        ({"limits": Limits(share=0.1), "rule": "quantile"}, "0.1 of all"),
        ({"limits": Limits(tokens=9)}, "9 tokens"),
        ({"limits": Limits(share=0.1)}, "0.1 of all"),
        ({"limits": Limits(cap=1), "whole_conversations": True, "threshold": (4.0, 6.0)}, "cap"),
        ({"limits": Limits(count=5, cap=1), "whole_conversations": True, "rule": "top-k"}, "cap"),
        ({"limits": Limits(count=1), "whole_conversations": True, "threshold": (4.0, 6.0)}, "1 dialogues"),
    ],
)
def test_a_first_set_that_a_limit_empties_is_not_blamed_on_the_thresholds(
    settings: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SelectionError, match=f"set is empty: .*{reason}") as caught:
        decide(pair(), SelectSettings(**settings))
    assert "choose other thresholds" not in str(caught.value)


def test_an_empty_set_of_whole_conversations_is_told_by_their_means() -> None:
    with pytest.raises(SelectionError, match=r"no conversation.*S is 5\.0 to 5\.0 and R 5\.0 to 5\.0"):
        decide(pair(), SelectSettings(whole_conversations=True))
