"""A dialogue as a causal language model reads it: the tokenizer's chat template, and token ids cut to length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from moe.errors import ModelError
from moe.models import loading
from moe.sets.rendering import RefusedError, RenderError, renderer
from scorer.dialogue import Dialogue, Turn
from scorer.inputs.parse import to_messages

DEFAULT_TEMPLATE = (
    "{% if bos_token %}{{ bos_token }}{% endif %}"
    "{% for message in messages %}"
    "{{ message['role'] | capitalize }}: {{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""The template of a tokenizer that brings none: one line per turn, ``User: ...``, ``Assistant: ...`` and the end token.

It is saved with every expert and mixture, so that `apply_chat_template` gives later what was trained on.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """Token ids of a dialogue, of which the first ``prompt`` are context; the rest is the response that is learnt.

    ``cut_turns`` of the oldest turns were left out for want of room. ``synthetic`` says that a model wrote the
    dialogue.
    """

    ids: npt.NDArray[np.int32]
    prompt: int
    conversation: str
    cut_turns: int
    synthetic: bool = False

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A dialogue that cannot be rendered, and why: a ``reason`` for counting, a ``detail`` for people."""

    reason: str
    detail: str


class Chat:
    """Turns dialogues into token ids of one tokenizer.

    Where a dialogue is longer than ``max_length`` its oldest turns are left out, up to the next user turn, system
    turns at its beginning excepted. What does not fit even so is dropped whole: half a response teaches to stop in
    the middle, and half a question to answer what was not asked.
    """

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        """Take a Hugging Face tokenizer; ModelError if it cannot end a response."""
        if tokenizer.eos_token_id is None:
            raise ModelError(f"{tokenizer.name_or_path}: its tokenizer has no end token, so no response would end")
        if not tokenizer.chat_template:
            tokenizer.chat_template = DEFAULT_TEMPLATE
        with loading(f"{tokenizer.name_or_path}: its chat template cannot be used"):
            self._template = str(tokenizer.get_chat_template())
            self._tokens = {name: _texts(token) for name, token in tokenizer.special_tokens_map.items()}
        self.tokenizer = tokenizer
        self.max_length = max_length

    @property
    def pad_id(self) -> int:
        """The id that fills up a batch; it is masked, so the end token serves where there is no other."""
        pad = self.tokenizer.pad_token_id
        return int(self.tokenizer.eos_token_id if pad is None else pad)

    def example(self, dialogue: Dialogue) -> Example | Dropped:
        """Return a dialogue with its response, to learn from."""
        return self._encode(dialogue, with_response=True, room=self.max_length)

    def prompt(self, dialogue: Dialogue, room: int) -> Example | Dropped:
        """Return a dialogue up to where the response begins, in at most ``room`` tokens."""
        return self._encode(dialogue, with_response=False, room=room)

    def _encode(self, dialogue: Dialogue, *, with_response: bool, room: int) -> Example | Dropped:
        refused: RefusedError | None = None
        shortest = 0
        for start, turns in _shorter_and_shorter(dialogue.turns):
            try:
                prompt = self._render(turns[:-1], prompt=True)
                response = self._response(turns, prompt) if with_response else []
            except RefusedError as error:
                refused = error
                continue
            context = self._ids(prompt)
            shortest = len(context) + len(response)
            if shortest <= room:
                ids = np.array(context + response, dtype=np.int32)
                return Example(ids, len(context), dialogue.conversation, start, dialogue.synthetic)
        if refused is not None and not shortest:
            return Dropped("template_refused", " ".join(str(refused).split()))
        return Dropped("too_long", f"{shortest} tokens with the last user turn alone, at most {room} fit")

    def _response(self, turns: Sequence[Turn], prompt: str) -> list[int]:
        """Return the ids of the response, end token included; ModelError if the template cannot part it off."""
        whole = self._render(turns, prompt=False)
        if not whole.startswith(prompt):
            raise ModelError(
                f"{self.tokenizer.name_or_path}: its chat template renders the context of a response differently "
                "with and without the response, so the loss cannot be kept to the response; set another chat_template"
            )
        ids = self._ids(whole[len(prompt) :].rstrip())
        ends = ids and ids[-1] in self.tokenizer.all_special_ids
        return ids if ends else [*ids, int(self.tokenizer.eos_token_id)]

    def _render(self, turns: Sequence[Turn], *, prompt: bool) -> str:
        # Qwen3's template would have the model think first; templates that do not know the word pass over it.
        words = {**self._tokens, "add_generation_prompt": prompt, "enable_thinking": False}
        try:
            return renderer().render(self._template, to_messages(turns), words)
        except RenderError as error:
            raise ModelError(f"{self.tokenizer.name_or_path}: its chat template cannot be run ({error})") from None

    def _ids(self, text: str) -> list[int]:
        # The template brings the special tokens.
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def _texts(token: Any) -> Any:
    return list(map(str, token)) if isinstance(token, (list, tuple)) else str(token)


def _shorter_and_shorter(turns: Sequence[Turn]) -> Iterator[tuple[int, tuple[Turn, ...]]]:
    """Yield how many turns are left out and the rest: all of them, then from each later user turn of the context."""
    head = 0
    while turns[head].role == "system":
        head += 1
    yield 0, tuple(turns)
    for start in range(head + 1, len(turns) - 1):
        if turns[start].role == "user":
            yield start - head, (*turns[:head], *turns[start:])
