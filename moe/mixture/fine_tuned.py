"""An expert that is a whole model: a fine-tuned copy of the base, every weight of which may have changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig

from moe.errors import ModelError
from moe.mixture.architectures import Architecture, architecture_of, is_derived, moe_config
from moe.models import Weights, load_config, open_weights
from moe.provenance import Expert

_FREE = (
    *("dtype", "torch_dtype", "transformers_version", "_name_or_path", "use_cache"),
    *("attention_dropout", "initializer_range", "bos_token_id", "eos_token_id", "pad_token_id"),
)
"""What a fine-tuned model's configuration may say otherwise than its base's: it changes no logit."""


@dataclass(frozen=True, slots=True)
class FineTuned:
    """A fully fine-tuned expert. ``targets`` are the names of the base's tensors that are others in it."""

    weights: Weights
    targets: frozenset[str]
    info: Expert | None = None

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.weights.folder

    def merged(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        """Return its own tensor in place of the base's, in float32."""
        return self.weights.get(name).float() if name in self.targets else weight.float()


def load_fine_tuned(folder: Path, base: PretrainedConfig, found: Architecture, weights: Weights) -> FineTuned:
    """Return the model in ``folder`` as an expert of a base; ModelError if it is no copy of it that was fine-tuned.

    Every tensor of both is read once, one at a time, to know what changed.
    """
    _check_config(folder, load_config(folder), base, found)
    own = open_weights(folder)
    tied = bool(base.tie_word_embeddings)
    targets = set()
    for name, (shape, _) in weights.shapes.items():
        if is_derived(name) or (tied and name == "lm_head.weight"):
            continue
        if name not in own.shapes:
            raise ModelError(f"{folder}: lacks {name}, which the base has; expected a fine-tuned copy of the base")
        if own.shapes[name][0] != shape:
            raise ModelError(
                f"{folder}: its {name} is {_sizes(own.shapes[name][0])}, and the base's is {_sizes(shape)}; expected a "
                "fine-tuned copy of the base, its vocabulary included"
            )
        if not torch.equal(own.get(name).float(), weights.get(name).float()):
            targets.add(name)
    added = (name for name in own.shapes if name not in weights.shapes and not is_derived(name))
    if more := sorted(name for name in added if not (tied and name == "lm_head.weight")):
        raise ModelError(f"{folder}: holds {more[0]!a}, which the base lacks; expected a fine-tuned copy of the base")
    return FineTuned(own, frozenset(targets))


def _check_config(folder: Path, own: PretrainedConfig, base: PretrainedConfig, found: Architecture) -> None:
    if own.model_type != base.model_type:
        raise ModelError(f"{folder}: is a {own.model_type} model and the base a {base.model_type} one; expected a copy")
    architecture_of(own, str(folder))  # says whether it is quantised
    here, there = (_told(moe_config(config, found, 2, 2).to_dict()) for config in (own, base))
    for key in sorted(here.keys() | there.keys()):
        if here.get(key) != there.get(key):
            raise ModelError(
                f"{folder}: its config.json has {key} {here.get(key)!r}, and the base's {there.get(key)!r}; expected a "
                "fine-tuned copy of the base"
            )


def _told(known: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in known.items() if key not in _FREE}


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
