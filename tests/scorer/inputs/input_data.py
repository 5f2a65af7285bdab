"""What the tests of inputs share: dialogues in several forms, files and folders of them, and how they are read."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scorer.dialogue import Dialogue
from scorer.errors import InputError
from scorer.inputs.corpus import Corpus
from scorer.inputs.empathetic_dialogues import COLUMNS
from scorer.inputs.parse import LabelUse, Reject, parse_record
from scorer.inputs.records.faults import RecordError
from tests.conftest import make_dialogue, record, write_lines

TEXTS = (
    ("my dog died today", "so sorry"),
    ("we won", "that is great", "it's été", "tell me, what happened? 😭"),
    ("a , b", "c"),
)
EXPECTED = [make_dialogue(*texts) for texts in TEXTS]
RECORDS = [record(*texts) for texts in TEXTS]
_SHAREGPT = {"user": "human", "assistant": "gpt"}
SHAREGPT = [
    {"conversations": [{"from": _SHAREGPT[t["role"]], "value": t["content"]} for t in r["messages"]]} for r in RECORDS
]
ALPACA = [
    {"history": [[*texts[:2]]] if len(texts) > 2 else [], "instruction": texts[-2], "input": "", "output": texts[-1]}
    for texts in TEXTS
]
RELEASE = [{"context": " </s> ".join(texts[:-1]), "response": texts[-1]} for texts in TEXTS]

# EmpatheticDialogues gives a dialogue for each listener turn.
CSV_ROWS = [
    ["c1", "1", "sad", "my dog", "7", "my dog died today"],
    ["c1", "2", "sad", "my dog", "8", "so sorry"],
    ["c2", "1", "proud", "we won", "8", "we won"],
    ["c2", "2", "proud", "we won", "3", "that is great"],
    ["c2", "3", "proud", "we won", "8", "it's été"],
    ["c2", "4", "proud", "we won", "3", "tell me, what happened? 😭"],
]
CSV_DIALOGUES = [TEXTS[0], TEXTS[1][:2], TEXTS[1]]


def csv_text(rows: Sequence[Sequence[str]] = CSV_ROWS, columns: Sequence[str] = COLUMNS, end: str = "\n") -> str:
    """Return rows as the published files have them: a comma in a field is "_comma_" and nothing is quoted."""
    lines = [",".join(field.replace(",", "_comma_") for field in row) for row in [columns, *rows]]
    return end.join(lines) + end


def lines(records: Sequence[object], end: str = "\n") -> bytes:
    return "".join(json.dumps(item) + end for item in records).encode()


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return bytes(sink.getvalue())


def arrow(
    table: pa.Table, writer: Callable[..., Any] = pa.ipc.new_stream, compression: str | None = None, **options: Any
) -> bytes:
    sink = pa.BufferOutputStream()
    with writer(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as stream:
        stream.write_table(table, **options)
    return bytes(sink.getvalue())


def gz(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def zst(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


def read(path: Path, labels: LabelUse = "ignore") -> list[Dialogue | Reject]:
    return list(Corpus([str(path)], labels=labels))


def read_bytes(folder: Path, data: bytes, labels: LabelUse = "ignore") -> list[Dialogue | Reject]:
    path = folder / "in"
    path.write_bytes(data)
    return read(path, labels)


def outline(found: Iterable[Dialogue | Reject]) -> list[Any]:
    """Return ids of dialogues, and (line, reason) of rejects."""
    return [(item.line, item.reason) if isinstance(item, Reject) else item.id for item in found]


def struct_of_lists(records: Sequence[dict[str, Any]], key: str) -> pa.Table:
    """Return what `datasets` makes of a Sequence of a struct: a struct of lists."""
    names = list(records[0][key][0])
    return pa.table({key: [{name: [turn[name] for turn in item[key]] for name in names} for item in records]})


TABLES = {
    "messages": pa.Table.from_pylist(RECORDS),
    "conversations": pa.Table.from_pylist(SHAREGPT),
    "release": pa.Table.from_pylist(RELEASE),
    "Alpaca": pa.Table.from_pylist(ALPACA),
    "messages as struct of lists": struct_of_lists(RECORDS, "messages"),
    "conversations as struct of lists": struct_of_lists(SHAREGPT, "conversations"),
}
PACKED: dict[str, Callable[[bytes], bytes]] = {"gz": gz, "zst": zst, "bz2": bz2.compress, "xz": lzma.compress}
COMPRESSION = {"plain": bytes, **PACKED}


def csv_table(index_type: pa.DataType) -> pa.Table:
    columns = {name: list(values) for name, values in zip(COLUMNS, zip(*CSV_ROWS, strict=True), strict=True)}
    numbers = ("utterance_idx", "speaker_idx")
    return pa.table(
        {n: pa.array([int(v) for v in vs], index_type) if n in numbers else vs for n, vs in columns.items()}
    )


def write(path: Path, *ids: str) -> Path:
    """Write a file of one dialogue an id."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_lines(path, [record(f"hi {id_}", "hello", id=id_) for id_ in ids])


