"""Labelled inputs -> one row per dialogue: the mean of its judgements, and how many there were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from distill.errors import TrainError
from distill.panel.reliability import Reliability, by_judge, estimate_reliability
from scorer.arrays import Ints
from scorer.dialogue import HEADS, Dialogue, Labels, training_hash
from scorer.engines.base import Scores
from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import Reject

MIN_DIALOGUES = 50
"""Fewer distinct dialogues teach an encoder nothing, and no share of them means anything."""

MIN_CONVERSATIONS_PER_FOLD = 2


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSet:
    """Distinct dialogues and the judge's scores of them.

    ``scores`` is (N, 2), the mean of each dialogue's judgements, 0 to 10, heads in the order of ``HEADS``; of several
    judges, combined by their ``reliability`` where that can be told. ``judgements`` holds each dialogue's own, in the
    order read. Dialogues are the same where their text is, whatever
    its spelling or spacing (``training_hash``). ``rejects`` are the records that had no dialogue or no label.
    """

    dialogues: tuple[Dialogue, ...]
    scores: Scores
    judgements: tuple[tuple[Labels, ...], ...]
    rejects: tuple[Reject, ...] = ()
    reliability: Reliability | None = None

    def __len__(self) -> int:
        """Return the number of distinct dialogues."""
        return len(self.dialogues)

    def take(self, rows: Ints) -> LabelledSet:
        """Return the set of some rows, without the rejects."""
        return LabelledSet(
            tuple(self.dialogues[row] for row in rows),
            self.scores[rows],
            tuple(self.judgements[row] for row in rows),
            reliability=self.reliability,
        )

    @property
    def conversations(self) -> list[str]:
        """The conversation of each row."""
        return [dialogue.conversation for dialogue in self.dialogues]

    @property
    def hashes(self) -> list[str]:
        """The training hash of each row."""
        return [training_hash(dialogue) for dialogue in self.dialogues]

    @property
    def weights(self) -> Scores:
        """What each row counts, (N,), mean 1.

        The mean of k judgements with reliability 1/2 has reliability 2k / (k + 1) times that of one
        (Spearman-Brown), so a second opinion adds a third and no number of them more than doubles a row.
        """
        count = np.array([len(entry) for entry in self.judgements], dtype=np.float32)
        weights = 2 * count / (count + 1)
        return np.asarray(weights / weights.mean(), dtype=np.float32)


def read_labelled(inputs: Sequence[str], fields: Mapping[str, str] | None = None) -> LabelledSet:
    """Read labelled inputs of any form of the contract; records without a label are rejects.

    Labels of the same dialogue, from several draws or files, are averaged; those of several judges are combined by
    reliability if enough dialogues were judged by all of them, else averaged too. InputError if nothing is there,
    TrainError if no record has a label. ``fields`` says which column holds what, as of
    ``Corpus``.
    """
    found: dict[str, tuple[Dialogue, list[Labels]]] = {}
    rejects: list[Reject] = []
    for record in Corpus(inputs, labels="required", unique_ids=False, fields=fields):
        if isinstance(record, Reject):
            rejects.append(record)
        elif record.labels is not None:
            found.setdefault(training_hash(record), (record, []))[1].append(record.labels)
    if not found:
        first = f"; the first: {rejects[0]}" if rejects else ""
        raise TrainError(f"{', '.join(inputs)}: no labelled dialogue among {len(rejects)} records{first}")
    judgements = tuple(tuple(labels) for _, labels in found.values())
    scores = np.array(
        [[np.mean([getattr(entry, head) for entry in labels]) for head in HEADS] for labels in judgements],
        dtype=np.float32,
    )
    names, values = by_judge(judgements)
    reliability = estimate_reliability(names, values)
    if reliability is not None:
        scores = reliability.combine(values).astype(np.float32)
    dialogues = tuple(dialogue for dialogue, _ in found.values())
    return LabelledSet(dialogues, scores, judgements, tuple(rejects), reliability)


def check_trainable(labelled: LabelledSet, parts: int) -> None:
    """Raise TrainError unless there is enough to learn from and to hold out ``parts`` times."""
    if len(labelled) < MIN_DIALOGUES:
        raise TrainError(
            f"{len(labelled)} labelled dialogues, expected at least {MIN_DIALOGUES} (some thousands make a good "
            "scorer): label more with `empathy label`"
        )
    conversations = len(set(labelled.conversations))
    least = MIN_CONVERSATIONS_PER_FOLD * parts
    if conversations < least:
        raise TrainError(
            f"{conversations} conversation{'s' if conversations > 1 else ''} in {len(labelled)} labelled dialogues, "
            f"expected at least {least}: whole conversations are held out, so label more of them or ask for fewer folds"
        )
    for head, values in zip(HEADS, labelled.scores.T, strict=True):
        if float(values.std()) < 1e-6:
            raise TrainError(
                f"every {head} label is {values[0]:g}, so there is nothing to learn: look at the judge's replies"
            )
