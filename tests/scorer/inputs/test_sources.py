"""Names, folders, globs: which files they stand for, and one clear line where they stand for none."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scorer.errors import InputError
from scorer.inputs.corpus import Corpus
from scorer.inputs.files.compressed import Decompressed, TruncatedStreamError
from scorer.inputs.files.sources import Source
from scorer.outputs import is_own_output
from tests.conftest import record
from tests.scorer.inputs.input_data import data, error, ids, write, write_dataset, write_dataset_dict


def test_several_names_are_read_in_the_order_given(tmp_path: Path) -> None:
    assert ids(write(tmp_path / "b", "b"), write(tmp_path / "a", "a")) == ["b", "a"]


def test_folder_is_read_recursively_in_sorted_order(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a/2.jsonl", "a/1.jsonl", "c/d/e.jsonl", "a/10.jsonl"):
        write(tmp_path / name, name)
    assert ids(tmp_path) == ["a/1.jsonl", "a/10.jsonl", "a/2.jsonl", "b.jsonl", "c/d/e.jsonl"]


OWN = "rejects.jsonl out.jsonl.rejects.jsonl out.parquet.rejects.jsonl out.jsonl.meta.json _manifest.jsonl x.partial"
OTHERS = ".hidden.jsonl .cache/x.jsonl out.jsonl.partial/x.jsonl dataset_dict.json"


@pytest.mark.parametrize("name", [*OWN.split(), *OTHERS.split()])
def test_hidden_files_and_own_outputs_in_a_folder_are_passed_over(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, "never")
    write(tmp_path / "in.jsonl", "a")
    corpus = Corpus([str(tmp_path)])
    assert [Path(source.name).name for source in corpus.sources] == ["in.jsonl"]
    assert corpus.skipped == []


def test_own_output_is_read_where_it_is_named(tmp_path: Path) -> None:
    assert ids(write(tmp_path / "rejects.jsonl", "a")) == ["a"]


NO_DATA = [
    *("# Data\n", "[![badge](https://example.org/b.svg)](https://example.org)\n", "[1]: https://example.org\n"),
    *('{"note": "no dialogue"}\n', '{\n "settings": 1\n}\n', "plain text\n", "", "\x1f\x8b"),
]


@pytest.mark.parametrize("text", NO_DATA, ids=range(8))
@pytest.mark.parametrize("name", ["README.md", "LICENSE"])
def test_other_files_in_a_folder_are_passed_over_and_listed(tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path / "in.jsonl", "a")
    (tmp_path / name).write_text(text)
    corpus = Corpus([str(tmp_path)])
    assert [source.name for source in corpus.sources] == [str(tmp_path / "in.jsonl")]
    assert corpus.skipped == [str(tmp_path / name)]


def test_gzip_that_breaks_at_once_is_passed_over_unless_its_name_says_data(tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", "a")
    (tmp_path / "x.gz").write_bytes(b"\x1f\x8bso sorry")
    (tmp_path / "y.jsonl.gz").write_bytes(b"\x1f\x8bso sorry")
    corpus = Corpus([str(tmp_path)])
    assert corpus.skipped == [str(tmp_path / "x.gz")]
    assert len(corpus.sources) == 2


def test_data_in_a_folder_are_recognised_without_a_suffix(tmp_path: Path) -> None:
    items = [record("hi", "hello", id="x")]
    table = pa.Table.from_pylist(items)
    (tmp_path / "1-lines").write_bytes(data("lines"))
    (tmp_path / "2-array.txt").write_text(json.dumps([record("hi", "hello", id="array")], indent=2))
    (tmp_path / "3-gz").write_bytes(gzip.compress(data("gz")))
    pq.write_table(table, tmp_path / "4-parquet")
    (tmp_path / "5-csv").write_text("conv_id,utterance_idx,speaker_idx,utterance\nc,1,0,a\nc,2,1,b\n")
    with pa.OSFile(str(tmp_path / "6-arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    corpus = Corpus([str(tmp_path)])
    assert [Path(source.name).name[0] for source in corpus.sources] == list("123456")
    assert corpus.skipped == []


def test_link_to_a_folder_above_is_not_followed_for_ever(tmp_path: Path) -> None:
    write(tmp_path / "a" / "in.jsonl", "a")
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert ids(tmp_path) == ["a"]


def test_link_to_data_elsewhere_is_followed(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "in.jsonl", "a")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert ids(tmp_path / "data") == ["a"]


def test_glob_gives_its_matches_in_sorted_order(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "c.txt", "d/e.jsonl"):
        write(tmp_path / name, name)
    assert ids(tmp_path / "*.jsonl") == ["a.jsonl", "b.jsonl"]
    assert ids(tmp_path / "**" / "*.jsonl") == ["a.jsonl", "b.jsonl", "d/e.jsonl"]
    assert ids(tmp_path / "?") == ["d/e.jsonl"]


@pytest.mark.parametrize("name", ["a[1].jsonl", "what?.jsonl", "*.jsonl", "[ab]"])
def test_file_whose_name_holds_glob_characters_is_itself(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, "itself")
    write(tmp_path / "a1.jsonl", "other")
    assert ids(tmp_path / name) == ["itself"]


@pytest.mark.parametrize("name", ["a b.jsonl", "été.jsonl", "-x.jsonl", "a\nb.jsonl", os.fsdecode(b"\xff.jsonl")])
def test_any_file_name_is_read(tmp_path: Path, name: str) -> None:
    assert ids(write(tmp_path / name, "a")) == ["a"]


def test_name_given_twice_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.jsonl", "a")
    for first, second in (*(("a.jsonl", name) for name in ("a.jsonl", "*.jsonl", ".", str(tmp_path))), ("-", "-")):
        assert "named twice" in error(first, second)


def test_missing_name_is_an_error_even_among_good_ones(tmp_path: Path) -> None:
    good = write(tmp_path / "a.jsonl", "a")
    missing = tmp_path / "missing.jsonl"
    assert error(good, missing) == f"{missing}: no such file or folder"
    assert error(tmp_path / "*.csv") == f"{tmp_path}/*.csv: the pattern matches no file"
    assert "no such file" in error(good / "below-a-file")


@pytest.mark.parametrize("name", ["a\x00b", "x" * 5000])
def test_name_that_no_file_can_have_is_an_error(name: str) -> None:
    assert re.search("no such file|cannot be read", error(name))


def test_empty_name_is_an_error_and_not_the_current_folder() -> None:
    assert "empty name" in error("")


def test_folder_without_data_is_an_error_that_names_what_it_holds(tmp_path: Path) -> None:
    assert "no file of dialogues there" in error(tmp_path)
    (tmp_path / "README.md").write_text("# Data\n")
    assert "README.md" in error(tmp_path)


def test_link_to_nothing_is_an_error_by_name_and_passed_over_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "nowhere")
    assert "no such file" in error(tmp_path / "link.jsonl")
    write(tmp_path / "a.jsonl", "a")
    assert ids(tmp_path) == ["a"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_file_without_permission_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", "a")
    path.chmod(0)
    with pytest.raises(InputError, match="Permission denied"):
        list(Corpus([str(path)]))


def test_file_that_went_away_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", "a")
    corpus = Corpus([str(path)])
    path.unlink()
    with pytest.raises(InputError, match=r"a\.jsonl: cannot be read: No such file"):
        list(corpus)


def test_file_that_cannot_be_read_further_is_an_error() -> None:
    # The kernel opens this file and refuses to read its beginning: EIO, as a failing disk does.
    with pytest.raises(InputError, match="/proc/self/mem: cannot be read further: Input/output error"):
        list(Corpus(["/proc/self/mem"]))


def test_datasets_folder_gives_its_arrow_files_and_nothing_else(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "set", ["a", "b"], ["c"])
    (folder / "cache-0123.arrow").write_bytes((folder / "data-00000-of-00002.arrow").read_bytes())
    assert ids(folder) == ["a", "b", "c"]


def test_datasets_folder_is_read_in_the_order_of_its_state(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "set", ["a"], ["b"])
    state = json.loads((folder / "state.json").read_text())
    state["_data_files"].reverse()
    (folder / "state.json").write_text(json.dumps(state))
    assert ids(folder) == ["b", "a"]


def test_dataset_dict_folder_gives_every_split(tmp_path: Path) -> None:
    folder = write_dataset_dict(tmp_path / "sets")
    assert ids(folder) == ["a", "b", "c"]
    assert ids(folder / "validation") == ["c"]


@pytest.mark.parametrize(
    "state", ["", "[]", "{}", '{"_data_files": [{}]}', '{"_data_files": 1}', '{"_data_files": [1]}']
)
def test_datasets_folder_with_a_broken_state_is_an_error(tmp_path: Path, state: str) -> None:
    folder = write_dataset(tmp_path / "set", ["a"])
    (folder / "state.json").write_text(state)
    assert "state.json" in error(folder)


@pytest.mark.parametrize("name", ["missing.arrow", "../secret.arrow"])
def test_datasets_state_can_name_only_files_of_its_folder(tmp_path: Path, name: str) -> None:
    folder = write_dataset(tmp_path / "set", ["a"])
    (tmp_path / "secret.arrow").write_bytes((folder / "data-00000-of-00001.arrow").read_bytes())
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    assert name in error(folder)


def test_own_outputs_are_known_by_name() -> None:
    assert all(map(is_own_output, [*OWN.split(), "_manifest-1-of-3.jsonl"]))
    assert not any(map(is_own_output, ["rejects.json", "a.jsonl", "manifest.jsonl"]))


# Streams


def test_decompressed_stream_gives_all_before_a_fault_and_then_always_the_fault() -> None:
    packed = gzip.compress(b"x" * 100_000) + b"yy"
    stream = io.BufferedReader(Decompressed(gzip.GzipFile(fileobj=io.BytesIO(packed)), lambda: 0), 1 << 16)
    assert b"".join(stream.read1() for _ in range(2)) == b"x" * 100_000
    for _ in range(2):
        with pytest.raises(TruncatedStreamError, match="Not a gzipped file"):
            stream.read1()


def test_position_of_a_source_never_goes_back_nor_beyond_its_size() -> None:
    source = Source("a", 10)
    for position, expected in ((4, 4), (2, 4), (30, 10)):
        source.advance_to(position)
        assert source.bytes_read == expected


def test_a_missing_archive_is_said_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught, Source(f"tar://a.jsonl::{tmp_path}/gone.tar").open():
        pass
    assert str(caught.value) == f"{tmp_path}/gone.tar: cannot be read: No such file or directory"
