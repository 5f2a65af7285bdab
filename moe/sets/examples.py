"""Sets of dialogues -> supervised examples, every drop counted with its reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from distill.training.network import PAD_MULTIPLE
from moe.errors import SetError
from moe.sets.chat import Chat, Dropped, Example
from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import Reject
from selection.folds import fold_of

IGNORED = -100
"""The label of a token that takes no part in the loss."""

_PARTS = 10_000


@dataclass(slots=True)
class Examples:
    """What of a set can be learnt, and what was left out: dialogues dropped by reason, turns cut from others."""

    examples: list[Example] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    first_dropped: str = ""

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.examples)

    def drop(self, reason: str, detail: str) -> None:
        """Count a dialogue that cannot be used; the first one's ``detail`` is kept for people."""
        self.dropped[reason] += 1
        self.first_dropped = self.first_dropped or f"{reason}: {detail}"

    def to_json(self) -> dict[str, Any]:
        """Return the counts that moe.json holds."""
        cut = [example.cut_turns for example in self.examples if example.cut_turns]
        return {
            "examples": len(self),
            "tokens": sum(map(len, self.examples)),
            "response_tokens": sum(len(example) - example.prompt for example in self.examples),
            "cut": {"dialogues": len(cut), "turns": sum(cut)},
            "dropped": dict(self.dropped.most_common()),
        }

    def split(self, share: float, seed: int) -> tuple[list[Example], list[Example]]:
        """Return the examples to learn from and those of the ``share`` of conversations that is held out."""
        held_out = [fold_of(one.conversation, _PARTS, seed) < share * _PARTS for one in self.examples]
        return (
            [one for one, out in zip(self.examples, held_out, strict=True) if not out],
            [one for one, out in zip(self.examples, held_out, strict=True) if out],
        )


def read_examples(path: Path | str, chat: Chat) -> Examples:
    """Return a set as examples for training; SetError if there is none."""
    found = Examples()
    for record in Corpus([str(path)]):
        if isinstance(record, Reject):
            found.drop(record.reason, f"{record.source}:{record.line}: {record.detail}")
            continue
        example = chat.example(record)
        if isinstance(example, Dropped):
            found.drop(example.reason, f"{record.source}:{record.line}: {example.detail}")
        else:
            found.examples.append(example)
    if not found.examples:
        why = f"; the first: {found.first_dropped}" if found.dropped else ", it is empty"
        raise SetError(f"{path}: no dialogue to learn from among {found.dropped.total()} records{why}")
    return found


def set_info(path: Path | str) -> dict[str, Any]:
    """Return where a set comes from: its name and hash, and what selection.json beside it says of the selection."""
    file = Path(path)
    return {"file": file.name, "sha256": _file_hash(file), "selection": _selection(file)}


def collate(batch: Sequence[Example], pad_id: int) -> dict[str, torch.Tensor]:
    """Return padded inputs of a causal language model, each (B, T) with T a multiple of 16.

    ``labels`` are the ids of the responses and ``IGNORED`` elsewhere.
    """
    length = -(-max(map(len, batch)) // PAD_MULTIPLE) * PAD_MULTIPLE
    ids = np.full((len(batch), length), pad_id, dtype=np.int64)
    labels = np.full((len(batch), length), IGNORED, dtype=np.int64)
    for row, one in enumerate(batch):
        ids[row, : len(one)] = one.ids
        labels[row, one.prompt : len(one)] = one.ids[one.prompt :]
    lengths = np.array([len(one) for one in batch])[:, None]
    mask = (np.arange(length)[None, :] < lengths).astype(np.int64)
    arrays = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def batches(examples: Sequence[Example], tokens: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the rows of each batch, longest examples first, at most ``tokens`` padded tokens or one row."""
    order = np.argsort([-len(one) for one in examples], kind="stable")
    start = 0
    while start < len(order):
        size = max(1, tokens // (len(examples[order[start]]) + PAD_MULTIPLE))
        yield order[start : start + size]
        start += size


def _selection(path: Path) -> dict[str, Any] | None:
    try:
        info = json.loads((path.parent / "selection.json").read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise SetError(f"{path.parent / 'selection.json'}: cannot be read as JSON ({error})") from None
    named = {entry.get("file"): name for name, entry in info.get("sets", {}).items()}
    if path.name not in named:
        return None
    scorer = info.get("scorer")
    return {
        "set": named[path.name],
        "rule": info.get("rule"),
        "scorer": scorer and {key: scorer.get(key) for key in ("name", "sha256", "judge", "rubric")},
        "judge": info.get("judge"),
        "corpus": info.get("corpus"),
    }


def _file_hash(path: Path) -> str:
    state = sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                state.update(block)
    except OSError as error:
        raise SetError(f"{path}: cannot be read: {error.strerror or error}") from None
    return state.hexdigest()
