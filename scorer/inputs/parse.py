"""One decoded record of any format -> a dialogue, or the reason why it is none; and a dialogue -> its record."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from scorer.dialogue import HEADS, SCORE_RANGE, Dialogue, Labels, Turn, content_hash, conversation_key
from scorer.inputs.label_text import scores_in_text
from scorer.settings import in_range
from scorer.text import normalise

LabelUse = Literal["ignore", "optional", "required"]
"""What to do with a judge's scores: ignore them, take them where there are some, or reject records without."""

MAX_TURN_CHARACTERS = 1_000_000
"""A longer turn is rejected: no dialogue has one, and it would cost more memory than a million normal ones."""

_NAMES_OF_ROLES = {
    "user": "user human prompter speaker",
    "assistant": "assistant gpt chatgpt bot model listener",
    "system": "system developer",
    "tool": "tool function",
}
_ROLES = {name: role for role, names in _NAMES_OF_ROLES.items() for name in names.split()}
_LAYOUTS = ({"messages"}, {"conversations"}, {"context", "response"}, {"instruction", "output"})
_LAYOUT_KEYS = set().union(*_LAYOUTS)
EXPECTED_KEYS = "messages or conversations or context, response or instruction, output"
_VISIBLE = re.compile(r"[!-~]")  # text that holds one of these has something visible, whatever its spelling


class RecordError(ValueError):
    """A record is no dialogue: a stable ``reason`` for counting and a ``detail`` for people."""

    def __init__(self, reason: str, detail: str) -> None:
        """Take a reason in snake_case and a detail that gives the value and what was expected."""
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that was not scored, and why.

    ``line`` is the line of a text file, the number of the element in a JSON array, or the row of a Parquet or
    Arrow file, from 1; 0 is the file as a whole. ``record`` is the beginning of the raw text.
    """

    source: str
    line: int
    reason: str
    detail: str
    id: str | None = None
    record: str = ""

    def __str__(self) -> str:
        """Return the one line that a person reads."""
        return f"{self.source}:{self.line}: {self.reason}: {self.detail}"


def parse_json(text: str) -> Any:
    """Return the value of one JSON text; RecordError ``broken_json`` where it has none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError("broken_json", json_fault(error)) from None


def json_fault(error: Exception) -> str:
    """Return one line that says what is wrong with a JSON text and where."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1}, expected one JSON object"
    if isinstance(error, RecursionError):
        return "nested too deeply, expected one JSON object with messages"
    return f"{error}, expected one JSON object"


def parse_record(value: Any, *, labels: LabelUse = "ignore", source: str = "", line: int = 0) -> Dialogue:
    """Return the dialogue in a decoded record of any form that is read; RecordError says why there is none."""
    if not isinstance(value, Mapping):
        raise RecordError("not_an_object", f"{_shown(value)}, expected a JSON object with messages")
    turns = until_response(_turns(value))
    conversation = _key(value, "conversation")
    return Dialogue(
        id=_key(value, "id") or content_hash(turns),
        turns=turns,
        conversation=conversation_key(turns) if conversation is None else conversation,
        category=_key(value, "category"),
        labels=None if labels == "ignore" else _labels(value, required=labels == "required"),
        source=source,
        line=line,
    )


def holds_dialogue(value: Any) -> bool:
    """Whether a decoded value has the keys of a record that is read, well filled or not."""
    return isinstance(value, Mapping) and any(keys <= value.keys() for keys in _LAYOUTS)


def until_response(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """Return the turns up to the last assistant turn, which is the response; check that there is a dialogue."""
    for number, turn in enumerate(turns, start=1):
        if not _VISIBLE.search(turn.content) and not normalise(turn.content):
            raise RecordError("empty_turn", f"turn {number} of {len(turns)} ({turn.role}) is empty, expected text")
    last = max((index for index, turn in enumerate(turns) if turn.role == "assistant"), default=-1)
    if last < 0:
        raise RecordError("no_response", f"{len(turns)} turns and no assistant turn, so there is nothing to score")
    if not any(turn.role == "user" for turn in turns[:last]):
        raise RecordError("one_speaker", "no user turn before the last assistant turn, expected two speakers")
    return turns[: last + 1]


def clean_text(value: Any, where: str) -> str:
    """Return text as it may enter a dialogue; RecordError for what no tokenizer or file can hold."""
    if not isinstance(value, str):
        raise RecordError("wrong_type", f"{where} is {_shown(value)}, expected text")
    if len(value) > MAX_TURN_CHARACTERS:
        raise RecordError("turn_too_long", f"{where} has {len(value)} characters, at most {MAX_TURN_CHARACTERS}")
    if "\x00" in value:
        raise RecordError("nul_byte", f"{where} holds a NUL character, expected text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            code = ord(value[error.start])
            raise RecordError("lone_surrogate", f"{where} holds half a surrogate pair (U+{code:04X})") from None
    return value.strip()


def to_messages(turns: Iterable[Turn]) -> list[dict[str, str]]:
    """Return turns as a record's ``messages``."""
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def to_record(dialogue: Dialogue, *, short: bool = False) -> dict[str, Any]:
    """Return a dialogue as a record of a file, in OpenAI's form: ``parse_record`` gives the same dialogue again.

    ``short`` leaves out the conversation where it follows from the first turn.
    """
    messages = to_messages(dialogue.turns)
    category = {} if dialogue.category is None else {"category": dialogue.category}
    if not short:
        return {"id": dialogue.id, "conversation": dialogue.conversation, **category, "messages": messages}
    named = dialogue.conversation != conversation_key(dialogue.turns)
    conversation = {"conversation": dialogue.conversation} if named else {}
    return {"id": dialogue.id, "messages": messages, **category, **conversation}


