"""A judge's labels by id, for comparing with scores or deciding in their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from scorer.arrays import Hashes, Ints
from scorer.dialogue import Dialogue, Labels, content_hash, training_hash
from scorer.engines.base import Scores
from scorer.errors import RejectedError
from scorer.inputs.corpus import Corpus, id_hash
from scorer.inputs.parse import Reject
from selection.errors import SelectionError
from selection.files.manifest import JudgeInfo


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
        for name, known in (("model", self.models), ("rubric", self.rubrics)):
            if judge.get(name):
                known.add(str(judge[name]))
        cost = judge.get("cost_usd")
        if isinstance(cost, (int, float)):
            self.cost += cost
            self.priced += 1

    @property
    def price(self) -> float | None:
        """US dollars per judgement, None where no label says."""
        return self.cost / self.priced if self.priced else None

    def info(self) -> JudgeInfo:
        """Return what selection.json holds."""
        models, rubrics = sorted(self.models), sorted(self.rubrics)
        return JudgeInfo(models=models, rubrics=rubrics, judgements=self.judgements, usd_a_judgement=self.price)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelTable:
    """The labels of M dialogues: ``hashes`` (M,) of their ids, ``scores`` (M, 2), the mean of each one's judgements.

    ``contents`` (M,) are hashes of their texts, ``training`` (M) those by which a scorer knows what it was trained on.
    ``first`` and ``second`` (K, 2) are two judgements of each of the K dialogues that were judged more than once.
    """

    hashes: Hashes
    contents: Hashes
    training: Sequence[str]
    scores: Scores
    conversations: list[str]
    first: Scores
    second: Scores
    judges: Judges
    rejects: tuple[Reject, ...]

    def __len__(self) -> int:
        """Return the number of dialogues."""
        return len(self.hashes)

    def rows_of(self, hashes: Hashes) -> Ints:
        """Return the row of each id (N,), -1 for those without a label."""
        return Index(self.hashes).rows_of(hashes)


class Index:
    """Finds rows by the hashes of ids."""

    def __init__(self, hashes: Hashes) -> None:
        """Sort M hashes, which are distinct."""
        self._order = np.argsort(hashes)
        self._sorted = hashes[self._order]

    def rows_of(self, hashes: Hashes) -> Ints:
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
    found: dict[int, list[tuple[float, float]]] = {}
    contents: dict[int, int] = {}
    conversations: list[str] = []
    training: list[str] = []
    rejects: list[Reject] = []
    judges = Judges()
    for record in Corpus(inputs, labels="required", unique_ids=False):
        if isinstance(record, Dialogue):
            key, content = id_hash(record.id), id_hash(content_hash(record.turns))
            if contents.setdefault(key, content) != content:
                record = another_text(record)
        if isinstance(record, Reject):
            if strict:
                raise RejectedError(f"{record} (--strict)")
            rejects.append(record)
            continue
        assert record.labels is not None
        entry = found.setdefault(key, [])
        if not entry:
            conversations.append(record.conversation)
            training.append(training_hash(record))
        entry.append((record.labels.sensibility, record.labels.rationality))
        judges.add(record.labels)
    if not found:
        first = f"; the first: {rejects[0]}" if rejects else ""
        raise SelectionError(f"{', '.join(inputs)}: no labelled dialogue among {len(rejects)} records{first}")
    repeated = [entry for entry in found.values() if len(entry) > 1]
    means = [[sum(column) / len(entry) for column in zip(*entry, strict=True)] for entry in found.values()]
    return LabelTable(
        hashes=np.fromiter(found, dtype=np.uint64, count=len(found)),
        contents=np.fromiter(contents.values(), dtype=np.uint64, count=len(contents)),
        training=training,
        scores=_array(means),
        conversations=conversations,
        first=_array([entry[0] for entry in repeated]),
        second=_array([entry[1] for entry in repeated]),
        judges=judges,
        rejects=tuple(rejects),
    )


def another_text(dialogue: Dialogue) -> Reject:
    """Return the reject of a labelled dialogue whose id belongs to another text."""
    detail = f"id {dialogue.id!a} occurred before with another text, expected unique ids"
    return Reject(dialogue.source, dialogue.line, "duplicate_id", detail, dialogue.id)


def _array(rows: Sequence[Sequence[float]]) -> npt.NDArray[np.float32]:
    return np.array(rows, dtype=np.float32).reshape(-1, 2)
