"""A question or a context, and its answer, in keys of their own -> turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scorer.dialogue import Turn
from scorer.inputs.records.answers import Answered, ambiguous, filled, has_pair, may_be_json, only_answer, pair_of
from scorer.inputs.records.columns import written
from scorer.inputs.records.faults import RecordError, clean_text, shown
from scorer.inputs.records.keys import ANSWERS, HISTORIES, LAST_QUESTIONS, LESSER_ANSWERS, LESSER_QUESTIONS, QUESTIONS
from scorer.inputs.records.transcripts import SEPARATOR, transcript, without_name
from scorer.inputs.records.turns import (
    Seen,
    has_roles,
    is_message,
    is_turns,
    message_list,
    read_turns,
    without_thoughts,
)

_HISTORIES = frozenset(HISTORIES)
_ANSWERER = ("assistant", "gpt", "bot", "ai")  # beside one of these, a user is no name
_SURE = 3  # so many turns in a text beside a question are no passage
_A_PROMPT = 5  # words that no answer begins with by chance
_EMPTY = ("", "[]", "none", "null", "nan", "n/a")  # what tables write for nothing

_plans: dict[frozenset[str], tuple[str, str] | None] = {}


def asked_in_text(record: Mapping[str, Any], present: frozenset[str]) -> Answered | None:
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
    if not question or not isinstance(question, str) or not isinstance(answer, str):
        return None
    if may_be_json(question) or may_be_json(answer):
        return None
    used = plan if about is None else (plan[0], "input", plan[1])
    pieces = [clean_text(question, plan[0])]
    if about:
        if not isinstance(about, str):
            return None
        if (more := clean_text(about, "input")) not in pieces:
            pieces.append(more)
    text = "\n".join(filter(None, pieces))
    if not text or transcript(text, prompt=True):
        return None
    seen = Seen()
    said = _without_prompt(without_thoughts(clean_text(answer, plan[1]), seen), plan[1], text)
    return Answered(", ".join(plan), used, (Turn("user", text), Turn("assistant", said)), seen)


def of_answer(record: Mapping[str, Any]) -> list[Answered | RecordError]:
    """Return the turns of a question (or a context) and its answer in keys of their own, if there are any."""
    asked = [key for key in QUESTIONS if record.get(key) is not None]
    if asked:
        asked += ["input"] if record.get("input") is not None else []
    else:
        last = [key for key in LAST_QUESTIONS if filled(record.get(key)) and not filled(record.get("context"))]
        several = record.get("context") is not None or sum(filled(record.get(key)) for key in LESSER_QUESTIONS) > 1
        named = bool(last) and not any(filled(record.get(key)) for key in _ANSWERER)
        may_be_names = {*LESSER_QUESTIONS} - {"input"} if several else {"user", "human"} if named else set[str]()
        asked = [
            key
            for key in LESSER_QUESTIONS
            if filled(record.get(key))
            and not (key in may_be_names and isinstance(record[key], str) and " " not in record[key])
        ]
        asked = asked or last
    pair = has_pair(record)
    names = [key for key in ANSWERS if record.get(key) is not None]
    names = [key for key in names if filled(record[key])] or names[:1]
    if not names:
        names = [key for key in LESSER_ANSWERS if key not in asked and filled(record.get(key))]
        names = [key for key in names if key != "candidates"] or names
    context = record.get("context")
    if context is not None and not asked and names and not pair:
        return [released(record, names)]
    if not (asked or filled(context) or any(filled(record.get(key)) for key in HISTORIES)) and not pair:
        return []
    if not pair and not names:
        return []
    seen = Seen()
    before, used, has_names = _question(record, asked, seen)
    if pair:
        return pair_of(record, before, seen, used[0] if used else "", used)
    text, name = only_answer(record, names, seen)
    layout = ", ".join((*used[:1], name))
    if not asked and not filled(context) and before and before[-1].role == "assistant":
        raise ambiguous(f"{used[0]} ends in an answer, so the question is not in it", "QUESTION", "context")
    if len(before) == 1:
        text = _without_prompt(text, name, before[0].content)
    said = without_name(text) if has_names else text
    return [Answered(layout, (*used, name), (*before, Turn("assistant", said)), seen)]


def _without_prompt(text: str, name: str, prompt: str) -> str:
    """Return an answer without the prompt before it, which the pipelines of transformers repeat by default."""
    if name != "generated_text" or not text.startswith(prompt):
        return text
    rest = text[len(prompt) :]
    repeated = len(prompt.split()) >= _A_PROMPT or rest.startswith("\n")  # "Hello" may also begin the answer to it
    return rest.strip() if repeated and rest.strip() else text


def asked_and_answered(record: Mapping[str, Any]) -> bool:
    """Whether a record holds a question or a context, and an answer."""
    asked = any(filled(record.get(key)) for key in (*QUESTIONS, *LESSER_QUESTIONS, *HISTORIES, "context"))
    return (asked and any(filled(record.get(key)) for key in (*ANSWERS, *LESSER_ANSWERS))) or has_pair(record)


def released(record: Mapping[str, Any], names: list[str]) -> Answered:
    """Return the turns of the published form: ``</s>`` between turns, the speakers take turns up to the response.

    ``context`` may also be a list of texts or messages, or a transcript.
    """
    seen = Seen()
    context = record["context"]
    text, name = only_answer(record, names, seen)
    if is_turns(context):
        before = read_turns(context, "context", seen)
    elif isinstance(context, list):
        if not context or not all(isinstance(turn, str) for turn in context):
            expected = "text, a list of texts or of messages"
            raise RecordError("wrong_type", f"context is {shown(context)}, expected {expected}")
        before = _by_turns([clean_text(turn, "context") for turn in context])
    else:
        whole = clean_text(context, "context")
        said = message_list(whole) if may_be_json(whole) else None
        before = read_turns(said, "context", seen) if said and has_roles(said) else ()
        if not before and len(_pieces(whole)) == 1:
            before = _several(transcript(whole, prompt=True))
            text = without_name(text) if before else text
        before = before or _by_turns(_pieces(whole))
    turns, used = _with_history(record, before, seen)
    answered = (*turns, Turn("assistant", text.strip()))
    return Answered(f"context, {name}", ("context", *used, name), answered, seen)


def _several(turns: list[Turn], least: int = 2) -> tuple[Turn, ...]:
    """Return turns where they are so many, for fewer may be anything with a colon."""
    return tuple(turns) if len(turns) >= least else ()


def _pieces(text: str) -> list[str]:
    """Return the texts between the marks of a text; one at its end closes the last of them."""
    pieces = text.split("</s>") if "</s>" in text else SEPARATOR.split(text)
    if len(pieces) == 2 and "</s>" not in text and pieces[1].strip():
        return [text]  # it speaks of a mark
    return pieces[:-1] if len(pieces) > 1 and not pieces[-1].strip() else pieces


def _by_turns(texts: list[str]) -> tuple[Turn, ...]:
    """Return the turns of two speakers before an answer; so the last one is the user's."""
    last = len(texts) - 1
    return tuple(
        Turn("user" if (last - index) % 2 == 0 else "assistant", text.strip()) for index, text in enumerate(texts)
    )


