"""Which dense bases become which mixtures, and what their tensors are called there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from transformers import MixtralConfig, PretrainedConfig, Qwen2MoeConfig, Qwen3MoeConfig

from moe.errors import ModelError
from moe.settings import ATTENTION, MLP, PACKED_ATTENTION, PACKED_MLP
from scorer.outputs import write_json

_CARRIED = (
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
    "hidden_act max_position_embeddings initializer_range rms_norm_eps rope_theta rope_scaling rope_parameters "
    "attention_dropout tie_word_embeddings bos_token_id eos_token_id pad_token_id dtype"
)
"""What a mixture's configuration has from its base."""

_LAYER = r"model\.layers\.(\d+)\."
_MLP = re.compile(_LAYER + r"mlp\.(\w+)\.weight")
_PACKED_QKV = re.compile(_LAYER + rf"self_attn\.{PACKED_ATTENTION}\.weight")
_SHARED = re.compile(
    r"model\.embed_tokens\.weight|model\.norm\.weight|lm_head\.weight"
    r"|model\.layers\.\d+\.(input_layernorm|post_attention_layernorm|self_attn\.([qkvo]_proj|[qk]_norm))\.weight"
)
_QKV_BIAS = re.compile(_LAYER + r"self_attn\.[qkv]_proj\.bias")
_DERIVED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")
"""Old checkpoints store these; they are computed from the configuration."""

_SHARED_EXPERT_SIZE = 128
"""Of the shared expert that Qwen2MoE must have, and which is all zeros here. Servers may divide it among cards."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a tensor of the base, or some ``rows`` of it (from, to), is in a mixture.

    ``name`` is that of a shared one; an expert's has a ``layer`` and a ``projection`` instead.
    """

    name: str = ""
    layer: int = -1
    projection: str = ""
    rows: tuple[int, int] | None = None

    @property
    def is_expert(self) -> bool:
        """Whether each expert has its own."""
        return bool(self.projection)


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """How a dense base becomes a mixture. ``gate`` and ``expert`` are patterns of its tensors' names in a layer.

    ``expert`` has one for each projection of the base's MLP. ``zeros`` gives names and shapes, from the hidden size, of
    those that a layer must have and that add nothing. ``qkv_bias`` is whether it has a place for biases of q, k and v.
    """

    name: str
    gate: str
    expert: Mapping[str, str]
    config: Callable[[Mapping[str, Any], PretrainedConfig, int, int], PretrainedConfig]
    zeros: Callable[[int], Mapping[str, tuple[int, ...]]] = lambda _: {}
    qkv_bias: bool = False

    def gate_name(self, layer: int) -> str:
        """Return the name of a layer's router, a tensor (experts, hidden size)."""
        return f"model.layers.{layer}.{self.gate}.weight"

    def expert_name(self, layer: int, projection: str, number: int) -> str:
        """Return the name of a projection of an expert."""
        return f"model.layers.{layer}.{self.expert[projection].format(number)}.weight"

    def zeros_of(self, layer: int, hidden_size: int) -> Mapping[str, tuple[int, ...]]:
        """Return the names and shapes of a layer's tensors that hold zeros."""
        return {f"model.layers.{layer}.{name}.weight": shape for name, shape in self.zeros(hidden_size).items()}


def _mixtral(carried: Mapping[str, Any], base: PretrainedConfig, experts: int, top_k: int) -> PretrainedConfig:
    window = base.sliding_window if base.model_type in ("mistral", "phi3") else None
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


def _qwen2_moe(carried: Mapping[str, Any], base: PretrainedConfig, experts: int, top_k: int) -> PretrainedConfig:
    if "sliding_attention" in base.layer_types:
        raise ModelError(
            "layers of the base attend in a window, which Qwen2MoeForCausalLM does in other layers (transformers) or "
            "in none (vLLM); expected a Qwen2 base without (use_sliding_window false)"
        )
    heads, width = base.num_attention_heads, base.hidden_size
    if (size := getattr(base, "head_dim", None)) is not None and size * heads != width:
        raise ModelError(
            f"the base has {heads} heads of {size}, and those of Qwen2MoeForCausalLM share the hidden size, {width}"
        )
    return Qwen2MoeConfig(
        **carried,
        use_sliding_window=False,
        num_experts=experts,
        num_experts_per_tok=top_k,
        norm_topk_prob=True,  # else one expert of two would count by its chance alone
        moe_intermediate_size=base.intermediate_size,
        shared_expert_intermediate_size=_SHARED_EXPERT_SIZE,
        decoder_sparse_step=1,
        mlp_only_layers=[],
        qkv_bias=True,
    )


def _shared_expert(hidden_size: int) -> Mapping[str, tuple[int, ...]]:
    narrow, wide = (hidden_size, _SHARED_EXPERT_SIZE), (_SHARED_EXPERT_SIZE, hidden_size)
    shapes = {name: narrow if name == "down_proj" else wide for name in MLP}
    return {f"mlp.shared_expert.{name}": shape for name, shape in shapes.items()} | {
        "mlp.shared_expert_gate": (1, hidden_size)
    }


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

