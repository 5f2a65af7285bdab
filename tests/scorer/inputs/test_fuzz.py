"""Mutated inputs: never an exception, every record accounted for as scored or rejected, no neighbour lost."""

from __future__ import annotations

import copy
import gzip
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scorer.dialogue import Dialogue
from scorer.inputs.corpus import Corpus
from scorer.inputs.files.sources import Source
from scorer.inputs.formats import read_source
from scorer.inputs.parse import Reject
from scorer.model import Scorer
from tests.conftest import record
from tests.scorer.inputs.input_data import arrow, parquet

Check = Callable[[list[Dialogue | Reject]], None]

FEW, MANY = 600, 10_000
JUNK: tuple[Any, ...] = (
    *(None, True, -1, 1e308, float("nan"), 10**400, "", "   ", "\u200b", "\x00", "\ud800", "a\udc80b", "[SEP] </s>"),
    *("x" * 3000, [], {}, [[]], [None], [{}], {"role": "user"}, {"content": []}, "user", "assistant", [["a"] * 3] * 3),
)


def dialogues(rng: random.Random) -> list[dict[str, Any]]:
    """Return one to five records in a random form, all of them good."""
    records = []
    for number in range(rng.randint(1, 5)):
        texts = [
            f"turn {i} of {number}: I'm {rng.choice(['sad', 'glad', 'été', '😭'])}." for i in range(rng.choice([2, 4]))
        ]
        base = record(*texts, id=f"d{number}")
        form = rng.choice(["messages", "sharegpt", "release"])
        if form == "sharegpt":
            base["conversations"] = [{"from": m["role"], "value": m["content"]} for m in base.pop("messages")]
        elif form == "release":
            base.update(context="</s>".join(texts[:-1]), response=texts[-1], evaluation="Rationality: 3 Sensibility: 8")
            del base["messages"]
        records.append(base)
    return records


def mutate_value(value: Any, rng: random.Random) -> Any:
    """Return a copy of a JSON value with something in it replaced, removed or doubled."""
    value = copy.deepcopy(value)
    places = list(walk(value))
    parent, key = rng.choice(places)
    action = rng.random()
    if action < 0.7:
        parent[key] = rng.choice(JUNK)
    elif action < 0.85:
        del parent[key]
    elif isinstance(parent, list):
        parent.insert(key, parent[key])
    else:
        parent[str(key) + "x"] = parent.pop(key)
    return value


def walk(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key) of everything inside a JSON value."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from walk(value[key])


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return bytes with one to three places changed, inserted, removed, doubled or swapped."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data) + 1)
        size = rng.choice([1, 1, 1, 2, 7, 40])
        piece = rng.choice(
            [b"", bytes([rng.randrange(256)]), b'"', b"\\", b"{", b"}", b"[", b"]", b",", b"\n", b"\x00", b"\xff\xfe"]
        )
        data = rng.choice(
            [
                data[:at] + piece + data[at:],
                data[:at] + piece + data[at + size :],
                data[:at] + data[at:][:size] + data[at:],
            ]
        )
    return data


