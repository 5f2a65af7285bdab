"""Commands on damaged files: exit code 2 and one line that names the file, whatever the damage."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from distill.errors import StoreError, TrainError
from distill.judge.store import Store
from distill.training.checkpoint import load_checkpoint
from moe.errors import ModelError
from moe.models import load_causal
from moe.sets import rendering
from moe.sets.chat import Chat, Dropped
from moe.sets.rendering import Renderer
from scorer.cli.main import main
from tests.conftest import make_dialogue
from tests.fuzz import learning, scoring
from tests.fuzz.run import spread
from tests.moe.conftest import byte_tokenizer


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    for module in (scoring, learning):
        (folder / module.__name__).mkdir()
        module.make(folder / module.__name__)
    return folder


@pytest.fixture
def place(good: Path, tmp_path: Path) -> Path:
    """Good files, to be damaged."""
    for module in (learning, scoring):
        shutil.copytree(good / module.__name__, tmp_path / "files", dirs_exist_ok=True)
    return tmp_path / "files"


def refused(file: str, *arguments: str | Path) -> str:
    """Run a command in this process; check that it ends with code 2 and one line that names a file."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    lines = [line for line in result.stderr.splitlines() if "error:" in line]
    assert result.exit_code == 2, (result.output, result.exception)
    assert len(lines) == 1, result.stderr
    assert file in lines[0]
    assert lines[0].isprintable()
    return lines[0]


def edit(path: Path, **more: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_bytes()) | more))


@pytest.mark.parametrize(
    "line", ['{"complete": "x"}', "{", "[" * 100_000, '{"number": -1, "records": "a", "tally": {}}', '{"complete": 7}']
)
def test_a_damaged_manifest(line: str, place: Path) -> None:
    path = place / "resumed" / "_manifest.jsonl"
    path.write_text(path.read_text() + line + "\n")
    output, bundle = place / "resumed", place / "bundle"
    refused(
        "_manifest.jsonl: is damaged", "score", place / "labels.jsonl", "-o", output, "--scorer", bundle, "--resume"
    )


@pytest.mark.parametrize(
    "more",
    [
        {"sets": {"sensibility": {"count": -1, "share": 0.5, "borderline": 0, "file": "a"}}},
        {"borderline": "3"},
        {"dialogues": 3},
        {"settings": {"doubt": 7}},
        {"scorer": {"probe": {"kinds": 3}}},
        {"cuts": {"sensibility": [1]}},
    ],
)
def test_a_damaged_selection(more: dict[str, Any], place: Path) -> None:
    edit(place / "selection" / "selection.json", **more)
    refused("selection.json: is damaged", "report", place / "selection", "-o", place / "r.html")


def test_scores_whose_scorer_is_described_by_nonsense(place: Path) -> None:
    edit(place / "scores.jsonl.meta.json", probe=[3])
    inputs = ("select", place / "in.jsonl", "--scores", place / "scores.jsonl", "-o", place / "out")
    refused("scores.jsonl.meta.json: is damaged", *inputs)
    (place / "scores.jsonl.meta.json").write_text('{"cuts":' + "[" * 100_000)
    refused("scores.jsonl.meta.json: is damaged", *inputs)


def test_a_checkpoint_whose_weights_are_no_numbers_or_incomplete(place: Path) -> None:
    path = place / "checkpoint" / "model.safetensors"
    weights = load_file(path)
    for name, value in (("nan", np.nan), ("large", np.inf), ("lacking", None)):
        changed = {key: tensor.clone() for key, tensor in weights.items()}
        head = "classifier.weight"
        if value is None:
            del changed[head]
        else:
            changed[head][0] = value
        save_file(changed, path, {"format": "pt"})
        with pytest.raises(TrainError, match=r"checkpoint'?: its weights cannot be loaded"):
            load_checkpoint(place / "checkpoint").load_model()
        refused("checkpoint", "export", place / "checkpoint", "-o", place / f"bundle-{name}")
    path.write_bytes(path.read_bytes()[:300])
    refused("checkpoint", "export", place / "checkpoint", "-o", place / "bundle-short")


