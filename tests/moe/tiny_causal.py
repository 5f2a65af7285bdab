"""What the tests of experts share: tiny random causal models of each base, and sets of dialogues that differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from moe.settings import TARGETS, ExpertSettings
from moe.training.expert import train_expert
from tests.conftest import record, write_lines

BASES = ("llama", "mistral", "qwen3")
WARM = "i am so sorry that is sad".split()
COLD = "what happened today we won the game".split()
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
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "head_dim": 16,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "initializer_range": 0.3,
        **more,
    }
    config, model = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "mistral": (MistralConfig, MistralForCausalLM),
        "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    }[kind]
    model(config(**sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def dialogues(words: list[str], count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Return dialogues whose responses are made of these words, a conversation each."""
    rng = np.random.default_rng(seed)
    return [
        record(f"i am {rng.choice(['sad', 'happy'])} {seed}-{n}", " ".join(rng.choice(words, 3)), id=f"{seed}-{n}")
        for n in range(count)
    ]


def write_sets(folder: Path, count: int = 24) -> tuple[Path, Path]:
    """Write a warm and a cold set."""
    return (
        write_lines(folder / "sensibility.jsonl", dialogues(WARM, count, seed=1)),
        write_lines(folder / "rationality.jsonl", dialogues(COLD, count, seed=2)),
    )


def write_adapters(folder: Path, base: Path, targets: str = "mlp") -> list[Path]:
    """Write two adapters of random weights, as peft saves them: experts that nobody trained."""
    torch.manual_seed(0)
    experts = []
    for number in range(2):
        lora = LoraConfig(target_modules=list(TARGETS[targets]), init_lora_weights=False, task_type="CAUSAL_LM")
        experts.append(folder / f"adapter{number}")
        get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora).save_pretrained(str(experts[-1]))
    return experts


def write_experts(folder: Path, base: Path, sets: tuple[Path, ...], **more: Any) -> list[Path]:
    """Train an expert a set, at a learning rate at which a few steps change the model."""
    settings: dict[str, Any] = {
        "learning_rate": 0.02,
        "batch_size": 8,
        "max_length": 96,
        "checkpointing": False,
        **more,
    }
    experts = []
    for path in sets:
        output = folder / f"expert-{path.stem}"
        train_expert(path, output, ExpertSettings(base=str(base), **settings))
        experts.append(output)
    return experts
