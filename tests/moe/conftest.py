"""What the tests of experts share: tiny random causal models, sets that differ, experts of them and their mixture."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from moe.mixture.compose import compose_mixture
from moe.settings import TARGETS, ComposeSettings, ExpertSettings
from moe.training.expert import train_expert
from scorer.cli.main import main
from scorer.progress import Silent
from tests.conftest import record, write_lines

WARM = "i am so sorry that is sad".split()
COLD = "what happened today we won the game".split()
TINY: dict[str, Any] = {"batch_size": 8, "max_length": 96, "checkpointing": False}
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer(template: str | None = None) -> PreTrainedTokenizerFast:
    """Return a tokenizer of single bytes, which spells anything, with ChatML's tokens."""
    special = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate([*special, *letters])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    ends = {"bos_token": "<s>", "eos_token": "</s>"} if template is None else {"eos_token": "<|im_end|>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template, **ends)


def write_base(folder: Path, kind: str = "llama", *, seed: int = 0, template: str | None = None, **more: Any) -> Path:
    """Write a random base of two layers with its tokenizer; ``more`` goes into its configuration."""
    torch.manual_seed(seed)
    tokenizer = byte_tokenizer(template)
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "max_position_embeddings": 256}
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    known = {"vocab_size": len(tokenizer), "initializer_range": 0.3, **heads, **sizes, **ids, **more}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **known))
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):  # they begin as zeros, which would hide that one is lost
            torch.nn.init.normal_(parameter.data, std=0.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def dialogues(words: list[str], count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Return dialogues whose responses are made of these words, each its own conversation."""
    rng = np.random.default_rng(seed)
    return [
        record(f"i am {rng.choice(['sad', 'happy'])} {seed}-{n}", " ".join(rng.choice(words, 3)), id=f"{seed}-{n}")
        for n in range(count)
    ]


def write_sets(folder: Path, count: int = 24) -> tuple[Path, Path]:
    """Write a warm and a cold set."""
    warm, cold = (dialogues(words, count, seed=seed) for seed, words in ((1, WARM), (2, COLD)))
    return write_lines(folder / "sensibility.jsonl", warm), write_lines(folder / "rationality.jsonl", cold)


def write_adapters(folder: Path, base: Path, targets: str = "mlp", **more: Any) -> list[Path]:
    """Write two adapters of random weights, as peft saves them: experts that nobody trained. Their scale is not 1."""
    torch.manual_seed(0)
    experts = []
    for number in range(2):
        given = {"r": 4, "lora_alpha": 6 + number, "task_type": "CAUSAL_LM", **more}
        lora = LoraConfig(target_modules=list(TARGETS[targets]), init_lora_weights=False, **given)
        experts.append(folder / f"adapter{number}")
        get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora).save_pretrained(str(experts[-1]))
    return experts


def write_tuned(folder: Path, base: Path, where: str = ".mlp.") -> list[Path]:
    """Write two copies of a base, those of its weights changed whose names contain ``where``: full fine-tunes."""
    torch.manual_seed(1)
    tuned = []
    for number in range(2):
        model = AutoModelForCausalLM.from_pretrained(base)
        for name, parameter in model.named_parameters():
            if where in name:
                parameter.data += torch.randn_like(parameter) * 0.1
        tuned.append(folder / f"tuned{number}")
        model.save_pretrained(tuned[-1])
    return tuned


def write_experts(folder: Path, base: Path, sets: tuple[Path, ...]) -> list[Path]:
    """Train one expert per set, at a learning rate at which a few steps change the model."""
    experts = [folder / f"expert-{path.stem}" for path in sets]
    for path, output in zip(sets, experts, strict=True):
        train_expert(path, output, ExpertSettings(base=str(base), learning_rate=0.02, **TINY))
    return experts


class Made(NamedTuple):
    """Where everything lies."""

    base: Path
    sets: tuple[Path, Path]
    experts: list[Path]
    mixture: Path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A Llama base, two experts and their mixture, router informed; tests that change them make copies."""
    folder = tmp_path_factory.mktemp("made")
    base, sets = write_base(folder / "base"), write_sets(folder)
    experts = write_experts(folder, base, sets)
    compose_mixture(experts, folder / "moe", ComposeSettings(router="informed"), sets=sets)
    return Made(base, sets, experts, folder / "moe")


class Killed(Exception):
    """What a kill is to a test."""


class KilledAt(Silent):
    """A progress that raises as soon as so much of a stage is done."""

    def __init__(self, done: float) -> None:
        self._done = done

    def update(self, done: float, *, total: float | None = None, note: str = "") -> None:
        if done >= self._done:
            raise Killed


def command(code: int, *arguments: str | Path) -> str:
    """Run `empathy` in this process, which has torch loaded; check its exit code and return what it said to stderr."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    if code:
        assert len(result.stderr.splitlines()) == 1, result.stderr
    return result.stderr
