"""`empathy moe expert`: what it trains, what lies beside it, resuming, and every error before training."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, Trainer

from moe.errors import ModelError, SetError, SettingError
from moe.models import load_causal
from moe.sets.chat import DEFAULT_TEMPLATE
from moe.settings import ExpertSettings, GenerateSettings, RouterSettings
from moe.training.expert import train_expert
from moe.training.router import train_mixture
from scorer.errors import OutputError
from selection.folds import fold_of
from tests.conftest import record, write_lines
from tests.moe.conftest import TINY, Killed, KilledAt, Made, command, dialogues, write_base, write_sets


def train(made: Made, output: Path, *, existing: Any = "error", progress: Any = None, **more: Any) -> Any:
    """Train on the first set, at a learning rate at which a few steps change the model."""
    settings = ExpertSettings(base=str(made.base), **{"learning_rate": 0.02, **TINY, **more})
    return train_expert(made.sets[0], output, settings, existing=existing, progress=progress)


BYTES: dict[str, Any] = {"epochs": 3, "held_out": 0.2}


@pytest.fixture(scope="module")
def whole(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An expert of three epochs that nobody interrupted."""
    output = tmp_path_factory.mktemp("whole") / "out"
    train(made, output, **BYTES)
    return output


def assert_same_bytes(first: Path, second: Path) -> None:
    """Compare the weights, and what was logged of their training."""
    wanted, found = (json.loads((expert / "moe.json").read_text())["metrics"] for expert in (first, second))
    assert len(wanted["held_out_loss"]) == 3
    assert found == wanted
    assert (first / "adapter_model.safetensors").read_bytes() == (second / "adapter_model.safetensors").read_bytes()


def assert_same_weights(first: Path, second: Path) -> None:
    wanted, found = (load_file(expert / "adapter_model.safetensors") for expert in (first, second))
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor)


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
    losses = train(made, tmp_path / "out", epochs=12, held_out=0.2).metrics.held_out_loss
    assert losses[-1] < 0.8 * losses[0]


def test_a_single_step_moves_the_weights(made: Made, tmp_path: Path) -> None:
    expert = train(made, tmp_path / "out", epochs=1, batch_size=64, held_out=0)
    assert expert.metrics.steps == 1
    weights = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert all(tensor.any() for name, tensor in weights.items() if "lora_B" in name)  # they begin as zeros


