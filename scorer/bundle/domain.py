"""Does the input look like what the scorer was trained on? Four simple statistics, kept in the bundle.

A distilled scorer knows only its training domain, and nothing in a score shows that a dialogue is outside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated
from zlib import crc32

import msgspec
import numpy as np
import numpy.typing as npt

from scorer.bundle.encode import Encoded
from scorer.dialogue import Dialogue
from scorer.values import Portion

FEATURES = ("turns", "tokens", "response_characters", "unseen_tokens")
"""Turns, tokens (before any cut), characters of the response, and the share of tokens never seen in training."""

WARN_SHARE = 0.1
"""Warn when more than this share of an input, and three times the training data's own, is outside."""

WARN_DIALOGUES = 10
"""A share of fewer dialogues says nothing."""

_PERCENTILES = (0.5, 99.5)
_FOLDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """The range of each feature in the training data (its middle 99 %), and the tokens that occurred there.

    ``seen_tokens`` holds a bit for each of the ``vocabulary`` token ids, ``outside_share`` is the share of the training
    dialogues with some feature outside its range.
    """

    ranges: Mapping[str, tuple[float, float]]
    vocabulary: Annotated[int, msgspec.Meta(ge=1)]
    seen_tokens: bytes
    outside_share: Portion

    def __post_init__(self) -> None:
        """Raise ValueError where the parts do not fit each other."""
        bits = 8 * len(self.seen_tokens)
        if self.vocabulary > bits:
            raise ValueError(f"vocabulary of {self.vocabulary} tokens, and seen_tokens of {bits} bits")
        if set(self.ranges) != set(FEATURES):
            raise ValueError(f"ranges of {sorted(self.ranges)}, expected {sorted(FEATURES)}")

    @property
    def seen(self) -> npt.NDArray[np.bool_]:
        """Whether each token id occurred in the training data, (vocabulary,)."""
        return np.unpackbits(np.frombuffer(self.seen_tokens, dtype=np.uint8), count=self.vocabulary).astype(bool)

    def outside(self, dialogues: Sequence[Dialogue], encoded: Sequence[Encoded]) -> dict[str, npt.NDArray[np.bool_]]:
        """Return for each feature, and for ``any`` of them, which dialogues are outside its range; each (N,)."""
        found = _beyond(_features(dialogues, encoded, self.seen), self.ranges)
        return found | {"any": np.logical_or.reduce(list(found.values()))}

    def warning(self, outside: Mapping[str, int], dialogues: int) -> str | None:
        """Return a line that warns of a foreign input, from counts by feature, or None where there is no need."""
        return domain_warning(outside, dialogues, self.outside_share)


def domain_warning(outside: Mapping[str, int], dialogues: int, of_training: float) -> str | None:
    """Return the line of ``Domain.warning`` where only the share of the training data outside is known."""
    share = outside.get("any", 0) / max(1, dialogues)
    if dialogues < WARN_DIALOGUES or share <= max(WARN_SHARE, 3 * of_training):
        return None
    parts = [
        f"{name.replace('_', ' ')} {outside[name] / dialogues:.0%}"
        for name in sorted(FEATURES, key=lambda name: -outside.get(name, 0))
        if outside.get(name)
    ]
    return (
        f"{share:.0%} of the dialogues are unlike the scorer's training data ({', '.join(parts)}; "
        f"{of_training:.0%} of the training data itself): trust these scores less, or distil a scorer on "
        "dialogues like these"
    )


def fit_domain(dialogues: Sequence[Dialogue], encoded: Sequence[Encoded], vocabulary: int) -> Domain:
    """Return the domain of training dialogues; ``vocabulary`` is the number of token ids.

    No token of a training dialogue is unseen in training, so the range of unseen tokens is measured on each
    fifth of the conversations against the tokens of the others.
    """
    fold = np.array([crc32(dialogue.conversation.encode()) % _FOLDS for dialogue in dialogues])
    unseen = np.zeros(len(dialogues))
    for number in range(_FOLDS):
        inside, outside = np.flatnonzero(fold != number).tolist(), np.flatnonzero(fold == number).tolist()
        seen = _seen([encoded[i] for i in inside], vocabulary)
        rows = _features([dialogues[i] for i in outside], [encoded[i] for i in outside], seen)
        unseen[outside] = rows["unseen_tokens"]
    seen = _seen(encoded, vocabulary)
    values = _features(dialogues, encoded, seen) | {"unseen_tokens": unseen}
    ranges = {name: _limits(values[name]) for name in FEATURES}
    outside_any = np.logical_or.reduce(list(_beyond(values, ranges).values()))
    return Domain(
        ranges=ranges,
        vocabulary=vocabulary,
        seen_tokens=np.packbits(seen).tobytes(),
        outside_share=round(float(outside_any.mean()), 4),
    )


def _beyond(
    values: Mapping[str, npt.NDArray[np.float64]], ranges: Mapping[str, tuple[float, float]]
) -> dict[str, npt.NDArray[np.bool_]]:
    """Return for each feature which dialogues are outside its range, (N,) each."""
    return {name: (values[name] < ranges[name][0]) | (values[name] > ranges[name][1]) for name in FEATURES}


def _limits(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, _PERCENTILES)
    return round(float(low), 4), round(float(high), 4)


def _seen(encoded: Sequence[Encoded], vocabulary: int) -> npt.NDArray[np.bool_]:
    seen = np.zeros(vocabulary, dtype=bool)
    for item in encoded:
        seen[item.ids] = True
    return seen


def _features(
    dialogues: Sequence[Dialogue], encoded: Sequence[Encoded], seen: npt.NDArray[np.bool_]
) -> dict[str, npt.NDArray[np.float64]]:
    """Return each feature of each dialogue, (N,) a feature."""
    lengths = np.array([len(item) for item in encoded], dtype=np.int64)
    ids = np.concatenate([item.ids for item in encoded]) if len(encoded) else np.zeros(0, dtype=np.int32)
    known = np.zeros(len(ids), dtype=bool)
    inside = ids < len(seen)
    known[inside] = seen[ids[inside]]
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    unseen = np.add.reduceat(~known, starts, dtype=np.float64) if len(ids) else np.zeros(0)
    return {
        "turns": np.array([len(d.turns) for d in dialogues], dtype=np.float64),
        "tokens": np.array([len(item) + item.cut_tokens for item in encoded], dtype=np.float64),
        "response_characters": np.array([len(d.response) for d in dialogues], dtype=np.float64),
        "unseen_tokens": unseen / np.maximum(lengths, 1),
    }