_TO_QWEN2_MOE = Architecture(
    name="Qwen2MoeForCausalLM",
    gate="mlp.gate",
    expert={name: f"mlp.experts.{{}}.{name}" for name in MLP},
    config=_qwen2_moe,
    zeros=_shared_expert,
    qkv_bias=True,
)

ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": _TO_MIXTRAL,
    "mistral": _TO_MIXTRAL,
    "phi3": _TO_MIXTRAL,
    "qwen2": _TO_QWEN2_MOE,
    "qwen3": _TO_QWEN3_MOE,
}
"""For each model type that can be a base, what it becomes."""

_GEMMA = (
    "its embeddings are scaled and its norms multiply by 1 + weight, which no mixture does that transformers 4.56, 5 "
    "and vLLM all know; folded into the weights they would be rounded, so it would hold no expert exactly"
)
_GEMMA2 = f"{_GEMMA}; and it has norms after attention and MLP, which those mixtures lack"
REFUSED: Mapping[str, str] = {
    "gemma": _GEMMA,
    "gemma2": _GEMMA2,
    "gemma3": _GEMMA2,
    "gemma3_text": _GEMMA2,
    "phi": "its norms are LayerNorms and its MLP has no gate, and those of every mixture that transformers has differ",
    "phimoe": "it is a mixture already",
    "mixtral": "it is a mixture already",
    "qwen2_moe": "it is a mixture already",
    "qwen3_moe": "it is a mixture already",
}
"""Why some model types that people ask for cannot be a base."""


def architecture_of(base: PretrainedConfig, name: str) -> Architecture:
    """Return what a base becomes; ModelError if it cannot become a mixture that is served without our code."""
    found = ARCHITECTURES.get(base.model_type)
    if found is None:
        why = f" ({REFUSED[base.model_type]})" if base.model_type in REFUSED else ""
        known = ", ".join(ARCHITECTURES)
        raise ModelError(f"{name}: is a {base.model_type} model{why}, expected one of these as a base: {known}")
    for key in ("attention_bias", "mlp_bias"):
        if getattr(base, key, False):
            raise ModelError(
                f"{name}: has biases ({key}), which {found.name} has no place for in transformers 4 and 5 and in vLLM; "
                "expected none (only Qwen2's, of q, k and v, can be kept)"
            )
    if getattr(base, "quantization_config", None):
        raise ModelError(f"{name}: is quantised, so experts cannot be merged into it; expected plain weights")
    if base.model_type == "phi3":
        _check_phi3(base, name)
    return found


def _check_phi3(base: PretrainedConfig, name: str) -> None:
    rope = getattr(base, "rope_parameters", None) or {}
    part = rope.get("partial_rotary_factor", getattr(base, "partial_rotary_factor", 1.0))
    if part != 1:
        raise ModelError(
            f"{name}: rotates {part:g} of each head (partial_rotary_factor), and MixtralForCausalLM all of it; "
            "expected a Phi-3 base with 1"
        )
    if (kind := kind_of_rope(base)) != "default":
        raise ModelError(
            f"{name}: changes its rotary embeddings after {base.original_max_position_embeddings} tokens ({kind}), for "
            "which Phi-3 begins its cache anew and MixtralForCausalLM does not; expected one without, as the 4k ones"
        )


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


def is_derived(name: str) -> bool:
    """Whether a tensor is computed from the configuration, so that no mixture has it."""
    return _DERIVED.fullmatch(name) is not None


def places_of(name: str, rows: int, base: PretrainedConfig, found: Architecture) -> Sequence[Place]:
    """Return what a base's tensor of so many rows becomes: one or, of Phi-3's packed ones, several; none if derived.

    ModelError for a tensor that has no place in a mixture.
    """
    layer = _MLP.fullmatch(name)
    if layer and layer[2] in MLP:
        return [Place(layer=int(layer[1]), projection=layer[2])]
    if _SHARED.fullmatch(name) or (found.qkv_bias and _QKV_BIAS.fullmatch(name)):
        return [Place(name)]
    if is_derived(name):
        return []
    if base.model_type == "phi3" and layer and layer[2] == PACKED_MLP:
        half, number = rows // 2, int(layer[1])
        return [
            Place(layer=number, projection=projection, rows=(half * at, half * (at + 1)))
            for at, projection in enumerate(MLP[:2])
        ]
    if base.model_type == "phi3" and _PACKED_QKV.fullmatch(name):
        # As many heads of q as the configuration says, and the rest is k and v alike.
        heads, keys = base.num_attention_heads, base.num_key_value_heads
        size = rows // (heads + 2 * keys)
        ends = (0, heads * size, (heads + keys) * size, rows)
        return [
            Place(name.replace(PACKED_ATTENTION, projection), rows=between)
            for projection, between in zip(ATTENTION, pairwise(ends), strict=False)
        ]
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
