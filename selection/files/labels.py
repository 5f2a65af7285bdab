"""A judge's labels by id, for comparing with scores or deciding in their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from scorer.dialogue import Dialogue, Labels, content_hash
from scorer.errors import RejectedError
from scorer.inputs.corpus import Corpus, id_hash
from scorer.inputs.parse import Reject
from selection.errors import SelectionError


@dataclass(slots=True)
class Judges:
    """Whose judgements were read: models, rubrics, and what they cost where labels say so."""

    models: set[str] = field(default_factory=set)
    rubrics: set[str] = field(default_factory=set)
    judgements: int = 0
    cost: float = 0.0
    priced: int = 0

    def add(self, labels: Labels) -> None:
        """Note one judgement."""
        self.judgements += 1
        judge = labels.judge or {}
        if judge.get("model"):
            self.models.add(str(judge["model"]))
        if judge.get("rubric"):
            self.rubrics.add(str(judge["rubric"]))
        cost = judge.get("cost_usd")
        if isinstance(cost, (int, float)):
            self.cost += cost
            self.priced += 1

    @property
    def price(self) -> float | None:
        """US dollars a judgement, None where no label says."""
        return self.cost / self.priced if self.priced else None

    def to_json(self) -> dict[str, Any]:
        """Return what selection.json holds."""
        return {
            "models": sorted(self.models),
            "rubrics": sorted(self.rubrics),
            "judgements": self.judgements,
            "usd_a_judgement": self.price,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelTable:
    """The labels of M dialogues: ``hashes`` (M,) of their ids, ``scores`` (M, 2), the mean of each one's judgements.

    ``contents`` (M,) are hashes of their texts. ``first`` and ``second`` (K, 2) are two judgements of each of the K
    dialogues that were judged more than once.
    """

    hashes: npt.NDArray[np.uint64]
    contents: npt.NDArray[np.uint64]
    scores: npt.NDArray[np.float32]
    conversations: list[str]
    first: npt.NDArray[np.float32]
    second: npt.NDArray[np.float32]
    judges: Judges
    rejects: tuple[Reject, ...]

    def __len__(self) -> int:
        """Return the number of dialogues."""
        return len(self.hashes)

    def rows_of(self, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Return the row of each id (N,), -1 for those without a label."""
        return Index(self.hashes).rows_of(hashes)


class Index:
    """Finds rows by the hashes of ids."""

    def __init__(self, hashes: npt.NDArray[np.uint64]) -> None:
        """Sort M hashes, which are distinct."""
        self._order = np.argsort(hashes)
        self._sorted = hashes[self._order]

    def rows_of(self, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Return the row of each hash (N,), -1 for those that are not there."""
        if not len(self._sorted):
            return np.full(len(hashes), -1)
        place = np.minimum(np.searchsorted(self._sorted, hashes), len(self._sorted) - 1)
        return np.where(self._sorted[place] == hashes, self._order[place], -1)


def read_labels(inputs: Sequence[str], *, strict: bool = False) -> LabelTable:
    """Read labelled inputs of any form; several judgements of one id are averaged.

    SelectionError if no record has a label; records without one, and those whose id had another text before, are
    ``rejects``, and with ``strict`` a RejectedError.
    """
    found: dict[int, list[Labels]] = {}
    contents: dict[int, int] = {}
    conversations: list[str] = []
    rejects: list[Reject] = []
    judges = Judges()
    for record in Corpus(inputs, labels="required", unique_ids=False):
        if isinstance(record, Dialogue):
            key, content = id_hash(record.id), id_hash(content_hash(record.turns))
            if contents.setdefault(key, content) != content:
                detail = f"id {record.id!a} occurred before with another text, expected unique ids"
                record = Reject(record.source, record.line, "duplicate_id", detail, record.id)
        if isinstance(record, Reject):
            if strict:
                raise RejectedError(f"{record} (--strict)")
            rejects.append(record)
            continue
        assert record.labels is not None
        entry = found.setdefault(key, [])
        if not entry:
            conversations.append(record.conversation)
        entry.append(record.labels)
        judges.add(record.labels)
    if not found:
        first = f"; the first: {rejects[0]}" if rejects else ""
        raise SelectionError(f"{', '.join(inputs)}: no labelled dialogue among {len(rejects)} records{first}")
    repeated = [entry for entry in found.values() if len(entry) > 1]
    return LabelTable(
        hashes=np.fromiter(found, dtype=np.uint64, count=len(found)),
        contents=np.fromiter(contents.values(), dtype=np.uint64, count=len(contents)),
        scores=np.array([mean_label(entry) for entry in found.values()], dtype=np.float32),
        conversations=conversations,
        first=_pairs(repeated, 0),
        second=_pairs(repeated, 1),
        judges=judges,
        rejects=tuple(rejects),
    )


def mean_label(judgements: Sequence[Labels]) -> tuple[float, float]:
    """Return the mean of several judgements of one dialogue."""
    count = len(judgements)
    return sum(label.sensibility for label in judgements) / count, sum(
        label.rationality for label in judgements
    ) / count


def _pairs(repeated: Sequence[Sequence[Labels]], k: int) -> npt.NDArray[np.float32]:
    rows = [(entry[k].sensibility, entry[k].rationality) for entry in repeated]
    return np.array(rows, dtype=np.float32).reshape(-1, 2)
