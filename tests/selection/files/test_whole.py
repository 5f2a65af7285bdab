"""Selected records hold everything that came in, and the scorer reads the same dialogue in them."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scorer.dialogue import Dialogue
from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import parse_records
from scorer.inputs.records.faults import RecordError
from selection.files.layouts import convert, whole_line
from selection.settings import FORMATS
from tests.conftest import write_lines
from tests.scorer.inputs.test_layouts_page import ROWS
from tests.scorer.inputs.test_meant import LAYOUTS, NOISE, generated
from tests.selection.selection_data import read_lines

CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
TOOLS = {
    "id": 7,
    "system": "Be kind.",
    "tools": [{"name": "weather"}],
    "source": "logs",
    "category": ["a", "b"],
    "messages": [
        {"role": "user", "content": "My dog died. Is it cold?", "name": "bob"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": '{"t": 3}', "tool_call_id": "c1"},
        {"role": "assistant", "content": "<think>hm</think>I'm so sorry. It is."},
        {"role": "user", "content": "thanks"},
    ],
}
SAID = [{"role": "user", "content": "my dog died"}]
PAIR = {"id": "p", "prompt": "my dog died", "chosen": "so sorry", "rejected": "ok", "score_chosen": 9.5}
ED = "conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags\n"
ED += "c1,1,sad,It was sad_comma_ really,1,my dog died,5|5|5_2|2|2,\nc1,2,sad,It was sad,2,so sorry,4|4|4_2|2|2,<X>\n"


def dialogues(inputs: Sequence[Path], **more: Any) -> list[Dialogue]:
    found = list(Corpus([str(path) for path in inputs], keep_records=True, **more))
    assert all(isinstance(one, Dialogue) for one in found), found
    return [one for one in found if isinstance(one, Dialogue)]


def laid_out(dialogue: Dialogue, layout: str = "openai", fields: Any = None) -> tuple[dict[str, Any], Counter[str]]:
    lost: Counter[str] = Counter()
    return json.loads(convert(whole_line(dialogue, fields or {}, lost), layout, lost)), +lost


def whole(folder: Path, record: dict[str, Any], layout: str = "openai") -> dict[str, Any]:
    """Return what a selection writes of the only dialogue of a record, less its id and conversation."""
    (dialogue,) = dialogues([write_lines(folder / "in.jsonl", [record])])
    found, _ = laid_out(dialogue, layout)
    return {name: value for name, value in found.items() if name not in ("id", "conversation")}


def test_a_log_of_tool_calls_keeps_all_of_it(tmp_path: Path) -> None:
    system, *others = whole(tmp_path, TOOLS)["messages"]
    assert system == {"role": "system", "content": "Be kind."}
    assert others == TOOLS["messages"]
    more = {"category": ["a", "b"], "tools": TOOLS["tools"], "source": "logs"}
    assert whole(tmp_path, TOOLS) == {"messages": [system, *others], **more}
    turns = whole(tmp_path, TOOLS, "sharegpt")["conversations"]
    assert [turn["from"] for turn in turns] == ["system", "human", "gpt", "tool", "gpt", "human"]
    assert [turn["value"] for turn in turns] == [turn["content"] or "" for turn in [system, *others]]
    assert (turns[1]["name"], turns[2]["tool_calls"], turns[3]["tool_call_id"]) == ("bob", [CALL], "c1")


def test_alpaca_asks_what_the_user_asked_and_counts_what_it_cannot_hold(tmp_path: Path) -> None:
    (dialogue,) = dialogues([write_lines(tmp_path / "in.jsonl", [TOOLS])])
    found, lost = laid_out(dialogue, "alpaca")
    assert (found["instruction"], found["system"]) == ("My dog died. Is it cold?", "Be kind.")
    assert found["output"] == "<think>hm</think>I'm so sorry. It is."
    assert (found["tools"], found["source"], found["category"]) == (TOOLS["tools"], "logs", ["a", "b"])
    assert lost == {"tool_turns": 2, "turn_keys": 1, "later_turns": 1}
    said = [*SAID, {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]}]
    parts = [{"type": "text", "text": "so sorry"}, {"type": "image_url", "image_url": {}}]
    path = write_lines(tmp_path / "b.jsonl", [{"messages": [*said, {"role": "assistant", "content": parts}]}])
    found, lost = laid_out(dialogues([path])[0], "alpaca")
    assert (found["instruction"], found["output"]) == ("my dog died", "so sorry")
    assert lost == {"tool_turns": 1, "turns_between": 1, "parts": 1}


@pytest.mark.parametrize(
    ("record", "messages", "more"),
    [
        (
            {
                "conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": " yes ", "weight": 1}],
                "n": 1,
            },
            [("user", "hi"), ("assistant", " yes ")],
            {"n": 1},
        ),
        (
            {
                "instruction": "Say it",
                "input": "in German",
                "output": "ja",
                "system": "S",
                "history": [["a", "b"]],
                "n": 1,
            },
            [("system", "S"), ("user", "a"), ("assistant", "b"), ("user", "Say it\nin German"), ("assistant", "ja")],
            {"n": 1},
        ),
        (
            {"prompt": "hi", "completion": "<think>x</think>yes", "reference": "gold"},
            [("user", "hi"), ("assistant", "<think>x</think>yes")],
            {"reference": "gold"},
        ),
        (
            {"context": "hi </s> yes? </s> sad", "response": "so sorry", "evaluation": "Rationality: 3 Sensibility: 8"},
            [("user", "hi"), ("assistant", "yes?"), ("user", "sad"), ("assistant", "so sorry")],
            {"evaluation": "Rationality: 3 Sensibility: 8"},
        ),
        (
            {"messages": SAID, "generation": "so sorry", "turns": 2, "user": "u1"},
            [("user", "my dog died"), ("assistant", "so sorry")],
            {"turns": 2, "user": "u1"},
        ),
        (
            {"prompt": "\n\nHuman: hi\n\nAssistant: yes?\n\nHuman: sad", "response": "so sorry"},
            [("user", "hi"), ("assistant", "yes?"), ("user", "sad"), ("assistant", "so sorry")],
            {},
        ),
    ],
)
def test_each_layout_becomes_messages_and_loses_no_column(
    record: dict[str, Any], messages: list[tuple[str, str]], more: dict[str, Any], tmp_path: Path
) -> None:
    found = whole(tmp_path, record)
    said = found.pop("messages")
    assert [(turn.pop("role"), turn.pop("content")) for turn in said] == messages
    assert found == more
    assert sum(turn.pop("weight", 0) for turn in said) == ("conversations" in record)
    assert not any(said)


def test_the_two_of_a_pair_are_told_apart_and_each_has_its_answer(tmp_path: Path) -> None:
    chat = {"prompt": SAID, "chosen": [{"role": "assistant", "content": "so sorry"}], "rejected": "ok", "source": "x"}
    found = [laid_out(one)[0] for one in dialogues([write_lines(tmp_path / "in.jsonl", [PAIR, chat])])]
    answers = [("chosen", "so sorry"), ("rejected", "ok")]
    assert [(one["preference"], one["messages"][-1]["content"]) for one in found] == answers * 2
    assert [one["id"] for one in found[:2]] == ["p#chosen", "p#rejected"]
    assert [one.get("score_chosen", one.get("source")) for one in found] == [9.5, 9.5, "x", "x"]
    assert not {"prompt", "chosen", "rejected"} & set().union(*found)


def test_an_answer_with_more_to_it_stays_beside_the_messages(tmp_path: Path) -> None:
    answer = {"choices": [{"message": {"role": "assistant", "content": "so sorry"}}], "usage": {"tokens": 3}}
    found = whole(tmp_path, {"prompt": "my dog died", "response": answer})
    said = [*SAID, {"role": "assistant", "content": "so sorry"}]
    assert found == {"messages": said, "response": answer}


def test_empathetic_dialogues_keep_the_columns_of_the_judged_row(tmp_path: Path) -> None:
    (tmp_path / "ed.csv").write_text(ED)
    (dialogue,) = dialogues([tmp_path / "ed.csv"])
    found, _ = laid_out(dialogue)
    assert (found["conversation"], found["category"]) == ("c1", "sad")
    kept = {"prompt": "It was sad", "utterance_idx": "2", "speaker_idx": "2", "selfeval": "4|4|4_2|2|2", "tags": "<X>"}
    assert {name: found[name] for name in kept} == kept
    alpaca, _ = laid_out(dialogue, "alpaca")  # there `prompt` would be a second question
    assert alpaca["source_columns"] == {"prompt": "It was sad"}
    (again,) = parse_records(alpaca)
    assert again == dialogue


def test_a_table_keeps_columns_that_json_has_no_type_for(tmp_path: Path) -> None:
    messages = [*SAID, {"role": "assistant", "content": "so sorry"}]
    columns = {
        "uid": b"\x00\xff",
        "at": datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        "cost": Decimal("1.20"),
        "score": float("nan"),
        "empty": None,
        "messages": messages,
    }
    table = pa.table({name: [value] for name, value in columns.items()})
    pq.write_table(table, tmp_path / "in.parquet")
    found, _ = laid_out(dialogues([tmp_path / "in.parquet"])[0])
    assert {name: found[name] for name in columns} == {
        "uid": "AP8=",
        "at": "2026-01-02T03:04:00Z",
        "cost": "1.20",
        "score": None,
        "empty": None,
        "messages": messages,
    }


def test_mapped_columns_stay_and_cannot_be_mistaken_for_the_answer(tmp_path: Path) -> None:
    record = {"uid": 5, "q": "my dog died", "reply_new": "so sorry", "response": "OLD", "quality": 7}
    fields = {"response": "reply_new", "context": "q", "id": "uid"}
    (dialogue,) = dialogues([write_lines(tmp_path / "in.jsonl", [record])], fields=fields)
    found, _ = laid_out(dialogue, fields=fields)
    assert [turn["content"] for turn in found["messages"]] == ["my dog died", "so sorry"]
    assert (found["id"], found["uid"], found["quality"]) == ("5", 5, 7)
    assert found["source_columns"] == {"response": "OLD"}
    assert parse_records(found) == [dialogue]


def test_what_json_cannot_hold_costs_a_column_and_no_dialogue(tmp_path: Path) -> None:
    said = [*SAID, {"role": "assistant", "content": "so sorry"}]
    (dialogue,) = dialogues([write_lines(tmp_path / "in.jsonl", [{"messages": said, "half": "\ud83d"}])])
    assert laid_out(dialogue)[0]["half"] == "\ud83d"
    deep: list[Any] = []
    for _ in range(200_000):
        deep = [deep]
    found, lost = laid_out(replace(dialogue, record={"messages": said, "deep": deep}))
    assert found["messages"] == said
    assert lost == {"columns": 1}


def strings(value: Any) -> Iterator[str]:
    """Yield every text and number in a value, those in JSON that is text as well."""
    if isinstance(value, str):
        if value.lstrip()[:2] == "[{":
            yield from strings(json.loads(value))
        else:
            yield from (piece.strip() for piece in value.split("</s>"))
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in ("role", "from"):
                yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif value is not None:
        yield repr(value)


def check(cases: int, seed: int) -> int:
    """Write generated records of every layout in every format; return how many dialogues there were."""
    rng = random.Random(seed)
    count = 0
    for case in range(cases):
        record = LAYOUTS[list(LAYOUTS)[case % len(LAYOUTS)]](rng, generated(rng))
        items = [*record.items(), *(item for item in rng.sample(NOISE, rng.randint(0, 4)) if item[0] not in record)]
        rng.shuffle(items)
        value = json.loads(json.dumps(dict(items)))
        try:
            found = [one for one in parse_records(value, keep=True) if isinstance(one, Dialogue)]
        except RecordError:
            continue
        written = []
        for one in found:
            for layout in FORMATS:
                record, _ = laid_out(one, layout)
                (again,) = parse_records(record)
                assert isinstance(again, Dialogue), (value, record)
                assert again == one or layout == "alpaca", (value, record)
                same = ("id", "conversation", "category", "response")
                assert [getattr(again, name) for name in same] == [getattr(one, name) for name in same]
                written += list(strings(record)) if layout == "openai" else []
        text = "\n".join(written)
        missing = [piece for piece in strings(value) if found and piece not in text]
        assert not missing, (value, missing)
        count += len(found)
    return count


def test_any_record_is_written_whole_and_read_as_the_same_dialogue() -> None:
    assert check(500, 0) > 400


@pytest.mark.slow
def test_any_record_is_written_whole_in_many_cases() -> None:
    assert check(20_000, 1) > 16_000


@pytest.mark.parametrize(("layout", "example", "judged"), ROWS, ids=[row[0].strip()[:40] for row in ROWS])
def test_every_layout_of_the_docs_is_written_and_read_again(
    layout: str, example: str, judged: str, tmp_path: Path
) -> None:
    (tmp_path / "in").write_text(example.strip(" `").replace(" ⏎ ", "\n") + "\n", encoding="utf-8")
    found = dialogues([tmp_path / "in"])
    assert len(found) == judged.count("`") // 2, layout
    for one in found:
        for name in FORMATS:
            record, _ = laid_out(one, name)
            assert parse_records(record) == [one], (layout, record)


def test_openai_pairs_keep_what_is_beside_them(tmp_path: Path) -> None:
    answers = [[{"role": "assistant", "content": text}] for text in ("so sorry", "ok")]
    asked = {"messages": SAID, "tools": [], "parallel_tool_calls": True}
    record = {"input": asked, "preferred_output": answers[0], "non_preferred_output": answers[1], "n": 1}
    found = [laid_out(one)[0] for one in dialogues([write_lines(tmp_path / "in.jsonl", [record])])]
    for one, answer, name in zip(found, answers, ("chosen", "rejected"), strict=True):
        assert one["messages"] == [*SAID, *answer]
        more = {key: value for key, value in one.items() if key not in ("id", "conversation", "messages")}
        assert more == {"preference": name, "tools": [], "parallel_tool_calls": True, "n": 1}


def test_a_set_is_selected_from_again_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "ed.csv").write_text(ED)
    inputs = [write_lines(tmp_path / "in.jsonl", [TOOLS, PAIR]), tmp_path / "ed.csv"]
    for layout in FORMATS:
        lines = [laid_out(one, layout)[0] for one in dialogues(inputs)]
        again = [laid_out(one, layout)[0] for one in dialogues([write_lines(tmp_path / "set.jsonl", lines)])]
        assert again == lines
    assert len(read_lines(tmp_path / "set.jsonl")) == 4
