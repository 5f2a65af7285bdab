"""The text of a reply -> its verdict, two whole numbers, or the reason why it has none; nothing is ever guessed."""

from __future__ import annotations

import ast
import json
import re
import warnings
from dataclasses import dataclass
from typing import Any

from distill.judge.rubric import SCALE
from scorer.dialogue import HEADS
from scorer.inputs.records.label_text import scores_in_text

MAX_REPLY_CHARACTERS = 20_000
"""A verdict has fifty; more after the thinking is no verdict, and looking for one in it would only cost time."""

EMPTY = "empty"
"""The reason of a reply that holds no text behind what was thought."""

MORE_TOKENS = "raise --max-tokens"


@dataclass(eq=False)
class ReplyError(ValueError):
    """A reply holds no judgement: a stable ``reason`` in snake_case for counting, and a ``detail`` for people."""

    reason: str
    detail: str


def read_judgement(reply: str, *, cut: bool = False) -> tuple[int, int]:
    """Return (sensibility, rationality), whole numbers from 0 to 10, or raise ReplyError.

    A verdict is one object with both, as JSON or as Python writes it, alone, in prose or in a code fence, or the
    published form ("- Rationality: 8 - Sensibility: 5"). What a model thinks aloud first does not count, and verdicts
    that differ are none. ``cut`` says that the reply ran into its limit of tokens: then it counts only if it is one
    complete object and nothing else, since all else may be a draft.
    """
    text = spoken(reply, cut=cut).strip()
    if not text:
        raise ReplyError(EMPTY, "nothing but white space, expected one JSON object")
    if len(text) > MAX_REPLY_CHARACTERS:
        raise ReplyError("too_long", f"{len(text)} characters, expected one JSON object")
    found, rest, count = _objects(_decoded(text))
    if cut and (count != 1 or rest.strip()):
        raise ReplyError("no_scores", f"cut off, and not one JSON object alone; {MORE_TOKENS}")
    if _BROKEN.search(_FORM.sub("", rest)):
        raise ReplyError("no_scores", "an object with scores that is broken or breaks off")
    found |= _in_prose(rest, found)
    if not found:
        raise ReplyError("no_scores", "no JSON object with both scores")
    if len(found) > 1:
        raise ReplyError("ambiguous", f"{len(found)} different judgements in one reply")
    sensibility, rationality = (_level(head, value) for head, value in zip(HEADS, found.pop(), strict=True))
    return sensibility, rationality


_TAG = (
    r"<\s*+{slash}(?:\w+:)?(?:think|thinking|thoughts?|reasoning|analysis|scratchpad|reflection)\b[^>\n]{{0,80}}>"
    r"|\[{slash}THINK\]|◁{slash}think▷|<\|{end}_of_thought\|>"
)
_THOUGHT = re.compile(_TAG.format(slash="", end="begin"), re.IGNORECASE)
_END_OF_THOUGHT = re.compile(_TAG.format(slash=r"/\s*+", end="end"), re.IGNORECASE)
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)[^<]{0,200}<\|message\|>|\A(analysis)(?=[A-Z])|assistant(final)(?=\W|\Z)")
"""gpt-oss's "harmony" form, and what is left of it where a server strips the marks: "analysis… assistantfinal…"."""
_END_OF_MESSAGE = re.compile(r"<\|(?:end|return|start|call)\|>")


def spoken(reply: str, *, cut: bool = False) -> str:
    """Return what stands behind all thinking; ReplyError if the thinking never ends."""
    channels = list(_CHANNEL.finditer(reply))
    if channels:
        final = "final" in channels[-1].groups()
        reply = _END_OF_MESSAGE.split(reply[channels[-1].end() :], maxsplit=1)[0] if final else "<think>"
    ends = list(_END_OF_THOUGHT.finditer(reply))
    text = reply[ends[-1].end() :] if ends else reply
    if _THOUGHT.search(text):
        raise ReplyError(EMPTY, "a thought without an end" + (f"; {MORE_TOKENS}" if cut else ""))
    return text


