"""What a model is asked for a dialogue: a frame that is always the same, and a request of situation, roles and region.

What a request takes from the corpus is its categories and lengths, never its text: nothing of it is sent, and nothing
of it can be copied.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from distill.judge.rubric import Check, Rubric, inert
from distill.synthesis.parse import ROLES, read_written
from distill.synthesis.plan import Cell, Style
from scorer.dialogue import Dialogue, Turn, conversation_key
from scorer.text import digest

PROMPT_VERSION = 2
"""Number of everything here that is sent; whoever changes it raises that number."""

_WORDINGS = Path(__file__).parent / "wordings"
_LONGEST_CATEGORY = 80

SYSTEM = """\
You write dialogues between two people for a collection of everyday conversations. A person tells about something that
happened; a listener answers. Both write as people do in a chat: plain, short, specific, with small details that only
this person would tell. No two dialogues begin alike, and none uses a stock phrase where a real one would do. Nobody is
an assistant or a machine, nobody is named after a role, and no text holds a placeholder, a stage direction or a label.

Reply with one JSON object and nothing else. Its one key is "exchanges": a list of objects, each with the keys "says",
the person's own words, and "answers", the listener's.
"""

WANTED = {
    "sensibility": "The listener's last answer feels with the person, warmly and about this very event. It explains "
    "nothing, advises nothing, asks nothing and solves nothing.",
    "both_high": "The listener's last answer feels with the person, warmly and about this very event, and it also "
    "thinks with them: it sees what matters here and asks, explains or helps in a way that fits this situation.",
    "rationality": "The listener's last answer thinks with the person: it sees what matters here and asks, explains "
    "or helps in a way that fits this situation. It is matter-of-fact and does not speak of feelings.",
    "both_low": "The listener's last answer is civil and passes over both the feeling and the matter: it hardly takes "
    "up what was told.",
}
"""What is asked of the last answer, by region."""

SCHEMA: dict[str, Any] = {
    "name": "dialogue",
    "strict": True,
    "schema": {
        "type": "object",
        "properties": {
            "exchanges": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {key: {"type": "string"} for key in ROLES},
                    "required": [*ROLES],
                    "additionalProperties": False,
                },
            }
        },
        "required": ["exchanges"],
        "additionalProperties": False,
    },
}
"""The reply as OpenAI's structured output wants it.

In pairs: a server that keeps to it can't give one speaker two turns in a row, or the last word to the wrong one.
"""


@dataclass(frozen=True)
class Writing(Rubric):
    """The frame of all requests, in the place where a judge has its rubric."""

    text: str = SYSTEM

    work: ClassVar[str] = "writing"
    answer_tokens: ClassVar[int] = 250

    @cached_property
    def hash(self) -> str:
        """The hash of everything that every request has in common, 24 hex digits."""
        return digest((str(PROMPT_VERSION), self.text, json.dumps(SCHEMA, sort_keys=True)))

    @cached_property
    def system(self) -> str:
        """The system message."""
        return self.text

    @property
    def schema(self) -> dict[str, Any]:
        """The form of the reply."""
        return SCHEMA

    @property
    def check(self) -> Check:
        """What a reply has to be."""
        return read_written

    def messages(self, dialogue: Dialogue) -> list[dict[str, str]]:
        """Return the messages of one request."""
        return [{"role": "system", "content": self.text}, {"role": "user", "content": dialogue.context[0].content}]


@dataclass(frozen=True, slots=True)
class Request:
    """One dialogue that is asked for: its cell, and the request in the place where a judge has a dialogue."""

    cell: Cell
    dialogue: Dialogue

    @property
    def prompt(self) -> str:
        """The hash of all that is sent."""
        return digest([text for message in Writing().messages(self.dialogue) for text in message.values()])


def requests_of(cells: Sequence[Cell], style: Style, seed: int) -> list[Request]:
    """Return what is asked for, one request per dialogue; those of a cell stay the same where it asks for more."""
    return [Request(cell, _request(cell, number, style, seed)) for cell in cells for number in range(cell.ask)]


def _request(cell: Cell, number: int, style: Style, seed: int) -> Dialogue:
    rng = Random(f"{seed}:{cell.category}:{cell.region}:{number}")
    speaker, listener = rng.choice(_lines("roles")).split(" | ")
    feeling = "" if cell.category is None else f" and feels: {inert(cell.category[:_LONGEST_CATEGORY])}"
    low, high = style.words
    text = (
        f"Write dialogue number {number + 1} of its kind. The person is {speaker} and writes about "
        f"{rng.choice(_lines('situations'))}{feeling}. The listener is {listener} and answers.\n"
        f"Exchanges: {rng.choice(style.turns) // 2}, each text of some {low} to {high} words.\n"
        f"{WANTED[cell.region]}"
    )
    turns = (Turn("user", text), Turn("assistant", f"{cell.region} {number + 1}"))
    name = digest((str(seed), str(cell.category), cell.region, str(number)))
    return Dialogue(id=name, turns=turns, conversation=conversation_key(turns), category=cell.category)


@cache
def _lines(name: str) -> tuple[str, ...]:
    return tuple((_WORDINGS / f"{name}.txt").read_text(encoding="utf-8").splitlines())
