"""Which dialogues to ask a judge about: some of many, chosen by a seed and by what is known of them, without any state.

All chance comes from a hash of a dialogue's id and the seed, so a choice depends neither on the order of the input nor
on the machine's random numbers. Every strategy puts the dialogues into one order of which ``count`` are taken, so with
all else the same (scores, embeddings, what else there is) a larger count is the smaller choice and more, and a choice
that continues an earlier one (``taken``) is the same as one that was larger from the start.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from distill.errors import SampleError
from distill.settings import SampleSettings
from distill.training.calibrate import COVERAGE
from scorer.arrays import Floats, Ints
from scorer.bundle.cuts import JUDGE_CUTS, Cuts
from scorer.dialogue import HEADS, Dialogue
from selection.folds import folds_of
from selection.rules import to_levels

Matrix = npt.NDArray[np.float32]

_NEEDS = {"stratified": "scores", "uncertain": "scores", "diverse": "embeddings"}
_HASHES = 1 << 52  # each half way between two of so many is a float64
_DEVIATIONS = float(ndtri((1 + COVERAGE) / 2))  # from a normal error's middle to its half-width
_SHARPNESS = 4
_BLOCK = 128


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pool:
    """What there is to choose from, in the order of its hashes: ties fall to the lower hash by themselves.

    ``draws`` (N,) are the hashes, as rising numbers between 0 and 1; ``free`` and ``taken`` are the rows that may and
    may not be chosen. Scores and half-widths are (N, 2), embeddings (N, D).
    """

    dialogues: Sequence[Dialogue]
    draws: Floats
    free: Ints
    taken: Ints
    scores: npt.NDArray[Any] | None
    uncertainty: npt.NDArray[Any] | None
    embeddings: npt.NDArray[Any] | None
    cuts: Cuts
    threshold: int


def choose_rows(
    dialogues: Sequence[Dialogue],
    count: int,
    settings: SampleSettings,
    *,
    scores: Matrix | None = None,
    uncertainty: Matrix | None = None,
    cuts: Cuts | None = None,
    embeddings: Matrix | None = None,
    taken: Collection[str] = (),
    threshold: int = 5,
) -> list[int]:
    """Return the rows of ``count`` dialogues to be labelled, in the order of choice; ids must be unique.

    - ``random``: all alike.
    - ``stratified``: equal shares of the cells of the grid of both scores, as integers by ``cuts``, as long as a cell
      lasts: scores that are rare get labels. Within a cell, of the category that was chosen least so far.
    - ``diverse``: each next one with a chance that grows with the squared distance of its embedding from all that were
      chosen before (k-means++, Arthur and Vassilvitskii 2007). Always taking the farthest chooses outliers, and
      measured worse. ``count`` passes over the embeddings: 4,000 of 100,000 x 384 take one to two minutes.
    - ``uncertain``: at random, but the likelier the scorer is to put a dialogue into the wrong set of the paper's rule
      at ``threshold``, the sooner: by the fourth power of that chance. Taking the most uncertain alone asks about one
      corner of the data, and measured no better. What it chooses is not like the corpus: shares, cuts and agreement
      must come from labels that were drawn at random.

    ``scores`` (N, 2) are a scorer's and ``cuts`` its own, the judge's if left out; ``uncertainty`` (N, 2) its
    half-widths, which cover 90 % of its errors (``scorer.uncertainty``); left out, its error is taken to be as large
    as the spread of its scores. ``embeddings`` (N, D) may come from ``embed_dialogues``. ``taken`` are the ids of
    dialogues that have labels: never chosen again, but ``diverse`` and ``stratified`` take into account those that are
    among ``dialogues``. With ``whole_conversations`` a dialogue brings along the rest of its conversation, so the last
    one may bring a few more than ``count``.

    SampleError if fewer than ``count`` are left, an id occurs twice, a strategy lacks its input, or ``threshold`` is
    not from 1 to 9.
    """
    strategy = settings.strategy
    needed = _NEEDS.get(strategy)
    if needed and {"scores": scores, "embeddings": embeddings}[needed] is None:
        raise SampleError(f"strategy {strategy!r} chooses by {needed} and there are none: give them, or use 'random'")
    if not 1 <= threshold <= 9:
        raise SampleError(f"threshold {threshold}, expected a whole number from 1 to 9")
    hashes = _hashes(dialogues, settings.seed)
    order = np.argsort(hashes, kind="stable")
    ordered = [dialogues[row] for row in order]
    known = frozenset(taken)
    is_taken = np.array([dialogue.id in known for dialogue in ordered], dtype=bool)
    free = np.flatnonzero(~is_taken)
    if not 0 <= count <= len(free):
        raise SampleError(
            f"a sample of {count}, expected 0 to {len(free)}: "
            f"there are {len(ordered)} dialogues and {len(ordered) - len(free)} of them have labels"
        )
    pool = _Pool(
        dialogues=ordered,
        draws=(hashes[order] + 0.5) / _HASHES,
        free=free,
        taken=np.flatnonzero(is_taken),
        scores=_checked(scores, "scores", order),
        uncertainty=_checked(uncertainty, "uncertainty", order),
        embeddings=_checked(embeddings, "embeddings", order),
        cuts=cuts or JUDGE_CUTS,
        threshold=threshold,
    )
    chosen = _first(count, _STRATEGIES[strategy](pool), pool, whole_conversations=settings.whole_conversations)
    return [int(order[row]) for row in chosen]


def _hashes(dialogues: Sequence[Dialogue], seed: int) -> Ints:
    ids = [dialogue.id for dialogue in dialogues]
    if len(set(ids)) < len(ids):
        twice = next(name for name, times in Counter(ids).items() if times > 1)
        raise SampleError(f"id {twice!r} occurs twice among the dialogues, expected each once: a label is for one text")
    return folds_of((f"sample:{name}" for name in ids), _HASHES, seed)


def _checked(values: Matrix | None, name: str, order: Ints) -> npt.NDArray[Any] | None:
    if values is None:
        return None
    if values.ndim != 2 or len(values) != len(order) or (name != "embeddings" and values.shape[1] != 2):
        wanted = f"({len(order)}, {'D' if name == 'embeddings' else 2})"
        raise SampleError(f"{name} of shape {values.shape}, expected {wanted}: one row per dialogue")
    if not np.isfinite(values).all():
        raise SampleError(f"{name} hold a value that is no finite number, expected none: score the dialogues again")
    return values[order]


def _first(count: int, rows: Iterator[int], pool: _Pool, *, whole_conversations: bool) -> list[int]:
    """Return the first ``count`` of a strategy's rows, each with what else is free of its conversation on demand."""
    together: defaultdict[str, list[int]] = defaultdict(list)
    for row in pool.free.tolist() if whole_conversations else []:
        together[pool.dialogues[row].conversation].append(row)
    chosen: dict[int, None] = {}
    while len(chosen) < count:
        row = next(rows)
        chosen[row] = None
        chosen.update(dict.fromkeys(together.get(pool.dialogues[row].conversation, [])))
    return list(chosen)