def as_lines(records: list[Any], rng: random.Random) -> bytes:
    return b"".join(
        json.dumps(item, ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass") + b"\n" for item in records
    )


def as_array(records: list[Any], rng: random.Random) -> bytes:
    return json.dumps(records, indent=rng.choice([None, 1])).encode()


def read(path: Path, rng: random.Random) -> list[Dialogue | Reject]:
    return list(Corpus([str(path)], labels=rng.choice(["ignore", "optional"])))


@pytest.fixture(params=[FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"])
def count(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def check(scorer: Scorer) -> Check:
    """Assert that what was read is scored or rejected with a reason."""

    def check(found: list[Dialogue | Reject]) -> None:
        accepted = [item for item in found if isinstance(item, Dialogue)]
        rejected = [item for item in found if isinstance(item, Reject)]
        assert all(reject.reason and reject.detail and reject.source for reject in rejected)
        scores = scorer.score(accepted)
        assert np.isfinite(scores).all()
        assert ((scores >= 0) & (scores <= 10)).all()

    return check


def test_a_mutated_value_in_json_lines(tmp_path: Path, count: int, check: Check) -> None:
    rng = random.Random(1)
    path = tmp_path / "in"
    for _ in range(count // 4):
        records = dialogues(rng)
        records[0] = mutate_value(records[0], rng)
        path.write_bytes(as_lines(records, rng))
        found = read(path, rng)
        assert len(found) == len(records)
        assert {item.id for item in found if isinstance(item, Dialogue)} >= {f"d{i}" for i in range(1, len(records))}
        check(found)


def test_mutated_bytes_in_json_lines(tmp_path: Path, count: int, check: Check) -> None:
    rng = random.Random(2)
    path = tmp_path / "in"
    # A good line first, so that the file is still recognised as lines and every further line is one record.
    good = as_lines([record("first", "line", id="good")], rng)
    for _ in range(count // 4):
        data = good + mutate_bytes(as_lines(dialogues(rng), rng), rng)
        path.write_bytes(data)
        found = read(path, rng)
        assert len(found) == sum(1 for line in data.split(b"\n") if not_blank(line))
        assert isinstance(found[0], Dialogue)
        check(found)


def not_blank(line: bytes) -> bool:
    return bool(line.decode(errors="replace").strip())


def test_mutated_bytes_in_a_json_array(tmp_path: Path, count: int, check: Check) -> None:
    rng = random.Random(3)
    path = tmp_path / "in"
    for _ in range(count // 4):
        parts = [json.dumps(item).encode() for item in dialogues(rng)]
        broken = rng.randrange(len(parts))
        parts[broken] = mutate_bytes(parts[broken][:-1], rng) + parts[broken][-1:]
        path.write_bytes(b"[" + b",\n".join(parts) + b"]")
        found = read(path, rng)
        ids = {item.id for item in found if isinstance(item, Dialogue)}
        lost = {f"d{i}" for i in range(len(parts)) if i != broken} - ids
        # What a fault hides can only be what it runs into: the next element.
        assert lost <= {f"d{broken + 1}"}
        assert not lost or any(isinstance(item, Reject) for item in found)
        check(found)


def test_mutated_bytes_anywhere_in_any_file(tmp_path: Path, count: int, check: Check) -> None:
    rng = random.Random(4)
    path = tmp_path / "in"
    csv = b"conv_id,utterance_idx,context,prompt,speaker_idx,utterance\n" + b"".join(
        f"c{i // 4},{i % 4 + 1},sad,my day,{i % 2},it is_comma_ well {i}\n".encode() for i in range(12)
    )
    parquet = tmp_path / "good.parquet"
    pq.write_table(pa.Table.from_pylist([record("a b", "c d", id=f"{i}") for i in range(20)]), parquet)
    for _ in range(count // 4):
        text = (as_lines(dialogues(rng), rng), as_array(dialogues(rng), rng), csv)
        good = rng.choice([*text, parquet.read_bytes(), gzip.compress(csv)])
        path.write_bytes(mutate_bytes(good, rng))
        found = list(read_source(Source(str(path), path.stat().st_size)))
        assert found, "a file gives at least one dialogue or reject"
        check(found)


def columnar() -> dict[str, bytes]:
    """Return files whose bytes say where texts begin, how long they are and what is shared."""
    dialogues = [record(f"i lost {i % 7}", "so sorry")["messages"] for i in range(120)]
    nested = pa.table({"messages": dialogues, "id": [str(i) for i in range(120)]})
    shared = pa.array([f"i lost {i % 5}" for i in range(120)]).dictionary_encode()
    flat = pa.table({"context": shared, "response": pa.array(["so"] * 120, pa.string_view())})
    return {
        "nested.parquet": parquet(nested),
        "flat.parquet": parquet(flat, row_group_size=50, write_page_index=True),
        "delta.parquet": parquet(nested, use_dictionary=False, column_encoding={"id": "DELTA_BYTE_ARRAY"}),
        "nested.arrow": arrow(nested),
        "flat.arrow": arrow(flat),
        "packed.arrow": arrow(flat, pa.ipc.new_file, compression="lz4"),
    }


def test_changed_bytes_in_parquet_and_arrow(tmp_path: Path, count: int, check: Check) -> None:
    """Where nobody looks first, pyarrow ends the process, or reads memory that is not the file's."""
    rng, files = np.random.default_rng(5), list(columnar().items())
    for number in range(count // 2):
        name, data = files[number % len(files)]
        changed = bytearray(data)
        for _ in range(rng.integers(1, 5)):
            changed[rng.integers(4, len(data))] = (0xFF, 0x7F, 0xFE, 0x80, int(rng.integers(256)))[rng.integers(5)]
        (tmp_path / name).write_bytes(changed)
        found = read(tmp_path / name, random.Random(number))
        assert found, number
        check(found)
