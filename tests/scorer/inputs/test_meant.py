# ruff: noqa: E501, RUF015 - a table reads best with one case per line
"""Generated dialogues in every layout, with noise: the judged turn is the one that was meant, or the record is rejected."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scorer.dialogue import Dialogue
from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import parse_records
from scorer.inputs.records.faults import RecordError

WORDS = 'I we dog died today, so sorry! why? it\'s 3 < 4 "quoted" 😢 é\nyes; [no] {x} | tab\tend'.split(" ")
NOISE: list[tuple[str, Any]] = [
    ("model", "gpt-4"), ("lang", "en"), ("score_chosen", 4.5), ("tokens", 17), ("source", "x.jsonl"), ("metadata", {"a": [1]}),
    ("response_id", "r-12"), ("finish_reason", "stop"), ("tags", ["a", "b"]), ("user", "u81"), ("weight", None), ("output_tokens", 9),
    ("category", ["sad", 3]), ("created_at", 1.7e9), ("generator", "llama"), ("turns", 4), ("conversation", {}), ("tools", [{"name": "f"}]),
]  # fmt: skip
Said = list[tuple[str, str]]


def generated(rng: random.Random) -> Said:
    """Return a dialogue that ends in the answer that is meant; every text is different."""
    turns: Said = []
    for number in range(2 * rng.randint(1, 3)):
        text = f"{number}{rng.choice('abcdef')} " + " ".join(rng.choices(WORDS, k=rng.randint(1, 6)))
        turns.append(("assistant" if number % 2 else "user", text.strip()))
    return turns


def listed(rng: random.Random, turns: Said, *, noisy: bool = True) -> list[dict[str, Any]]:
    """Return turns as messages of some make, with tool turns, thoughts and parts among them."""
    names = {"user": rng.choice(["user", "human"]), "assistant": rng.choice(["assistant", "gpt", "ai", "bot"])}
    role_key, text_key = rng.choice([("role", "content"), ("from", "value")])
    items: list[dict[str, Any]] = []
    for role, text in turns:
        content: Any = text
        if noisy and role == "assistant" and rng.random() < 0.2:
            content = f"<think>{rng.choice(WORDS)}\nOLD?</think>\n{text}"
        if noisy and rng.random() < 0.15:
            image = {"type": rng.choice(["image_url", "input_audio", "image"])}
            content = [{"type": "text", rng.choice(["text", "value"]): content}, image]
            rng.shuffle(content)
        if noisy and role == "assistant" and rng.random() < 0.2:
            call: dict[str, Any] = {role_key: names[role], "tool_calls": [{"id": "1"}]}
            items.append(call | rng.choice([{}, {text_key: None}, {text_key: ""}]))
            items.append({role_key: rng.choice(["tool", "observation", "function"]), text_key: "OLD 7"})
        items.append({role_key: names[role], text_key: content})
    return items


def alpaca(turns: Said) -> dict[str, Any]:
    texts = [text for _, text in turns]
    return {
        "history": [texts[i : i + 2] for i in range(0, len(texts) - 2, 2)],
        "instruction": texts[-2],
        "output": texts[-1],
    }


def beside(rng: random.Random, turns: Said) -> dict[str, Any]:
    key = rng.choice(
        ["generation", "completion", "response", "output", "answer", "generated_text", "my_answer", "reply_text"]
    )
    return {rng.choice(["messages", "conversations", "prompt"]): listed(rng, turns[:-1]), key: turns[-1][1]}


def pair(rng: random.Random, turns: Said) -> dict[str, Any]:
    other = [*turns[:-1], ("assistant", "BAD")]
    kind = rng.randrange(3)
    if kind == 0:
        return {"chosen": listed(rng, turns), "rejected": listed(rng, other)}
    if kind == 1:
        key = rng.choice(["prompt", "messages", "conversations"])
        return {key: listed(rng, turns[:-1]), "chosen": listed(rng, turns[-1:], noisy=False), "rejected": "BAD"}
    return {"prompt": turns[-2][1], "chosen": turns[-1][1], "rejected": "BAD"}


def asked(rng: random.Random, turns: Said) -> dict[str, Any]:
    question = rng.choice(["prompt", "question", "instruction", "query", "input"])
    answer = rng.choice(["response", "completion", "output", "answer"])
    about = {"context": "Built in 1852."} if rng.random() < 0.3 and question != "input" else {}
    return {question: turns[-2][1], answer: turns[-1][1], **about}


LAYOUTS: dict[str, Callable[[random.Random, Said], dict[str, Any]]] = {
    "messages": lambda rng, turns: {rng.choice(["messages", "conversations"]): listed(rng, turns)},
    "other names": lambda rng, turns: {rng.choice(["dialog", "dialogue", "chat", "conversation"]): listed(rng, turns)},
    "later turns": lambda rng, turns: {"messages": listed(rng, [*turns, ("user", "Bye.")])},
    "an empty list first": lambda rng, turns: {"messages": [], "conversations": listed(rng, turns)},
    "release": lambda _, turns: {"context": " </s> ".join(text for _, text in turns[:-1]), "response": turns[-1][1]},
    "alpaca": lambda _, turns: alpaca(turns),
    "question and answer": asked,
    "an answer beside": beside,
    "a pair": pair,
    "a tool call at the end": lambda rng, turns: {
        "messages": [*listed(rng, turns, noisy=False), {"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [1]}]
    },
}  # fmt: skip


def check(cases: int, seed: int) -> tuple[int, int]:
    """Read generated records of every layout; return how many were judged and how many rejected."""
    rng = random.Random(seed)
    judged = rejected = 0
    for case in range(cases):
        name = list(LAYOUTS)[case % len(LAYOUTS)]
        turns = generated(rng)
        record = LAYOUTS[name](rng, turns)
        items = [*record.items(), *(item for item in rng.sample(NOISE, rng.randint(0, 4)) if item[0] not in record)]
        rng.shuffle(items)
        value = json.loads(json.dumps(dict(items)))
        try:
            found = parse_records(value)
        except RecordError as error:
            found = [error]
        first = found[0]
        if isinstance(first, RecordError):
            assert name in ("a tool call at the end", "an answer beside"), (first, value)
            rejected += 1
            continue
        assert name != "a tool call at the end", value
        assert first.response == turns[-1][1].strip(), (name, value)
        assert first.turns[-2].role == "user", (name, value)
        assert turns[-2][1] in first.turns[-2].content, (name, value)
        if name == "a pair":
            assert isinstance(found[1], Dialogue)
            assert found[1].response == "BAD"
        judged += 1
    return judged, rejected


def test_judged_turn_is_the_one_that_was_meant() -> None:
    judged, rejected = check(500, 0)
    assert judged > 4 * rejected  # every tenth must be, and answers of unknown names


@pytest.mark.slow
def test_judged_turn_is_the_one_that_was_meant_in_many_cases() -> None:
    judged, rejected = check(20_000, 1)
    assert judged > 4 * rejected


def shuffled_rows(path: Path, rng: random.Random, *, separator: str) -> dict[str, set[str]]:
    """Write conversations as shuffled rows of EmpatheticDialogues, some lost; return each listener turn's context."""
    rows, meant = [], {}
    for number in range(rng.randint(1, 12)):
        turns = generated(rng)
        lost = rng.randrange(len(turns)) if rng.random() < 0.3 else len(turns)
        for index, (role, text) in enumerate(turns):
            said = f"{number}-{text}"
            if index != lost:
                prompt = rng.choice(["p", 'a "b", c', "x\ny", "a; b"])
                rows.append([f"c{number}", index + 1, "sad", prompt, {"user": 10, "assistant": 20}[role], said])
            if role == "assistant" and index < lost:
                meant[said] = {f"{number}-{before}" for _, before in turns[:index]}
    rng.shuffle(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerows([["conv_id", "utterance_idx", "context", "prompt", "speaker_idx", "utterance"], *rows])
    return meant


def rows_are_put_in_order(folder: Path, cases: int, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(cases):
        path = folder / "rows.csv"
        meant = shuffled_rows(path, rng, separator=rng.choice([",", ";", "\t"]))
        found = {
            item.response: {turn.content for turn in item.context}
            for item in Corpus([str(path)])
            if isinstance(item, Dialogue)
        }
        assert found == meant, path.read_text()


def test_shuffled_rows_give_what_was_meant(tmp_path: Path) -> None:
    rows_are_put_in_order(tmp_path, 30, 0)


@pytest.mark.slow
def test_shuffled_rows_give_what_was_meant_in_many_cases(tmp_path: Path) -> None:
    rows_are_put_in_order(tmp_path, 1500, 1)


H = "conv_id,utterance_idx,context,prompt,speaker_idx,utterance"
FILES: dict[str, tuple[str, list[str]]] = {
    "row 1 is missing": (f"{H}\nc,2,sad,p,20,LIS\nc,3,sad,p,10,SPK\n", ["broken_conversation"] * 2),
    "rows in the order 2, 1, 4, 3": (f"{H}\nc,2,s,p,2,B\nc,1,s,p,1,A\nc,4,s,p,2,D\nc,3,s,p,1,C\n", ["B", "D"]),
    "conversations interleaved": (f"{H}\nc,1,s,p,1,A\nd,1,s,p,1,X\nc,2,s,p,2,B\nd,2,s,p,2,Y\n", ["B", "Y"]),
    "indices from 0": (f"{H}\nc,0,s,p,1,A\nc,1,s,p,2,B\n", ["B"]),
    "no index": (f"{H}\nc,,s,p,1,A\nc,2,s,p,2,B\n", ["wrong_type", "broken_conversation"]),
    "a row twice": (f"{H}\nc,1,s,p,1,A\nc,2,s,p,2,B\nc,2,s,p,2,B\n", ["B", "repeated_row"]),
    "two rows of one index": (f"{H}\nc,1,s,p,1,A\nc,2,s,p,2,B\nc,2,s,p,2,C\n", ["broken_conversation"]),
    "a broken last row": (f"{H}\nc,1,s,p,1,A\nc,2,s,p\nd,1,s,p,1,X\nd,2,s,p,2,Y\n", ["wrong_columns", "Y"]),
    "a comma in a column before": (f'{H},selfeval,tags\nc,1,s,"a, b",10,A,5|5\nc,2,s,"a, b",20,B,5|5\n', ["B"]),
    "a comma that is not quoted": (f"{H},selfeval,tags\nc,1,s,p,1,A\nc,2,s,p,2,B, no\n", ["wrong_columns"]),
    "a quoted line break": (f'{H}\nc,1,s,"a\nb",1,A\nc,2,s,"a\nb",2,"B\nb"\n', ["B\nb"]),
    "a quotation mark that never closes": (f'{H}\nc,1,s,p,1,A\nc,2,s,p,2,"B\n', ["wrong_columns"]),
    "semicolons, capitals, BOM": (f"\ufeff{H.title().replace(',', ';')}\nc;1;s;p;1;A\nc;2;s;p;2;B, b\n", ["B, b"]),
    "tabs": (f"{H}\nc,1,s,p,1,A\nc,2,s,p,2,B\n".replace(",", "\t"), ["B"]),
    "a table of questions": ('Prompt,Response\n"a, b","B\nb"\nc,D\n', ["B\nb", "D"]),
    "a table of preferences": ("prompt;chosen;rejected\na;B;C\n", ["B", "C"]),
    "a table of nothing known": ("id;text;prompt\n1;x;y\n2;x;y\n", ["wrong_columns"]),
    "lists of messages": ('[[{"role":"user","content":"A"},{"role":"ai","content":"B"}]]', ["B"]),
    "one list per line": ('[{"role":"user","content":"A"},{"role":"ai","content":"B"}]\n' * 2, ["B", "B"]),
    "a wrapper": ('{"data": [\n{"prompt":"A","response":"B"},\n{"prompt":"C","response":"D"}\n]}', ["B", "D"]),
    "a wrapper on one line": ('{"v":1,"data":[{"prompt":"A","response":"B"},{"prompt":"C","response":"D"}]}', ["B", "D"]),
    "a wrapper of splits": ('{"train":[{"prompt":"A","response":"B"}],\n"test":[{"prompt":"C","response":"D"}]}', ["B", "D"]),
    "a wrapper that is cut": ('{"data": [\n{"prompt":"A","response":"B"},\n', ["B", "truncated_input"]),
    "objects in a row": ('{"prompt":"A","response":"B"}{"prompt":"C","response":"D"}\n' * 1, ["B", "D"]),
    "arrays in a row": ('[{"prompt":"A","response":"B"}][{"prompt":"C","response":"D"}]', ["B", "D"]),
    "several dialogues under one name": ('{"id":"x","conversations":[[{"role":"user","content":"A"},{"role":"ai","content":"B"}],[{"role":"user","content":"C"},{"role":"ai","content":"D"}]]}', ["B", "D"]),
    "dialogues by id": ('{"a":[{"role":"user","content":"A"},{"role":"ai","content":"B"}],"b":[{"role":"user","content":"C"},{"role":"ai","content":"D"}]}', ["B", "D"]),
    "records by id": ('{"a":{"prompt":"A","response":"B"},"b":{"prompt":"C","response":"D"}}', ["B", "D"]),
    "a wrapper in a wrapper": ('{"data":{"items":[{"prompt":"A","response":"B"},{"prompt":"C","response":"D"}]}}', ["B", "D"]),
    "rows of an API": ('{"features":[{"name":"x"}],"rows":[{"row_idx":0,"row":{"prompt":"A","response":"B"}},{"row_idx":1,"row":{"prompt":"C","response":"D"}}]}', ["B", "D"]),
    "columns": ('{"prompt":["A","C"],"response":["B","D"]}', ["B", "D"]),
    "a table of messages": ('[{"conversation_id":1,"role":"user","content":"A"},{"conversation_id":2,"role":"user","content":"C"},{"conversation_id":1,"role":"ai","content":"B"},{"conversation_id":2,"role":"ai","content":"D"}]', ["B", "D"]),
    "a table of messages counted from 0": ('[{"conversation_id":0,"role":"user","content":"A"},{"conversation_id":0,"role":"ai","content":"B"},{"conversation_id":1,"role":"user","content":"C"},{"conversation_id":1,"role":"ai","content":"D"}]', ["B", "D"]),
    "a tree of messages": ('[{"message_id":"1","parent_id":null,"role":"prompter","text":"A"},{"message_id":"2","parent_id":"1","role":"assistant","text":"B"},{"message_id":"3","parent_id":"1","role":"assistant","text":"C"}]', ["ambiguous"]),
    "one conversation as a table": ('[{"session_id":1,"role":"user","content":"A"},{"session_id":1,"role":"ai","content":"B"}]', ["B"]),
    "one unknown list per line": ('{"talk":[{"role":"user","content":"A"},{"role":"ai","content":"B"}]}\n{"talk":[{"role":"user","content":"C"},{"role":"ai","content":"D"}]}\n', ["B", "D"]),
    "an unknown list beside a name": ('{"n":"1","talk":[{"role":"user","content":"A"},{"role":"ai","content":"B"}]}', ["no_messages"]),
    "candidates beside turns are no columns": ('{"context":[{"role":"user","content":"A"},{"role":"ai","content":"B"}],"responses":["x","y"]}', ["ambiguous"]),
    "question and answer as messages": ('{"prompt":{"role":"user","content":"A"},"response":{"role":"assistant","content":"B"}}\n' * 1, ["B"]),
    "published commas as JSON lines": ('{"conv_id":"c","utterance_idx":1,"context":"s","prompt":"p","speaker_idx":1,"utterance":"A"}\n{"conv_id":"c","utterance_idx":2,"context":"s","prompt":"p","speaker_idx":2,"utterance":"B_comma_ b"}\n', ["B, b"]),
    "columns of inputs and targets": ('{"inputs":["A","C"],"targets":["B","D"]}', ["B", "D"]),
    "columns of plural answers": ('{"prompt":["A","C"],"completions":["B","D"]}', ["B", "D"]),
    "messages that begin a session": ('[{"role":"user","content":"A","session_id":"s"},{"role":"ai","content":"B"}]', ["B"]),
    "a key per message": ('[{"role":"user","content":"A","thread_id":"1"},{"role":"ai","content":"B","thread_id":"2"}]', ["B"]),
    "a parent that is a thread": ('[{"role":"user","content":"A","parent_id":"t"},{"role":"ai","content":"B","parent_id":"t"}]', ["B"]),
    "trees in a row": ('[{"id":"1","role":"user","content":"A"},{"id":"2","parent_id":"1","role":"ai","content":"B"},{"id":"3","parent_id":"1","role":"ai","content":"C"}] [{"role":"user","content":"A"},{"role":"ai","content":"D"}]\n{"prompt":"A","response":"E"}\n', ["ambiguous", "D", "E"]),
    "a message that is none": ('{"messages":[{"role":"user","content":"a"},"x",{"role":"system","content":"z"}]}\n{"prompt":"A","response":"B"}\n', ["wrong_type", "B"]),
    "a wrapper of one with a status": ('{"message":"success","output":[{"prompt":"A","response":"B"}]}', ["B"]),
    "pairs without a name, one dialogue per line": ('[["usr","A"],["sys","B"]]\n[["usr","C"],["sys","D"],["usr","E"]]\n', ["B", "D"]),
    "pairs without a name in an array": ('[[["User","A"],["Assistant","B"]],\n[["User","C"],["Assistant","D"]]]', ["B", "D"]),
    "pairs of a name that is unknown": ('[["Anna","A"],["Bo","B"]]', ["not_an_object"] * 4),
    "a path of an exported chat": ('[{"title":"t","mapping":{"r":{"parent":null,"message":null},"s":{"parent":"r","message":{"author":{"role":"system"},"content":{"content_type":"text","parts":[""]}}},"a":{"parent":"s","message":{"author":{"role":"user"},"content":{"content_type":"text","parts":["A"]}}},"b":{"parent":"a","message":{"author":{"role":"assistant"},"content":{"content_type":"text","parts":["B"]}}},"c":{"parent":"a","message":{"author":{"role":"assistant"},"content":{"content_type":"text","parts":["C"]}}}},"current_node":"b"}]', ["B"]),
    "an exported chat without a branch": ('{"mapping":{"r":{"parent":null,"message":null},"s":{"parent":"r","message":{"author":{"role":"system"},"content":{"content_type":"text","parts":[""]}}},"a":{"parent":"s","message":{"author":{"role":"user"},"content":{"content_type":"text","parts":["A"]}}},"h":{"parent":"a","message":{"author":{"role":"system"},"content":{"content_type":"text","parts":["H"]},"metadata":{"is_visually_hidden_from_conversation":true}}},"t":{"parent":"h","message":{"author":{"role":"assistant"},"content":{"content_type":"thoughts","thoughts":[]}}},"b":{"parent":"t","message":{"author":{"role":"assistant"},"content":{"content_type":"text","parts":["B"]}}}}}\n', ["B"]),
    "an exported chat that names no path": ('{"mapping":{"r":{"parent":null,"message":null},"s":{"parent":"r","message":{"author":{"role":"system"},"content":{"content_type":"text","parts":[""]}}},"a":{"parent":"s","message":{"author":{"role":"user"},"content":{"content_type":"text","parts":["A"]}}},"b":{"parent":"a","message":{"author":{"role":"assistant"},"content":{"content_type":"text","parts":["B"]}}},"c":{"parent":"a","message":{"author":{"role":"assistant"},"content":{"content_type":"text","parts":["C"]}}}},"current_node":[]}\n', ["ambiguous"]),
    "an exported chat that meets itself": ('{"mapping":{"a":{"parent":"b","message":{"author":{"role":"user"},"content":{"content_type":"text","parts":["A"]}}},"b":{"parent":"a","message":{"author":{"role":"assistant"},"content":{"content_type":"text","parts":["B"]}}}},"current_node":"b"}\n', ["B"]),
    "a mapping of something else": ('{"mapping":{"a":{"parent":[],"message":1}}}\n', ["no_messages"]),
    "Excel's line before the header": ('sep=;\r\nprompt;response\r\nA;"B; b"\r\n', ["B; b"]),
    "Excel's line alone": ("sep=;\n", ["wrong_columns"]),
    "a wrapper with a status": ('{"message":"success","output":[{"prompt":"A","response":"B"},{"prompt":"C","response":"D"}]}', ["B", "D"]),
    "columns of pandas": ('{"prompt":{"0":"A","1":"C"},"response":{"0":"B","1":"D"}}', ["B", "D"]),
    "records with commas between": ('{"prompt":"A","response":"B"},\n{"prompt":"C","response":"D"},\n', ["B", "D"]),
    "rows as JSON lines": ('{"conv_id":"c","utterance_idx":2,"context":"s","prompt":"p","speaker_idx":2,"utterance":"B"}\n{"conv_id":"c","utterance_idx":1,"context":"s","prompt":"p","speaker_idx":1,"utterance":"A"}\n', ["B"]),
    "indices that pandas wrote": (f"{H}\nc,1.0,s,p,1,A\nc,2.0,s,p,2,B\n", ["B"]),
    "a third speaker": (f"{H}\nc,1,s,p,1,A\nc,2,s,p,2,B\nc,3,s,p,3,C\n", ["B", "broken_conversation"]),
    "a blank line in a quoted field": ('prompt,response\n"A\n\na","B\n\nb"\n', ["B\n\nb"]),
    "an index column": (",prompt,response\n0,A,B\n", ["B"]),
    "a table of messages alone": ('messages\n"[{""role"":""user"",""content"":""A""},{""role"":""ai"",""content"":""B""}]"\n', ["B"]),
    "a field too many": ("prompt,response\nA,B,C\nC,D\n", ["wrong_columns", "D"]),
    "lines that end in CR alone": ("prompt,response\rA,B\rC,D\r", ["wrong_columns"]),
    "a table of unknown columns": ("frage;antwort\nA;B\nC;D\n", ["wrong_columns"]),
    "a request and its response": ('{"request":{"messages":[{"role":"user","content":"A"}]},"response":"B"}', ["B"]),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_file_gives_what_is_meant_or_says_why_not(tmp_path: Path, case: str) -> None:
    text, expected = FILES[case]
    path = tmp_path / "in"
    path.write_text(text, encoding="utf-8")
    found = list(Corpus([str(path)]))
    assert [item.response if isinstance(item, Dialogue) else item.reason for item in found] == expected
    ids = [item.id for item in found if isinstance(item, Dialogue)]
    assert len({*ids}) == len(ids)


def test_file_larger_than_what_waits_says_which_rows_came_too_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scorer.inputs.empathetic_dialogues.MAX_ROWS", 20)
    out = io.StringIO(f"{H}\n")
    out.seek(0, io.SEEK_END)
    out.writelines(f"c{number},{index},s,p,{index},{number}-{index}\n" for number in range(30) for index in (1, 2))
    out.write("c0,3,s,p,1,late\n")
    path = tmp_path / "in.csv"
    path.write_text(out.getvalue())
    found = list(Corpus([str(path)]))
    assert [item.response for item in found if isinstance(item, Dialogue)] == [f"{number}-2" for number in range(30)]
    assert [item.detail for item in found if not isinstance(item, Dialogue)][0].endswith(
        "sort the file by conv_id and utterance_idx"
    )
