"""Which keys of a record hold its turns and the answer that is meant; where two may, none is chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from scorer.dialogue import Turn
from scorer.inputs.records.answers import (
    Answered,
    ambiguous,
    answer_in,
    filled,
    has_pair,
    keys_found,
    no_unknown_answer,
    pair_of,
)
from scorer.inputs.records.faults import RecordError, clean_text
from scorer.inputs.records.keys import (
    ANSWERS,
    HISTORIES,
    KEYS,
    LAST_QUESTIONS,
    LESSER_ANSWERS,
    LESSER_LISTS,
    LESSER_QUESTIONS,
    LISTS,
    PAIR,
    QUESTIONS,
    SURE_LISTS,
    SYSTEM,
)
from scorer.inputs.records.questions import asked_and_answered, asked_in_text, of_answer, released
from scorer.inputs.records.transcripts import transcript
from scorer.inputs.records.turns import Seen, is_message, is_turns, read_turn, read_turns

_RELEASE = {"context", "response"}
_LONGEST_KEY = 200  # a conversation's name has at most so many characters
_LOGGED = (("inputs", "outputs"), ("input", "output"))  # of a traced call
_NAMES = KEYS | {"text"}

EXPECTED_KEYS = "messages or conversations or context, response or instruction, output"
_NEAREST = (
    *(("messages",), ("conversations",), ("context", "response"), ("instruction", "output"), ("prompt", "response")),
    *(("prompt", "completion"), ("prompt", "chosen", "rejected"), ("question", "answer"), ("chosen", "rejected")),
    ("conv_id", "utterance_idx", "speaker_idx", "utterance"),
)


def holds_dialogue(value: Any) -> bool:
    """Whether a decoded value has the keys of a record that is read, well filled or not."""
    if not isinstance(value, Mapping):
        return False
    if "messages" in value or "conversations" in value:
        return True
    if KEYS.isdisjoint(value):
        value = in_lower_case(value) or value
    if any(isinstance(value.get(key), (list, Mapping)) for key in LISTS):
        return True
    if any(is_turns(value.get(key)) for key in LESSER_LISTS):
        return True
    asked = any(key in value for key in (*QUESTIONS, *LESSER_QUESTIONS, *HISTORIES, "context"))
    answered = any(key in value for key in (*ANSWERS, *LESSER_ANSWERS, *PAIR))
    said = answered and any(key in value for key in LAST_QUESTIONS)
    said = said and not any(isinstance(value.get(key), list) for key in (*ANSWERS, *LESSER_ANSWERS))
    return (asked and answered) or said or all(key in value for key in PAIR)


def _holds_turns(value: Any) -> bool:
    """Whether a value may be a list of messages; ``turns`` and ``conversation`` are also a count and a key."""
    if isinstance(value, str):
        return value.lstrip()[:2] == "[{" or bool(transcript(value))
    return isinstance(value, (list, Mapping)) and bool(value)


def read_layout(record: Mapping[str, Any]) -> list[Answered | RecordError]:  # noqa: C901 - short ways first
    """Return the turns for each answer that a record holds: one, or the two of a preference pair."""
    record = usual_names(record)
    present = KEYS.intersection(record)
    if "conversation" in present and _is_name(record["conversation"], alone=present.isdisjoint(SURE_LISTS)):
        present -= {"conversation"}
    if len(present) == 1:  # the short way of most records
        (key,) = present
        if key in SURE_LISTS and record[key] is not None:
            seen = Seen()
            turns = read_turns(record[key], key, seen)
            if seen.unread or not turns or turns[-1].role != "assistant":
                no_unknown_answer(record, turns)
            return [Answered(key, (key,), turns, seen)]
    if present == _RELEASE and None not in (record["context"], record["response"]):
        return [released(record, ["response"])]
    if (asked := asked_in_text(record, present)) is not None:
        return [asked]
    if present:
        present_keys = _lists_of(record)
        if present_keys:
            lists = [key for key in present_keys if record[key] not in ([], {}, "")] or present_keys
            if record[lists[0]] not in ([], {}, "") or not asked_and_answered(record):
                return [*_with_system(record, _of_lists(record, lists))]
        if found := of_answer(record):
            return [*_with_system(record, found)]
    raise RecordError("no_messages", f"{keys_found(record)}, expected {EXPECTED_KEYS}{_nearest(record)}")


def _lists_of(record: Mapping[str, Any]) -> list[str]:
    """Return the keys of a record's lists of messages; RecordError for a transcript beside a question and answer."""
    keys = [key for key in LISTS if record.get(key) is not None and (key in SURE_LISTS or _holds_turns(record[key]))]
    if not asked_and_answered(record):
        return keys + [key for key in LESSER_LISTS if is_turns(record.get(key))]
    if keys and all(isinstance(record[key], str) and key not in SURE_LISTS for key in keys):
        raise ambiguous(f"{keys[0]} holds turns beside a question and an answer", keys[0], "context")
    return keys


def _is_name(conversation: Any, *, alone: bool) -> bool:
    """Whether ``conversation`` is the conversation's name, or beside a list of messages, not ``alone``, any text.

    RecordError for a text that is neither a name nor turns.
    """
    if not isinstance(conversation, str) or conversation[:1] in ("", " ", "["):
        return False
    if not alone:
        return True
    if transcript(conversation):
        return False
    if "\n" in conversation or len(conversation) > _LONGEST_KEY:
        what = "conversation is a text without the names of who speaks"
        raise ambiguous(f"{what}, expected messages or a conversation's name", "conversation", "context")
    return True


