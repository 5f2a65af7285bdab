"""Bases with more than Llama has, and experts that are whole models: exact where one can hold them, else refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from moe.errors import ModelError, SettingError
from moe.mixture.architectures import REFUSED, architecture_of, moe_config
from moe.mixture.compose import compose_mixture
from moe.mixture.experts import changes_shared
from moe.mixture.fine_tuned import load_fine_tuned
from moe.models import load_config, open_weights
from moe.settings import ComposeSettings, RouterSettings
from moe.training.router import train_mixture
from tests.moe.conftest import CHATML, TINY, command, write_adapters, write_base, write_experts, write_sets, write_tuned
from tests.moe.mixture.test_compose import PHI3, QWEN2, expert_model, logits_of, only, routed

BASES: list[tuple[str, dict[str, Any]]] = [("qwen2", QWEN2), ("phi3", PHI3), ("qwen3", {}), ("llama", {})]


def check_exact(mixture: Any, expected: list[torch.Tensor]) -> None:
    """Check that a mixture gives each expert's logits when it asks that one alone."""
    assert (expected[0] - expected[1]).abs().max() > 0.01
    for number, logits in enumerate(expected):
        with routed(mixture, only(number)):
            torch.testing.assert_close(logits_of(mixture), logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("kind", "more"), BASES)
def test_fully_tuned_mlps_are_held_exactly(kind: str, more: dict[str, Any], tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", kind, **more)
    tuned = write_tuned(tmp_path, base)
    info = compose_mixture(tuned, tmp_path / "moe", ComposeSettings(), base=str(base))
    assert (info.shared, info.warnings) == ("the base's", [])
    assert info.experts
    assert [(one.name, one.settings) for one in info.experts] == [("tuned0", None), ("tuned1", None)]
    mixture = AutoModelForCausalLM.from_pretrained(tmp_path / "moe")
    check_exact(mixture, [logits_of(AutoModelForCausalLM.from_pretrained(path)) for path in tuned])


def test_an_adapter_and_a_whole_model_mix(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "qwen2", **QWEN2)
    adapter, tuned = write_adapters(tmp_path, base)[0], write_tuned(tmp_path, base)[1]
    compose_mixture([tuned, adapter], tmp_path / "moe", ComposeSettings())  # the adapter names the base
    mixture = AutoModelForCausalLM.from_pretrained(tmp_path / "moe")
    expected = [logits_of(AutoModelForCausalLM.from_pretrained(tuned)), logits_of(expert_model(base, adapter))]
    check_exact(mixture, expected)


@pytest.mark.parametrize(("kind", "more"), BASES[:2])
def test_what_all_share_is_the_mean_of_whole_models_and_a_warning_says_so(
    kind: str, more: dict[str, Any], tmp_path: Path
) -> None:
    base = write_base(tmp_path / "base", kind, **more)
    tuned = write_tuned(tmp_path, base, "")
    info = compose_mixture(tuned, tmp_path / "moe", ComposeSettings(), base=str(base))
    assert info.shared == "the mean of the experts'"
    assert len(info.warnings) == 1
    assert "tuned0, tuned1: more than the MLPs was tuned (as lm_head.weight)" in info.warnings[0]
    first, second = (load_file(path / "model.safetensors") for path in tuned)
    found = load_file(tmp_path / "moe" / "model.safetensors")
    packed = kind == "phi3"
    for name in ("self_attn.v_proj.bias", "self_attn.k_proj.weight", "input_layernorm.weight"):
        name = f"model.layers.1.{name}"
        if packed and "bias" in name:
            continue
        source, rows = (
            (name.replace("k_proj", "qkv_proj"), slice(32, 48)) if packed and "k_proj" in name else (name, ...)
        )
        assert not torch.equal(first[source], second[source])
        torch.testing.assert_close(found[name], ((first[source] + second[source]) / 2)[rows])


def test_the_tensors_of_a_qwen2_mixture_are_named_as_servers_know_them(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "qwen2", **QWEN2, num_hidden_layers=1)
    compose_mixture(write_adapters(tmp_path, base), tmp_path / "moe", ComposeSettings())
    found, of_base = load_file(tmp_path / "moe" / "model.safetensors"), load_file(base / "model.safetensors")
    of_mlp = {name.removeprefix("model.layers.0."): tuple(one.shape) for name, one in found.items() if ".mlp." in name}
    # Written by hand from Qwen2MoE's classes in transformers 4.56 and the loader of vLLM (qwen2_moe.py).
    assert of_mlp == {
        "mlp.gate.weight": (2, 32),
        "mlp.shared_expert_gate.weight": (1, 32),
        "mlp.shared_expert.gate_proj.weight": (128, 32),
        "mlp.shared_expert.up_proj.weight": (128, 32),
        "mlp.shared_expert.down_proj.weight": (32, 128),
        **{f"mlp.experts.{n}.{name}.weight": (48, 32) for n in range(2) for name in ("gate_proj", "up_proj")},
        **{f"mlp.experts.{n}.down_proj.weight": (32, 48) for n in range(2)},
    }
    assert not any(one.any() for name, one in found.items() if "shared_expert" in name)
    shared = {name for name in found if ".mlp." not in name}
    assert shared == {name for name in of_base if ".mlp." not in name}
    for letter in "qkv":
        name = f"model.layers.0.self_attn.{letter}_proj.bias"
        assert found[name].any()
        assert torch.equal(found[name], of_base[name])


def test_a_qwen2_mixture_says_to_every_reader_how_it_routes(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "qwen2", **QWEN2, rope_theta=1e6)
    compose_mixture(write_adapters(tmp_path, base), tmp_path / "moe", ComposeSettings())
    known = json.loads((tmp_path / "moe" / "config.json").read_text())
    expected = {
        "architectures": ["Qwen2MoeForCausalLM"],
        "model_type": "qwen2_moe",
        "norm_topk_prob": True,
        "num_experts": 2,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 48,
        "shared_expert_intermediate_size": 128,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "use_sliding_window": False,
        "qkv_bias": True,
        "rope_theta": 1e6,
        "rope_scaling": None,
        "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"},
    }
    assert {key: known[key] for key in expected} == expected


