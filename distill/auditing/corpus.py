"""A scored corpus that is audited: its score files as one table, a random order of its rows, the texts of some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.auditing.settings import AuditSettings
from distill.errors import LabelError
from distill.sampling.strategies import wrong_set_chance
from scorer.arrays import Floats, Hashes, Ints
from scorer.bundle.bundle import Bundle
from scorer.bundle.cuts import Cuts
from scorer.bundle.trial import open_bundle
from scorer.dialogue import Dialogue
from scorer.errors import BundleError, EmpathyError, InputError
from scorer.inputs.corpus import Corpus, id_hash
from scorer.run.score_table import ScoreTable, read_scores, said_of_scorer

_SHARPNESS = 4
"""As in ``choose_rows``: always taking the most doubtful asks about one corner of the data."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scored:
    """N scored dialogues: ``hashes`` of their ids (N,), ``scores`` (N, 2), and their scorer's cuts.

    ``half_widths`` (N, 2) say how far the judge's score may lie off, None where that is not known; ``bundle`` is the
    scorer where it is at hand.
    """

    hashes: Hashes
    scores: Floats
    cuts: Cuts
    half_widths: Floats | None
    name: str
    bundle: Bundle | None

    def __len__(self) -> int:
        """Return the number of dialogues."""
        return len(self.scores)

    def order(self, seed: int) -> Ints:
        """Return all rows in a random order that depends on ids and seed alone, (N,)."""
        mixed = np.random.default_rng(seed).permutation(len(self))
        return np.argsort(self.hashes, kind="stable")[mixed]

    def worth(self, count: int, taken: Ints, threshold: int, seed: int) -> Ints:
        """Return the rows, ``taken`` left out, whose labels teach most: random ones, sooner where the set is in doubt.

        In the order of choice, as the strategy ``uncertain`` of ``distill.sampling.strategies``.
        """
        widths = self.half_widths
        if widths is None:
            widths = np.broadcast_to(1.645 * self.scores.std(axis=0), self.scores.shape)
        chance = np.maximum(wrong_set_chance(self.scores, widths, self.cuts, threshold), 1e-9)
        race = np.empty(len(self))
        race[self.order(seed)] = np.random.default_rng(seed + 1).exponential(size=len(self))
        race /= chance**_SHARPNESS
        race[taken] = np.inf
        return np.argsort(race, kind="stable")[: min(count, len(self) - len(taken))]


def is_score_file(path: Path) -> bool:
    """Whether a path is the output of `empathy score`: it says so of itself, or in OUT.meta.json beside it."""
    try:
        return path.exists() and bool(said_of_scorer(path))
    except EmpathyError:
        return False


def read_scored(paths: Sequence[Path], scorer: Path | None) -> Scored:
    """Read score files of one scorer as one corpus; InputError where an id repeats or the scorers differ."""
    tables = [read_scores(path, scorer=scorer) for path in paths]
    first = tables[0]
    for path, table in zip(paths, tables, strict=True):
        if dict(table.cuts) != dict(first.cuts) or table.scorer.get("sha256") != first.scorer.get("sha256"):
            raise InputError(f"{path}: was scored by another scorer than {paths[0]}; audit them one by one")
    hashes = np.concatenate([table.hashes for table in tables])
    if again := len(hashes) - len(np.unique(hashes)):
        raise InputError(f"{again} ids are in more than one of {', '.join(map(str, paths))}; give each dialogue once")
    scores = np.concatenate([table.scores for table in tables]).astype(np.float64)
    return Scored(
        hashes=hashes,
        scores=scores,
        cuts=first.cuts,
        half_widths=None if first.error is None else first.error.of(scores).astype(np.float64),
        name=str(first.scorer.get("name", "not named")),
        bundle=_bundle(first, scorer),
    )


def _bundle(table: ScoreTable, scorer: Path | None) -> Bundle | None:
    """Return the scorer of a table: the one that was named, or the starter if it is its."""
    try:
        found = open_bundle(scorer)
    except BundleError:
        if scorer is None:
            raise
        return None  # a checkpoint: its cuts were read, and there is no bundle to adapt
    return found if scorer is not None or table.scorer.get("sha256") == found.sha256 else None


def limit_of(scored: Scored, settings: AuditSettings) -> float:
    """Return the share of dialogues in the judge's set that trust wants; LabelError where nothing says it."""
    if settings.limit is not None:
        return settings.limit
    measured = None if scored.bundle is None else scored.bundle.info.measured.get("paper.accuracy")
    if not isinstance(measured, float) or settings.threshold != 5:
        why = (
            "was measured at threshold 5 alone"
            if isinstance(measured, float)
            else "is not at hand, or was not measured"
        )
        raise LabelError(f"how well {scored.name} agreed with its judge {why}: name it with --scorer, or give --limit")
    return measured - settings.tolerance


def read_rows(scored: Scored, rows: Ints, inputs: Sequence[str], fields: Mapping[str, str]) -> list[Dialogue]:
    """Return the dialogues of some rows, in their order, by one pass over the inputs; InputError if one is missing."""
    wanted = {int(scored.hashes[row]): place for place, row in enumerate(rows)}
    found: dict[int, Dialogue] = {}
    for record in Corpus(inputs, fields=fields):
        if isinstance(record, Dialogue) and (place := wanted.get(id_hash(record.id))) is not None:
            found[place] = record
            if len(found) == len(wanted):
                break
    if missing := len(rows) - len(found):
        raise InputError(
            f"{', '.join(inputs)}: {missing} of {len(rows)} dialogues of the sample are not there; give what was scored"
        )
    return [found[place] for place in range(len(rows))]