def _turns(record: Mapping[str, Any]) -> tuple[Turn, ...]:
    filled = {key for key in _LAYOUT_KEYS if record.get(key) is not None}
    for key in ("messages", "conversations"):
        if key in filled:
            return _messages(record[key], key)
    if {"context", "response"} <= filled:
        return _release(record["context"], record["response"])
    if filled == {"instruction", "output"}:
        return _alpaca(record)
    raise RecordError("no_messages", f"keys {_shown(sorted(map(str, record)))}, expected {EXPECTED_KEYS}")


def _messages(value: Any, key: str) -> tuple[Turn, ...]:
    if isinstance(value, Mapping):  # `datasets` may store a list of records as a record of lists
        columns = list(value.values())
        if all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
            value = [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    if not isinstance(value, list):
        raise RecordError("wrong_type", f"{key} is {_shown(value)}, expected a list of messages")
    return tuple(_turn(item, number) for number, item in enumerate(value, start=1))


def _turn(item: Any, number: int) -> Turn:
    if not isinstance(item, Mapping):
        raise RecordError("wrong_type", f"turn {number} is {_shown(item)}, expected an object with role and content")
    role = item.get("role") if item.get("role") is not None else item.get("from")
    known = _ROLES.get(role.strip().lower()) if isinstance(role, str) else None
    if known is None:
        raise RecordError("unknown_role", f"turn {number} has role {_shown(role)}, expected user, assistant or system")
    content = item.get("content") if item.get("content") is not None else item.get("value")
    if isinstance(content, list):  # OpenAI's content parts
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        content = "\n".join(clean_text(part, f"a part of turn {number}") for part in parts)
    return Turn(known, clean_text(content, f"turn {number} ({known})"))


def _release(context: Any, response: Any) -> tuple[Turn, ...]:
    """Return the turns of the published form: ``</s>`` between turns, the speakers take turns up to the response."""
    texts = [*clean_text(context, "context").split("</s>"), clean_text(response, "response")]
    last = len(texts) - 1
    return tuple(
        Turn("assistant" if (last - index) % 2 == 0 else "user", text.strip()) for index, text in enumerate(texts)
    )


def _alpaca(record: Mapping[str, Any]) -> tuple[Turn, ...]:
    """Return the turns of Alpaca's form, as `empathy select` writes it: ``system``, pairs of ``history``, the question.

    An empty question is no turn: the assistant may have begun.
    """
    history = [] if record.get("history") is None else record["history"]
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise RecordError("wrong_type", f"history is {_shown(history)}, expected pairs of a question and an answer")

    def text(name: str, value: Any) -> str:
        return "" if value is None else clean_text(value, name)

    question = [text(name, record.get(name)) for name in ("instruction", "input")]
    turns = [Turn("system", text("system", record.get("system")))]
    for asked, answer in history:
        turns += [Turn("user", text("history", asked)), Turn("assistant", text("history", answer))]
    turns += [Turn("user", "\n".join(filter(None, question))), Turn("assistant", text("output", record["output"]))]
    return tuple(turn for turn in turns if turn.content or turn.role == "assistant")


def _key(record: Mapping[str, Any], name: str) -> str | None:
    value = record.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return clean_text(value, name) or None


def _labels(record: Mapping[str, Any], *, required: bool) -> Labels | None:
    values = [record.get(head) for head in HEADS]
    if all(value is None for value in values) and record.get("evaluation") is not None:
        values = _published(clean_text(record["evaluation"], "evaluation"))
    if all(value is None for value in values):
        if required:
            raise RecordError("no_label", "no sensibility and rationality, nor evaluation; expected a labelled record")
        return None
    sensibility, rationality = map(_label, HEADS, values)
    judge = record.get("judge")
    return Labels(sensibility, rationality, judge if isinstance(judge, Mapping) else None)


def _published(text: str) -> list[Any]:
    """Return the score of each head in "- Rationality: 8 - Sensibility: 5"; RecordError if not one of each."""
    try:
        found = scores_in_text(text)
    except ValueError as error:
        raise RecordError("bad_label", f"evaluation {_shown(text)}: {error}") from None
    for head, values in zip(HEADS, found, strict=True):
        if len(values) != 1:
            raise RecordError("bad_label", f"evaluation {_shown(text)} has {len(values)} values of {head}, expected 1")
    return [float(values.pop()) for values in found]


def _label(head: str, value: Any) -> float:
    low, high = SCORE_RANGE
    if not in_range(value, low, high):
        raise RecordError("bad_label", f"{head} is {_shown(value)}, expected a number from {low:g} to {high:g}")
    return float(value)


def _shown(value: Any) -> str:
    """Return a value for a message: its type, and the value where it is short."""
    try:
        text = ascii(value) if not isinstance(value, (Mapping, list)) or len(value) < 10 else "..."
    except RecursionError:  # the JSON reader goes a little deeper than this
        text = "..."
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