def _stratified(pool: _Pool) -> Iterator[int]:
    """Yield rows of the cell of both scores that has the fewest labels so far."""
    assert pool.scores is not None
    cells = [(s, r) for s, r in to_levels(pool.scores, pool.cuts).tolist()]
    categories = [dialogue.category or "" for dialogue in pool.dialogues]
    of_cell = Counter(cells[row] for row in pool.taken.tolist())
    of_category = Counter(categories[row] for row in pool.taken.tolist())
    left: dict[tuple[int, int], dict[str, deque[int]]] = {}
    for row in pool.free.tolist():
        left.setdefault(cells[row], {}).setdefault(categories[row], deque()).append(row)
    # Among cells with as many labels the one with the lowest hash in it comes first, free or not.
    queue = [(of_cell[cell], rank, cell) for rank, cell in enumerate(dict.fromkeys(cells)) if cell in left]
    heapify(queue)
    while queue:
        labels, rank, cell = heappop(queue)
        category, rows = min(left[cell].items(), key=lambda item: (of_category[item[0]], item[1][0]))
        yield rows.popleft()
        of_category[category] += 1
        if not rows:
            del left[cell][category]
        if left[cell]:
            heappush(queue, (labels + 1, rank, cell))


def _diverse(pool: _Pool) -> Iterator[int]:
    """Yield rows by k-means++; what is left when all distances are 0 comes in the order of the hashes.

    A draw with chances w is the lowest of E / w for exponential E (Efraimidis and Spirakis 2006); E is the dialogue's
    own, from its hash, for all draws.
    """
    assert pool.embeddings is not None
    points = np.ascontiguousarray(pool.embeddings[pool.free], dtype=np.float32)  # (F, D)
    squares = np.einsum("ij,ij->i", points, points)
    race = -np.log(pool.draws[pool.free])
    distances = np.full(len(points), np.inf)
    centres = pool.embeddings[pool.taken].astype(np.float32)
    for start in range(0, len(centres), _BLOCK):
        distances = np.minimum(distances, _squared_distances(points, squares, centres[start : start + _BLOCK]))
    left = np.ones(len(points), dtype=bool)
    for _ in range(len(points)):
        # Nothing chosen yet: every distance is infinite, and the first by hash is taken.
        row = int(np.argmax(np.where(left, distances / race, -1.0)))
        yield int(pool.free[row])
        left[row] = False
        distances = np.minimum(distances, _squared_distances(points, squares, points[row : row + 1]))