@pytest.mark.slow
def test_the_router_of_a_qwen2_mixture_learns_and_the_rest_stays(tmp_path: Path) -> None:
    base, sets = write_base(tmp_path / "base", "qwen2", **QWEN2), write_sets(tmp_path)
    compose_mixture(write_tuned(tmp_path, base), tmp_path / "moe", ComposeSettings(), base=str(base))
    train_mixture(str(tmp_path / "moe"), sets, tmp_path / "trained", RouterSettings(learning_rate=0.1, **TINY))
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("moe", "trained"))
    assert before.keys() == after.keys()
    for name, one in before.items():
        assert torch.equal(one, after[name]) is not name.endswith("mlp.gate.weight"), name
    configs = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("moe", "trained")]
    for key in ("rope_theta", "rope_parameters", "num_experts", "norm_topk_prob", "shared_expert_intermediate_size"):
        assert configs[0][key] == configs[1][key]


@pytest.mark.parametrize(("kind", "more"), BASES[:2])
def test_experts_are_trained_routed_by_their_sets_and_trained_on(
    kind: str, more: dict[str, Any], tmp_path: Path
) -> None:
    base, sets = write_base(tmp_path / "base", kind, **more), write_sets(tmp_path)
    experts = write_experts(tmp_path, base, sets)
    settings = ComposeSettings(router="informed", top_k=1)
    info = compose_mixture(experts, tmp_path / "moe", settings, sets=sets)
    assert info.shared == "the base's"
    mixture = AutoModelForCausalLM.from_pretrained(tmp_path / "moe")
    check_exact(mixture, [logits_of(expert_model(base, expert)) for expert in experts])
    also = RouterSettings(also_experts=True, learning_rate=0.01, **TINY)
    train_mixture(str(tmp_path / "moe"), sets, tmp_path / "trained", also)
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("moe", "trained"))
    changed = {name for name, one in before.items() if not torch.equal(one, after[name])}
    assert {name for name in before if ".experts." in name} <= changed
    assert not any("shared_expert" in name or "self_attn" in name for name in changed)


