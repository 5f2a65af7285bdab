"""A base, adapter or mixture that others made brings weights and no code, whatever stands on standard input."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from moe.errors import ModelError
from moe.models import load_causal, load_tokenizer
from scorer.cli.main import main
from tests.distill.training.test_foreign import Sprung, set_trap
from tests.moe.conftest import Made, write_adapters

DIALOGUE = '{"messages": [{"role": "user", "content": "y"}, {"role": "assistant", "content": "y"}]}\n'


def copy(folder: Path, to: Path) -> Path:
    """Return a copy of a model that a test may damage."""
    return Path(shutil.copytree(folder, to))


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("kind", ["expert", "generate"])
def test_a_model_with_code_of_its_own_is_refused_without_asking(
    made: Made, tmp_path: Path, kind: str, file: str
) -> None:
    base = copy(made.base, tmp_path / "base")
    sprung = set_trap(base, file)
    lines = tmp_path / "in.jsonl"
    lines.write_text(DIALOGUE)
    asked = {
        "expert": ["expert", made.sets[0], "-o", tmp_path / "out", "--base", base],
        "generate": ["generate", base, lines, "-o", tmp_path / "out.jsonl"],
    }[kind]
    result = CliRunner().invoke(main, ["moe", *map(str, asked)], input="y\n" + DIALOGUE)
    assert result.exit_code == 2, result.output
    assert "it needs code of its own, which is never run" in result.stderr
    assert "y/N" not in result.output
    assert not sprung.exists()


def test_an_adapters_tokenizer_with_code_is_refused(made: Made, tmp_path: Path) -> None:
    expert = copy(made.experts[0], tmp_path / "expert")
    sprung = set_trap(expert, "tokenizer_config.json")
    with pytest.raises(ModelError, match="code of its own, which is never run"):
        load_tokenizer(expert)
    assert not sprung.exists()


def test_an_adapters_base_with_code_is_refused(made: Made, tmp_path: Path) -> None:
    base = copy(made.base, tmp_path / "base")
    adapter = write_adapters(tmp_path, base)[0]
    sprung = set_trap(base, "config.json")
    with pytest.raises(ModelError, match="code of its own, which is never run"):
        load_causal(adapter)
    assert not sprung.exists()


def test_a_pickled_model_or_adapter_is_refused(made: Made, tmp_path: Path) -> None:
    base = copy(made.base, tmp_path / "base")
    adapter = write_adapters(tmp_path, base)[0]
    (adapter / "adapter_model.safetensors").unlink()
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps(Sprung(tmp_path / "sprung")))
    with pytest.raises(ModelError, match="save the adapter as safetensors first"):
        load_causal(adapter)
    (base / "model.safetensors").unlink()
    (base / "pytorch_model.bin").write_bytes(pickle.dumps(Sprung(tmp_path / "sprung")))
    with pytest.raises(ModelError, match="safetensors"):
        load_causal(base)
    assert not (tmp_path / "sprung").exists()


def test_the_class_that_an_adapter_names_is_not_imported(made: Made, tmp_path: Path) -> None:
    adapter = write_adapters(tmp_path, made.base)[0]
    known = json.loads((adapter / "adapter_config.json").read_text())
    known["auto_mapping"] = {"base_model_class": "Trap", "parent_library": "trap_that_is_no_module"}
    (adapter / "adapter_config.json").write_text(json.dumps(known))
    assert load_causal(adapter).num_parameters() > 0
