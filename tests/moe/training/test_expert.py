"""`empathy moe expert`: what it trains, what lies beside it, resuming, and every error before training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from distill.training.fits import Progress
from moe.errors import ModelError, SetError, SettingError
from moe.models import load_causal
from moe.sets.chat import DEFAULT_TEMPLATE
from moe.settings import ExpertSettings, GenerateSettings, RouterSettings
from moe.training.expert import train_expert
from scorer.errors import OutputError
from selection.folds import fold_of
from tests.conftest import record, write_lines
from tests.moe.moe_fixtures import Made, command, made
from tests.moe.tiny_causal import dialogues, write_base

__all__ = ["made"]

TINY: dict[str, Any] = {"learning_rate": 0.02, "batch_size": 8, "max_length": 96, "checkpointing": False}


class Killed(Exception):
    """What a kill is to a test."""


class KilledAfter(Progress):
    """Raises after so many steps."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def step(self, done: int, loss: float) -> None:
        if done == self._steps:
            raise Killed


def settings(made: Made, **more: Any) -> ExpertSettings:
    return ExpertSettings(base=str(made.base), **{**TINY, **more})


def weights(expert: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(expert / "adapter_model.safetensors")
    return found


def test_an_expert_is_a_plain_adapter_with_its_tokenizer_and_provenance(made: Made) -> None:
    expert = made.experts[0]
    config = json.loads((expert / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (8, 32, 0.1)
    assert set(config["target_modules"]) == {"gate_proj", "up_proj", "down_proj"}
    assert Path(config["base_model_name_or_path"]) == made.base.resolve()
    assert AutoTokenizer.from_pretrained(expert).chat_template == DEFAULT_TEMPLATE
    info = json.loads((expert / "moe.json").read_text())
    assert info["kind"] == "expert"
    assert info["set"]["examples"] == 24 == info["set"]["trained_on"] + info["set"]["held_out"]
    assert info["metrics"]["steps"] == 3
    assert info["metrics"]["held_out_loss"][-1] > 0
    assert str(made.base.parent) not in json.dumps(info)


def test_it_learns_the_responses_of_its_set(made: Made, tmp_path: Path) -> None:
    longer = settings(made, epochs=12, held_out=0.2)
    info = train_expert(made.sets[0], tmp_path / "out", longer)
    losses = info["metrics"]["held_out_loss"]
    assert losses[-1] < 0.8 * losses[0]


def test_a_killed_training_goes_on_and_ends_as_a_whole_one(made: Made, tmp_path: Path) -> None:
    sizes = settings(made, epochs=4, held_out=0)
    train_expert(made.sets[0], tmp_path / "whole", sizes)
    with pytest.raises(Killed):
        train_expert(made.sets[0], tmp_path / "out", sizes, progress=KilledAfter(7))
    assert not (tmp_path / "out").exists()
    with pytest.raises(OutputError, match="--resume"):
        train_expert(made.sets[0], tmp_path / "out", sizes)
    with pytest.raises(OutputError, match=r"begun with rank 8 and this run has 4"):
        train_expert(made.sets[0], tmp_path / "out", settings(made, epochs=4, held_out=0, rank=4), existing="resume")
    train_expert(made.sets[0], tmp_path / "out", sizes, existing="resume")
    for name, tensor in weights(tmp_path / "whole").items():
        torch.testing.assert_close(weights(tmp_path / "out")[name], tensor)
    assert not (tmp_path / "out.partial").exists()


def test_checkpointing_changes_nothing(made: Made, tmp_path: Path) -> None:
    for name, on in (("on", True), ("off", False)):
        train_expert(made.sets[0], tmp_path / name, settings(made, checkpointing=on, dropout=0))
    for name, tensor in weights(tmp_path / "on").items():
        torch.testing.assert_close(weights(tmp_path / "off")[name], tensor)


def test_an_expert_loads_merged_into_its_base(made: Made) -> None:
    base, expert = load_causal(made.base), load_causal(made.experts[0])
    names = {name for name, tensor in base.state_dict().items() if not torch.equal(tensor, expert.state_dict()[name])}
    assert names
    assert all(".mlp." in name for name in names)


def test_a_set_that_the_template_makes_too_long_says_so(made: Made, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "set.jsonl", [record("i am sad " * 20, "so sorry")])
    with pytest.raises(SetError, match=r"no dialogue to learn from among 1 records; the first: too_long"):
        train_expert(path, tmp_path / "out", settings(made))
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_set_of_one_conversation_leaves_nothing_to_train_on(made: Made, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "set.jsonl", [{**one, "conversation": "one"} for one in dialogues(["so"], 5)])
    seed = next(seed for seed in range(99) if fold_of("one", 10_000, seed) < 5_000)
    with pytest.raises(SetError, match=r"all 5 dialogues are of conversations that are held out"):
        train_expert(path, tmp_path / "out", settings(made, held_out=0.5, seed=seed))


@pytest.mark.parametrize("what", ["weights", "tokenizer", "config"])
def test_a_base_that_lacks_something_is_one_line(what: str, made: Made, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(made.base, base)
    for path in {
        "weights": base.glob("*.safetensors"),
        "tokenizer": base.glob("*token*"),
        "config": base.glob("config.json"),
    }[what]:
        path.unlink()
    with pytest.raises(ModelError, match=r"holds no model.safetensors|tokenizer cannot be loaded|cannot be used"):
        train_expert(made.sets[0], tmp_path / "out", ExpertSettings(base=str(base), **TINY))
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-length", "0"], "max length is 0, expected 16 to"),
        (["--rank", "0"], "rank is 0, expected 1 to"),
        (["--epochs", "0"], "epochs is 0"),
        (["--learning-rate", "nan"], "learning rate is nan"),
        (["--held-out", "1"], "held out is 1.0, expected 0 to 0.5"),
        (["--resume", "--overwrite"], "give one of them"),
    ],
)
def test_bad_settings_are_one_line(arguments: list[str], message: str, made: Made, tmp_path: Path) -> None:
    said = command(2, "moe", "expert", made.sets[0], "-o", tmp_path / "out", "--base", made.base, *arguments)
    assert message in said
    assert not list(tmp_path.iterdir())


def test_bad_files_are_one_line(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    expert = ("moe", "expert")
    out = ("-o", tmp_path / "out")
    assert "cannot be read: No such file" in command(2, *expert, tmp_path / "no.jsonl", *out, "--base", made.base)
    assert "cannot be loaded" in command(2, *expert, made.sets[0], *out, "--base", "./no-such-folder")
    assert "does not exist" in command(2, *expert, made.sets[0], "-o", tmp_path / "a/b", "--base", made.base)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    said = command(2, *expert, made.sets[0], "-o", tmp_path / "mine", "--base", made.base, "--overwrite")
    assert "holds no moe.json, so it is not replaced" in said
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_the_command_trains_says_what_it_left_out_and_keeps_what_there_is(made: Made, tmp_path: Path) -> None:
    rows = [*dialogues(["so", "sad"], 20), record("i am sad " * 20, "so"), {"nothing": 1}]
    path = write_lines(tmp_path / "set.jsonl", rows)
    arguments = ("moe", "expert", path, "-o", tmp_path / "out", "--base", made.base, "--max-length", "96")
    said = command(0, *arguments)
    assert "set.jsonl: 20 dialogues, dropped too_long 1, wrong_type 1" in said.replace("no_messages", "wrong_type")
    assert "complete already" in command(0, *arguments, "--resume")
    assert "--overwrite" in command(2, *arguments)
    command(0, *arguments, "--overwrite", "-q")


def test_every_setting_is_checked() -> None:
    with pytest.raises(SettingError, match="targets is 'none'"):
        ExpertSettings(base="b", targets="none")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="balance is -1"):
        RouterSettings(balance=-1)
    with pytest.raises(SettingError, match="leaves nothing for the dialogue"):
        GenerateSettings(max_new_tokens=512)


@pytest.mark.slow
def test_two_processes_train_one_expert(tmp_path: Path) -> None:
    import subprocess
    import sys

    from tests.moe.tiny_causal import write_sets

    base, sets = write_base(tmp_path / "base"), write_sets(tmp_path, 40)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29613"]
    empathy = str(Path(sys.executable).with_name("empathy"))
    result = subprocess.run(
        [
            *torchrun,
            empathy,
            "moe",
            "expert",
            str(sets[0]),
            "-o",
            str(tmp_path / "out"),
            "--base",
            str(base),
            "--max-length",
            "96",
            "--batch-size",
            "4",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "out" / "moe.json").read_text())["metrics"]["steps"] == 5
    assert result.stderr.count("wrote ") == 1
