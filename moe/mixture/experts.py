"""The experts of a mixture as they lie on disk: adapters of a base, or whole models that were fine-tuned from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moe.errors import ModelError, SettingError
from moe.mixture.adapter import Adapter
from moe.mixture.fine_tuned import FineTuned
from moe.models import ADAPTER_CONFIG, Weights, load_tokenizer, tokenizer_hash
from moe.provenance import BaseInfo, ExpertInfo
from moe.sets.chat import Chat

AnyExpert = Adapter | FineTuned


def is_model(folder: Path) -> bool:
    """Whether an expert is a whole model, not an adapter."""
    return (folder / "config.json").exists() and not (folder / ADAPTER_CONFIG).exists()


def changes_shared(expert: AnyExpert) -> bool:
    """Whether an expert changes what all experts of a mixture share."""
    return any(".mlp." not in name for name in expert.targets)


def common_base(experts: Sequence[Path], adapters: Sequence[Adapter]) -> str:
    """Return the base that all adapters name; SettingError if there are none, ModelError if they name several."""
    if not adapters:
        raise SettingError(
            f"{experts[0]}: is a whole model, which does not say what it was tuned from; name it (--base)"
        )
    names = {adapter.base: adapter.folder for adapter in adapters}
    if len(names) > 1:
        listed = " and ".join(f"{name} ({folder})" for name, folder in names.items())
        raise ModelError(f"the experts come from different bases, {listed}; expected one (or name it with --base)")
    return next(iter(names))


def check_adapters(adapters: Sequence[Adapter], weights: Weights, base: BaseInfo) -> None:
    """Raise ModelError for an expert of another base; one that has no moe.json is known by its tensors alone."""
    for adapter in adapters:
        known = adapter.info.base.fingerprint if adapter.info else base.fingerprint
        if known != base.fingerprint:
            raise ModelError(
                f"{adapter.folder}: was trained on another base (fingerprint {known[:12]}, {base.name} has "
                f"{base.fingerprint[:12]}); mix experts of one base"
            )
        if missing := adapter.targets - weights.shapes.keys():
            raise ModelError(f"{adapter.folder}: changes {min(missing)}, which the base lacks; it is another base's")


def common_tokenizer(experts: Sequence[AnyExpert], base: Path) -> Any:
    """Return the tokenizer that all experts were trained with, with its chat template; ModelError if they differ."""
    found: dict[str, tuple[Any, Path]] = {}
    for expert in experts:
        own = (expert.folder / "tokenizer_config.json").exists()
        tokenizer = load_tokenizer(expert.folder if own else base)
        Chat(tokenizer, 16)  # gives it the default template where it has none
        found.setdefault(tokenizer_hash(tokenizer), (tokenizer, expert.folder))
    if len(found) > 1:
        listed = " and ".join(str(folder) for _, folder in found.values())
        raise ModelError(f"{listed}: have different tokenizers or chat templates; mix experts that share them")
    return next(iter(found.values()))[0]


def expert_info(expert: AnyExpert) -> ExpertInfo:
    """Return what the mixture's moe.json says of an expert."""
    name, made = expert.folder.resolve().name, expert.info
    return (
        ExpertInfo(name=name, set=made.set, settings=made.settings, metrics=made.metrics)
        if made
        else ExpertInfo(name=name)
    )
