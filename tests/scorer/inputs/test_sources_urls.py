"""URLs, in memory, of HTTP and of S3: read like local names, and one clear line where they stand for nothing."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from scorer.cli.main import main
from scorer.errors import InputError
from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import Reject
from tests.conftest import record, write_lines
from tests.scorer.inputs.input_data import data, error, ids, write, write_dataset_dict


def test_url_of_a_file_is_read(memory: Any) -> None:
    memory.pipe("/data/a.jsonl", data("a"))
    memory.pipe("/data/b", gzip.compress(data("b")))
    assert ids("memory://data/a.jsonl", "memory://data/b") == ["a", "b"]


def test_url_of_a_folder_is_read_like_a_local_one(memory: Any) -> None:
    for name in ("b.jsonl", "a/1.jsonl", "c/d/e"):
        memory.pipe(f"/data/{name}", data(name))
    for name in ".x.jsonl .cache/x.jsonl rejects.jsonl o.rejects.jsonl o.partial/x.jsonl _manifest.jsonl".split():
        memory.pipe(f"/data/{name}", data("never"))
    memory.pipe("/data/README.md", b"# Data\n")
    assert ids("memory://data") == ["a/1.jsonl", "b.jsonl", "c/d/e"]
    assert Corpus(["memory://data"]).skipped == ["memory:///data/README.md"]


def test_url_with_a_glob_is_read(memory: Any) -> None:
    for name in ("b.jsonl", "a.jsonl", "c.txt", "d/e.jsonl"):
        memory.pipe(f"/data/{name}", data(name))
    assert ids("memory://data/*.jsonl") == ["a.jsonl", "b.jsonl"]
    assert ids("memory://data/**/*.jsonl") == ["a.jsonl", "b.jsonl", "d/e.jsonl"]
    assert ids("memory://data/?") == ["d/e.jsonl"]


def test_url_whose_name_holds_glob_characters_is_itself(memory: Any) -> None:
    memory.pipe("/data/a[1].jsonl", data("itself"))
    memory.pipe("/data/a1.jsonl", data("other"))
    assert ids("memory://data/a[1].jsonl") == ["itself"]


def test_url_of_a_datasets_folder_is_read(memory: Any, tmp_path: Path) -> None:
    memory.put(str(write_dataset_dict(tmp_path / "sets")), "/sets", recursive=True)
    assert ids("memory://sets") == ["a", "b", "c"]
    assert ids("memory://sets/train") == ["a", "b"]


def test_parquet_behind_a_url_is_read(memory: Any) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([record("hi", "hello", id="a")]), sink)
    memory.pipe("/data/x", sink.getvalue())
    memory.pipe("/data/y", gzip.compress(sink.getvalue()))
    assert ids("memory://data/x") == ["a"]
    assert ids("memory://data/y") == ["a"]


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("url", ["memory://data/missing.jsonl", "memory://data/*.jsonl", "memory://data"])
def test_url_of_nothing_is_an_error(url: str) -> None:
    assert url in error(url)


def test_url_of_a_local_file_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", "a")
    assert ids(f"file://{path}") == ["a"]


@pytest.mark.parametrize("url", ["nosuch://bucket/a.jsonl", "://", "http://"])
def test_url_of_an_unknown_kind_is_an_error(url: str) -> None:
    assert error(url).startswith(f"{url}: ")


@pytest.mark.usefixtures("s3")
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://data/a.jsonl", ["a"]),
        ("s3://data/b.jsonl.gz", ["b"]),
        ("s3://data/set", ["1", "2"]),
        ("s3://data/set/", ["1", "2"]),
        ("s3://data/*.jsonl*", ["a", "b"]),
        ("s3://data", ["a", "b", "1", "2"]),
    ],
)
def test_s3_is_read(url: str, expected: list[str]) -> None:
    assert ids(url) == expected


@pytest.mark.usefixtures("s3")
def test_bytes_read_from_s3_reach_the_total() -> None:
    corpus = Corpus(["s3://data/a.jsonl", "s3://data/b.jsonl.gz"])
    assert len(list(corpus)) == 2
    assert corpus.bytes_read == corpus.total_bytes == len(data("a")) + len(gzip.compress(data("b")))


@pytest.mark.usefixtures("s3")
@pytest.mark.parametrize(
    "url", ["s3://data/missing.jsonl", "s3://data/missing/", "s3://no-such-bucket/a.jsonl", "s3://data/*.csv"]
)
def test_s3_url_of_nothing_is_an_error(url: str) -> None:
    assert url in error(url)


@pytest.fixture
def http_server(tmp_path: Path) -> Iterator[str]:
    """Serve a folder with one file on loopback."""
    write_lines(tmp_path / "in.jsonl", [record("i am sad", "so sorry", id="a")])
    (tmp_path / "bad.jsonl").write_text("no JSON\n")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_file_behind_http_is_read_and_a_missing_one_is_one_line(http_server: str) -> None:
    found = list(Corpus([f"{http_server}/in.jsonl"]))
    assert [item.id for item in found] == ["a"]
    with pytest.raises(InputError, match=r"none.jsonl: no such file"):
        Corpus([f"{http_server}/none.jsonl"])


def test_a_signed_url_is_read_and_its_secrets_show_nowhere(http_server: str) -> None:
    url = http_server.replace("://", "://me:hunter2@")
    found = list(Corpus([f"{url}/in.jsonl?sig=hunter2", f"{url}/bad.jsonl?sig=hunter2"]))
    host = http_server.removeprefix("http://")
    assert [item.source for item in found] == [f"http://***@{host}/{name}.jsonl?***" for name in ("in", "bad")]
    assert isinstance(found[1], Reject)
    for name in ("none.jsonl", "in.jsonl"):
        with pytest.raises(InputError, match=r"none.jsonl\?\*\*\*: no |named twice") as caught:
            Corpus([f"{url}/{name}?sig=hunter2"] * 2)
        assert "hunter2" not in str(caught.value)


def test_a_selection_names_its_inputs_without_secrets(http_server: str, tmp_path: Path) -> None:
    url = http_server.replace("://", "://me:hunter2@")
    scores = tmp_path / "scores.jsonl"
    write_lines(tmp_path / "two.jsonl", [record("i am sad", text, id=text) for text in "ab"])
    write_lines(
        scores, [{"id": "a", "sensibility": 9, "rationality": 1}, {"id": "b", "sensibility": 1, "rationality": 9}]
    )
    into = ["--scores", str(scores), "--raw-cuts", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(main, ["select", f"{url}/two.jsonl?sig=hunter2", *into])
    assert result.exit_code == 0, result.output
    assert "hunter2" not in result.output
    written = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert any(b"two.jsonl?***" in text for text in written)
    assert not any(b"hunter2" in text for text in written)
