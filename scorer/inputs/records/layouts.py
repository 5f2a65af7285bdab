"""Which keys of a record hold its turns and the answer that is meant; where two may, none is chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from scorer.dialogue import Turn
from scorer.inputs.records.answers import (
    PAIR,
    Answered,
    ambiguous,
    answer_in,
    filled,
    has_pair,
    keys_found,
    no_unknown_answer,
    only_answer,
    pair_of,
)
from scorer.inputs.records.faults import RecordError, clean_text, shown
from scorer.inputs.records.turns import Seen, is_message, read_turns, transcript, without_thoughts

LISTS = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "turns")
"""Keys of a list of messages; ``conversation`` may also be a key of its own."""

_SURE = ("messages", "conversations")

ANSWERS = (
    *("response", "completion", "output", "generation", "generated_text", "model_output", "model_response", "reply"),
    *("prediction", "choices", "responses", "completions", "outputs", "generations"),
)
"""Keys of an answer, also of a list of one; of several that differ, none is chosen."""

_LESSER_ANSWERS = (
    "answer",
    "target",
    "reference",
    "assistant",
    "gpt",
    "bot",
)  # only where none of ANSWERS is present_keys
QUESTIONS = ("instruction", "prompt", "question", "query", "problem")
_LESSER_QUESTIONS = ("input", "user", "human", "utterance", "post")  # only where none of QUESTIONS is present_keys
SYSTEM = ("system", "system_prompt")
KEYS = frozenset(
    (*LISTS, *ANSWERS, *_LESSER_ANSWERS, *PAIR, *QUESTIONS, *_LESSER_QUESTIONS, *SYSTEM, "context", "history")
)
"""Every key that may hold turns."""

_RELEASE = {"context", "response"}

EXPECTED_KEYS = "messages or conversations or context, response or instruction, output"
_NEAREST = (
    *(("messages",), ("conversations",), ("context", "response"), ("instruction", "output"), ("prompt", "response")),
    *(("prompt", "completion"), ("prompt", "chosen", "rejected"), ("question", "answer"), ("chosen", "rejected")),
    ("conv_id", "utterance_idx", "speaker_idx", "utterance"),
)


def holds_dialogue(value: Any) -> bool:
    """Whether a decoded value has the keys of a record that is read, well present_keys or not."""
    if not isinstance(value, Mapping):
        return False
    if "messages" in value or "conversations" in value:
        return True
    if any(isinstance(value.get(key), (list, Mapping)) for key in LISTS):
        return True
    asked = any(key in value for key in (*QUESTIONS, *_LESSER_QUESTIONS, "context"))
    answered = any(key in value for key in (*ANSWERS, *_LESSER_ANSWERS, *PAIR))
    return (asked and answered) or all(key in value for key in PAIR)


def unwrapped(value: Any) -> list[Any]:
    """Return the records that a value holds in lists or in one object of it; a list of messages is a record."""
    if isinstance(value, list):
        if value and all(is_message(item) for item in value):
            return [{"messages": value}]
        return value if any(isinstance(item, (list, Mapping)) for item in value) else []
    if not isinstance(value, Mapping) or holds_dialogue(value):
        return []
    lists = [item for item in value.values() if isinstance(item, list) and any(map(_is_record, item))]
    if lists:
        return [record for item in lists for record in item]
    inner = [item for item in value.values() if holds_dialogue(item)]
    if len(inner) == 1:
        outer = {key: item for key, item in value.items() if item is not inner[0]}
        return [{**outer, **inner[0]}]
    return inner


def _holds_turns(value: Any) -> bool:
    """Whether a value may be a list of messages; ``turns`` and ``conversation`` are also a count and a key."""
    if isinstance(value, str):
        return value.lstrip()[:2] == "[{"
    return isinstance(value, (list, Mapping)) and bool(value)


def _is_record(value: Any) -> bool:
    return holds_dialogue(value) or (isinstance(value, list) and bool(value) and all(map(is_message, value)))


def read_layout(record: Mapping[str, Any]) -> list[Answered | RecordError]:  # noqa: C901 - short ways first
    """Return the turns for each answer that a record holds: one, or the two of a preference pair."""
    present = KEYS.intersection(record)
    if "conversation" in present and isinstance(record["conversation"], str) and record["conversation"][:1] not in " [":
        present -= {"conversation"}  # its key
    if len(present) == 1:  # the short way of most records
        (key,) = present
        if key in _SURE and record[key] is not None:
            seen = Seen()
            turns = read_turns(record[key], key, seen)
            if seen.unread or not turns or turns[-1].role != "assistant":
                no_unknown_answer(record, turns)
            return [Answered(key, (key,), turns, seen)]
    if present == _RELEASE and None not in (record["context"], record["response"]):
        return [_released(record, ["response"])]
    if (found := _asked_in_text(record, present)) is not None:
        return [found]
    if present:
        present_keys = [
            key for key in LISTS if record.get(key) is not None and (key in _SURE or _holds_turns(record[key]))
        ]
        if present_keys:
            lists = [key for key in present_keys if record[key] not in ([], {}, "")] or present_keys
            if record[lists[0]] not in ([], {}, "") or not _asked_and_answered(record):
                return [*_with_system(record, _of_lists(record, lists))]
        if found := _of_answer(record):
            return [*_with_system(record, found)]
    raise RecordError("no_messages", f"{keys_found(record)}, expected {EXPECTED_KEYS}{_nearest(record)}")


_plans: dict[frozenset[str], tuple[str, str] | None] = {}


def _asked_in_text(record: Mapping[str, Any], present: frozenset[str]) -> Answered | None:
    """Return the turns of one question, perhaps with an input, and one answer, all of them texts: a short way."""
    if present not in _plans:
        asked, answers = present & set(QUESTIONS), present & set(ANSWERS)
        alone = len(asked) == len(answers) == 1 and not present - asked - answers - {"input"}
        _plans[present] = (*asked, *answers) if alone else None  # type: ignore[assignment]
    plan = _plans[present]
    if plan is None:
        return None
    question, answer = map(record.get, plan)
    about = record.get("input")
    if not question or not isinstance(question, str) or not isinstance(answer, str) or answer.lstrip()[:2] == "[{":
        return None
    used = plan if about is None else (plan[0], "input", plan[1])
    pieces = [clean_text(question, plan[0])]
    if about:
        if not isinstance(about, str):
            return None
        if (more := clean_text(about, "input")) not in pieces:
            pieces.append(more)
    text = "\n".join(filter(None, pieces))
    if not text or transcript(text):
        return None
    seen = Seen()
    said = without_thoughts(clean_text(answer, plan[1]), seen)
    return Answered(", ".join(plan), used, (Turn("user", text), Turn("assistant", said)), seen)


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
    if not best:
        return "; name the columns with --map response=COLUMN --map context=COLUMN"
    return f"; nearest layout {', '.join(best)}: {', '.join(lacking) or 'a value'} lacking (--map FIELD=COLUMN)"


def _with_system(
    record: Mapping[str, Any], found: Iterable[Answered | RecordError]
) -> Iterable[Answered | RecordError]:
    """Put a system prompt that stands beside the turns before them, unless they begin with one."""
    key = next((key for key in SYSTEM if isinstance(record.get(key), str) and record[key].strip()), None)
    for item in found:
        if key is None or isinstance(item, RecordError) or (item.turns and item.turns[0].role == "system"):
            yield item
        else:
            turns = (Turn("system", clean_text(record[key], key)), *item.turns)
            yield Answered(item.layout, (*item.used, key), turns, item.seen, item.suffix, top_system=True)


def _of_lists(record: Mapping[str, Any], keys: list[str]) -> list[Answered | RecordError]:  # noqa: C901, PLR0912 - one per pair
    """Return the turns of a list of messages and the answer beside it, if there is one."""
    seen = Seen()
    first = keys[0]
    turns = read_turns(record[first], first, seen)
    for other in keys[1:]:
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
        names = [key for key in _LESSER_ANSWERS if key in record and filled(record[key])]
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


def _of_answer(record: Mapping[str, Any]) -> list[Answered | RecordError]:
    """Return the turns of a question (or a context) and its answer in keys of their own, if there are any."""
    asked = [key for key in QUESTIONS if record.get(key) is not None]
    if asked:
        asked += ["input"] if record.get("input") is not None else []
    else:
        # A name of who asks is no question.
        spaced = record.get("context") is not None or sum(filled(record.get(key)) for key in _LESSER_QUESTIONS) > 1
        asked = [
            key
            for key in _LESSER_QUESTIONS
            if filled(record.get(key))
            and not (spaced and key != "input" and isinstance(record[key], str) and " " not in record[key])
        ]
    pair = has_pair(record)
    names = [key for key in ANSWERS if record.get(key) is not None]
    names = [key for key in names if filled(record[key])] or names[:1]
    if not names:
        names = [key for key in _LESSER_ANSWERS if key not in asked and filled(record.get(key))]
    context = record.get("context")
    if context is not None and not asked and names and not pair:
        return [_released(record, names)]
    if not (asked or filled(context)) and not pair:
        return []
    if not pair and not names:
        return []
    seen = Seen()
    before, used = _question(record, asked, seen)
    if pair:
        return pair_of(record, before, seen, used[0] if used else "", used)
    text, name = only_answer(record, names, seen)
    layout = ", ".join((*used[:1], name))
    return [Answered(layout, (*used, name), (*before, Turn("assistant", text)), seen)]


def _asked_and_answered(record: Mapping[str, Any]) -> bool:
    asked = any(filled(record.get(key)) for key in (*QUESTIONS, *_LESSER_QUESTIONS, "context"))
    return (asked and any(filled(record.get(key)) for key in (*ANSWERS, *_LESSER_ANSWERS))) or has_pair(record)


def _released(record: Mapping[str, Any], names: list[str]) -> Answered:
    """Return the turns of the published form: ``</s>`` between turns, the speakers take turns up to the response."""
    seen = Seen()
    context = record["context"]
    text, name = only_answer(record, names, seen)
    if isinstance(context, list) and context and is_message(context[0]):
        turns = read_turns(context, "context", seen)
        return Answered(f"context, {name}", ("context", name), (*turns, Turn("assistant", text)), seen)
    texts = [*clean_text(context, "context").split("</s>"), text]
    last = len(texts) - 1
    turns = tuple(
        Turn("assistant" if (last - index) % 2 == 0 else "user", text.strip()) for index, text in enumerate(texts)
    )
    return Answered(f"context, {name}", ("context", name), _with_history(record, turns, seen), seen)


def _question(record: Mapping[str, Any], asked: list[str], seen: Seen) -> tuple[tuple[Turn, ...], tuple[str, ...]]:
    """Return the turns before the answer: ``history``, and what was asked; and the keys that held them."""
    present_keys = [key for key in asked if filled(record.get(key))]
    lists = [key for key in present_keys if not isinstance(record[key], str)]
    used = tuple(asked)
    turns: tuple[Turn, ...]
    if lists:
        if len(present_keys) > 1:
            raise ambiguous(f"{' and '.join(present_keys)} may all be the question", present_keys[0], "context")
        turns = read_turns(record[lists[0]], lists[0], seen)
    else:
        texts = {key: clean_text(record[key], key) for key in present_keys}
        main = [key for key in present_keys if key not in _LESSER_QUESTIONS] or present_keys
        if len({texts[key] for key in main}) > 1:
            raise ambiguous(f"{' and '.join(main)} may all be the question", main[0], "context")
        pieces = [texts[main[0]]] if main else []
        pieces += [
            texts[key] for key in present_keys if key == "input" and key not in main and texts[key] not in pieces
        ]
        context = record.get("context")
        if filled(context) and isinstance(context, str):
            if "</s>" in context:
                raise ambiguous(f"context holds turns beside {main[0] if main else 'the answer'}", "context", "context")
            pieces.append(clean_text(context, "context"))
            used = (*used, "context")
        text = "\n".join(filter(None, pieces))
        turns = tuple(transcript(text)) or ((Turn("user", text),) if text else ())
    if record.get("history") is not None:
        used = (*used, "history")
    return _with_history(record, turns, seen), used


def _with_history(record: Mapping[str, Any], turns: tuple[Turn, ...], seen: Seen) -> tuple[Turn, ...]:
    """Return turns behind those of ``history``: pairs of a question and an answer, or messages."""
    history = record.get("history")
    if history is None or history == [] or history == "":
        return turns
    if isinstance(history, list) and is_message(history[0]):
        return (*read_turns(history, "history", seen), *turns)
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise RecordError("wrong_type", f"history is {shown(history)}, expected pairs of a question and an answer")
    before = []
    for pair in history:
        asked, said = ("" if text is None else clean_text(text, "history") for text in pair)
        before += [Turn("user", asked)] if asked else []
        before.append(Turn("assistant", without_thoughts(said, seen)))
    return (*before, *turns)
