"""The only way from text to token ids: pairs (context, response), shortened where they are too long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from scorer.dialogue import Dialogue, Turn, render, render_context
from scorer.text import normalise

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

_CHARACTERS_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Encoded:
    """One dialogue as token ids (length,), and how much of it did not fit.

    The first ``first_segment`` tokens have token type 0, the others 1 (without token types all have 0). ``cut_turns``
    whole context turns and ``cut_tokens`` tokens in all were left out.
    """

    ids: npt.NDArray[np.int32]
    first_segment: int
    cut_turns: int = 0
    cut_tokens: int = 0

    def __len__(self) -> int:
        """Return the number of tokens, special ones included."""
        return len(self.ids)

    @property
    def cut(self) -> bool:
        """Whether anything was left out."""
        return self.cut_tokens > 0


class _Frame:
    """What a tokenizer's pair template puts around two texts: (before, between, after), ids and token types."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.ids: tuple[list[int], list[int], list[int]] = ([], [], [])
        self.special_types = self.second_type = place = 0  # special tokens of type 1; type of the second text's tokens
        pair = tokenizer.encode("a", "a")
        for token, kind, text in zip(pair.ids, pair.type_ids, pair.sequence_ids, strict=True):
            if text is None:
                self.ids[place].append(token)
                self.special_types += kind
            else:
                place, self.second_type = text + 1, kind  # the last one is the second text's


class Encoder:
    """Turns dialogues into token ids that fit a model: the same one in training, export checks and scoring.

    A dialogue that fits is tokenised as ``tokenizer(context, response)``. One that does not loses its oldest context
    turns first, then the middle of a response that is too long, last the middle of the newest context turn.
    """

    def __init__(self, tokenizer: Tokenizer, max_length: int) -> None:
        """Take a tokenizer with a pair template; ``max_length`` counts special tokens and is at least 16."""
        if max_length < 16:
            raise ValueError(f"max_length is {max_length}; a context and a response need at least 16 tokens")
        # Only where that is needed: another encoder may be using it, and then it cannot be changed.
        if tokenizer.truncation is not None:
            tokenizer.no_truncation()
        if tokenizer.padding is not None:
            tokenizer.no_padding()
        # A dialogue that contains "[SEP]" or "</s>" is text that says so, not a new segment.
        if not tokenizer.encode_special_tokens:
            tokenizer.encode_special_tokens = True
        self.tokenizer = tokenizer
        self.max_length = max_length
        self._frame = _Frame(tokenizer)

    def __reduce__(self) -> tuple[type[Encoder], tuple[Tokenizer, int]]:
        """Pickle what it is made of: a copied tokenizer forgets how it treats special tokens."""
        return Encoder, (self.tokenizer, self.max_length)

    def encode(self, dialogues: Sequence[Dialogue]) -> list[Encoded]:
        """Return one ``Encoded`` per dialogue, in order; the same object for dialogues of the same text.

        Tokenising runs on all cores. A dialogue is tokenised whole before it is shortened, so that what was cut can be
        counted; those that are tokenised together take about 100 MB.
        """
        return self.encode_rendered([render(dialogue) for dialogue in dialogues], dialogues)

    def encode_rendered(self, texts: Sequence[tuple[str, str]], dialogues: Sequence[Dialogue]) -> list[Encoded]:
        """Do what ``encode`` does with dialogues of which ``render`` gave these texts."""
        distinct = dict(zip(texts, dialogues, strict=True))
        found: dict[tuple[str, str], Encoded] = {}
        for chunk in _chunks(distinct):
            encodings = self.tokenizer.encode_batch_fast(chunk)
            found.update((text, self._fit(distinct[text], item)) for text, item in zip(chunk, encodings, strict=True))
        return [found[text] for text in texts]

    def _fit(self, dialogue: Dialogue, encoding: Encoding) -> Encoded:
        if len(encoding) > self.max_length:
            return self._shorten(dialogue, len(encoding))
        ids = np.asarray(encoding.ids, dtype=np.int32)
        return Encoded(ids=ids, first_segment=len(ids) - sum(encoding.type_ids))

    def _shorten(self, dialogue: Dialogue, full_length: int) -> Encoded:
        # Not by Encoding.truncate and merge, which keep every combination of what they cut off: gigabytes.
        before, between, after = self._frame.ids
        room = self.max_length - len(before) - len(between) - len(after)
        response = self._tokens(normalise(dialogue.response))
        kept = self._newest(dialogue.context, room - len(response))
        context = self._tokens(render_context(kept))
        # Where even the newest turn does not fit beside the response, the response gives way, down to half.
        first = _cut_middle(context, room - min(len(response), max(room // 2, room - len(context))))
        second = _cut_middle(response, room - len(first))
        ids = np.array([*before, *first, *between, *second, *after], dtype=np.int32)
        return Encoded(
            ids=ids,
            first_segment=len(ids) - self._frame.special_types - self._frame.second_type * len(second),
            cut_turns=len(dialogue.context) - len(kept),
            cut_tokens=full_length - len(ids),
        )

    def _newest(self, turns: tuple[Turn, ...], room: int) -> tuple[Turn, ...]:
        """Return as many of the newest turns as have at most ``room`` tokens together; at least one turn."""
        first = len(turns) - 1
        used = self._length(turns[first:])
        while first > 0:
            used += self._length(turns[first - 1 : first], "\n")
            if used > room:
                break
            first -= 1
        # Joined lines may tokenise to a few tokens more than the lines one by one, or to fewer.
        while first < len(turns) - 1 and self._length(turns[first:]) > room:
            first += 1
        while first > 0 and self._length(turns[first - 1 :]) <= room:
            first -= 1
        return turns[first:]

    def _length(self, turns: tuple[Turn, ...], end: str = "") -> int:
        return len(self._tokens(render_context(turns) + end))

    def _tokens(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def _chunks(texts: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    chunk: list[tuple[str, str]] = []
    characters = 0
    for text in texts:
        if characters >= _CHARACTERS_AT_ONCE:
            yield chunk
            chunk, characters = [], 0
        chunk.append(text)
        characters += len(text[0]) + len(text[1])
    if chunk:
        yield chunk


def _cut_middle(ids: list[int], length: int) -> list[int]:
    """Return at most ``length`` of the ids: the first half and the last."""
    return ids if len(ids) <= length else ids[: length - length // 2] + ids[len(ids) - length // 2 :]
