"""A scorer is tried out before it runs: once on a machine, in a process that ends whatever the scorer does."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from scorer.bundle import trial
from scorer.bundle.bundle import STARTER, STARTER_SHA256, Bundle, load_bundle
from scorer.bundle.trial import open_bundle, try_out
from scorer.errors import BundleError
from scorer.model import Scorer
from tests.conftest import Run, make_model, make_tokenizer
from tests.scorer.bundle.test_bundle import replace

ROWS = make_tokenizer().get_vocab_size()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Remember nothing from before, and count the processes that are started."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    commands: list[Any] = []
    run = subprocess.run

    def counted(command: Any, **more: Any) -> Any:
        commands.append(command)
        return run(command, **more)

    monkeypatch.setattr(subprocess, "run", counted)
    return commands


def refusal(folder: Path, seconds: float = 120) -> str:
    with pytest.raises(BundleError) as caught:
        try_out(load_bundle(folder), seconds=seconds)
    message = str(caught.value)
    assert message.startswith(str(folder))
    assert message.isprintable()
    return message


def put(folder: Path, *nodes: Any, output: str = "logits", **weights: Any) -> None:
    """Put a model with more nodes and weights into a bundle."""
    model = make_model(ROWS)
    model.graph.initializer.extend(numpy_helper.from_array(np.array(array), name) for name, array in weights.items())
    model.graph.node.extend(nodes)
    model.graph.output[0].name = output
    onnx.checker.check_model(model)
    replace(folder, "model.onnx", model.SerializeToString())


def test_it_is_tried_once_and_remembered_by_its_hash(folder: Path, started: list[Any]) -> None:
    open_bundle(folder)
    assert len(started) == 1
    Scorer.load(folder, engine="onnxruntime", threads=1)
    open_bundle(folder)
    assert len(started) == 1
    replace(folder, "README.md", b"Another card.\n")
    open_bundle(folder)
    assert len(started) == 2


def test_where_nothing_can_be_remembered_it_is_tried_again(
    folder: Path, started: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    open_bundle(folder)
    open_bundle(folder)
    assert len(started) == 2


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_what_is_no_file_of_this_user_s_is_no_memory(folder: Path, started: list[Any], kind: str) -> None:
    record = trial._record(load_bundle(folder))
    record.parent.mkdir(parents=True)
    record.symlink_to("/etc/passwd") if kind == "link" else record.mkdir()
    open_bundle(folder)
    assert len(started) == 1


def test_the_starter_is_known(started: list[Any]) -> None:
    assert open_bundle().sha256 == STARTER_SHA256, "the starter is a new one: write its hash here"
    Scorer.load(engine="onnxruntime", threads=1)
    assert started == []


def test_the_starter_passes_what_its_hash_spares_it(started: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "STARTER_SHA256", "")
    try_out(load_bundle(STARTER))
    assert len(started) == 1


def test_a_model_that_computes_for_hours_is_stopped_and_its_process_gone(folder: Path, started: list[Any]) -> None:
    """Every number is a constant, so a library computes them when it loads the model: nothing can interrupt that."""
    many = [helper.make_node("MatMul", [f"m{i}", f"m{i}"], [f"m{i + 1}"]) for i in range(200)]
    put(
        folder,
        helper.make_node("Expand", ["half", "size"], ["m0"]),
        *many,
        helper.make_node("ReduceMean", ["m200"], ["mean"], axes=[0, 1], keepdims=0),
        helper.make_node("Add", ["logits", "mean"], ["late"]),
        output="late",
        half=np.float32(0.5),
        size=[6000, 6000],
    )
    began = time.monotonic()
    assert "did not load and score a first batch within 4 seconds" in refusal(folder, 4)
    assert time.monotonic() - began < 30
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(folder).encode() in read(path)]
    assert len(started) == 1
    assert not trial._remembered(load_bundle(folder))


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_model_that_wants_all_memory_is_one_line(folder: Path) -> None:
    put(
        folder,
        helper.make_node("Expand", ["half", "size"], ["huge"]),
        helper.make_node("ReduceMean", ["huge"], ["mean"], axes=[0], keepdims=0),
        helper.make_node("Add", ["logits", "mean"], ["late"]),
        output="late",
        half=np.float32(0.5),
        size=[10**12],
    )
    refusal(folder)


def short_table(name: str, index: str, nodes: Sequence[Any] = ()) -> list[Any]:
    """Return nodes that add rows of a table to the words, and the mean of that to the scores."""
    return [
        *nodes,
        helper.make_node("Gather", [name, index], ["rows"]),
        helper.make_node("Add", ["words", "rows"], ["placed"]),
        helper.make_node("ReduceMean", ["placed"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("Add", ["logits", "mean"], ["late"]),
    ]


def test_positions_that_the_model_lacks_are_found(folder: Path) -> None:
    """A table of 40 positions where ``max_length`` is 64: OpenVINO would score what lies beyond it."""
    places = [
        helper.make_node("Shape", ["input_ids"], ["shape"]),
        helper.make_node("Gather", ["shape", "second"], ["length"]),
        helper.make_node("Range", ["zero", "length", "step"], ["places"]),
    ]
    table = np.ones((40, 2), np.float32)
    put(folder, *short_table("t", "places", places), output="late", t=table, zero=0, step=1, second=1)
    found = refusal(folder)
    assert "ONNX Runtime failed on a batch of" in found
    with pytest.raises(BundleError, match="failed on a batch"):
        Scorer.load(folder, engine="openvino")


def test_a_second_token_type_that_the_model_lacks_is_found(folder: Path) -> None:
    put(folder, *short_table("t", "token_type_ids"), output="late", t=np.ones((1, 2), np.float32))
    assert "out of data bounds" in refusal(folder)


def test_a_tokenizer_that_only_the_library_refuses_is_refused_by_inspect(folder: Path, empathy: Run) -> None:
    value = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = value["model"]["vocab"]
    value["model"] = {"type": "BPE", "vocab": vocabulary, "merges": [["a", "nowhere"]], "unk_token": "[UNK]"}
    replace(folder, "tokenizer.json", json.dumps(value).encode())
    load_bundle(folder)  # as data it is sound
    ran = empathy("inspect", folder)
    assert ran.returncode == 2
    assert f"{folder / 'tokenizer.json'}: no tokenizer of a scorer (" in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert empathy("look", folder.parent / "none.jsonl", "--scorer", folder).returncode == 2


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os; os.abort()", "ended the process that loaded it and scored a first batch (SIGABRT)"),
        ("import os; os._exit(7)", "(exit status 7)"),
    ],
)
@pytest.mark.usefixtures("started")
def test_a_process_that_ends_itself_is_one_line(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    monkeypatch.setattr(trial, "own_python", lambda *_: ([sys.executable, "-c", code], {}))
    assert message in refusal(bundle.path)


@pytest.mark.usefixtures("started")
def test_a_process_that_cannot_be_started_is_one_line(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "own_python", lambda *_: (["/nowhere/python"], {}))
    assert "no process could be started to try it out (No such file or directory)" in refusal(bundle.path)


def test_no_module_of_the_folder_that_one_stands_in_is_run(folder: Path, empathy: Run, tmp_path: Path) -> None:
    """A process of its own looks for modules where this one does, not in a folder of downloads."""
    (tmp_path / "here").mkdir()
    for name in ("numpy", "scorer", "onnxruntime", "tokenizers", "msgspec"):
        (tmp_path / "here" / f"{name}.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\n")
    replace(folder, "README.md", b"Not tried yet.\n")
    assert empathy("inspect", folder, cwd=tmp_path / "here").returncode == 0
    line = json.dumps({"messages": [{"role": role, "content": "hi"} for role in ("user", "assistant")]})
    ran = empathy("score", "-", "-o", "out.jsonl", "--scorer", folder, stdin=line, cwd=tmp_path / "here")
    assert ran.returncode == 0, ran.stderr
    assert not (tmp_path / "sprung").exists()