def test_a_checkpoint_with_settings_of_nobody(place: Path) -> None:
    edit(place / "checkpoint" / "empathy.json", max_length=-5)
    refused("empathy.json: is damaged", "export", place / "checkpoint", "-o", place / "out")


@pytest.mark.parametrize("change", [{"num_hidden_layers": 2**31}, {"hidden_size": "a"}, {"layer_norm_eps": [1]}])
def test_a_configuration_of_nobody(change: dict[str, Any], place: Path) -> None:
    edit(place / "checkpoint" / "config.json", **change)
    refused("checkpoint", "export", place / "checkpoint", "-o", place / "out")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("sensibility", "text"),
        ("rationality", 11),
        ("cost_usd", "1 dollar"),
        ("cost_usd", -1),
        ("sensibility", b"\xff"),
    ],
)
def test_a_store_with_text_in_numbers(column: str, value: object, place: Path) -> None:
    with sqlite3.connect(place / "store.sqlite") as database:
        database.execute(f"UPDATE replies SET {column} = ? WHERE status = 'scored'", (value,))
    database.close()
    refused("store.sqlite: is damaged", "label", "--export", "--store", place / "store.sqlite", "-o", place / "l.jsonl")


def test_the_lock_of_a_store_may_be_anything(place: Path) -> None:
    (place / "store.sqlite.lock").write_bytes(b"no database, and long enough to be seen as such" * 99)
    cannot = pytest.raises(StoreError, match=r"store\.sqlite\.lock: cannot be locked")
    with Store(place / "store.sqlite") as store, cannot, store.locked():
        pass


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(rendering, "SECONDS", 1.0)
    yield
    rendering.renderer().close()


ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("template", [ENDLESS, "{{ 'a' * 10 ** 11 }}", "{% if %}"])
def test_a_template_that_cannot_be_run(template: str) -> None:
    chat = Chat(byte_tokenizer(template), 64)
    start = time.monotonic()
    with pytest.raises(ModelError, match="its chat template cannot be run"):
        chat.example(make_dialogue("i am sad", "so sorry"))
    assert time.monotonic() - start < 60
    fine = Chat(byte_tokenizer(), 64)  # the next one has a process of its own
    assert not isinstance(fine.example(make_dialogue("i am sad", "so sorry")), Dropped)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{% include 'x' %}", "TypeError"),
        ("{{ messages + 1 }}", "TypeError"),
        ("{{ messages[9].content }}", "no element 9"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{{ raise_exception('no\\x1b[31m\\nno') }}", "no"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
    ],
)
def test_a_template_that_raises_drops_the_dialogue(template: str, why: str) -> None:
    found = Chat(byte_tokenizer(template), 64).example(make_dialogue("i am sad", "so sorry"))
    assert isinstance(found, Dropped)
    assert found.reason == "template_refused"
    assert why in found.detail
    assert found.detail.isprintable()


def test_a_renderer_starts_nothing_from_the_folder_that_a_user_is_in(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "json.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    mine = Renderer()
    assert mine.render("{{ a }}", [], {"a": "b"}) == "b"
    mine.close()
    assert not (tmp_path / "sprung").exists()


def test_a_model_that_lacks_weights(place: Path) -> None:
    path = place / "base" / "model.safetensors"
    weights = load_file(path)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(ModelError, match=r"base: cannot be loaded .*lack model\.layers\.1\.mlp\.up_proj"):
        load_causal(place / "base")


def test_every_kind_of_file_is_fuzzed_more_than_once() -> None:
    for module in (scoring, learning):
        kinds = spread(module.KINDS)
        assert len(kinds) < 100
        assert len({kind.name for kind in module.KINDS}) == len(module.KINDS)
