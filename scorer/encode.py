"""The only way from text to token ids: pairs (context, response), shortened where they are too long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from scorer.dialogue import Dialogue, Turn, render, render_context
from scorer.text import normalise

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Encoded:
    """One dialogue as token ids, and how much of it did not fit.

    ``ids`` has shape (length,); its first ``first_segment`` tokens have token type 0, the others 1 (tokenizers
    without token types have 0 throughout). ``cut_turns`` whole context turns and ``cut_tokens`` tokens in all
    were left out.
    """

    ids: Ids
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


class Encoder:
    """Turns dialogues into token ids that fit a model: the same one in training, export checks and scoring.

    A dialogue that fits is tokenised as ``tokenizer(context, response)``, to the last token. One that does not
    loses its oldest context turns first, then the middle of an overlong response, last the middle of the newest
    context turn: the newest turns and both ends of the response stay.
    """

    def __init__(self, tokenizer: Tokenizer, max_length: int) -> None:
        """Take a tokenizer with a pair template; ``max_length`` counts special tokens and is at least 16."""
        if max_length < 16:
            raise ValueError(f"max_length is {max_length}; a context and a response need at least 16 tokens")
        tokenizer.no_truncation()
        tokenizer.no_padding()
        # A dialogue that contains "[SEP]" or "</s>" is text that says so, not a new segment.
        tokenizer.encode_special_tokens = True
        self.tokenizer = tokenizer
        self.max_length = max_length
        self._special = tokenizer.num_special_tokens_to_add(True)

    def encode(self, dialogues: Sequence[Dialogue]) -> list[Encoded]:
        """Return one ``Encoded`` a dialogue, in order; tokenising runs on all cores."""
        encodings = self.tokenizer.encode_batch_fast([render(dialogue) for dialogue in dialogues])
        return [
            _pack(encoding) if len(encoding) <= self.max_length else self._shorten(dialogue, len(encoding))
            for dialogue, encoding in zip(dialogues, encodings, strict=True)
        ]

    def _shorten(self, dialogue: Dialogue, full_length: int) -> Encoded:
        room = self.max_length - self._special
        response = normalise(dialogue.response)
        response_length = self._length(response)
        kept = self._newest(dialogue.context, room - response_length)
        context = render_context(kept)
        # Where even the newest turn does not fit beside the response, the response gives way, down to half.
        first = self._cut_middle(context, room - min(response_length, max(room // 2, room - self._length(context))))
        second = self._cut_middle(response, room - len(first))
        pair = self.tokenizer.post_process(first, second, True)
        return _pack(pair, cut_turns=len(dialogue.context) - len(kept), cut_tokens=max(full_length - len(pair.ids), 0))

    def _newest(self, turns: tuple[Turn, ...], room: int) -> tuple[Turn, ...]:
        """Return as many of the newest turns as have at most ``room`` tokens together; at least one turn."""
        first = len(turns) - 1
        used = self._length(render_context(turns[first:]))
        while first > 0:
            used += self._length(render_context(turns[first - 1 : first]) + "\n")
            if used > room:
                break
            first -= 1
        # Joined lines may tokenise to a few more tokens than the lines one by one.
        while first < len(turns) - 1 and self._length(render_context(turns[first:])) > room:
            first += 1
        return turns[first:]

    def _cut_middle(self, text: str, length: int) -> Encoding:
        """Return the tokens of ``text``, at most ``length`` of them: the first half and the last."""
        head = self._tokens(text)
        if len(head) <= length:
            return head
        tail = self._tokens(text)
        head.truncate(length - length // 2, direction="right")
        tail.truncate(length // 2, direction="left")
        return head.merge([head, tail], growing_offsets=False)

    def _length(self, text: str) -> int:
        return len(self._tokens(text))

    def _tokens(self, text: str) -> Encoding:
        return self.tokenizer.encode(text, add_special_tokens=False)


def _pack(encoding: Encoding, *, cut_turns: int = 0, cut_tokens: int = 0) -> Encoded:
    ids = np.asarray(encoding.ids, dtype=np.int32)
    return Encoded(ids=ids, first_segment=len(ids) - sum(encoding.type_ids), cut_turns=cut_turns, cut_tokens=cut_tokens)
