"""Preference pairs, against a plain reading of the rule: loops over every two responses."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from selection.deciding import pairs as module
from selection.deciding.decide import Evidence
from selection.deciding.pairs import Candidates, pair_up
from selection.deciding.ranking import rank_key
from selection.deciding.stability import deviations
from selection.errors import SelectionError
from selection.settings import BY, PairSettings, SelectSettings
from tests.selection.deciding.evidence_data import ERROR, make_evidence, reasons, rows, sets, some_judged

Numbered = set[tuple[int, int]]


def make_candidates(count: int = 300, *, contexts: int = 80, barred: float = 0.2) -> Candidates:
    """Return candidates of so many contexts, some with the same text, some barred."""
    rng = np.random.default_rng(3)
    return Candidates(
        contexts=rng.integers(0, contexts, count).astype(np.uint64) * np.uint64(7919),
        texts=rng.integers(0, 6, count).astype(np.uint64) * np.uint64(104729),
        barred=np.where(rng.random(count) < barred, rng.integers(1, 3, count), 0).astype(np.int8),
        bars=("hostile", "filler"),
    )


def settings(**given: Any) -> SelectSettings:
    pairing = {name: given.pop(name) for name in ("margin", "pairs") if name in given}
    return SelectSettings(rule="pairs", pairing=PairSettings(**pairing), **given)


def plainly(evidence: Evidence, candidates: Candidates, given: SelectSettings) -> Numbered:
    """Return the pairs of rows, found by looking at every two."""
    key = np.round(rank_key(evidence.judge_scale, given.by, given.threshold), 6)
    found: Numbered = set()
    for context in np.unique(candidates.contexts):
        mine: dict[int, int] = {}
        order = sorted(
            np.flatnonzero(candidates.contexts == context).tolist(),
            key=lambda row: (not evidence.judged[row], int(evidence.hashes[row])),
        )
        for row in order:
            mine.setdefault(int(candidates.texts[row]), row)
        ranked = sorted(mine.values(), key=lambda row: (-key[row], int(evidence.hashes[row])))
        able = [row for row in ranked if not candidates.barred[row]]
        if given.pairing.pairs == "best":
            every = [(able[0], ranked[-1])] if able else []
        else:
            every = [(a, b) for a, b in permutations(ranked, 2) if a in able]
        gaps = {(a, b): round(key[a] - key[b], 6) for a, b in every}
        found |= {pair for pair, gap in gaps.items() if gap > 0 and gap >= given.pairing.margin}
    return found


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("margin", [0, 1, 2.5])
@pytest.mark.parametrize("which", ["best", "all"])
def test_pairs_are_those_that_a_plain_reading_finds(by: str, margin: float, which: str) -> None:
    evidence, candidates = some_judged(make_evidence()), make_candidates()
    given = settings(by=by, margin=margin, pairs=which, threshold=(6.0, 4.0))
    decision, found = pair_up(evidence, candidates, given)
    made = list(zip(found.chosen.tolist(), found.rejected.tolist(), strict=True))
    assert made == sorted(plainly(evidence, candidates, given))
    assert len(made) > 5
    firsts, seconds = {a for a, _ in made}, {b for _, b in made}
    for row, name in enumerate(sets(decision)):
        where = (row in firsts, row in seconds)
        assert name == {(1, 0): "chosen", (0, 1): "rejected", (1, 1): "chosen_and_rejected"}.get(where, "unpaired")
    assert not candidates.barred[found.chosen].any()
    assert (candidates.texts[found.chosen] != candidates.texts[found.rejected]).all()
    assert (candidates.contexts[found.chosen] == candidates.contexts[found.rejected]).all()
    assert sum(found.contexts.values()) == len(np.unique(candidates.contexts))


@pytest.mark.parametrize("which", ["best", "all"])
def test_the_order_of_the_input_changes_no_pair(which: str) -> None:
    evidence, candidates = make_evidence(error=ERROR), make_candidates()
    order = np.random.default_rng(5).permutation(300)
    moved = replace(candidates, **{name: getattr(candidates, name)[order] for name in ("contexts", "texts", "barred")})
    decision, found = pair_up(evidence, candidates, settings(pairs=which))
    again, other = pair_up(rows(evidence, order), moved, settings(pairs=which))
    assert {(int(order[a]), int(order[b])) for a, b in zip(other.chosen, other.rejected, strict=True)} == {
        *zip(found.chosen.tolist(), found.rejected.tolist(), strict=True)
    }
    assert [reasons(decision)[row] for row in order] == reasons(again)
    assert decision.borderline[order].tolist() == again.borderline.tolist()


@pytest.mark.parametrize("by", ["sensibility", "rationality", "difference"])
def test_the_chance_is_that_of_the_judge_ranking_the_two_the_same(by: str) -> None:
    evidence = make_evidence(error=ERROR)
    _, found = pair_up(evidence, make_candidates(), settings(by=by, margin=0.5, pairs="all"))
    rng = np.random.default_rng(0)
    deviation = deviations(ERROR, evidence.scores.astype(np.float64))
    drawn = evidence.scores + deviation * rng.standard_normal((4000, 300, 2))
    keys = np.stack([rank_key(judged, by) for judged in drawn])
    assert found.chance is not None
    assert found.chance == pytest.approx((keys[:, found.chosen] > keys[:, found.rejected]).mean(axis=0), abs=0.04)


def test_a_pair_is_borderline_where_the_judge_may_turn_it_around() -> None:
    evidence, given = make_evidence(error=ERROR), settings(margin=0, doubt=0.3)
    decision, found = pair_up(evidence, make_candidates(), given)
    assert found.chance is not None
    unsure = found.chance <= 0.7
    assert 0 < unsure.sum() < len(unsure)
    assert {*np.flatnonzero(decision.borderline)} == {*found.chosen[unsure], *found.rejected[unsure]}
    judged = replace(evidence, judged=np.ones(300, dtype=bool))
    certain, found = pair_up(judged, make_candidates(), given)
    assert found.chance is not None
    assert found.chance == pytest.approx(1, abs=1e-9)
    assert not certain.borderline.any()


def test_no_pair_is_an_error_that_counts_the_contexts() -> None:
    evidence = make_evidence(4, scores=[[5, 5], [5.5, 5], [6, 5], [6, 5]], cuts=make_evidence().cuts)
    candidates = Candidates(
        contexts=np.array([1, 1, 2, 3], dtype=np.uint64),
        texts=np.array([1, 2, 1, 1], dtype=np.uint64),
        barred=np.zeros(4, dtype=np.int8),
        bars=(),
    )
    with pytest.raises(SelectionError, match=r"no pair among 3 contexts \(2 with one response, 1 within the margin\)"):
        pair_up(evidence, candidates, settings(margin=9))


def test_a_context_that_thousands_share_does_not_fill_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 100)
    evidence, candidates = make_evidence(), make_candidates(contexts=2)
    candidates = replace(candidates, texts=np.arange(300, dtype=np.uint64))
    assert len(pair_up(evidence, candidates, settings())[1]) == 2
    with pytest.raises(SelectionError, match="more than 100 pairs; take --pairs best, or a larger --margin"):
        pair_up(evidence, candidates, settings(pairs="all"))
