"""Models of others: found here, or refused at once with one line where no hub answers."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from distill.errors import TrainError
from distill.pretrained import hub_options
from distill.training.network import load_backbone
from moe.errors import ModelError
from moe.models import find_model
from tests.conftest import Run, write_lines
from tests.distill.tiny import labelled_records, write_backbone
from tests.selection.selection_data import invoke, one_line

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def silent() -> Iterator[str]:
    """A hub that takes no connection: its queue of one is full, and it accepts nobody."""
    with socket.socket() as server, socket.socket() as first, socket.socket() as second:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("command", ["train", "expert"])
def test_without_a_hub_an_id_is_one_line_within_three_seconds(
    empathy: Run, tmp_path: Path, silent: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", silent)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    lines = write_lines(tmp_path / "labels.jsonl", labelled_records(20))
    asked = {"train": ["train", lines, "--backbone"], "expert": ["moe", "expert", lines, "--base"]}[command]
    result = empathy(*asked, "nobody/nothing", "-o", tmp_path / "out")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert f"'nobody/nothing': no such folder here, not in the hub's cache, and {silent} cannot be" in result.stderr
    assert not (tmp_path / "out.partial").exists()


def test_a_missing_extra_is_said_before_the_hub_is_asked(
    tmp_path: Path, backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.pretrained.find_spec", lambda _: None)
    lines = write_lines(tmp_path / "labels.jsonl", labelled_records(160))
    for name in ("nobody/nothing", str(backbone)):
        result = invoke(str(lines), "-o", str(tmp_path / "out"), "--backbone", name, command="train")
        assert "install 'empathy-scorer[distill]'" in one_line(result.exit_code, result.stderr)


@pytest.mark.parametrize("name", ["/no/such/folder", "./nothing", "a/b/c", "a b"])
def test_what_is_no_id_is_asked_of_no_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.pretrained.unreachable", lambda: pytest.fail("the hub was asked"))
    for look in (lambda: load_backbone(name), lambda: find_model(name)):
        with pytest.raises((TrainError, ModelError), match="no such folder, and no id of a model on the hub"):
            look()


def test_what_the_cache_holds_is_loaded_without_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    cache = tmp_path / "models--tiny--bert"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(COMMIT)
    shutil.copytree(write_backbone(tmp_path / "bert"), cache / "snapshots" / COMMIT)
    for module in ("huggingface_hub.constants.HF_HUB_CACHE", "huggingface_hub.file_download.HF_HUB_CACHE"):
        monkeypatch.setattr(module, str(tmp_path), raising=False)
    monkeypatch.setattr("transformers.utils.hub.TRANSFORMERS_CACHE", str(tmp_path), raising=False)
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path), raising=False)
    assert hub_options("tiny/bert", TrainError) == {"local_files_only": True}
    with pytest.raises(TrainError, match="not in the hub's cache, and HF_HUB_OFFLINE is set"):
        hub_options("tiny/other", TrainError)
