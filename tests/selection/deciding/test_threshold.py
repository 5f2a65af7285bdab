"""Every threshold at once against the rule at each, and the choice of one against planted thresholds."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest

from scorer.bundle.cuts import JUDGE_CUTS, Cuts
from selection.deciding.threshold import MATCH_FOLDS, THRESHOLDS, Sweep, bins_of, f1_table, for_share, match, sweep
from selection.errors import SelectionError
from selection.folds import folds_of
from selection.rules import PAPER

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SHRUNK: Cuts = {
    "sensibility": [2.1, 2.6, 3.3, 3.9, 4.4, 5.2, 5.9, 6.8, 7.3, 8.8],
    "rationality": [-0.5, 1.5, 2.2, 3.1, 4.2, 4.3, 5.5, 6.1, 7.7, 10.5],
}


def make_scores(count: int = 500, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal((5.6, 4.6), (1.7, 1.5), (count, 2)).clip(0, 10)


def some_pairs(seed: int, count: int = 60) -> list[tuple[int, int]]:
    """Return the places of pairs of thresholds: the corners, the middle and random ones."""
    last = len(THRESHOLDS) - 1
    drawn = np.random.default_rng(seed).integers(0, last + 1, (count, 2))
    return [(0, 0), (0, last), (last, 0), (last, last), (80, 80), *((int(i), int(k)) for i, k in drawn)]


def sets_at(scores: npt.NDArray[np.number], cuts: Cuts, i: int, k: int) -> npt.NDArray[np.int64]:
    return PAPER.apply(scores, cuts, (float(THRESHOLDS[i]), float(THRESHOLDS[k])))


def conversations(count: int, size: int = 2) -> list[str]:
    return [f"c{row // size}" for row in range(count)]


def test_thresholds_go_from_one_to_nine_in_twentieths() -> None:
    assert THRESHOLDS.tolist() == [k / 20 for k in range(20, 181)]


KINDS = {
    "real": (make_scores(), SHRUNK),
    "single precision": (make_scores(seed=1).astype(np.float32), SHRUNK),
    "integers": (make_scores(seed=2).round(), JUDGE_CUTS),
    "means of two": ((make_scores(seed=3) * 2).round() / 2, JUDGE_CUTS),
    "on the cuts": (np.round(make_scores(2000, 4), 1), JUDGE_CUTS),
    "on other cuts": (np.round(make_scores(2000, 5), 2), SHRUNK),
}


@pytest.mark.parametrize(("scores", "cuts"), KINDS.values(), ids=list(KINDS))
def test_a_sweep_counts_as_the_rule_does_at_every_pair_of_thresholds(
    scores: npt.NDArray[np.number], cuts: Cuts
) -> None:
    swept = sweep(bins_of(scores, cuts))
    assert swept.total == len(scores)
    both = [(k, k) for k in range(len(THRESHOLDS))]
    wrong = []
    for i, k in some_pairs(0) + both:
        sets = sets_at(scores, cuts, i, k)
        if (swept.first[i, k], swept.opposite[i, k]) != ((sets == 0).sum(), (sets == PAPER.opposite).sum()):
            wrong.append((float(THRESHOLDS[i]), float(THRESHOLDS[k])))
    assert wrong == []


def test_a_weighted_sweep_is_of_repeated_dialogues() -> None:
    scores, times = make_scores(300), np.random.default_rng(1).integers(0, 4, 300)
    weighted = sweep(bins_of(scores, SHRUNK), times.astype(np.float64))
    repeated = sweep(bins_of(np.repeat(scores, times, axis=0), SHRUNK))
    assert weighted.total == repeated.total == times.sum()
    assert weighted.first.tolist() == repeated.first.tolist()
    assert weighted.opposite.tolist() == repeated.opposite.tolist()


def test_shares_are_those_of_one_threshold_on_both_heads() -> None:
    scores = make_scores()
    shares = sweep(bins_of(scores, SHRUNK)).shares()
    assert list(shares) == THRESHOLDS.tolist()
    for at in (1.0, 3.35, 5.0, 9.0):
        sets = PAPER.apply(scores, SHRUNK, at)
        assert shares[at] == pytest.approx(((sets == 0).mean(), (sets == PAPER.opposite).mean()))


@pytest.mark.parametrize("share", [0.01, 0.2, 0.35, 0.5, 0.9])
def test_a_target_share_is_met_as_nearly_as_any_threshold_can(share: float) -> None:
    scores = make_scores(700)
    off = {float(at): abs(float((PAPER.apply(scores, SHRUNK, float(at)) == 0).mean()) - share) for at in THRESHOLDS}
    nearest = [at for at, distance in off.items() if distance <= min(off.values()) + 1e-12]
    assert for_share(sweep(bins_of(scores, SHRUNK)), share) == min(nearest, key=lambda at: abs(at - 5))


def test_a_share_of_integers_is_met_by_the_integer() -> None:
    labels = make_scores(2000).round()
    swept = sweep(bins_of(labels, JUDGE_CUTS))
    share = float((PAPER.apply(labels) == 0).mean())
    assert 0.1 < share < 0.9
    assert for_share(swept, share) == 5.0


@pytest.mark.parametrize("share", [0, 1, -0.5, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(SelectionError, match=rf"target share {share}, expected a number between 0 and 1"):
        for_share(Sweep(np.ones((161, 161)), np.ones((161, 161)), 2.0), share)


def f1(found: Mask, wanted: Mask) -> float:
    hits = sum(bool(a and b) for a, b in zip(found, wanted, strict=True))
    return 2 * hits / (int(found.sum()) + int(wanted.sum()))


def test_every_f1_is_that_of_the_rules_set() -> None:
    scores = make_scores(300)
    wanted = np.random.default_rng(0).random(300) < 0.4
    table = f1_table(bins_of(scores, SHRUNK), wanted, np.ones(300))
    for i, k in some_pairs(1):
        assert table[i, k] == pytest.approx(f1(sets_at(scores, SHRUNK, i, k) == 0, wanted))


def noisy(count: int, at: tuple[float, float], noise: float, seed: int = 0) -> tuple[Array, Mask]:
    """Return scores, and the first set at a threshold of the same scores with noise."""
    scores = make_scores(count, seed)
    other = scores + np.random.default_rng(100 + seed).normal(0, noise, scores.shape)
    return scores, np.asarray(PAPER.apply(other, SHRUNK, at) == 0)


@pytest.mark.parametrize("at", [2.35, 5.0, 6.3])
def test_one_planted_threshold_is_found(at: float) -> None:
    scores, wanted = noisy(2000, (at, at), 0)
    found = match(scores, SHRUNK, wanted, conversations(2000), draws=20)
    assert found.threshold == pytest.approx((at, at), abs=0.051)
    assert found.threshold[0] == found.threshold[1]
    assert found.f1 == 1
    assert found.cross_validated > 0.98
    assert found.dialogues == 2000


@pytest.mark.parametrize("at", [(4.2, 6.7), (6.5, 3.4)])
def test_one_planted_threshold_a_head_is_found(at: tuple[float, float]) -> None:
    scores, wanted = noisy(4000, at, 0)
    found = match(scores, SHRUNK, wanted, conversations(4000), one=False, draws=10)
    assert found.threshold == pytest.approx(at, abs=0.1)
    assert found.f1 > 0.99
    assert found.f1 >= match(scores, SHRUNK, wanted, conversations(4000), draws=1).f1


@pytest.mark.parametrize("one", [True, False])
def test_the_best_threshold_is_the_best_of_all(*, one: bool) -> None:
    scores, wanted = noisy(120, (5.5, 5.5), 1.0)
    found = match(scores, SHRUNK, wanted, conversations(120), one=one, draws=1)
    places = range(0, 161, 8)
    pairs = [(k, k) for k in range(161)] if one else list(product(places, places))
    assert found.f1 >= max(f1(sets_at(scores, SHRUNK, *pair) == 0, wanted) for pair in pairs) - 1e-12
    assert found.f1 == pytest.approx(f1(PAPER.apply(scores, SHRUNK, found.threshold) == 0, wanted))


@pytest.mark.parametrize("one", [True, False])
def test_of_equally_good_thresholds_the_nearest_to_the_middle_is_chosen(*, one: bool) -> None:
    labels = make_scores(500).round()
    wanted = PAPER.apply(labels) == 0
    found = match(labels, JUDGE_CUTS, wanted, conversations(500), one=one, draws=1)
    assert (found.threshold, found.f1) == ((5.0, 5.0), 1.0)  # the judge's own, not 4.5, which takes the same


@pytest.mark.parametrize("seed", range(3))
def test_a_threshold_is_worth_what_it_does_on_other_conversations(seed: int) -> None:
    scores, wanted = noisy(200, (6.0, 6.0), 1.5, seed)
    names = conversations(200, 3)
    found = match(scores, SHRUNK, wanted, names, draws=1)
    folds = folds_of(names, MATCH_FOLDS, 0)
    taken = np.zeros(200, dtype=bool)
    for fold in range(MATCH_FOLDS):
        others = folds != fold
        at = match(scores[others], SHRUNK, wanted[others], np.array(names)[others].tolist(), draws=1).threshold
        taken[~others] = PAPER.apply(scores[~others], SHRUNK, at) == 0
    assert found.cross_validated == pytest.approx(f1(taken, wanted))
    assert found.cross_validated <= found.f1


def test_chance_alone_is_worth_less_than_it_seems() -> None:
    gaps = []
    for seed in range(5):
        scores, wanted = make_scores(60, seed), np.random.default_rng(seed).random(60) < 0.3
        found = match(scores, SHRUNK, wanted, conversations(60, 1), one=False, draws=1)
        gaps.append(found.f1 - found.cross_validated)
    assert min(gaps) >= 0
    assert np.mean(gaps) > 0.03


def test_intervals_contain_what_they_are_of_and_shrink_with_more_dialogues() -> None:
    found = {}
    for count in (150, 2400):
        scores, wanted = noisy(count, (5.8, 5.8), 1.2)
        found[count] = match(scores, SHRUNK, wanted, conversations(count), draws=60)
        for at, (low, high) in zip(found[count].threshold, found[count].threshold_interval, strict=True):
            assert low <= at <= high
        assert found[count].interval[0] < found[count].cross_validated < found[count].interval[1]
    assert np.diff(found[2400].interval) < np.diff(found[150].interval) / 2


@pytest.mark.parametrize("seed", range(3))
def test_an_interval_contains_a_planted_threshold_that_noise_hides(seed: int) -> None:
    scores, wanted = noisy(600, (5.8, 5.8), 0.3, seed)
    found = match(scores, SHRUNK, wanted, conversations(600), draws=40)
    low, high = found.threshold_interval[0]
    assert low - 1e-9 <= 5.8 <= high + 1e-9
    assert 0 < high - low < 1
    assert 0.8 < found.f1 < 1


def test_whole_conversations_are_drawn_and_the_seed_decides() -> None:
    scores, wanted = noisy(150, (5.0, 5.0), 1.5)
    single = match(scores, SHRUNK, wanted, conversations(150, 1), draws=30)
    copies = np.repeat(scores, 3, axis=0), np.repeat(wanted, 3)
    tripled = match(copies[0], SHRUNK, copies[1], conversations(450, 3), draws=30)
    # Three copies of each row in one conversation say no more than one row does; as conversations of their own they do.
    assert tripled.interval == pytest.approx(single.interval)
    assert tripled.threshold_interval == single.threshold_interval
    apart = match(copies[0], SHRUNK, copies[1], conversations(450, 1), draws=30)
    assert np.diff(apart.interval) < 0.8 * np.diff(single.interval)
    assert match(scores, SHRUNK, wanted, conversations(150, 1), draws=30) == single
    assert match(scores, SHRUNK, wanted, conversations(150, 1), draws=30, seed=1).interval != single.interval


def test_an_empty_set_of_the_judge_cannot_be_matched() -> None:
    with pytest.raises(SelectionError, match="the judge's set is empty, so no threshold can match it; give labels of"):
        match(make_scores(20), SHRUNK, np.zeros(20, dtype=bool), conversations(20))


def test_labels_of_one_conversation_cannot_say_what_a_threshold_is_worth_on_others() -> None:
    scores, wanted = noisy(40, (7.0, 7.0), 0.5)
    with pytest.raises(SelectionError, match="conversation"):
        match(scores, SHRUNK, wanted, ["one"] * 40, draws=2)