def data(*ids: str) -> bytes:
    return "".join(json.dumps(record(f"hi {id_}", "hello", id=id_)) + "\n" for id_ in ids).encode()


def ids(*names: str | Path) -> list[str]:
    """Return the ids of all that is read; a reject fails the test."""
    found = list(Corpus([str(name) for name in names]))
    assert all(isinstance(item, Dialogue) for item in found), found
    return [item.id or "" for item in found]


def error(*names: str | Path) -> str:
    """Return the one line of the error."""
    with pytest.raises(InputError) as caught:
        Corpus([str(name) for name in names])
    line = str(caught.value)
    assert "\n" not in line
    return line


def write_dataset(folder: Path, *shards: list[str]) -> Path:
    """Write what `datasets.Dataset.save_to_disk` writes: Arrow streams, state.json, dataset_info.json."""
    folder.mkdir(parents=True)
    names = [f"data-{number:05}-of-{len(shards):05}.arrow" for number in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        table = pa.Table.from_pylist([record(f"hi {id_}", "hello", id=id_) for id_ in shard])
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0", "_split": "train"}
    (folder / "state.json").write_text(json.dumps(state, indent=2))
    (folder / "dataset_info.json").write_text(json.dumps({"citation": "", "features": {}}, indent=2))
    return folder


def write_dataset_dict(folder: Path) -> Path:
    """Write what `datasets.DatasetDict.save_to_disk` writes: a folder a split."""
    write_dataset(folder / "train", ["a"], ["b"])
    write_dataset(folder / "validation", ["c"])
    (folder / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    return folder


U, A = {"role": "user", "content": "Hi."}, {"role": "assistant", "content": "OLD"}
AGAIN = {"role": "user", "content": "And you?"}
OPEN = [U, A, AGAIN]
FIT = "ambiguous"
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
GOOD = {"role": "assistant", "content": "NEW"}

Meant = tuple[dict[str, Any], str | tuple[str, ...]]
"""A record, and the answer or all turns that are meant, or the reason why none is judged."""


def said(content: Any, role: str = "assistant", **more: Any) -> dict[str, Any]:
    """Return a message."""
    return {"role": role, "content": content, **more}


def check_meant(value: dict[str, Any], expected: str | tuple[str, ...]) -> None:
    """Assert that a record gives what is meant; a reason of a reject is told in ASCII."""
    found: Any
    try:
        dialogue = parse_record(value)
    except RecordError as error:
        found = error.reason if error.detail.isascii() else error.detail
    else:
        assert dialogue.turns[-1].role == "assistant"
        turns = tuple(turn.content for turn in dialogue.turns)
        found = dialogue.response if isinstance(expected, str) else turns
    assert found == expected
