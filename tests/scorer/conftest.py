"""Object stores for tests: that of fsspec in memory, and a real S3 server on loopback."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest

from tests.scorer.inputs.input_data import data


@pytest.fixture
def memory() -> Iterator[Any]:
    """The file system in memory of fsspec, emptied afterwards."""
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


@pytest.fixture(scope="module")
def s3_server() -> Iterator[Any]:
    """A client of a real S3 server on loopback, with data in the bucket "data" and none in "made"."""
    boto3 = pytest.importorskip("boto3")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s"
    )
    for bucket in ("data", "made"):
        client.create_bucket(Bucket=bucket)
    objects = {
        "a.jsonl": data("a"),
        "b.jsonl.gz": gzip.compress(data("b")),
        "set/1.jsonl": data("1"),
        "set/sub/2": data("2"),
        "set/rejects.jsonl": data("never"),
        "set/README.md": b"# Data\n",
    }
    for key, body in objects.items():
        client.put_object(Bucket="data", Key=key, Body=body)
    client.close()
    yield url
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a user's FSSPEC_S3_... variables or fsspec.json say: where the server is and who asks."""
    s3fs = pytest.importorskip("s3fs")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": s3_server, "key": "k", "secret": "s"})
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()
