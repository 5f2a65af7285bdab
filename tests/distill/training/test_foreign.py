"""A folder that others made brings weights and no code: nothing asks, nothing runs, a pickle only if it is allowed."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from distill.agreement.hidden_states import hidden_states
from distill.errors import TrainError
from distill.labelled import read_labelled
from distill.training.network import load_backbone, load_network
from scorer.cli.main import main
from tests.conftest import write_lines
from tests.distill.tiny import labelled_records, write_backbone


def set_trap(folder: Path, file: str, kind: str = "unknown-kind") -> Path:
    """Let one file of a model name code of its own for everything, code that leaves a file where it runs."""
    sprung = folder / "sprung"
    (folder / "code.py").write_text(f"open({str(sprung)!r}, 'w').close()\nclass Trap: pass\n")
    names = ["AutoConfig", "AutoModel", "AutoModelForSequenceClassification", "AutoModelForCausalLM"]
    known = json.loads((folder / file).read_text())
    known["auto_map"] = dict.fromkeys(names, "code.Trap") | {"AutoTokenizer": ["code.Trap", "code.Trap"]}
    if file == "config.json":
        known["model_type"] = kind
    else:
        known["tokenizer_class"] = "UnknownTokenizer"
    (folder / file).write_text(json.dumps(known))
    return sprung


def unpickled(folder: Path, *, hostile: bool = False) -> Path:
    """Replace the safetensors of a model by a pickle."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if hostile:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Sprung(folder / "sprung")))
    else:
        torch.save(weights, folder / "pytorch_model.bin")
    return folder


class Sprung:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_backbone_with_code_of_its_own_is_refused_without_asking(tmp_path: Path, file: str) -> None:
    sprung = set_trap(write_backbone(tmp_path / "bert"), file)
    lines = write_lines(tmp_path / "labels.jsonl", labelled_records(200))
    asked = ["train", lines, "-o", tmp_path / "out", "--backbone", tmp_path / "bert"]
    result = CliRunner().invoke(main, list(map(str, asked)), input="y\ny\ny\n")
    assert result.exit_code == 2
    assert "it needs code of its own, which is never run" in result.stderr
    assert "y/N" not in result.output
    assert "trust_remote_code" not in result.output
    assert len(result.stderr.splitlines()) == 1
    assert not sprung.exists()
    assert not (tmp_path / "out").exists()


def test_a_known_kind_with_code_of_its_own_is_loaded_by_ours(tmp_path: Path) -> None:
    sprung = set_trap(write_backbone(tmp_path / "bert"), "config.json", "bert")
    load_backbone(str(tmp_path / "bert"))
    assert type(load_network(tmp_path / "bert")).__name__ == "BertForSequenceClassification"
    assert not sprung.exists()


def test_a_kind_without_a_classifier_does_not_fall_back_on_its_own_code(tmp_path: Path) -> None:
    sprung = set_trap(write_backbone(tmp_path / "bert"), "config.json", "clip_vision_model")
    with pytest.raises(TrainError, match="code of its own, which is never run"):
        load_backbone(str(tmp_path / "bert"))
    assert not sprung.exists()


def test_a_pickle_is_loaded_only_where_it_is_allowed(tmp_path: Path) -> None:
    folder = unpickled(write_backbone(tmp_path / "bert"))
    with pytest.raises(TrainError, match=r"safetensors.*or say --allow-pickle$"):
        load_network(folder)
    assert load_network(folder, allow_pickle=True).num_parameters() > 0
    labelled = read_labelled([str(write_lines(tmp_path / "labels.jsonl", labelled_records(4)))])
    with pytest.raises(TrainError, match="weights cannot be loaded"):
        hidden_states(labelled, str(folder))


def test_a_hostile_pickle_runs_nothing_even_where_it_is_allowed(tmp_path: Path) -> None:
    folder = unpickled(write_backbone(tmp_path / "bert"), hostile=True)
    for allowed in (False, True):
        with pytest.raises(TrainError, match="weights cannot be loaded"):
            load_network(folder, allow_pickle=allowed)
        assert not (folder / "sprung").exists()
    pickle.loads((folder / "pytorch_model.bin").read_bytes())
    assert (folder / "sprung").exists()


def test_safetensors_are_taken_where_a_hostile_pickle_lies_beside_them(tmp_path: Path) -> None:
    whole = write_backbone(tmp_path / "bert")
    shutil.copy(whole / "model.safetensors", tmp_path / "kept")
    unpickled(whole, hostile=True)
    shutil.move(tmp_path / "kept", whole / "model.safetensors")
    load_network(whole, allow_pickle=True)
    assert not (whole / "sprung").exists()
