"""A question or a context, and its answer, in keys of their own -> turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scorer.dialogue import Turn
from scorer.inputs.records.answers import Answered, ambiguous, filled, has_pair, only_answer, pair_of
from scorer.inputs.records.faults import RecordError, clean_text, shown
from scorer.inputs.records.keys import ANSWERS, LESSER_ANSWERS, LESSER_QUESTIONS, QUESTIONS
from scorer.inputs.records.turns import Seen, is_message, read_turns, transcript, without_thoughts

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


def of_answer(record: Mapping[str, Any]) -> list[Answered | RecordError]:
    """Return the turns of a question (or a context) and its answer in keys of their own, if there are any."""
    asked = [key for key in QUESTIONS if record.get(key) is not None]
    if asked:
        asked += ["input"] if record.get("input") is not None else []
    else:
        # A name of who asks is no question.
        spaced = record.get("context") is not None or sum(filled(record.get(key)) for key in LESSER_QUESTIONS) > 1
        asked = [
            key
            for key in LESSER_QUESTIONS
            if filled(record.get(key))
            and not (spaced and key != "input" and isinstance(record[key], str) and " " not in record[key])
        ]
    pair = has_pair(record)
    names = [key for key in ANSWERS if record.get(key) is not None]
    names = [key for key in names if filled(record[key])] or names[:1]
    if not names:
        names = [key for key in LESSER_ANSWERS if key not in asked and filled(record.get(key))]
    context = record.get("context")
    if context is not None and not asked and names and not pair:
        return [released(record, names)]
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


def asked_and_answered(record: Mapping[str, Any]) -> bool:
    """Whether a record holds a question or a context, and an answer."""
    asked = any(filled(record.get(key)) for key in (*QUESTIONS, *LESSER_QUESTIONS, "context"))
    return (asked and any(filled(record.get(key)) for key in (*ANSWERS, *LESSER_ANSWERS))) or has_pair(record)


def released(record: Mapping[str, Any], names: list[str]) -> Answered:
    """Return the turns of the published form: ``</s>`` between turns, the speakers take turns up to the response.

    ``context`` may also be a list of texts.
    """
    seen = Seen()
    context = record["context"]
    text, name = only_answer(record, names, seen)
    if isinstance(context, list) and context and is_message(context[0]):
        turns = read_turns(context, "context", seen)
        return Answered(f"context, {name}", ("context", name), (*turns, Turn("assistant", text)), seen)
    if isinstance(context, list) and context and all(isinstance(turn, str) for turn in context):
        before = [clean_text(turn, "context") for turn in context]
    else:
        before = clean_text(context, "context").split("</s>")
    texts = [*before, text]
    last = len(texts) - 1
    turns = tuple(
        Turn("assistant" if (last - index) % 2 == 0 else "user", text.strip()) for index, text in enumerate(texts)
    )
    return Answered(f"context, {name}", ("context", name), _with_history(record, turns, seen), seen)


def _question(record: Mapping[str, Any], asked: list[str], seen: Seen) -> tuple[tuple[Turn, ...], tuple[str, ...]]:
    """Return the turns before the answer: ``history``, and what was asked; and the keys that held them."""
    filled_keys = [key for key in asked if filled(record.get(key))]
    lists = [key for key in filled_keys if not isinstance(record[key], str)]
    used = tuple(asked)
    turns: tuple[Turn, ...]
    if lists:
        if len(filled_keys) > 1:
            raise ambiguous(f"{' and '.join(filled_keys)} may all be the question", filled_keys[0], "context")
        turns = read_turns(record[lists[0]], lists[0], seen)
    else:
        texts = {key: clean_text(record[key], key) for key in filled_keys}
        main = [key for key in filled_keys if key not in LESSER_QUESTIONS] or filled_keys
        if len({texts[key] for key in main}) > 1:
            raise ambiguous(f"{' and '.join(main)} may all be the question", main[0], "context")
        pieces = [texts[main[0]]] if main else []
        pieces += [texts[key] for key in filled_keys if key == "input" and key not in main and texts[key] not in pieces]
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