def _question(
    record: Mapping[str, Any], asked: list[str], seen: Seen
) -> tuple[tuple[Turn, ...], tuple[str, ...], bool]:
    """Return the turns before the answer, ``history`` and what was asked, and the keys that held them.

    The last value is whether any was a transcript, which has names before the turns.
    """
    given = {key: _as_asked(record[key]) for key in asked if filled(record.get(key))}
    lists = [key for key, value in given.items() if not isinstance(value, str)]
    context = record.get("context")
    used = tuple(asked)
    turns: tuple[Turn, ...]
    has_names = False
    if lists:
        if len(given) > 1:
            raise ambiguous(f"{' and '.join(given)} may all be the question", next(iter(given)), "context")
        turns = read_turns(given[lists[0]], lists[0], seen)
    else:
        texts = {key: clean_text(value, key) for key, value in given.items()}
        main = [key for key in texts if key not in LESSER_QUESTIONS] or [*texts]
        if len({texts[key] for key in main}) > 1:
            raise ambiguous(f"{' and '.join(main)} may all be the question", main[0], "context")
        pieces = [texts[main[0]]] if main else []
        pieces += [texts[key] for key in texts if key == "input" and key not in main and texts[key] not in pieces]
        said = _several(transcript(context), _SURE) if isinstance(context, str) and filled(context) else ()
        if filled(context) and isinstance(context, str) and not said:
            if len(_pieces(context)) > 1:
                raise ambiguous(f"context holds turns beside {main[0] if main else 'the answer'}", "context", "context")
            pieces.append(clean_text(context, "context"))
            used = (*used, "context")
        text = "\n".join(filter(None, pieces))
        turns = tuple(transcript(text, prompt=True))
        has_names = bool(turns or said)
        turns = turns or ((Turn("user", text),) if text else ())
        if said:
            turns, used = _joined(said, turns), (*used, "context")
    if isinstance(context, list) and context:
        if turns and not is_turns(context):
            raise ambiguous(f"context holds a list beside {used[0]}: turns, or what it is about", used[0], "context")
        turns, used = _joined(_earlier(context, "context", seen, answered=bool(turns)), turns), (*used, "context")
    turns, more = _with_history(record, turns, seen)
    return turns, (*used, *more), has_names