def _decoded(text: str) -> str:
    """Return the text in a JSON string: some servers encode the reply twice."""
    if text[0] == text[-1] == '"':
        try:
            return str(json.loads(text))
        except ValueError:
            return text
    return text.replace('\\"', '"') if _ENCODED.search(text) else text


_ENCODED = re.compile(r"""\A\W*\{\s*\\+"|\A```\w*\s*"\{""")
_FORM = re.compile(r"\{[^{}\d]*+\}")  # what the prompt shows, with N for the numbers: no verdict, and none broken


def _once(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    value = {str(key).strip().lower(): entry for key, entry in pairs}
    if len(value) < len(pairs):
        raise ReplyError("ambiguous", "an object names a key twice")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_once)
_FLAT = re.compile(r"\{[^{}]*+\}")
_BROKEN = re.compile(r"""\{[^{}]*?["'](?:sensib|ratio)""", re.IGNORECASE)


def _objects(text: str) -> tuple[set[tuple[str, ...]], str, int]:
    """Return the scores, as text, of every object that has one of them, the text without them, and their number."""
    found, rest, kept = set(), [], 0
    start = text.find("{")
    while start >= 0:
        end = start + 1
        value, after = _object(text, start)
        if any(head in value for head in HEADS):
            found.add(tuple(_number(head, value.get(head)) for head in HEADS))
            rest.append(text[kept:start])
            end = kept = after
        start = text.find("{", end)
    return found, "".join([*rest, text[kept:]]), len(rest)


def _object(text: str, start: int) -> tuple[dict[str, Any], int]:
    """Return the object that begins at a brace, and where it ends; an empty one where there is none."""
    try:
        return _DECODER.raw_decode(text, start)
    except ReplyError:
        raise
    except (ValueError, RecursionError):
        pass  # a brace of prose, an object that breaks off, or one that Python reads and JSON does not
    flat = _FLAT.match(text, start)
    if flat is None or not any(head in flat[0].lower() for head in HEADS):
        return {}, start
    try:
        with warnings.catch_warnings(action="ignore"):  # of escapes that Python does not know
            body = ast.parse(flat[0], mode="eval").body
        if not isinstance(body, ast.Dict) or None in body.keys:
            return {}, start
        pairs = [
            (ast.literal_eval(key), ast.literal_eval(value))
            for key, value in zip(body.keys, body.values, strict=True)
            if key is not None
        ]
    except ReplyError:
        raise
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return {}, start
    return _once(pairs), flat.end()


def _in_prose(text: str, objects: set[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """Return the verdicts that the published form makes of a text, beside those of objects."""
    try:
        first, second = scores_in_text(text)
    except ValueError as error:
        if objects:  # the scale, said in words around the verdict
            return set()
        raise ReplyError("ambiguous", str(error)) from None
    if not objects:
        return {(one, other) for one in first for other in second}
    # A head that prose gives another number than the object does makes a second verdict of it.
    return {(one, other) for a, b in objects for one in first or {a} for other in second or {b}}


def _number(head: str, value: Any) -> str:
    if isinstance(value, str) and (whole := re.fullmatch(r"\s*(-?\d{1,9})(?:\s*(?:/|out of)\s*10)?\s*", value)):
        return whole[1]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9:
        return f"{value:.12g}"  # 8 and 8.0 are the same
    raise ReplyError("no_scores", f"{head} is {ascii(value)[:40]}, expected a whole number from 0 to 10")


def _level(head: str, value: str) -> int:
    number = float(value)
    if number not in SCALE:
        expected = "a whole number" if 0 <= number <= SCALE[-1] else "a number"
        raise ReplyError("out_of_range", f"{head} is {value}, expected {expected} from 0 to 10")
    return int(number)
