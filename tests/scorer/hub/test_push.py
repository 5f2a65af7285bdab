"""Scorers pushed to a hub: what comes back, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from scorer.bundle.bundle import Bundle, load_bundle, write_bundle
from scorer.hub.names import HubName
from scorer.hub.push import push_bundle
from tests.conftest import Parts, Run, record
from tests.scorer.hub.hub_server import NAME, TOKEN, HubServer


@pytest.fixture
def card_free(parts: Parts, tmp_path: Path) -> Bundle:
    info, files = parts
    return write_bundle(tmp_path / "plain", info, {name: data for name, data in files.items() if name != "README.md"})


def test_a_pushed_scorer_comes_back_as_the_same(
    hub: HubServer, written: Bundle, card_free: Bundle, empathy: Run, tmp_path: Path
) -> None:
    for bundle in (written, card_free):
        done = empathy("push", bundle.path, NAME.repo)
        assert done.returncode == 0, done.stderr
        assert TOKEN not in done.stdout + done.stderr
        repository = hub.repositories[NAME.repo]
        assert repository.private
        pinned = f"{NAME}@{repository.branches['main']}"
        assert done.stdout == f"tiny {bundle.sha256[:12]} is on {hub.url}/{NAME}; use it with --scorer {pinned}\n"
        assert load_bundle(pinned).sha256 == bundle.sha256
        assert load_bundle(pinned).files == bundle.files
        stored = repository.commits[repository.branches["main"]]
        assert {name: stored[name] for name in bundle.files if name != "README.md"} == {
            name: data for name, data in bundle.files.items() if name != "README.md"
        }
        assert stored["README.md"].startswith(b"---\n")
    output = tmp_path / "scores.jsonl"
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps(record("i am sad", "so sorry")) + "\n")
    assert empathy("score", source, "-o", output, "--scorer", pinned).returncode == 0
    assert empathy("score", source, "--scorer", card_free.path).stdout == output.read_text()
    assert (
        empathy("inspect", pinned).stdout.split("\n")[1:] == empathy("inspect", card_free.path).stdout.split("\n")[1:]
    )


def test_public_is_said(hub: HubServer, written: Bundle) -> None:
    push_bundle(written, HubName("user/open"), public=True, message="the first")
    assert not hub.repositories["user/open"].private


def test_a_scorer_whose_check_fails_is_not_pushed(
    hub: HubServer, empathy: Run, written: Bundle, tmp_path: Path
) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(written.path, folder)
    (folder / "model.onnx").write_bytes(b"changed")
    done = empathy("push", folder, NAME.repo)
    assert done.returncode == 2
    assert "was changed" in done.stderr
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to(written.path / "model.onnx")
    assert "is a link out of the bundle" in empathy("push", folder, NAME.repo).stderr
    assert hub.asked == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tiny", "tiny: is no repository of the hub, expected USER/REPO"),
        ("user/tiny@v1", "user/tiny@v1: a push makes a commit of its own; name user/tiny"),
        ("./user/tiny", "./user/tiny: is no repository of the hub"),
    ],
)
def test_a_push_goes_to_a_repository(hub: HubServer, empathy: Run, written: Bundle, name: str, said: str) -> None:
    done = empathy("push", written.path, name)
    assert (done.returncode, hub.asked) == (2, [])
    assert said in done.stderr


def test_a_push_without_a_token_or_with_a_wrong_one_says_so(hub: HubServer, empathy: Run, written: Bundle) -> None:
    without = {name: value for name, value in os.environ.items() if name != "HF_TOKEN"}
    done = empathy("push", written.path, NAME.repo, env=without)
    assert done.returncode == 2
    assert "set HF_TOKEN or run `hf auth login`" in done.stderr
    assert hub.asked == []
    wrong = "hf_some_other_token"
    done = empathy("push", written.path, NAME.repo, env={**without, "HF_TOKEN": wrong})
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert wrong not in done.stderr
    assert hub.repositories == {}
