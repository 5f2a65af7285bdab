"""What a probe tries: kinds of replies that no selection should keep, kinds of edits that should change none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random

from scorer.dialogue import Dialogue, Turn
from selection.errors import ProbeError
from selection.probing import edits

_WORDINGS = Path(__file__).parent / "wordings"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm", "1234567890")
_TURNS_OF_A_LOOP = (4, 14)


@dataclass(frozen=True, slots=True)
class Trial:
    """A dialogue to score in place of a real one, and the one it is held against, None for the real one.

    ``wording`` names the text of ours that it is made from: trials that share it are not independent.
    """

    dialogue: Dialogue
    wording: str
    against: Dialogue | None = None


Maker = Callable[[Sequence[Dialogue], str, Random], list[Trial]]
"""Makes the trials of one kind, one for each dialogue; of one dialogue alone there may be none."""


@cache
def wordings(kind: str) -> tuple[str, ...]:
    r"""Return the wordings of a kind, one per line of its file; ``\n`` in it is a line break."""
    lines = (_WORDINGS / f"{kind}.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line.replace("\\n", "\n") for line in lines if line.strip())


def with_response(dialogue: Dialogue, text: str) -> Dialogue:
    """Return a dialogue with another response."""
    return replace(dialogue, turns=(*dialogue.context, Turn("assistant", text)))


def trials_of(kind: str, dialogues: Sequence[Dialogue], seed: int) -> list[Trial]:
    """Return the trials of one kind, the same for the same dialogues and seed; ProbeError for no kind."""
    if kind not in KINDS:
        raise ProbeError(f"{kind!r} is no kind of a probe, expected one of {', '.join(KINDS)}")
    return KINDS[kind](dialogues, kind, Random(f"{seed}:{kind}"))


def _drawn(kind: str, count: int, rng: Random) -> list[str]:
    """Return wordings of a kind, each as often as any other, to within one."""
    texts = wordings(kind)
    rounds = (rng.sample(texts, len(texts)) for _ in range(-(-count // len(texts))))
    return [text for drawn in rounds for text in drawn][:count]


def _written(dialogues: Sequence[Dialogue], kind: str, rng: Random) -> list[Trial]:
    texts = _drawn(kind, len(dialogues), rng)
    return [Trial(with_response(one, text), text) for one, text in zip(dialogues, texts, strict=True)]


def _gibberish(dialogues: Sequence[Dialogue], kind: str, rng: Random) -> list[Trial]:
    """Half written, half random: letters, and runs over the keyboard."""
    found = _written(dialogues, kind, rng)
    for row in range(1, len(found), 2):
        words = [_random_word(rng, row) for _ in range(rng.randint(2, 14))]
        found[row] = Trial(with_response(dialogues[row], " ".join(words)), f"random {row}")
    return found


def _random_word(rng: Random, row: int) -> str:
    letters = _LETTERS if row % 4 == 1 else rng.choice(_KEYS)
    return "".join(rng.choices(letters, k=rng.randint(2, 9)))


def _echo(dialogues: Sequence[Dialogue], kind: str, _: Random) -> list[Trial]:
    """The speaker's last turn, word for word."""
    echoes = [with_response(one, one.context[-1].content) for one in dialogues]
    return [Trial(echo, f"{kind} {row}") for row, echo in enumerate(echoes)]


def _unrelated(dialogues: Sequence[Dialogue], kind: str, rng: Random) -> list[Trial]:
    """The response of another dialogue, each used once."""
    if len(dialogues) < 2:
        return []
    by = rng.randrange(1, len(dialogues))
    responses = [dialogues[(row + by) % len(dialogues)].response for row in range(len(dialogues))]
    return [Trial(with_response(one, text), f"{kind} {text}") for one, text in zip(dialogues, responses, strict=True)]


def _loop(dialogues: Sequence[Dialogue], kind: str, rng: Random) -> list[Trial]:
    """One phrase over and over."""
    texts = _drawn(kind, len(dialogues), rng)
    looped = (" ".join([text] * rng.randint(*_TURNS_OF_A_LOOP)) for text in texts)
    made = map(with_response, dialogues, looped)
    return [Trial(one, text) for one, text in zip(made, texts, strict=True)]


def _edited(edit: Callable[[str, Random], str]) -> Maker:
    def make(dialogues: Sequence[Dialogue], kind: str, rng: Random) -> list[Trial]:
        changed = [with_response(one, edit(one.response, rng)) for one in dialogues]
        return [Trial(one, f"{kind} {row}") for row, one in enumerate(changed)]

    return make


def _closing(dialogues: Sequence[Dialogue], kind: str, rng: Random) -> list[Trial]:
    """The response with a wording behind it."""
    texts = _drawn(kind, len(dialogues), rng)
    return [
        Trial(with_response(one, f"{one.response} {text}"), text) for one, text in zip(dialogues, texts, strict=True)
    ]


def _names(dialogues: Sequence[Dialogue], kind: str, rng: Random) -> list[Trial]:
    """The speaker is addressed by one name, against the same response with another one."""
    found = []
    texts = wordings(kind)
    for one in dialogues:
        first, second = rng.sample(texts, 2)
        before, after = (with_response(one, f"{name}, {one.response}") for name in (first, second))
        found.append(Trial(after, second, before))
    return found


REPLIES: dict[str, Maker] = {
    "hostile": _written,
    "contempt": _written,
    "dismissive": _written,
    "gibberish": _gibberish,
    "filler": _written,
    "echo": _echo,
    "unrelated": _unrelated,
    "refusal": _written,
    "loop": _loop,
    "language": _written,
    "injection": _written,
}
"""Kinds whose reply takes the response's place: what counts is the share that is kept."""

EDITS: dict[str, Maker] = {
    "spelling": _edited(edits.misspelt),
    "casing": _edited(edits.recased),
    "emoji": _closing,
    "names": _names,
    "thanks": _closing,
}
"""Kinds that edit the response: what counts is the share of decisions that change."""

KINDS = {**REPLIES, **EDITS}
