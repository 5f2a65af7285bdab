"""`empathy moe expert`: one set becomes one LoRA adapter of a base, saved as peft saves it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from peft import LoraConfig, get_peft_model
from transformers import set_seed

from distill.training.checkpoint import writing_weights
from distill.training.fits import Progress
from moe.errors import SetError
from moe.mixture.architectures import architecture_of
from moe.models import find_model, load_causal, load_config, load_tokenizer, open_weights, tokenizer_hash
from moe.outputs import building, write_info
from moe.sets.chat import Chat
from moe.sets.examples import Examples, read_examples, set_info
from moe.settings import TARGETS, ExpertSettings
from moe.training.trainer import begin, claim, fit, losses, steps_of
from scorer.outputs import Existing


def train_expert(
    set_path: Path,
    output: Path,
    settings: ExpertSettings,
    *,
    existing: Existing = "error",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Fine-tune a LoRA adapter on a set, write it to ``output`` whole or not at all, and return its moe.json.

    ModelError says why the base cannot become a mixture later, SetError what the set lacks, both before anything is
    trained; OutputError why ``output`` may not be written. What a killed run did stands in ``output``.partial.
    """
    progress = progress or Progress()
    source = set_info(set_path)
    folder = find_model(settings.base)
    architecture_of(load_config(folder), settings.base)
    chat = Chat(load_tokenizer(folder), settings.max_length)
    examples = read_examples(set_path, chat)
    train, held_out = split(examples, settings.held_out, settings.seed, set_path)
    base = base_info(settings.base, folder)
    identity = {"set": source["sha256"], "base": base["fingerprint"], "settings": {**settings.to_json(), "base": ""}}
    processes, work = claim(output, "expert", identity, existing)
    begin(progress, "expert", steps_of(len(train), settings) // processes.num_processes)
    with writing_weights(output):
        set_seed(settings.seed)
        base_model = load_causal(folder, eager=True)
        model = get_peft_model(base_model, _lora(settings, folder), autocast_adapter_dtype=not _is_fsdp())
        trainer = fit(model, train, held_out, settings, work / "trainer", chat.pad_id, progress.step)
        whole = work / "whole"
        trainer.save_model(str(whole))  # gathers the shards of FSDP
        if processes.is_main_process:
            info = {
                "base": base,
                "tokenizer_sha256": tokenizer_hash(chat.tokenizer),
                "set": {**source, **examples.to_json(), "trained_on": len(train), "held_out": len(held_out)},
                "settings": {**settings.to_json(), "base": base["name"]},
                "metrics": losses(trainer),
            }
            _finish(whole, output, chat.tokenizer, info)
            shutil.rmtree(work)
    processes.wait_for_everyone()
    return info if processes.is_main_process else {}


def split(examples: Examples, share: float, seed: int, set_path: Path) -> tuple[list[Any], list[Any]]:
    """Return what is trained on and what is held out; SetError if nothing is left to train on."""
    train, held_out = examples.split(share, seed)
    if not train:
        raise SetError(
            f"{set_path}: all {len(examples)} dialogues are of conversations that are held out; expected more "
            "conversations, or --held-out 0"
        )
    return train, held_out


def base_info(name: str, folder: Path) -> dict[str, Any]:
    """Return what moe.json says of a base: its name, the last part only of a local one, and its fingerprint."""
    return {
        "name": Path(name).resolve().name if Path(name).is_dir() else name,
        "fingerprint": open_weights(folder).fingerprint(),
    }


def _is_fsdp() -> bool:
    """Whether accelerate shards the model, which it does to parameters of one type only: then adapters are as the base.

    Otherwise they are float32, whatever the base.
    """
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true")


def _lora(settings: ExpertSettings, folder: Path) -> LoraConfig:
    local = Path(settings.base).is_dir()
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(TARGETS[settings.targets]),
        bias="none",
        task_type="CAUSAL_LM",
        base_model_name_or_path=str(folder.resolve()) if local else settings.base,
    )


def _finish(whole: Path, output: Path, tokenizer: Any, info: dict[str, Any]) -> None:
    """Put the adapter, the tokenizer and moe.json into a folder that is whole when it has its name."""
    with building(output) as folder:
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copy2(whole / name, folder / name)
        tokenizer.save_pretrained(folder)
        info |= write_info(folder, "expert", info)
