"""Which dense bases become which mixtures, and what their tensors are called there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import MixtralConfig, PretrainedConfig, Qwen3MoeConfig

from moe.errors import ModelError
from moe.settings import MLP
from scorer.outputs import write_json

_CARRIED = (
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
    "hidden_act max_position_embeddings initializer_range rms_norm_eps rope_theta rope_scaling rope_parameters "
    "attention_dropout tie_word_embeddings bos_token_id eos_token_id pad_token_id dtype"
)
"""What a mixture's configuration has from its base."""

_MLP = re.compile(r"model\.layers\.(\d+)\.mlp\.(\w+)\.weight")
_SHARED = re.compile(
    r"model\.embed_tokens\.weight|model\.norm\.weight|lm_head\.weight"
    r"|model\.layers\.\d+\.(input_layernorm|post_attention_layernorm|self_attn\.([qkvo]_proj|[qk]_norm))\.weight"
)
_DERIVED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")
"""Old checkpoints store these; they are computed from the configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """How a dense base becomes a mixture. ``gate`` and ``expert`` are patterns of its tensors' names in a layer.

    ``expert`` has one for each projection of the base's MLP.
    """

    name: str
    gate: str
    expert: Mapping[str, str]
    config: Callable[[Mapping[str, Any], PretrainedConfig, int, int], PretrainedConfig]

    def gate_name(self, layer: int) -> str:
        """Return the name of a layer's router, a tensor (experts, hidden size)."""
        return f"model.layers.{layer}.{self.gate}.weight"

    def expert_name(self, layer: int, projection: str, number: int) -> str:
        """Return the name of a projection of an expert."""
        return f"model.layers.{layer}.{self.expert[projection].format(number)}.weight"


def _mixtral(carried: Mapping[str, Any], base: PretrainedConfig, experts: int, top_k: int) -> PretrainedConfig:
    window = base.sliding_window if base.model_type == "mistral" else None
    return MixtralConfig(**carried, sliding_window=window, num_local_experts=experts, num_experts_per_tok=top_k)


def _qwen3_moe(carried: Mapping[str, Any], base: PretrainedConfig, experts: int, top_k: int) -> PretrainedConfig:
    kinds = set(base.layer_types)
    if len(kinds) > 1:
        raise ModelError(
            f"the base's layers attend in different ways ({', '.join(sorted(kinds))}) and those of Qwen3MoeForCausalLM "
            "all in one; expected a base with one layer type"
        )
    windowed = kinds == {"sliding_attention"}
    # It has a default of its own, so null would not stay null.
    window = {"use_sliding_window": windowed} | ({"sliding_window": base.sliding_window} if windowed else {})
    return Qwen3MoeConfig(
        **carried,
        **window,
        num_experts=experts,
        num_experts_per_tok=top_k,
        norm_topk_prob=True,
        moe_intermediate_size=base.intermediate_size,
        decoder_sparse_step=1,
        mlp_only_layers=[],
    )


_TO_MIXTRAL = Architecture(
    name="MixtralForCausalLM",
    gate="block_sparse_moe.gate",
    expert={
        name: f"block_sparse_moe.experts.{{}}.{short}" for name, short in zip(MLP, ("w1", "w3", "w2"), strict=True)
    },
    config=_mixtral,
)
_TO_QWEN3_MOE = Architecture(
    name="Qwen3MoeForCausalLM",
    gate="mlp.gate",
    expert={name: f"mlp.experts.{{}}.{name}" for name in MLP},
    config=_qwen3_moe,
)

ARCHITECTURES: Mapping[str, Architecture] = {"llama": _TO_MIXTRAL, "mistral": _TO_MIXTRAL, "qwen3": _TO_QWEN3_MOE}
"""For each model type that can be a base, what it becomes."""


def architecture_of(base: PretrainedConfig, name: str) -> Architecture:
    """Return what a base becomes; ModelError if it cannot become a mixture that is served without our code."""
    found = ARCHITECTURES.get(base.model_type)
    if found is None:
        known = ", ".join(ARCHITECTURES)
        raise ModelError(f"{name}: is a {base.model_type} model, expected one of these as a base: {known}")
    for key in ("attention_bias", "mlp_bias"):
        if getattr(base, key, False):
            raise ModelError(f"{name}: has biases ({key}), which {found.name} has no place for; expected none")
    if getattr(base, "quantization_config", None):
        raise ModelError(f"{name}: is quantised, so experts cannot be merged into it; expected plain weights")
    return found


def moe_config(base: PretrainedConfig, found: Architecture, experts: int, top_k: int) -> PretrainedConfig:
    """Return the configuration of a mixture of so many experts, rope, window and sizes as the base's."""
    carried = {name: value for name in _CARRIED.split() if (value := getattr(base, name, None)) is not None}
    config = found.config(carried, base, experts, top_k)
    config.architectures = [found.name]
    return config


def kind_of_rope(config: PretrainedConfig) -> str:
    """Return how a model's rotary embeddings are scaled, ``default`` for not at all."""
    scaling = getattr(config, "rope_scaling", None) or {}
    return str(scaling.get("rope_type", scaling.get("type", "default")))


def place_of(name: str) -> tuple[str, int, str]:
    """Return what a base's tensor is: ``expert`` with its layer and projection, ``shared``, or ``derived``.

    ModelError for a tensor that has no place in a mixture.
    """
    layer = _MLP.fullmatch(name)
    if layer and layer[2] in MLP:
        return "expert", int(layer[1]), layer[2]
    if _SHARED.fullmatch(name):
        return "shared", -1, ""
    if _DERIVED.fullmatch(name):
        return "derived", -1, ""
    raise ModelError(f"the base holds a tensor {name!r}, which has no place in a mixture; expected plain weights only")


def write_config(config: PretrainedConfig, folder: Path) -> None:
    """Write a mixture's config.json, from which transformers 4.56 to 5 and vLLM read the same.

    Version 5 renamed the rotary embeddings' settings and Qwen3's number of experts, and 4 does not know the new names:
    it would take its own defaults in silence. Both stand in the file.
    """
    config.save_pretrained(folder)
    path = folder / "config.json"
    known = json.loads(path.read_text(encoding="utf-8"))
    scaling = known.get("rope_scaling") or {}
    rope = known.get("rope_parameters") or {
        "rope_type": kind_of_rope(config),
        "rope_theta": known["rope_theta"],
        **scaling,
    }
    scaled = {name: value for name, value in rope.items() if name != "rope_theta"}
    known |= {
        "rope_parameters": rope,
        "rope_theta": rope["rope_theta"],
        "rope_scaling": None if kind_of_rope(config) == "default" else scaled,
    }
    if config.model_type == "qwen3_moe":
        known["num_experts"] = known["num_local_experts"] = config.num_experts
    write_json(path, known, sort_keys=True)
