"""A LoRA adapter on disk: which of a base's tensors it changes, and by what."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from moe.errors import ModelError
from moe.models import ADAPTER_CONFIG, ADAPTER_WEIGHTS, loading, read_adapter_config
from moe.provenance import Expert, read_made
from moe.settings import TARGETS

_AGAIN = "; train the expert again"
_PREFIX = "base_model.model."
_PLAIN: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "use_dora": (False, None),
    "fan_in_fan_out": (False, None),
    "modules_to_save": (None, []),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "lora_bias": (False, None),
}
"""The settings of an adapter whose change to a weight is alpha / r x B A and nothing else."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """An expert as it lies on disk. ``targets`` are the names of the base's tensors that it changes."""

    folder: Path
    base: str
    scale: float
    targets: frozenset[str]
    info: Expert | None

    def merged(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        """Return the base's tensor with this expert's change: W + scale x B A, in float32."""
        weight = weight.float()
        if name not in self.targets:
            return weight
        key = _PREFIX + name.removesuffix(".weight")
        what = f"{self.folder}: its {ADAPTER_WEIGHTS} cannot be read"
        with loading(what, _AGAIN), safe_open(self.folder / ADAPTER_WEIGHTS, framework="pt") as file:
            a = file.get_tensor(f"{key}.lora_A.weight").float()  # (rank, in)
            b = file.get_tensor(f"{key}.lora_B.weight").float()  # (out, rank)
        if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
            raise ModelError(f"{what} ({name} has parts of {tuple(b.shape)} and {tuple(a.shape)}){_AGAIN}")
        if (b.shape[0], a.shape[1]) != tuple(weight.shape):
            raise ModelError(
                f"{self.folder}: changes {name} of {b.shape[0]} x {a.shape[1]}, and the base's is "
                f"{' x '.join(map(str, weight.shape))}; it is another base's expert"
            )
        change = self.scale * (b @ a)
        if not torch.isfinite(change).all():
            raise ModelError(f"{what} ({name} holds what is no number){_AGAIN}")
        return weight + change


def load_adapter(folder: Path) -> Adapter:
    """Return the adapter in a folder; ModelError if there is none, or one that cannot be merged exactly."""
    config = read_adapter_config(folder)
    for key, allowed in _PLAIN.items():
        if config.get(key, allowed[0]) not in allowed:
            raise ModelError(
                f"{folder / ADAPTER_CONFIG}: {key} is {config[key]!r}, expected {allowed[0]!r}: only a plain LoRA is "
                "merged exactly"
            )
    with loading(f"{folder}: its {ADAPTER_WEIGHTS} cannot be read", _AGAIN):
        with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as file:
            names = list(file.keys())
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    targets = frozenset(name.removeprefix(_PREFIX).rpartition(".lora_")[0] + ".weight" for name in names)
    for name in sorted(targets):
        if name.removesuffix(".weight").split(".")[-1] not in TARGETS["all"]:
            raise ModelError(f"{folder}: changes {name}; expected {', '.join(TARGETS['all'])} only")
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return Adapter(folder, str(config["base_model_name_or_path"]), scale, targets, read_made(folder, Expert))
