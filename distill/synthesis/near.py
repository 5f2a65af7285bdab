"""Near-duplicates, by the words that texts share three by three: MinHash, so that a large corpus costs little."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from scorer.dialogue import Dialogue
from scorer.text import normalise

_PERMUTATIONS = 128
_WORDS = re.compile(r"[\w']+")
_TRIPLE = 3
_LONG = 8
"""Responses of fewer words are alike in every corpus, and say nothing of a copy."""


def words_in_common(text: str, source: str, count: int) -> str | None:
    """Return the first ``count`` words in a row that a text shares with a source, None where there are none such."""
    theirs = set(_runs(source, count))
    return next((" ".join(run) for run in _runs(text, count) if run in theirs), None)


def has_only_words_of(text: str, source: str) -> bool:
    """Tell whether a text has words, and none that a source does not have, in any order."""
    words = set(_words(text))
    return bool(words) and words <= set(_words(source))


def _runs(text: str, count: int) -> list[tuple[str, ...]]:
    words = _words(text)
    return list(zip(*(words[start:] for start in range(count)), strict=False))


class Near:
    """Dialogues that were seen, and the nearest of them to another one.

    Similarity is the Jaccard index of the triples of words, estimated to some 0.04; of whole dialogues, and of the
    responses alone where they are long enough to be a copy.
    """

    def __init__(self, similar: float) -> None:
        """Remember nothing yet; what is more similar than ``similar`` is a near-duplicate."""
        from datasketch import MinHashLSH

        self._similar = similar
        # Candidates come from a lower threshold than what counts: the index misses some that lie just above its own.
        self._indices = [MinHashLSH(threshold=max(0.05, similar - 0.15), num_perm=_PERMUTATIONS) for _ in range(2)]
        self._hashes: dict[str, Any] = {}

    def add(self, dialogue: Dialogue, name: str) -> None:
        """Remember a dialogue under a name that no other one has."""
        for number, (index, hashed) in enumerate(zip(self._indices, _hashed(dialogue), strict=True)):
            if hashed is not None:
                self._hashes[f"{number}{name}"] = hashed
                index.insert(f"{number}{name}", hashed)

    def nearest(self, dialogue: Dialogue) -> tuple[str, float] | None:
        """Return the name of the most similar dialogue and its similarity, None where none is a near-duplicate."""
        return max(self.near(dialogue), key=lambda found: (found[1], found[0]), default=None)

    def near(self, dialogue: Dialogue) -> list[tuple[str, float]]:
        """Return the names and similarities of all near-duplicates; one that is near in both ways is there twice."""
        found: list[tuple[str, float]] = []
        for index, hashed in zip(self._indices, _hashed(dialogue), strict=True):
            if hashed is not None:
                found += [(name[1:], float(hashed.jaccard(self._hashes[name]))) for name in index.query(hashed)]
        return [one for one in found if one[1] > self._similar]


def _hashed(dialogue: Dialogue) -> tuple[Any, Any]:
    """Return the hashes of a dialogue and of its response; None for a response that is too short."""
    whole = _words(" ".join(turn.content for turn in dialogue.turns))
    response = _words(dialogue.response)
    return _min_hash(whole), _min_hash(response) if len(response) >= _LONG else None


def _words(text: str) -> list[str]:
    return _WORDS.findall(normalise(text).casefold())


def _min_hash(words: list[str]) -> Any:
    triples = {" ".join(words[start : start + _TRIPLE]) for start in range(max(1, len(words) - _TRIPLE + 1))}
    hashed = _empty().copy()
    hashed.update_batch([triple.encode() for triple in triples])
    return hashed


@cache
def _empty() -> Any:
    """Return the hash of nothing, of which all others are copies: to draw its permutations takes longest."""
    from datasketch import MinHash

    return MinHash(num_perm=_PERMUTATIONS)
