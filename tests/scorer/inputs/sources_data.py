"""What the tests of sources share: files, folders and `datasets` folders to read, and what is read of them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from scorer.dialogue import Dialogue
from scorer.errors import InputError
from scorer.inputs.corpus import Corpus
from tests.conftest import record, write_lines


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
