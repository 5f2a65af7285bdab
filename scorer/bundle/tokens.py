"""Token ids of many dialogues as a few flat arrays: what crosses processes and what batches are cut from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scorer.bundle.encode import Encoded

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """Dialogues as token ids; those of the same text are held once.

    Text t of T is ``ids[starts[t] : starts[t + 1]]``, and its first ``first_segment[t]`` tokens have token type 0, the
    others 1. ``texts`` (N,) says which text each dialogue is.
    """

    ids: Ints
    starts: npt.NDArray[np.int64]
    first_segment: Ints
    texts: Ints

    @classmethod
    def of(cls, encoded: Sequence[Encoded]) -> Tokens:
        """Return dialogues that were encoded; the same object among them is one text."""
        by_object = {id(item): item for item in encoded}
        distinct, place = list(by_object.values()), {key: number for number, key in enumerate(by_object)}
        texts = np.array([place[id(item)] for item in encoded], dtype=np.int32)
        starts = np.zeros(len(distinct) + 1, dtype=np.int64)
        np.cumsum([len(item) for item in distinct], out=starts[1:])
        ids = np.concatenate([item.ids for item in distinct]) if distinct else np.zeros(0, dtype=np.int32)
        first_segment = np.array([item.first_segment for item in distinct], dtype=np.int32)
        return cls(ids.astype(np.int32, copy=False), starts, first_segment, texts)

    def __len__(self) -> int:
        """Return the number of dialogues."""
        return len(self.texts)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """The number of tokens of each text, (T,)."""
        return np.diff(self.starts)

    def text(self, number: int) -> Ints:
        """Return the token ids of a text."""
        return self.ids[self.starts[number] : self.starts[number + 1]]