def test_packed_attention_that_adapters_changed_is_divided_and_averaged(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "phi3", **PHI3)
    experts = write_adapters(tmp_path, base, "all")
    compose_mixture(experts, tmp_path / "moe", ComposeSettings())
    first, second = (expert_model(base, expert).state_dict() for expert in experts)
    packed = (
        first["model.layers.0.self_attn.qkv_proj.weight"] + second["model.layers.0.self_attn.qkv_proj.weight"]
    ) / 2
    found = load_file(tmp_path / "moe" / "model.safetensors")
    divided = torch.cat([found[f"model.layers.0.self_attn.{letter}_proj.weight"] for letter in "qkv"])
    torch.testing.assert_close(divided, packed)


def test_a_whole_model_and_its_base_may_lie_in_several_files(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "qwen2", **QWEN2)
    tuned = write_tuned(tmp_path, base)
    compose_mixture(tuned, tmp_path / "whole", ComposeSettings(), base=str(base))
    for folder in (base, tuned[0]):
        model = AutoModelForCausalLM.from_pretrained(folder)
        (folder / "model.safetensors").unlink()
        model.save_pretrained(folder, max_shard_size="20KB")
        assert len(list(folder.glob("*.safetensors"))) > 1
    compose_mixture(tuned, tmp_path / "parts", ComposeSettings(), base=str(base))
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(one, parts[name]) for name, one in whole.items())


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}, "attend in a window"),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}, "attend in a window"),
        ("qwen2", {"head_dim": 16}, "4 heads of 16, and those of Qwen2MoeForCausalLM share the hidden size, 32"),
        ("phi3", {"partial_rotary_factor": 0.5}, r"rotates 0\.5 of each head"),
        (
            "phi3",
            {"rope_scaling": {"type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}},
            r"after 4096 tokens \(longrope\)",
        ),
        (
            "llama",
            {"attention_bias": True},
            r"has biases \(attention_bias\), which MixtralForCausalLM has no place for",
        ),
        ("gemma", {}, r"is a gemma model \(its embeddings are scaled and its norms multiply by 1 \+ weight"),
        ("gemma2", {}, "norms after attention and MLP"),
        ("gemma3_text", {}, "norms after attention and MLP"),
        ("phi", {}, "its norms are LayerNorms"),
        ("mixtral", {}, "it is a mixture already"),
    ],
)
def test_a_base_that_no_mixture_holds_exactly_is_refused_with_the_reason(
    kind: str, more: dict[str, Any], message: str, tmp_path: Path
) -> None:
    given = {"head_dim": 8, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "pad_token_id": 0}
    config = AutoConfig.for_model(kind, **{**given, **more})
    config.save_pretrained(tmp_path)
    read = load_config(tmp_path)
    with pytest.raises(ModelError, match=message):
        moe_config(read, architecture_of(read, "base"), 2, 2)


def test_every_refusal_is_one_line_of_a_type_that_is_no_base() -> None:
    for kind, why in REFUSED.items():
        config = AutoConfig.for_model(kind)
        with pytest.raises(ModelError) as raised:
            architecture_of(config, "base")
        assert why in str(raised.value)
        assert "\n" not in str(raised.value)


