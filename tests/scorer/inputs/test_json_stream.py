"""JSON values from a stream: the same as `json.loads` gives, and the rest of a file behind a broken one."""

from __future__ import annotations

import io
import json
import random
import time
from typing import Any

import pytest

from scorer.inputs import json_stream
from scorer.inputs.json_stream import iter_objects
from scorer.inputs.parse import RecordError
from tests.conftest import record

CHUNKS = (1, 2, 7, 64, 1 << 18)


def read(data: str | bytes, limit: int = 1 << 20) -> list[Any]:
    """Return the values and, for what is broken, the reasons as text."""
    stream = io.BytesIO(data.encode() if isinstance(data, str) else data)
    return [item.reason if isinstance(item, RecordError) else item[0] for item in iter_objects(stream, limit)]


@pytest.fixture(params=CHUNKS)
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Characters that are read at a time, so that elements are split anywhere."""
    size: int = request.param
    monkeypatch.setattr(json_stream, "_CHUNK", size)
    return size


def random_value(rng: random.Random, depth: int = 0) -> Any:
    """Return a JSON value of any type, with all that a string may hold."""
    kind = rng.randrange(8 if depth < 3 else 6)
    if kind < 2:
        return "".join(rng.choices('ab{}[],:"\\/\n\té😭\u2028\x00', k=rng.randrange(9)))
    if kind == 2:
        return rng.choice([0, -1, 10**30, 1.5, -2.5e-7, 1e300, 123456])
    if kind < 6:
        return rng.choice([None, True, False, "", [], {}])
    if kind == 6:
        return [random_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {str(random_value(rng, 3)): random_value(rng, depth + 1) for _ in range(rng.randrange(4))}


@pytest.mark.usefixtures("chunk")
def test_random_arrays_are_read_as_json_loads_reads_them() -> None:
    rng = random.Random(0)
    for _ in range(400):
        values = [
            value for value in (random_value(rng) for _ in range(rng.randrange(6))) if not isinstance(value, list)
        ]
        text = json.dumps(values, indent=rng.choice([None, 0, 2]), ensure_ascii=rng.random() < 0.5)
        assert read(text) == json.loads(text), text


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("text", ["[1e5, -1.5E+10, 12345, 0]", "[true, false, null]", '["\\ud83d\\ude2d", "é"]'])
def test_numbers_and_words_split_between_two_reads_stay_whole(text: str) -> None:
    assert read(text) == json.loads(text)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("text", ["12345", "-1e-5", "true", '"é"'])
def test_single_value_at_the_end_stays_whole(text: str) -> None:
    assert read(text) == [json.loads(text)]


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("between", ["", " ", "\n", ",", ",\n  ", "\r\n"])
def test_objects_one_after_another_need_no_array(between: str) -> None:
    values = [record("Hi.", "Hello!", id=str(number)) for number in range(3)]
    assert read(between.join(json.dumps(value, indent=1) for value in values)) == values


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("text", ["", " \n", "[]", "[ ]\n", "\n[\n]\n"])
def test_nothing_gives_nothing(text: str) -> None:
    assert read(text) == []


GOOD = [record("Hi.", "Hello!", id=str(number)) for number in range(4)]
FIRST, SECOND, THIRD, FOURTH = (json.dumps(value) for value in GOOD)
BROKEN = {
    "a missing quotation mark": '{"id": "x, "messages": [{"role": "user", "content": "Hi."}]}',
    "a missing colon": '{"id" "x", "messages": []}',
    "a missing brace": '{"id": "x", "messages": [{"role": "user", "content": "Hi."}]',
    "a missing bracket": '{"id": "x", "messages": [{"role": "user", "content": "Hi."}}',
    "a bad escape": r'{"id": "\x", "messages": []}',
    "a raw line break in a text": '{"id": "x\ny", "messages": []}',
    "a comma too many": '{"id": "x", "messages": [],}',
    "no JSON": "so sorry",
    "Python": "{'id': None}",
}


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("case", BROKEN)
def test_broken_element_costs_no_other(case: str) -> None:
    text = f"[{FIRST}, {BROKEN[case]}, {SECOND}, {THIRD}]"
    assert read(text) == [GOOD[0], "broken_json", GOOD[1], GOOD[2]]


FAULTS: dict[str, tuple[str | bytes, list[Any]]] = {
    "several, the last of which runs into the closing bracket": (
        f"[{BROKEN['Python']}, {FIRST}, {BROKEN['a bad escape']}, {SECOND}, {BROKEN['no JSON']}]",
        ["broken_json", GOOD[0], "broken_json", GOOD[1], "broken_json", "truncated_input"],
    ),
    "no closing bracket": (f"[{FIRST}, {SECOND}", [*GOOD[:2], "truncated_input"]),
    "the end in an element": (f"[{FIRST}, {SECOND[:-20]}", [GOOD[0], "broken_json", "truncated_input"]),
    **{f"a comma {between!r}": (f"[{FIRST}{between}{SECOND}]", GOOD[:2]) for between in (" ", "", "\n", ",,", ", ,\n")},
    **{
        f"{garbage} after the array": (f"[{FIRST}] {garbage}", [GOOD[0], "broken_json"])
        for garbage in ("garbage", "]", "}", "\\", '"open')
    },
    "no UTF-8": (
        f"[{FIRST}, {SECOND}, {THIRD}]".encode().replace(b"Hi.", b"Hi\xff", 2).replace(b"Hi\xff", b"Hi.", 1),
        [GOOD[0], "invalid_utf8", GOOD[2]],
    ),
    "half a character at the end": (f"[{FIRST}]".encode() + b"\xf0\x9f", [GOOD[0], "broken_json"]),
}


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_told_and_costs_no_element_beside_it(case: str) -> None:
    text, expected = FAULTS[case]
    assert read(text) == expected


def test_second_array_and_an_array_after_a_byte_order_mark_are_read() -> None:
    assert read(f"[{FIRST}]\n[{SECOND}]")[:2] == GOOD[:2]
    assert read(f"\ufeff[{FIRST}]") == GOOD[:1]


def test_element_longer_than_the_limit_costs_itself_alone() -> None:
    long = json.dumps(record("x" * 600_000, "Hello!"))  # longer than one read, too
    assert read(f"[{FIRST}, {long}, {SECOND}]", 1 << 12) == [GOOD[0], "broken_json", GOOD[1]]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 2_000, '[{"messages":' * 2_000])
def test_deep_nesting_is_told(text: str) -> None:
    assert set(read(text)) <= {"broken_json", "truncated_input"}
    assert read(text)


def test_raw_text_of_each_element_is_given() -> None:
    items = list(iter_objects(io.BytesIO(f"[{FIRST} , {SECOND}]".encode()), 1 << 20))
    assert [item[1] for item in items if not isinstance(item, RecordError)] == [FIRST, SECOND]


def test_quotation_mark_missing_at_the_beginning_of_a_long_array_costs_one_element() -> None:
    values = [record(f"turn {number} " * 20, "Hello!", id=str(number)) for number in range(5_000)]
    text = json.dumps(values).replace('"id": "0"', '"id": "0', 1)
    assert read(text, 1 << 25) == ["broken_json", *values[1:]]


NESTED = '{"a":1,"b":'
HOSTILE = {
    "objects in objects that never close": NESTED,
    "records in objects that never close": f'"a":{FIRST},"z":{{',
    "objects in objects that do close": '"x":' + NESTED * 900 + "1" + "}" * 900 + ",",
    "lists in objects": '{"a":[[',
    "broken elements": f"{FIRST},x,",
    "brackets": "][",
    "open brackets": "[",
    "braces": "{",
    "quotation marks": '{"',
    "texts with braces": '{":":","{":',
    "escaped quotation marks": '{"\\"',
    "bad escapes": '{"\\',
    "half escapes": '{"\\u12',
    "not ASCII": '{"😭":',
    "line breaks": '{\n"a":\n',
    "wrappers that end badly": f'{{"data":[{FIRST}],"k":[}}',
}


@pytest.mark.parametrize("case", HOSTILE)
def test_work_is_bounded_per_byte_whatever_is_broken(case: str) -> None:
    text = "[" + HOSTILE[case] * (100_000 // len(HOSTILE[case]))
    began = time.process_time()
    read(text, 1 << 25)
    assert time.process_time() - began < 5


def test_objects_that_never_close_are_not_parsed_from_each_of_them() -> None:
    began = time.process_time()
    assert set(read("[" + NESTED * 80_000, 1 << 25)) == {"broken_json", "truncated_input"}
    assert time.process_time() - began < 8  # it took 25 s


def test_records_behind_and_inside_much_that_is_broken_are_found() -> None:
    objects = json.dumps({str(number): GOOD[0] for number in range(4_000)})
    text = f"{objects[:-1]}" * 2  # cut short twice: each ends in the middle of the next
    assert read(text, 1 << 25).count(GOOD[0]) == 8_000


def test_elements_behind_one_that_fills_the_buffer_cost_no_more_than_others() -> None:
    text = '["' + "x" * 8_000_000 + "\n" + f", {FIRST}" * 60_000 + "]"  # each copied what was left: 200 GB
    began = time.process_time()
    assert read(text, 1 << 25).count(GOOD[0]) == 60_000
    assert time.process_time() - began < 10
