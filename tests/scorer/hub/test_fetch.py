"""Scorers on a hub: fetched once and verified; what is wrong there or on the way is one line."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import time
import warnings
from hashlib import sha256
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from scorer.bundle.bundle import Bundle, load_bundle
from scorer.bundle.cache import cache_folder
from scorer.bundle.info import is_plain_name
from scorer.errors import BundleError
from scorer.hub import fetch as fetching
from scorer.hub.fetch import check_reachable, fetch, hub_faults
from scorer.hub.names import HubName, hub_name
from scorer.model import Scorer
from tests.conftest import Run, record
from tests.scorer.hub.hub_server import NAME, TOKEN, HubServer


def change(hub: HubServer, **files: bytes | None) -> str:
    """Publish the repository again with other files; None takes one away, __ in a name is a dot."""
    repository = hub.repositories[NAME.repo]
    found = dict(repository.commits[repository.branches["main"]])
    for name, data in files.items():
        found.pop(name.replace("__", "."))
        if data is not None:
            found[name.replace("__", ".")] = data
    return repository.commit(found | {f"n{len(repository.commits)}": b""})


def refusal(name: str = str(NAME)) -> str:
    """Return why a scorer cannot be had, one line in which the token is not."""
    with pytest.raises(BundleError) as caught:
        load_bundle(name)
    text = str(caught.value)
    assert text.isprintable()
    assert TOKEN not in text
    return text


# Names.


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("user/repo", HubName("user/repo")),
        ("user/repo@v1.0", HubName("user/repo", "v1.0")),
        ("user/repo@refs/pr/1", HubName("user/repo", "refs/pr/1")),
        ("my-org/a_b.c", HubName("my-org/a_b.c")),
        *((text, None) for text in ("repo", "a/b/c", "./user/repo", "/user/repo", "~/repo", "user/", "../repo", "")),
        *((text, None) for text in ("user/../x", "user/re po", "user/repo@", "-u/repo", "user/.repo", "usér/repo")),
        *((text, None) for text in ("user/repo@../../x", "user\\repo", "https://x/y", "user/repo\n", "tests/scorer")),
    ],
)
def test_what_names_a_scorer_on_the_hub_and_what_a_place_here(
    text: str, found: HubName | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[3])
    assert hub_name(text) == found
    assert hub_name(Path(text)) == found or text in ("./user/repo", "user/", "")
    assert found is None or str(found) == text


# Fetching.


def test_a_scorer_is_downloaded_once_and_only_its_own_files(
    hub: HubServer, published: str, written: Bundle, scorer: Scorer
) -> None:
    for name in (str(NAME), f"{NAME}@main", f"{NAME}@{published}", Path(NAME.repo)):
        bundle = load_bundle(name)
        assert bundle.sha256 == written.sha256
    downloads = [path for path in hub.paths() if "/resolve/" in path]
    assert sorted(downloads) == sorted(f"/{NAME}/resolve/{published}/{file}" for file in written.files)
    assert {path.name for path in bundle.path.iterdir()} == set(written.files)
    assert not any(path.is_symlink() for path in bundle.path.iterdir())
    assert bundle.path.name == published
    assert [path.name for path in bundle.path.parent.iterdir()] == [published]
    found = Scorer.load(str(NAME), engine="onnxruntime", threads=1)
    np.testing.assert_array_equal(found.score([record("i am", "so")]), scorer.score([record("i am", "so")]))
    assert repr(found).startswith("<Scorer tiny")


def test_a_commit_that_is_here_needs_no_hub(hub: HubServer, published: str, monkeypatch: pytest.MonkeyPatch) -> None:
    load_bundle(str(NAME))
    hub.asked.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert load_bundle(f"{NAME}@{published}").path.name == published
    assert hub.asked == []
    fetching._resolved.cache_clear()
    expected = f"{NAME}: HF_HUB_OFFLINE is set; downloaded before and usable without: {NAME}@{published}"
    assert refusal() == expected


@pytest.mark.usefixtures("published")
def test_all_parts_of_a_run_mean_one_commit(hub: HubServer) -> None:
    first = load_bundle(str(NAME))
    change(hub)
    assert load_bundle(str(NAME)).path == first.path
    assert load_bundle(f"{NAME}@main").path != first.path


def test_what_a_power_cut_or_a_kill_left_is_downloaded_again(published: str) -> None:
    folder = load_bundle(str(NAME)).path
    (folder / "model.onnx").write_bytes(b"")
    stale, fresh = (folder.parent / f".unfinished-{age}" for age in ("old", "new"))
    for path in (stale, fresh):
        (path / "bundle").mkdir(parents=True)
    os.utime(stale, (0, 0))
    assert load_bundle(f"{NAME}@{published}").files["model.onnx"]
    assert not stale.exists()
    assert fresh.exists()  # another process may be at it


def test_a_private_repository_is_read_with_the_token(hub: HubServer, published: str) -> None:
    hub.repositories[NAME.repo].private = True
    assert load_bundle(str(NAME)).path.name == published
    assert {token for _, _, token in hub.asked} == {f"Bearer {TOKEN}"}


@pytest.mark.usefixtures("published")
def test_what_is_not_there_is_said(hub: HubServer) -> None:
    assert f"user/none: no such folder, and no repository that you may read on {hub.url}" in refusal("user/none")
    assert f"{NAME}@v9: the repository on {hub.url} has no revision v9" in refusal(f"{NAME}@v9")
    gone = "0" * 40
    assert f"has no revision {gone}; name a branch" in refusal(f"{NAME}@{gone}")
    change(hub, scorer__json=None)
    assert "holds no scorer.json, so it is no scorer" in refusal()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"model__onnx": b"changed"}, r"user/tiny/model.onnx: was changed (SHA-256 "),
        ({"model__onnx": None}, "user/tiny: lacks 'model.onnx', which its scorer.json lists"),
        ({"scorer__json": b"{}"}, "user/tiny/scorer.json: Object missing required field"),
        ({"scorer__json": b"[" * 100_000}, "user/tiny/scorer.json: "),
        ({"README__md": b"Another card.\n"}, "user/tiny/README.md: was changed"),
        ({"README__md": b"---\nlicense: mit\n---\nAnother card.\n"}, "user/tiny/README.md: was changed"),
    ],
)
@pytest.mark.usefixtures("published")
def test_what_was_changed_there_is_refused_and_not_kept(
    hub: HubServer, files: dict[str, bytes | None], said: str
) -> None:
    change(hub, **files)
    assert said in refusal()
    assert list((cache_folder() / "hub").rglob("*.onnx")) == []


@pytest.mark.usefixtures("published")
def test_nothing_is_downloaded_that_no_scorer_has(hub: HubServer, written: Bundle) -> None:
    for name, data in (("evil.py", b"raise SystemExit"), ("../../evil.json", b"{}"), ("a/b.json", b"{}")):
        info = written.to_json()
        info["files"] |= {name: sha256(data).hexdigest()}
        repository = hub.repositories[NAME.repo]
        repository.commit({**written.files, name: data, "scorer.json": json.dumps(info).encode()})
        fetching._resolved.cache_clear()
        said = refusal()
        assert "nothing that a scorer needs" in said if is_plain_name(name) else "names without folders" in said
        assert not any("evil" in path or "b.json" in path for path in hub.paths())


@pytest.mark.usefixtures("published")
def test_a_file_that_is_too_large_is_not_downloaded(hub: HubServer) -> None:
    hub.size_said["tokenizer.json"] = 1 << 40
    assert "'tokenizer.json' has 1099511627776 bytes, expected at most" in refusal()
    assert not any("tokenizer" in path for path in hub.paths())


@pytest.mark.parametrize("answer", ["../../../etc", "main", "0" * 39, "g" * 40, ""])
def test_a_hub_that_names_no_commit_is_not_believed(hub: HubServer, published: str, answer: str) -> None:
    hub.answer_commit = answer
    assert "expected 40 hex digits" in refusal()
    hub.answer_commit = "1" * 40
    assert "expected 40 hex digits of its own" in refusal(f"{NAME}@{published}")


@pytest.mark.parametrize("beginning", ["/api/models", "/user/tiny/resolve"])
@pytest.mark.usefixtures("published")
def test_a_fault_of_the_hub_is_one_line_without_the_token(
    hub: HubServer, beginning: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.faults[beginning] = (403, f"the token {TOKEN} broke us " * 3)
    said = refusal()
    assert f": {hub.url} did not give it (" in said
    assert "the token *** broke us" in said
    hub.faults[beginning] = (200, "not what was asked for")
    assert refusal().startswith(f"{NAME}")
    assert (caplog.text, *capfd.readouterr()) == ("", "", "")


@pytest.mark.usefixtures("published")
def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "cannot be kept in the cache folder (Not a directory); set XDG_CACHE_HOME" in refusal()


def test_processes_that_fetch_at_once_all_get_it(published: str) -> None:
    code = f"from scorer import load_bundle; print(load_bundle({str(NAME)!r}).path)"
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert {process.communicate(timeout=120)[0].strip().rpartition("/")[2] for process in running} == {published}
    (folder,) = (cache_folder() / "hub").glob("*/*")
    assert [path.name for path in folder.iterdir()] == [published]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_no_more_is_not_the_hub_s_fault(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        with hub_faults(NAME):
            warnings.warn("not enough space", stacklevel=1)
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr("scorer.hub.fetch._downloaded", full)
    why = os.strerror(code)
    with pytest.raises(BundleError, match=rf"^{NAME}@\w+: cannot be kept in the cache folder \({why}\); set XDG"):
        fetch(HubName(NAME.repo, "0" * 40))


# Without a network.


def test_offline_a_name_fails_at_once_with_one_line(empathy: Run, tmp_path: Path, source: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
    environment = {**os.environ, "HF_ENDPOINT": address, "XDG_CACHE_HOME": str(tmp_path)}
    done = empathy("score", source, "--scorer", "user/scorer", env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    said = f"empathy: error: user/scorer: no such folder here, and {address} cannot be reached: Connection refused\n"
    assert done.stderr == said


@pytest.mark.parametrize("slow", ["getaddrinfo", "create_connection"])
def test_a_network_that_never_answers_costs_two_seconds(slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example")
    monkeypatch.setattr("scorer.hub.fetch.getproxies", dict)
    ended = Event()

    def never(*_: object, **__: object) -> None:
        ended.wait(60)
        raise OSError("too late")

    monkeypatch.setattr(socket, slow, never)
    began = time.monotonic()
    with pytest.raises(BundleError, match=r"https://hub\.example cannot be reached: no answer within two seconds"):
        check_reachable(NAME)
    assert 1.5 < time.monotonic() - began < 20
    ended.set()


def test_behind_a_proxy_the_proxy_is_what_must_be_there(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    monkeypatch.setattr("scorer.hub.fetch.getproxies", lambda: {"https": hub.url})
    check_reachable(NAME)
    monkeypatch.setattr("scorer.hub.fetch.getproxies", lambda: {"https": "127.0.0.1:1"})
    with pytest.raises(BundleError, match="cannot be reached"):
        check_reachable(NAME)