def test_a_killed_training_is_resumed_and_ends_as_a_whole_one(made: Made, tmp_path: Path) -> None:
    sizes = {"epochs": 4, "held_out": 0}
    train(made, tmp_path / "whole", **sizes)
    with pytest.raises(Killed):
        train(made, tmp_path / "out", progress=KilledAt(7), **sizes)
    assert not (tmp_path / "out").exists()
    with pytest.raises(OutputError, match="--resume"):
        train(made, tmp_path / "out", **sizes)
    with pytest.raises(OutputError, match=r"begun with rank 8 and this run has 4"):
        train(made, tmp_path / "out", existing="resume", rank=4, **sizes)
    train(made, tmp_path / "out", existing="resume", **sizes)
    assert_same_weights(tmp_path / "whole", tmp_path / "out")
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize("step", [6, *(pytest.param(step, marks=pytest.mark.slow) for step in (4, 7, 9))])
def test_a_kill_around_an_epoch_s_end_changes_not_a_byte(step: int, whole: Path, made: Made, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(made, tmp_path / "out", progress=KilledAt(step), **BYTES)
    train(made, tmp_path / "out", existing="resume", **BYTES)
    assert_same_bytes(whole, tmp_path / "out")


@pytest.mark.parametrize("epoch", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_kill_while_the_held_out_loss_is_read_loses_none(
    epoch: int, whole: Path, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate, read = Trainer.evaluate, iter(range(1, 99))

    def dies(self: Trainer, *rest: Any, **more: Any) -> Any:
        if next(read) == epoch:
            raise Killed
        return evaluate(self, *rest, **more)

    monkeypatch.setattr(Trainer, "evaluate", dies)
    with pytest.raises(Killed):
        train(made, tmp_path / "out", **BYTES)
    train(made, tmp_path / "out", existing="resume", **BYTES)
    assert_same_bytes(whole, tmp_path / "out")


@pytest.mark.parametrize("step", [pytest.param(4, marks=pytest.mark.slow), 7])
def test_a_router_s_training_too_ends_as_a_whole_one(step: int, made: Made, tmp_path: Path) -> None:
    settings = RouterSettings(**TINY, epochs=3, held_out=0.2, also_experts=True)
    found = [train_mixture(str(made.mixture), made.sets, tmp_path / "whole", settings)]
    with pytest.raises(Killed):
        train_mixture(str(made.mixture), made.sets, tmp_path / "out", settings, progress=KilledAt(step))
    found.append(train_mixture(str(made.mixture), made.sets, tmp_path / "out", settings, existing="resume"))
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "out"))
    assert first == second
    assert found[0].metrics == found[1].metrics  # type: ignore[union-attr]


def test_checkpointing_changes_nothing(made: Made, tmp_path: Path) -> None:
    for name, on in (("on", True), ("off", False)):
        train(made, tmp_path / name, checkpointing=on, dropout=0)
    assert_same_weights(tmp_path / "on", tmp_path / "off")


def test_an_expert_loads_merged_into_its_base(made: Made) -> None:
    base, expert = load_causal(made.base), load_causal(made.experts[0])
    names = {name for name, tensor in base.state_dict().items() if not torch.equal(tensor, expert.state_dict()[name])}
    assert names
    assert all(".mlp." in name for name in names)


def test_a_set_of_one_conversation_leaves_nothing_to_train_on(made: Made, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "set.jsonl", [{**one, "conversation": "one"} for one in dialogues(["so"], 5)])
    seed = next(seed for seed in range(99) if fold_of("one", 10_000, seed) < 5_000)
    with pytest.raises(SetError, match=r"all 5 dialogues are of conversations that are held out"):
        train_expert(path, tmp_path / "out", ExpertSettings(base=str(made.base), held_out=0.5, seed=seed))


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("*.safetensors", "holds no model.safetensors"),
        ("*token*", "tokenizer cannot be loaded"),
        ("config.json", "cannot be used"),
    ],
)
def test_a_base_that_lacks_something_is_one_line(lost: str, message: str, made: Made, tmp_path: Path) -> None:
    base = shutil.copytree(made.base, tmp_path / "base")
    for path in base.glob(lost):
        path.unlink()
    with pytest.raises(ModelError, match=message):
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
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    for path, output, base, message in (
        (tmp_path / "no.jsonl", "out", made.base, "cannot be read: No such file"),
        (made.sets[0], "out", "./no-such-folder", "no such folder, and no id of a model"),
        (made.sets[0], "a/b", made.base, "does not exist"),
        (made.sets[0], "mine", made.base, "holds no moe.json"),
    ):
        said = command(2, "moe", "expert", path, "-o", tmp_path / output, "--base", base, "--overwrite")
        assert message in said
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_the_command_trains_says_what_it_left_out_and_keeps_what_there_is(made: Made, tmp_path: Path) -> None:
    rows = [*dialogues(["so", "sad"], 20), record("i am sad " * 20, "so"), {"nothing": 1}]
    path = write_lines(tmp_path / "set.jsonl", rows)
    arguments = ("moe", "expert", path, "-o", tmp_path / "out", "--base", made.base, "--max-length", "96")
    assert "set.jsonl: 20 dialogues, dropped too_long 1, no_messages 1" in command(0, *arguments)
    assert "complete already" in command(0, *arguments, "--resume")
    assert "--overwrite" in command(2, *arguments)
    command(0, *arguments, "--overwrite", "-q")
    # Complete is only what was made from the same.
    assert "and this run has 2;" in command(2, *arguments, "--resume", "--epochs", "2")
    text = path.read_text()
    path.write_text(text.replace("i am", "I am", 1))
    assert "is finished and was made with set " in command(2, *arguments, "--resume")
    path.write_text(text)
    weights = tmp_path / "out" / "adapter_model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    assert "adapter_model.safetensors: is missing or was changed" in command(2, *arguments, "--resume")
    weights.unlink()
    assert "adapter_model.safetensors: is missing or was changed" in command(2, *arguments, "--resume")
    weights.write_bytes(kept)
    assert "complete already" in command(0, *arguments, "--resume")


