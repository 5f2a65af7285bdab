"""Counter-examples: replies that no corpus of good dialogues holds, with the most that they may score.

A judge's labels of real dialogues never show cruelty, gibberish or "lol", so a student of them has no opinion there.
The ceilings come from the rubric ("cold, mocking or hurtful" is low in sensibility, "senseless" in rationality), not
from a judge's labels, and the model card says so.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files

import numpy as np

from distill.robustness.kinds import CEILINGS
from scorer.dialogue import Dialogue, Turn, content_hash
from scorer.engines.base import Scores

_SHARES = {"hostile": 4, "contempt": 4, "dismissive": 3, "echo": 3, "filler": 2, "unrelated": 6}  # of the others 1 each
_QUOTE = "{quote}"


@cache
def wordings(kind: str) -> tuple[str, ...]:
    """Return the replies written for a kind, from ``wordings/KIND.txt``."""
    return tuple((files("distill.robustness") / "wordings" / f"{kind}.txt").read_text("utf-8").splitlines())


def counterexamples(
    dialogues: Sequence[Dialogue], count: int, *, seed: int, without: Sequence[str] = ()
) -> tuple[list[Dialogue], Scores]:
    """Return ``count`` of the dialogues with their response replaced by a bad one, and its ceilings, (count, 2).

    The kinds take turns by their shares, ``without`` some; contexts and wordings are drawn with ``seed``.
    """
    draw = random.Random(seed)
    kinds = [kind for kind in CEILINGS if kind not in without]
    weights = [_SHARES.get(kind, 1) for kind in kinds]
    made: list[Dialogue] = []
    ceilings = np.empty((count, 2), dtype=np.float32)
    for row, kind in enumerate(draw.choices(kinds, weights, k=count)):
        dialogue = draw.choice(dialogues)
        turns = (*dialogue.context, Turn("assistant", _reply(kind, dialogue, dialogues, draw)))
        made.append(replace(dialogue, id=content_hash(turns), turns=turns, labels=None))
        ceilings[row] = CEILINGS[kind]
    return made, ceilings


def _reply(kind: str, dialogue: Dialogue, dialogues: Sequence[Dialogue], draw: random.Random) -> str:
    if kind in _MADE:
        return _MADE[kind](dialogue, draw)
    if kind == "unrelated":
        return draw.choice(dialogues).response
    reply = draw.choice(wordings(kind))
    if kind == "filler" and draw.random() < 0.3:
        reply = " ".join((reply, *draw.choices(wordings(kind), k=draw.randint(1, 2))))
    return reply.replace(_QUOTE, _some_words(_said(dialogue), draw))


def _said(dialogue: Dialogue) -> str:
    """Return what the person said last."""
    return next((turn.content for turn in reversed(dialogue.context) if turn.role == "user"), dialogue.response)


def _some_words(text: str, draw: random.Random, least: int = 2, most: int = 8) -> str:
    words = text.split()
    length = min(len(words), draw.randint(least, most))
    start = draw.randint(0, len(words) - length)
    return " ".join(words[start : start + length])


def _echo(dialogue: Dialogue, draw: random.Random) -> str:
    said = _said(dialogue)
    part = _some_words(said, draw, 4, 30)
    return draw.choice((said, said, part, f"{part}?", f"you said {part}", f"{part}, {part}", f'"{said}"', f"so {said}"))


def _loop(dialogue: Dialogue, draw: random.Random) -> str:
    response = _some_words(dialogue.response, draw, 2, 9)
    phrase = draw.choice((draw.choice(wordings("loop")), response, _some_words(_said(dialogue), draw)))
    return draw.choice((" ", ". ", ", ", "! ", " ... ")).join([phrase] * draw.randint(3, 20))


def _letters(dialogue: Dialogue, draw: random.Random) -> str:
    alphabet = draw.choice(
        (string.ascii_lowercase, "asdfghjkl;", "qwertyuiop", "aeiou", string.ascii_letters + string.digits, "hjkl!?#$%")
    )
    words = ["".join(draw.choices(alphabet, k=draw.randint(1, 11))) for _ in range(draw.randint(1, 16))]
    if draw.random() < 0.3:  # the letters of a real response, shuffled within or between its words
        words = ["".join(draw.sample(word, len(word))) for word in dialogue.response.split()]
    return " ".join(words)


_MADE: dict[str, Callable[[Dialogue, random.Random], str]] = {"echo": _echo, "loop": _loop, "letters": _letters}