def _as_asked(value: Any) -> Any:
    """Return the text or the list of messages that a question is, where it is one as JSON or an object with a text."""
    if isinstance(value, str) and may_be_json(value):
        found = message_list(value)
        return found if found and has_roles(found) else value
    if isinstance(value, Mapping) and not is_message(value):
        return next((value[key] for key in ("text", "content") if isinstance(value.get(key), str)), value)
    return value


def _with_history(
    record: Mapping[str, Any], turns: tuple[Turn, ...], seen: Seen
) -> tuple[tuple[Turn, ...], tuple[str, ...]]:
    """Return turns behind those of ``history``, and the keys that held these."""
    if _HISTORIES.isdisjoint(record):
        return turns, ()
    there = [key for key in HISTORIES if record.get(key) is not None]
    used = [key for key in there if _says_anything(record[key], key)]
    before: tuple[Turn, ...] = ()
    for key in used:
        found = _earlier(record[key], key, seen, answered=bool(turns))
        if before and found != before:
            raise ambiguous(f"{used[0]} and {key} hold different turns", key, "context")
        before = found
    return _joined(before, turns), tuple(used or there[:1])


def _says_anything(value: Any, key: str) -> bool:
    """Whether a history holds anything; under names that may mean something else, a list or a text."""
    if isinstance(value, str):
        return value.strip().lower() not in _EMPTY
    return filled(value) and (key == "history" or isinstance(value, list))


def _joined(before: tuple[Turn, ...], turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """Return turns behind earlier ones, which may end in the question already."""
    return (*before[:-1], *turns) if before and turns and before[-1] == turns[0] else (*before, *turns)


def _earlier(value: Any, where: str, seen: Seen, *, answered: bool = False) -> tuple[Turn, ...]:
    """Return the turns of a history: messages, pairs of a question and an answer, texts by turns, or a transcript.

    Of texts the last is the user's, or where a question follows, ``answered``, the assistant's.
    """
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        value = written(value, where)
    if isinstance(value, str) and (said := transcript(value)):
        return tuple(said)
    if value == []:
        return ()
    if isinstance(value, list) and (said_so := message_list(value)) and is_turns(said_so):
        return read_turns(said_so, where, seen)
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        texts = [clean_text(text, where) for text in value]
        return _by_turns([*texts, ""])[:-1] if answered else _by_turns(texts)
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        expected = "turns: messages, texts, a transcript, or pairs of a question and an answer"
        raise RecordError("wrong_type", f"{where} is {shown(value)}, expected {expected}")
    before = []
    for pair in value:
        asked, said_ = ("" if text is None else clean_text(text, where) for text in pair)
        before += [Turn("user", asked)] if asked else []
        before.append(Turn("assistant", without_thoughts(said_, seen)))
    return tuple(before)
