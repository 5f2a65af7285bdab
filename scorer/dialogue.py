"""The record that everything else passes around, and the only way from a dialogue to text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scorer.inputs.notes import PLAIN, Notes
from scorer.text import digest, fingerprint, letters, normalise

HEADS = ("sensibility", "rationality")
"""The two scores, in the order of every array, column and model output of this project."""

SCORE_RANGE = (0.0, 10.0)
"""Lowest and highest score, of the judge and of the scorer."""

ROLES = ("system", "user", "assistant", "tool")
"""Who speaks in a turn."""

TEMPLATE_VERSION = 1
"""Number of the dialogue -> text rule below. A bundle trained with another one must not score with this one."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn: who speaks, one of ``ROLES``, and what is said."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Labels:
    """A judge's scores, each from 0 to 10, and what the input says of the judge."""

    sensibility: float
    rationality: float
    judge: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialogue:
    """A response and its context. The last turn is the assistant's response that is scored.

    ``conversation`` is the key of the conversation that this dialogue is a prefix of; prefixes of one conversation
    share it. ``synthetic`` says that a model wrote all of it, as the record tells. ``source`` and ``line`` say where
    the record came from, ``notes`` what reading it noticed, and ``record`` is the decoded record where the corpus was
    asked to keep it; the four take no part in equality.
    """

    id: str
    turns: tuple[Turn, ...]
    conversation: str
    category: str | None = None
    labels: Labels | None = None
    synthetic: bool = False
    source: str = field(default="", compare=False)
    line: int = field(default=0, compare=False)
    notes: Notes = field(default=PLAIN, compare=False, repr=False)
    record: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    @property
    def context(self) -> tuple[Turn, ...]:
        """The turns before the response, oldest first."""
        return self.turns[:-1]

    @property
    def response(self) -> str:
        """The text that is scored."""
        return self.turns[-1].content


def content_hash(turns: tuple[Turn, ...]) -> str:
    """Return the hash of roles and contents, 24 hex digits: the id of a dialogue that has none."""
    return digest([part for turn in turns for part in (turn.role, turn.content)])


def conversation_key(turns: tuple[Turn, ...]) -> str:
    """Return the key that all prefixes of a conversation share: of the first user turn and what stands before it.

    A system prompt alone is shared by many conversations. A turn without letters counts by its normalised text, or all
    that begin with an emoji were one conversation.
    """
    parts = []
    for turn in turns:
        text = normalise(turn.content)
        parts.append(letters(text) or text)
        if turn.role == "user":
            break
    return digest(parts)


def training_hash(dialogue: Dialogue) -> str:
    """Return the hash by which a bundle remembers a training dialogue, whatever its spelling or spacing."""
    return fingerprint(turn.content for turn in dialogue.turns)


def render_context(turns: tuple[Turn, ...]) -> str:
    """Return context turns as text, one ``role: content`` per line, oldest first."""
    return "\n".join(f"{turn.role}: {normalise(turn.content)}" for turn in turns)


def render(dialogue: Dialogue) -> tuple[str, str]:
    """Return the text pair that is tokenised: the context with its roles, and the response.

    This is template version ``TEMPLATE_VERSION``; whoever changes what it returns raises that number.
    """
    return render_context(dialogue.context), normalise(dialogue.response)