def test_a_whole_model_that_is_no_copy_of_the_base_is_refused(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "qwen2", **QWEN2)
    first = write_tuned(tmp_path, base)[0]

    def refused(second: Path, message: str) -> None:
        with pytest.raises(ModelError, match=message):
            compose_mixture([first, second], tmp_path / "moe", ComposeSettings(), base=str(base))
        assert not (tmp_path / "moe").exists()

    refused(write_base(tmp_path / "a", "qwen2", **QWEN2, rope_theta=123.0), r"a: its config.json has rope_")
    refused(write_base(tmp_path / "b", "qwen2", **{**QWEN2, "vocab_size": 300}), r"vocab_size 300, and the base's 264")
    quantised = shutil.copytree(first, tmp_path / "g")
    known = json.loads((quantised / "config.json").read_text())
    (quantised / "config.json").write_text(json.dumps({**known, "quantization_config": {"quant_method": "fp8"}}))
    refused(quantised, "g: is quantised")
    refused(write_base(tmp_path / "c", "llama"), "is a llama model and the base a qwen2 one")
    refused(write_base(tmp_path / "d", "qwen2", **QWEN2, tie_word_embeddings=True), "has tie_word_embeddings True")
    lacking = shutil.copytree(first, tmp_path / "e")
    tensors = load_file(lacking / "model.safetensors")
    name = "model.layers.1.self_attn.q_proj.bias"
    save_file(
        {key: one for key, one in tensors.items() if key != name}, lacking / "model.safetensors", {"format": "pt"}
    )
    refused(lacking, f"lacks {name}, which the base has")
    save_file({**tensors, "model.more.weight": torch.ones(2)}, lacking / "model.safetensors", {"format": "pt"})
    refused(lacking, "holds 'model.more.weight', which the base lacks")
    save_file({**tensors, name: torch.ones(33)}, lacking / "model.safetensors", {"format": "pt"})
    refused(lacking, f"its {name} is 33, and the base's is 32")
    save_file({**tensors, name: tensors[name] * float("nan")}, lacking / "model.safetensors", {"format": "pt"})
    refused(lacking, f"{name} holds what is no number")
    spoken = shutil.copytree(first, tmp_path / "spoken")
    for path in write_base(tmp_path / "f", "qwen2", **QWEN2, template=CHATML).glob("*t*k*n*"):
        shutil.copy(path, spoken)
    shutil.copy(tmp_path / "f" / "chat_template.jinja", spoken)
    refused(spoken, "different tokenizers or chat templates")
    with pytest.raises(SettingError, match=r"does not say what it was tuned from; name it \(--base\)"):
        compose_mixture([first, first], tmp_path / "moe", ComposeSettings())


def test_a_whole_model_in_wider_numbers_or_with_more_stored_is_a_copy_still(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", tie_word_embeddings=True)
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(base)
    same = tmp_path / "same"
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).save_pretrained(same)
    tensors = load_file(same / "model.safetensors")
    extra = {
        "lm_head.weight": tensors["model.embed_tokens.weight"].clone(),  # some checkpoints hold it although tied
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8),
    }
    save_file({**tensors, **extra}, same / "model.safetensors", {"format": "pt"})
    config = load_config(base)
    found = load_fine_tuned(same, config, architecture_of(config, "base"), open_weights(base))
    assert found.targets == frozenset()
    assert not changes_shared(found)
    tuned = write_tuned(tmp_path, base)[0]
    info = compose_mixture([same, tuned], tmp_path / "moe", ComposeSettings(), base=str(base))
    assert info.warnings == ["same has the base's weights: as an expert it is the base itself"]
    assert {one.dtype for one in load_file(tmp_path / "moe" / "model.safetensors").values()} == {torch.bfloat16}


def test_the_command_takes_whole_models(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "qwen2", **QWEN2)
    tuned = write_tuned(tmp_path, base, "proj")
    said = command(0, "moe", "compose", *tuned, "--base", base, "-o", tmp_path / "moe")
    assert "Qwen2MoeForCausalLM" in said
    assert "more than the MLPs was tuned" in said
    assert "name it (--base)" in command(2, "moe", "compose", *tuned, "-o", tmp_path / "new")
