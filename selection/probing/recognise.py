"""Which kind of bad reply a response is, where its words alone tell: the wordings of the probe, and what they share."""

from __future__ import annotations

import re
from functools import cache

from scorer.dialogue import Dialogue
from scorer.text import letters, normalise
from selection.probing.kinds import wordings

RECOGNISED = ("hostile", "filler", "echo", "loop", "refusal")
"""Kinds that can be told by their words; contempt, dismissal and injection count as hostile, as do insults."""

_WRITTEN = {
    "hostile": ("hostile", "contempt", "dismissive", "injection"),
    "refusal": ("refusal",),
    "filler": ("filler",),
}
_FEW = 3
_LONG = 4
"""A wording of so many words may stand inside a longer response; a shorter one is a sentence of its own."""
_LOOP = 3

_HOSTILE = re.compile(
    r"\b(?:shut up|(?:fuck|screw) (?:you|off)|go to hell|drop dead|piss off|get lost|kill yourself|i hate you"
    r"|i despise you|you make me sick|serves you right|nobody asked you"
    r"|you are(?: such)?(?: a| an)?(?: complete| total| absolute| real| fucking)? "
    r"(?:idiot|moron|pathetic|disgusting|loser|imbecile|bastard))\b"
)
_REFUSAL = re.compile(
    r"\bas an? (?:ai|artificial intelligence|large language model|language model)\b"
    r"|\bi am (?:just |only )?an? (?:ai|bot|language model|virtual assistant|automated system)\b"
    r"|\bi (?:can ?not|am unable to|will not) (?:assist|help|continue|comply)(?: you)?(?: with)?"
    r" (?:that|this|the) request\b"
)
_SENTENCE = re.compile(r"[.!?]+")


def kind_of(dialogue: Dialogue) -> str | None:
    """Return which of ``RECOGNISED`` a dialogue's response is, None where its words do not tell.

    What is None may be bad all the same: this knows wordings, no meaning.
    """
    text = normalise(dialogue.response)
    sentences = [found for part in _SENTENCE.split(text) if (found := _words(part))]
    words = [word for sentence in sentences for word in sentence.split()]
    if _HOSTILE.search(text) or _holds("hostile", sentences, words):
        return "hostile"
    if _REFUSAL.search(text) or _holds("refusal", sentences, words):
        return "refusal"
    if len(words) < _FEW or all(sentence in _exactly("filler") for sentence in sentences):
        return "filler"
    if letters(text) in {letters(normalise(turn.content)) for turn in dialogue.context}:
        return "echo"
    return "loop" if _loops(words) else None


def _holds(kind: str, sentences: list[str], words: list[str]) -> bool:
    whole = f" {' '.join(words)} "
    return not _exactly(kind).isdisjoint([*sentences, " ".join(words)]) or any(
        f" {one} " in whole for one in _within(kind)
    )


@cache
def _exactly(kind: str) -> frozenset[str]:
    return frozenset(found for name in _WRITTEN[kind] for text in wordings(name) if (found := _words(text)))


@cache
def _within(kind: str) -> tuple[str, ...]:
    return tuple(one for one in _exactly(kind) if len(one.split()) >= _LONG)


def _words(text: str) -> str:
    """Return the words of a text, in small letters, with one space between."""
    return " ".join(re.findall(r"[\w']+", normalise(text)))


def _loops(words: list[str]) -> bool:
    """Whether one phrase of at most eight words, over and over, makes up the response."""
    return any(
        len(words) >= _LOOP * size and all(word == words[place % size] for place, word in enumerate(words))
        for size in range(1, 9)
    )
