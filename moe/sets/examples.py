"""Sets of dialogues -> supervised examples, every drop counted with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import file_digest
from pathlib import Path

import numpy as np
import torch

from distill.training.network import TRAIN_PAD_MULTIPLE
from moe.errors import SetError
from moe.provenance import CutTurns, LearntSet, SetSelection, SetSource
from moe.sets.chat import Chat, Example
from scorer.arrays import Ints
from scorer.bundle.encode import Encoded
from scorer.engines.base import collate
from scorer.errors import reason_of
from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import Reject
from selection.files.manifest import SELECTION_JSON, read_selection_info
from selection.folds import fold_of

IGNORED = -100
"""The label of a token that takes no part in the loss."""

_PARTS = 10_000


@dataclass(slots=True)
class ExampleSet:
    """What of a set can be learnt, and what was left out: dialogues dropped by reason, turns cut from others."""

    path: Path
    examples: list[Example] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)

    def about(self, source: SetSource) -> LearntSet:
        """Return what moe.json says of the set, with the counts."""
        cut = [example.cut_turns for example in self.examples if example.cut_turns]
        return LearntSet(
            file=source.file,
            sha256=source.sha256,
            selection=source.selection,
            examples=len(self.examples),
            tokens=sum(map(len, self.examples)),
            response_tokens=sum(len(example) - example.prompt for example in self.examples),
            synthetic=sum(example.synthetic for example in self.examples),
            cut=CutTurns(dialogues=len(cut), turns=sum(cut)),
            dropped=dict(self.dropped.most_common()),
        )

    def split(self, share: float, seed: int) -> tuple[list[Example], list[Example]]:
        """Return the examples to learn from and those of the ``share`` of conversations that is held out.

        Synthetic dialogues are learnt from and never held out. SetError if nothing is left to learn from.
        """
        train: list[Example] = []
        held_out: list[Example] = []
        for one in self.examples:
            apart = not one.synthetic and fold_of(one.conversation, _PARTS, seed) < share * _PARTS
            (held_out if apart else train).append(one)
        if not train:
            raise SetError(
                f"{self.path}: all {len(held_out)} dialogues are of conversations that are held out; expected more "
                "conversations, or --held-out 0"
            )
        return train, held_out


def read_examples(path: Path, chat: Chat) -> ExampleSet:
    """Return a set as examples for training; SetError if there is none."""
    found, first = ExampleSet(path), ""
    for record in Corpus([str(path)]):
        example = record if isinstance(record, Reject) else chat.example(record)
        if isinstance(example, Example):
            found.examples.append(example)
        else:
            found.dropped[example.reason] += 1
            first = first or f"{example.reason}: {record.source}:{record.line}: {example.detail}"
    if not found.examples:
        why = f"; the first: {first}" if first else ""
        raise SetError(f"{path}: no dialogue to learn from among {found.dropped.total()} records{why}")
    return found


def set_source(path: Path) -> SetSource:
    """Return where a set comes from: its name and hash, and what selection.json beside it says of the selection."""
    try:
        with open(path, "rb") as file:
            found = file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SetError(f"{path}: cannot be read: {reason_of(error)}") from None
    return SetSource(file=path.name, sha256=found, selection=_selection(path))


def pad_examples(batch: Sequence[Example], pad_id: int) -> dict[str, torch.Tensor]:
    """Return padded inputs of a causal language model, each (B, T) with T a multiple of 16.

    ``labels`` are the ids of the responses and ``IGNORED`` elsewhere.
    """
    inputs = collate([Encoded(one.ids, one.prompt) for one in batch], pad_id, TRAIN_PAD_MULTIPLE)
    learnt = inputs.pop("token_type_ids")  # the second segment is the response
    inputs["labels"] = np.where(learnt, inputs["input_ids"], IGNORED)
    return {name: torch.from_numpy(array) for name, array in inputs.items()}


def batches_of(examples: Sequence[Example], tokens: int) -> Iterator[Ints]:
    """Yield the rows of each batch, longest examples first, at most ``tokens`` padded tokens or one row."""
    order = np.argsort([-len(one) for one in examples], kind="stable")
    start = 0
    while start < len(order):
        size = max(1, tokens // (len(examples[order[start]]) + TRAIN_PAD_MULTIPLE))
        yield order[start : start + size]
        start += size


def _selection(path: Path) -> SetSelection | None:
    if not (path.parent / SELECTION_JSON).exists():
        return None
    info = read_selection_info(path.parent)
    scorer = info.scorer and {key: info.scorer.get(key) for key in ("name", "sha256", "judge", "rubric")}
    for name, entry in info.sets.items():
        if entry.file == path.name:
            return SetSelection(set=name, rule=info.rule, scorer=scorer, judge=info.judge, corpus=info.corpus)
    return None
