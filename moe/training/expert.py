"""`empathy moe expert`: one set becomes one LoRA adapter of a base, saved as peft saves it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel, set_seed

from distill.pretrained import save_tokenizer
from distill.training.checkpoint import writing_weights
from moe.mixture.architectures import architecture_of
from moe.models import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    base_info,
    find_model,
    load_causal,
    load_config,
    load_tokenizer,
    model_hash,
    tokenizer_hash,
)
from moe.provenance import MOE_JSON, Expert, read_made
from moe.sets.chat import Chat
from moe.sets.examples import read_examples, set_source
from moe.settings import TARGETS, ExpertSettings
from moe.training.trainer import beginning, fit_causal, losses_of
from scorer.finished import seal
from scorer.outputs import Existing, end_work, new_folder, write_json
from scorer.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class _Identity:
    set: str
    base: str
    settings: ExpertSettings


def train_expert(
    set_path: Path,
    output: Path,
    settings: ExpertSettings,
    *,
    existing: Existing = "error",
    progress: Progress | None = None,
) -> Expert | None:
    """Fine-tune a LoRA adapter on a set, write it to ``output`` whole or not at all, and return its moe.json.

    Of several processes the first returns it. ModelError says why the base cannot become a mixture later, SetError what
    the set lacks, both before anything is trained; OutputError why ``output`` may not be written. What a killed run did
    stands in ``output``.partial. A whole ``output`` is left as it is, if all that it was made from is the same.
    """
    source = set_source(set_path)
    folder = find_model(settings.base)
    architecture_of(load_config(folder), settings.base)
    chat = Chat(load_tokenizer(folder), settings.max_length)
    found = read_examples(set_path, chat)
    train, held_out = found.split(settings.held_out, settings.seed)
    base = base_info(settings.base, folder)
    identity = _Identity(set=source.sha256, base=model_hash(settings.base), settings=replace(settings, base=""))
    with beginning(output, "expert", identity, existing) as (processes, work):
        if work is None:
            return read_made(output, Expert)
        with writing_weights(output):
            set_seed(settings.seed)
            base_model = load_causal(folder, eager=True)
            model = get_peft_model(
                base_model, _lora(base_model, settings, folder), autocast_adapter_dtype=not _is_fsdp()
            )
            trainer = fit_causal(model, train, held_out, settings, work / "trainer", chat.pad_id, progress, "expert")
            whole = work / "whole"
            trainer.save_model(str(whole))  # gathers the shards of FSDP
            info = None
            if processes.is_main_process:
                info = Expert(
                    base=base,
                    tokenizer_sha256=tokenizer_hash(chat.tokenizer),
                    set=replace(found.about(source), trained_on=len(train), held_out=len(held_out)),
                    settings=replace(settings, base=base.name),
                    metrics=losses_of(trainer),
                )
                with new_folder(output) as made:
                    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
                        shutil.copy2(whole / name, made / name)
                    save_tokenizer(chat.tokenizer, made)
                    write_json(made / MOE_JSON, info)
                    seal(made, identity)
                end_work(output, identity)
        processes.wait_for_everyone()
        return info


def _is_fsdp() -> bool:
    """Whether accelerate shards the model, which it does to parameters of one type only: then adapters are as the base.

    Otherwise they are float32, whatever the base.
    """
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true")


def _lora(model: PreTrainedModel, settings: ExpertSettings, folder: Path) -> LoraConfig:
    there = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=[name for name in TARGETS[settings.targets] if name in there],
        bias="none",
        task_type="CAUSAL_LM",
        base_model_name_or_path=str(folder.resolve()) if Path(settings.base).is_dir() else settings.base,
    )