def test_a_base_that_was_changed_in_any_byte_is_another(made: Made, tmp_path: Path) -> None:
    base = shutil.copytree(made.base, tmp_path / "base")
    settings = ExpertSettings(base=str(base), **TINY)
    train_expert(made.sets[0], tmp_path / "out", settings)
    assert train_expert(made.sets[0], tmp_path / "out", settings, existing="resume")
    weights = base / "model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))  # not in a first row, which is all the fingerprint reads
    with pytest.raises(OutputError, match="made with base"):
        train_expert(made.sets[0], tmp_path / "out", settings, existing="resume")
    weights.write_bytes(kept)
    config = base / "tokenizer_config.json"
    config.write_text(config.read_text().replace("{", '{"x": 1,', 1))
    with pytest.raises(OutputError, match="made with base"):
        train_expert(made.sets[0], tmp_path / "out", settings, existing="resume")


def test_a_finished_router_is_complete_only_for_the_same(made: Made, tmp_path: Path) -> None:
    arguments = ("moe", "train", made.mixture, "--sets", *made.sets, "-o", tmp_path / "out", "--max-length", "96")
    command(0, *arguments, "-q")
    assert "complete already" in command(0, *arguments, "--resume")
    other = ("moe", "train", made.mixture, "--sets", *made.sets[::-1], "-o", tmp_path / "out", "--max-length", "96")
    assert "made with sets" in command(2, *other, "--resume")
    assert "made with seed 0 and this run has 1" in command(2, *arguments, "--resume", "--seed", "1")
    (tmp_path / "out" / "run.json").unlink()
    assert "does not say what it was made from" in command(2, *arguments, "--resume")


def test_settings_that_only_python_can_give_are_checked() -> None:
    with pytest.raises(SettingError, match="targets is 'none'"):
        ExpertSettings(base="b", targets="none")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="balance is -1"):
        RouterSettings(balance=-1)
    with pytest.raises(SettingError, match="leaves nothing for the dialogue"):
        GenerateSettings(max_new_tokens=512)


@pytest.mark.slow
def test_real_kills_after_each_checkpoint_change_not_a_byte(whole: Path, made: Made, tmp_path: Path) -> None:
    empathy = str(Path(sys.executable).with_name("empathy"))
    given = [
        "--max-length",
        "96",
        "--epochs",
        "3",
        "--held-out",
        "0.2",
        "--learning-rate",
        "0.02",
        "--no-checkpointing",
    ]
    arguments = [empathy, "moe", "expert", str(made.sets[0]), "-o", str(tmp_path / "out"), "--base", str(made.base)]
    arguments += [*given, "--resume", "-q"]
    trainer = tmp_path / "out.partial" / "trainer"
    for _ in range(3):
        before = {path.name for path in trainer.glob("checkpoint-*")}
        with subprocess.Popen(arguments) as process:
            while process.poll() is None and not {path.name for path in trainer.glob("checkpoint-*")} - before:
                time.sleep(0.002)
            process.kill()
    assert subprocess.run(arguments, check=False).returncode == 0
    assert_same_bytes(whole, tmp_path / "out")


@pytest.mark.slow
def test_two_processes_train_one_expert(tmp_path: Path) -> None:
    base, sets = write_base(tmp_path / "base"), write_sets(tmp_path, 40)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29613"]
    expert = [Path(sys.executable).with_name("empathy"), "moe", "expert", sets[0], "-o", tmp_path / "out"]
    more = ["--base", base, "--max-length", "96", "--batch-size", "4"]
    arguments = list(map(str, [*torchrun, *expert, *more]))
    result = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "out" / "moe.json").read_text())["metrics"]["steps"] == 5
    assert result.stderr.count("wrote ") == 1
