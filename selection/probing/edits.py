"""Edits of a text that leave its sense as it was."""

from __future__ import annotations

import re
from random import Random

_WORD = re.compile(r"[A-Za-z]{4,}")
_WORDS_A_SLIP = 10


def misspelt(text: str, rng: Random) -> str:
    """Return a text with one slip of the keyboard in every ten words, at least one: letters swapped, lost or doubled.

    First letters stay, as do words of fewer than four letters.
    """
    words = list(_WORD.finditer(text))
    slips = min(len(words), max(1, len(text.split()) // _WORDS_A_SLIP))
    for word in sorted(rng.sample(words, slips), key=lambda found: -found.start()):
        at = word.start() + rng.randint(1, len(word[0]) - 2)
        first, second = text[at], text[at + 1]
        slip = rng.choice([second + first, second, first + first + second])
        text = text[:at] + slip + text[at + 2 :]
    return text


def recased(text: str, rng: Random) -> str:
    """Return a text in capitals, in small letters, or with each word's first letter large."""
    return rng.choice([str.upper, str.lower, str.title])(text)