def in_lower_case(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a record with its columns' names in lower case; None where that makes none known, or one of two."""
    found = {str(key).strip().lower(): value for key, value in record.items()}
    known = len(_NAMES.intersection(found)) > len(_NAMES.intersection(record))
    return found if known and len(found) == len(record) else None


def usual_names(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a record with the usual names of a preference pair, where it has OpenAI's, and those of logs."""
    if (
        "message" in record and "messages" in record and "response" not in record and _is_said(record.get("message"))
    ):  # Ollama's answer
        return {**{key: value for key, value in record.items() if key != "message"}, "response": record["message"]}
    for given, made in _LOGGED:
        if type(record.get(given)) is dict and type(record.get(made)) is dict:
            return _merged(record, given, made)
    if "preferred_output" not in record:
        return record
    names = {"preferred_output": "chosen", "non_preferred_output": "rejected"}
    found = {names.get(key, key): value for key, value in record.items()}
    asked = found.get("input")
    return {**found, **asked, "input": None} if isinstance(asked, Mapping) and "messages" in asked else found


def _merged(record: Mapping[str, Any], given: str, made: str) -> Mapping[str, Any]:
    """Return a record with the columns of two objects, what went in and what came out, where none is in both.

    What came out of a list of messages is an answer as a whole.
    """
    came_out = record[made]
    if "messages" in record[given] and "messages" not in came_out:
        came_out = {"response": came_out}
    inner = {**record[given], **came_out}
    outer = {key: value for key, value in record.items() if key not in (given, made)}
    free = len(inner) == len(record[given]) + len(came_out) and inner.keys().isdisjoint(outer)
    return outer | inner if free and not is_message(record[given]) and holds_dialogue(inner) else record


def _is_said(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("role") == "assistant" and is_message(value)


def _nearest(record: Mapping[str, Any]) -> str:
    """Return a hint: the known layout that shares most keys, and what it lacks."""
    names = {str(key).strip().lower(): str(key) for key in record}
    best: tuple[str, ...] = ()
    best_share, lacking = 0.0, list[str]()
    for layout in _NEAREST:
        near = {key: get_close_matches(key, names, 1, 0.8) for key in layout}
        share = sum(map(bool, near.values())) / len(layout)
        if share > best_share:
            best, best_share = layout, share
            lacking = [key for key in layout if key not in record]
    if lists := [str(key) for key, value in record.items() if is_turns(value)]:
        return f"; {ascii(lists[0])[1:-1]:.40} holds messages: --map messages={ascii(lists[0])[1:-1]}"
    if not best:
        return "; name the columns with --map response=COLUMN --map context=COLUMN"
    return f"; nearest layout {', '.join(best)}: {', '.join(lacking) or 'a value'} lacking (--map FIELD=COLUMN)"


def _with_system(
    record: Mapping[str, Any], found: Iterable[Answered | RecordError]
) -> Iterable[Answered | RecordError]:
    """Put a system prompt that stands beside the turns before them, unless they begin with one."""
    key, text = next(
        ((key, text) for key in SYSTEM if key in record and (text := _system_text(record[key], key))), ("", "")
    )
    for item in found:
        if not key or isinstance(item, RecordError) or (item.turns and item.turns[0].role == "system"):
            yield item
        else:
            turns = (Turn("system", text), *item.turns)
            yield Answered(item.layout, (*item.used, key), turns, item.seen, item.suffix, top_system=True)


def _system_text(value: Any, key: str) -> str:
    """Return a system prompt, also one in parts; "" where there is none."""
    if isinstance(value, str):
        return clean_text(value, key)
    parts = value.get("parts", value) if isinstance(value, Mapping) else value
    message = {"role": "system", "content": [parts] if isinstance(parts, Mapping) else parts}
    turn = read_turn(message, 1, Seen()) if isinstance(message["content"], list) else None
    return turn.content if turn else ""


def _of_lists(record: Mapping[str, Any], keys: list[str]) -> list[Answered | RecordError]:  # noqa: C901, PLR0912 - one per pair
    """Return the turns of a list of messages and the answer beside it, if there is one."""
    seen = Seen()
    first = keys[0]
    turns = read_turns(record[first], first, seen)
    for other in keys[1:]:
        if isinstance(record[other], str) and other not in SURE_LISTS:
            continue  # the same as a text, perhaps
        try:
            more = read_turns(record[other], other, Seen())
        except RecordError:
            continue  # something else of that name
        if more and more != turns:
            raise ambiguous(f"{first} and {other} hold different turns", other, "messages")
    if has_pair(record):
        return pair_of(record, turns, seen, first, (first,))
    answered = bool(turns) and turns[-1].role == "assistant" and not seen.unread
    names = [key for key in ANSWERS if key in record and filled(record[key])]
    if not names and not answered:
        names = [key for key in LESSER_ANSWERS if key in record and filled(record[key])]
    if not names:
        if not answered:
            no_unknown_answer(record, turns)
        return [Answered(first, (first,), turns, seen)]
    texts: dict[str, str] = {}
    for name in names:
        aside = Seen()
        if (text := answer_in(record[name], name, aside, strict=not answered)) is not None:
            texts.setdefault(text, name)
            seen.thoughts += 0 if answered else aside.thoughts
    if answered:
        differing = [name for text, name in texts.items() if text != turns[-1].content]
        if differing:
            raise ambiguous(f"{first} end in an answer and {differing[0]} holds another", differing[0])
        return [Answered(first, (first, *texts.values()), turns, seen)]
    if len(texts) > 1:
        raise ambiguous(f"{' and '.join(texts.values())} hold different answers", next(iter(texts.values())))
    if not texts:
        return [Answered(first, (first,), turns, seen)]
    ((text, name),) = texts.items()
    seen.unread = False
    return [Answered(f"{first} + {name}", (first, name), (*turns, Turn("assistant", text)), seen)]
