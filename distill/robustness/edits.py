"""Edits that should not change a score: spelling, emoji, names, casing, a closing word of thanks.

In training, some dialogues are read in an edited form with the target of the unedited one.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace

from scorer.dialogue import Dialogue, Turn, content_hash

_EMOJI = [
    "😀",
    "🙂",
    "😢",
    "😭",
    "❤️",
    "🙏",
    "😊",
    "😅",
    "👍",
    "🥺",
    "😡",
    "🎉",
    "💔",
    "🤗",
    "😬",
    ":)",
    ":(",
    ":D",
    "<3",
]
_NAMES = [
    "anna",
    "ben",
    "carlos",
    "dana",
    "eli",
    "fatima",
    "george",
    "hana",
    "ivan",
    "julia",
    "kofi",
    "lena",
    "maria",
    "noah",
    "omar",
    "priya",
    "ruth",
    "sam",
    "tom",
    "wei",
]
_THANKS = ("thanks", "thank you", "thanks!", "thx", "thanks for telling me", "thank you for sharing.", "cheers")
_MISSPELT = dict(
    pair.split("=")
    for pair in [
        "you=u",
        "are=r",
        "really=realy",
        "because=becuase",
        "definitely=definately",
        "their=thier",
        "believe=beleive",
        "friend=freind",
        "sorry=sory",
        "happened=happend",
        "that=taht",
        "the=teh",
        "your=ur",
        "with=wiht",
        "going=goin",
        "congratulations=congradulations",
        "weird=wierd",
        "feel=feal",
        "know=kno",
        "about=abuot",
        "people=ppl",
        "great=gr8",
        "too=to",
        "have=hav",
    ]
)


def edit(dialogue: Dialogue, draw: random.Random) -> Dialogue:
    """Return a dialogue with one to three edits, each of one of its turns."""
    turns = list(dialogue.turns)
    for _ in range(draw.randint(1, 3)):
        place = draw.choice((len(turns) - 1, draw.randrange(len(turns))))
        change = draw.choice(_EDITS)
        turns[place] = Turn(turns[place].role, change(turns[place].content, draw) or turns[place].content)
    return replace(dialogue, id=content_hash(tuple(turns)), turns=tuple(turns))


def _spelling(text: str, draw: random.Random) -> str:
    """Misspell some words: known misspellings, or one letter dropped, doubled or swapped."""
    words = text.split(" ")
    for place in draw.sample(range(len(words)), max(1, len(words) // draw.randint(5, 12))):
        word = words[place]
        if word.lower() in _MISSPELT:
            words[place] = _MISSPELT[word.lower()]
        elif len(word) > 3 and word.isalpha():
            at = draw.randrange(1, len(word) - 1)
            changed = (
                word[:at] + word[at + 1 :],
                word[:at] + word[at] + word[at:],
                word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            )
            words[place] = draw.choice(changed)
    return " ".join(words)


def _casing(text: str, draw: random.Random) -> str:
    return draw.choice((str.upper, str.lower, str.title, str.swapcase))(text)


def _emoji(text: str, draw: random.Random) -> str:
    chosen = " ".join(draw.choices(_EMOJI, k=draw.randint(1, 3)))
    return draw.choice((f"{text} {chosen}", f"{text}{chosen}", f"{chosen} {text}"))


def _names(text: str, draw: random.Random) -> str:
    """Address somebody by name, or change a name that is there."""
    name = draw.choice(_NAMES)
    there = "|".join(_NAMES)
    if re.search(rf"\b({there})\b", text, re.IGNORECASE):
        return re.sub(rf"\b({there})\b", name, text, flags=re.IGNORECASE)
    return draw.choice((f"{name}, {text}", f"hi {name}! {text}", f"{text.rstrip(' .!')}, {name}."))


def _thanks(text: str, draw: random.Random) -> str:
    return f"{text} {draw.choice(_THANKS)}"


def _punctuation(text: str, draw: random.Random) -> str:
    return draw.choice((text.rstrip(" .!"), text.replace("'", ""), f"{text}!!", text.replace(",", ""), f"{text} ..."))


_EDITS: tuple[Callable[[str, random.Random], str], ...] = (
    _spelling,
    _spelling,
    _casing,
    _emoji,
    _names,
    _thanks,
    _punctuation,
)