def _squared_distances(points: Matrix, squares: Matrix, centres: Matrix) -> Floats:
    """Return the squared distance of each point (F, D) from the nearest of some centres (C, D), (F,)."""
    products = squares[:, None] - 2 * (points @ centres.T) + np.einsum("ij,ij->i", centres, centres)
    return np.asarray(products.min(axis=1).clip(0), dtype=np.float64)


def _uncertain(pool: _Pool) -> Iterator[int]:
    assert pool.scores is not None
    widths = pool.uncertainty
    if widths is None:
        widths = np.broadcast_to(pool.scores.std(axis=0, dtype=np.float64) * _DEVIATIONS, pool.scores.shape)
    chance = wrong_set_chance(pool.scores, widths, pool.cuts, pool.threshold)[pool.free]
    race = -np.log(pool.draws[pool.free]) / np.maximum(chance, np.finfo(float).eps) ** _SHARPNESS  # as in _diverse
    yield from pool.free[np.argsort(race, kind="stable")].tolist()


def wrong_set_chance(
    scores: npt.NDArray[Any], widths: npt.NDArray[Any], cuts: Cuts = JUDGE_CUTS, threshold: int = 5
) -> Floats:
    """Return the chance that the judge would put a dialogue into another set of the paper's rule, (N,).

    The judge's scores are taken for independent normal variables around the scorer's (N, 2), within half-widths
    (N, 2) with the coverage of ``scorer.uncertainty``.
    """
    spread = np.maximum(np.asarray(widths, dtype=np.float64) / _DEVIATIONS, 1e-6)
    above, below = (
        [ndtr(sign * (scores[:, i] - cuts[head][level]) / spread[:, i]) for i, head in enumerate(HEADS)]
        for sign, level in ((1, threshold), (-1, threshold - 1))
    )
    kept, discarded = above[0] * below[1], below[0] * above[1]
    return np.asarray(1 - np.max([kept, discarded, 1 - kept - discarded], axis=0))


_STRATEGIES: dict[str, Callable[[_Pool], Iterator[int]]] = {
    "random": lambda pool: iter(pool.free.tolist()),
    "stratified": _stratified,
    "diverse": _diverse,
    "uncertain": _uncertain,
}
