"""Composition is exact: a mixture holds its experts to the last digit, in a standard checkpoint."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from moe.errors import ModelError, SettingError
from moe.mixture.compose import MixtureTensor, compose_mixture, shards_of
from moe.mixture.initial_router import informed_router, mixture_of, random_router
from moe.mixture.routing_table import gates
from moe.models import load_causal, load_config, load_tokenizer
from moe.sets.chat import Chat
from moe.sets.examples import read_examples
from moe.settings import ComposeSettings
from scorer.errors import OutputError
from tests.moe.conftest import CHATML, Made, command, write_adapters, write_base, write_experts

# The hidden size divided among the heads, as it always is in a Qwen2, and a word more, which its tokenizer adds.
QWEN2: dict[str, Any] = {"head_dim": 8, "vocab_size": 264}
PHI3: dict[str, Any] = {**QWEN2, "pad_token_id": 0}
BECOMES = {"qwen2": "Qwen2MoeForCausalLM", "qwen3": "Qwen3MoeForCausalLM"}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}),
    ("llama", {"tie_word_embeddings": True, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
    ("llama", {"rms_norm_eps": 1e-3, "rope_theta": 123.0, "head_dim": 8, "vocab_size": 300}),
    ("mistral", {"sliding_window": 8}),
    ("mistral", {"sliding_window": None}),
    ("qwen3", {}),
    ("qwen3", {"tie_word_embeddings": True, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}),
    ("qwen2", QWEN2),
    ("qwen2", {**QWEN2, "tie_word_embeddings": True, "rope_theta": 1e6, "rms_norm_eps": 1e-3}),
    ("qwen2", {**QWEN2, "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}}),
    ("phi3", PHI3),
    ("phi3", {**PHI3, "sliding_window": 8, "num_key_value_heads": 4, "rope_theta": 123.0}),
]
IDS = torch.randint(4, 200, (2, 40), generator=torch.Generator().manual_seed(0))


@contextmanager
def routed(mixture: Any, logits: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Give every router's logits, from what it would have said."""

    def forced(gate: Any, _: Any, out: Any) -> Any:
        if isinstance(out, torch.Tensor):
            return logits(out)
        found = logits(out[0])  # transformers 5: the router also chooses
        weights, chosen = found.softmax(-1).topk(gate.top_k, dim=-1)
        return found, weights / weights.sum(-1, keepdim=True), chosen

    handles = [gate.register_forward_hook(forced) for gate in gates(mixture)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def only(expert: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return logits that send every token to one expert."""

    def logits(out: torch.Tensor) -> torch.Tensor:
        forced = torch.full_like(out, -1e4)
        forced[..., expert] = 1e4
        return forced

    return logits


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits


def expert_model(base: Path, expert: Path) -> Any:
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), expert).merge_and_unload()


@pytest.mark.parametrize(("kind", "more"), CASES)
def test_a_mixture_that_asks_one_expert_is_that_expert(kind: str, more: dict[str, Any], tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", kind, **more)
    experts = write_adapters(tmp_path, base)
    compose_mixture(experts, tmp_path / "moe", ComposeSettings())
    mixture, loading = AutoModelForCausalLM.from_pretrained(tmp_path / "moe", output_loading_info=True)
    assert not any(loading.values())
    assert type(mixture).__name__ == BECOMES.get(kind, "MixtralForCausalLM")
    dense = [logits_of(expert_model(base, expert)) for expert in experts]
    assert (dense[0] - dense[1]).abs().max() > 0.01
    for number, expected in enumerate(dense):
        with routed(mixture, only(number)):
            torch.testing.assert_close(logits_of(mixture), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("more", [{"r": 3, "lora_alpha": 9, "use_rslora": True}, {"r": 16, "lora_alpha": 2}])
def test_experts_come_with_the_scale_that_they_were_trained_with(more: dict[str, Any], tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    experts = write_adapters(tmp_path, base, **more)
    compose_mixture(experts, tmp_path / "moe", ComposeSettings())
    found, name = load_file(tmp_path / "moe" / "model.safetensors"), "model.layers.1.mlp.up_proj.weight"
    for number, expert in enumerate(experts):
        expected = expert_model(base, expert).state_dict()[name]
        torch.testing.assert_close(found[f"model.layers.1.block_sparse_moe.experts.{number}.w3.weight"], expected)


def test_each_layer_has_its_own_router(made: Made, tmp_path: Path) -> None:
    compose_mixture(made.experts, tmp_path / "moe", ComposeSettings(seed=5))
    chat, settings = Chat(load_tokenizer(made.base), 512), load_causal(made.base).config
    samples = [read_examples(path, chat).examples for path in made.sets]
    for folder, routers in (
        (tmp_path / "moe", random_router(2, 2, 32, settings.initializer_range, 5)),
        (made.mixture, informed_router(load_causal(made.base), samples, chat.pad_id)),
    ):
        found = load_file(folder / "model.safetensors")
        assert not torch.allclose(routers[0], routers[1], atol=1e-3)
        for layer, router in enumerate(routers):
            written = found[f"model.layers.{layer}.block_sparse_moe.gate.weight"]
            torch.testing.assert_close(written, router, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_two_of_two_is_the_weighted_sum(kind: str, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", kind)
    compose_mixture(write_adapters(tmp_path, base), tmp_path / "moe", ComposeSettings())
    mixture = AutoModelForCausalLM.from_pretrained(tmp_path / "moe")
    block, tensors = mixture_of(mixture.model.layers[1]), load_file(tmp_path / "moe" / "model.safetensors")
    states = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(1))
    place, names = "mlp", ("gate_proj", "up_proj", "down_proj")
    if kind == "llama":
        place, names = "block_sparse_moe", ("w1", "w3", "w2")
    with torch.no_grad():
        found = block(states)
        found = found[0] if isinstance(found, tuple) else found  # of transformers 4
        weights = torch.softmax(states @ block.gate.weight.T, dim=-1)  # (2, 7, experts)
        expected = torch.zeros_like(states)
        for number in range(2):
            gate, up, down = (tensors[f"model.layers.1.{place}.experts.{number}.{name}.weight"] for name in names)
            hidden = torch.nn.functional.silu(states @ gate.T) * (states @ up.T)
            expected += weights[..., number, None] * (hidden @ down.T)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_with_all_targets_attention_is_the_mean_of_the_experts(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    experts = write_adapters(tmp_path, base, "all")
    info = compose_mixture(experts, tmp_path / "moe", ComposeSettings())
    assert info.shared == "the mean of the experts'"
    mixture = AutoModelForCausalLM.from_pretrained(tmp_path / "moe").state_dict()
    first, second = (expert_model(base, expert).state_dict() for expert in experts)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(first[name], second[name])
    torch.testing.assert_close(mixture[name], (first[name] + second[name]) / 2)
    torch.testing.assert_close(mixture["model.norm.weight"], first["model.norm.weight"])


@pytest.mark.slow
def test_a_python_without_this_package_loads_it_and_generates(made: Made, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(('moe', 'distill', 'selection', 'scorer'))\n"  # their import fails
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "model, tokenizer = (kind.from_pretrained(sys.argv[1]) for kind in (AutoModelForCausalLM, AutoTokenizer))\n"
        "given = tokenizer.apply_chat_template([{'role': 'user', 'content': 'i am sad'}], add_generation_prompt=True,"
        " return_tensors='pt', return_dict=True)\n"
        "out = model.generate(**given, max_new_tokens=5, min_new_tokens=5, do_sample=False, pad_token_id=0)\n"
        "print(out.shape[1] - given['input_ids'].shape[1])\n"
    )
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "HF_HUB_OFFLINE": "1"}
    arguments = [sys.executable, "-c", code, str(made.mixture)]
    result = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert result.stdout.strip() == "5", result.stderr


def test_shards_keep_to_their_size_and_change_nothing(made: Made, tmp_path: Path) -> None:
    compose_mixture(made.experts, tmp_path / "whole", ComposeSettings(seed=3))
    compose_mixture(made.experts, tmp_path / "parts", ComposeSettings(seed=3, max_shard_bytes=30_000))
    index = json.loads((tmp_path / "parts" / "model.safetensors.index.json").read_text())
    files = sorted((tmp_path / "parts").glob("*.safetensors"))
    assert len(files) > 3
    assert {path.name for path in files} == set(index["weight_map"].values())
    seen: dict[str, torch.Tensor] = {}
    for found in map(load_file, files):
        assert sum(tensor.nbytes for tensor in found.values()) <= 30_000 or len(found) == 1
        seen |= found
    whole = load_file(tmp_path / "whole" / "model.safetensors")
    assert whole.keys() == seen.keys()
    assert all(torch.equal(whole[name], tensor) for name, tensor in seen.items())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in seen.values())
    logits_of(AutoModelForCausalLM.from_pretrained(tmp_path / "parts"))


def test_a_large_tensor_has_its_own_shard_and_none_is_empty() -> None:
    sizes = [5, 5, 30, 1, 9]
    shards = shards_of(iter(MixtureTensor(str(n), "F32", (size,), None) for n, size in enumerate(sizes)), 40)
    assert [[part.size // 4 for part in shard] for shard in shards] == [[5, 5], [30], [1, 9]]


def test_types_and_settings_of_the_base_are_carried_over(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "mistral", sliding_window=7, rope_theta=5e5, attention_dropout=0.1)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    model.generation_config.repetition_penalty = 1.3
    model.save_pretrained(base)
    compose_mixture(write_adapters(tmp_path, base), tmp_path / "moe", ComposeSettings(top_k=1))
    config, of_base = (AutoConfig.from_pretrained(tmp_path / name) for name in ("moe", "base"))
    same = (
        "sliding_window head_dim rms_norm_eps vocab_size max_position_embeddings num_key_value_heads "
        "tie_word_embeddings attention_dropout eos_token_id dtype"
    )
    for name in same.split():
        assert getattr(config, name) == getattr(of_base, name), name
    assert theta_of(config) == theta_of(of_base) == 5e5
    assert (config.num_local_experts, config.num_experts_per_tok) == (2, 1)
    mixture = AutoModelForCausalLM.from_pretrained(tmp_path / "moe", dtype="auto")
    assert {tensor.dtype for tensor in mixture.parameters()} == {torch.bfloat16}
    assert "1.3" in (tmp_path / "moe" / "generation_config.json").read_text()


def theta_of(config: Any) -> float:
    return float(getattr(config, "rope_theta", None) or config.rope_parameters["rope_theta"])


@pytest.mark.parametrize(("kind", "count"), [("llama", "num_local_experts"), ("qwen3", "num_experts")])
@pytest.mark.parametrize("scaling", [None, {"rope_type": "linear", "factor": 2.0}])
def test_the_configuration_says_the_same_to_transformers_4_and_5(
    kind: str, count: str, scaling: dict[str, Any] | None, tmp_path: Path
) -> None:
    base = write_base(tmp_path / "base", kind, rope_theta=5e5, rope_scaling=dict(scaling) if scaling else None)
    compose_mixture(write_adapters(tmp_path, base), tmp_path / "moe", ComposeSettings())
    known = json.loads((tmp_path / "moe" / "config.json").read_text())
    assert (known["rope_theta"], known["rope_scaling"]) == (5e5, scaling)
    assert known["rope_parameters"] == {"rope_theta": 5e5, **(scaling or {"rope_type": "default"})}
    assert (known[count], known["num_local_experts"]) == (2, 2)
    read = AutoConfig.from_pretrained(tmp_path / "moe")
    assert (theta_of(read), getattr(read, count)) == (5e5, 2)


def test_a_base_whose_rope_this_version_would_not_read_is_refused(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", rope_theta=5e5)
    known = json.loads((base / "config.json").read_text())
    rope = {"rope_type": "default", "rope_theta": 5e5}
    (base / "config.json").write_text(json.dumps({**known, "rope_theta": 1e4, "rope_parameters": rope}))
    if version("transformers").startswith("4."):
        with pytest.raises(ModelError, match="rope_theta is 500000 under its new name and 10000 under"):
            load_config(base)
    else:
        assert theta_of(load_config(base)) == 5e5


def test_where_it_comes_from_is_beside_it(made: Made) -> None:
    info = json.loads((made.mixture / "moe.json").read_text())
    assert info["kind"] == "moe"
    assert [expert["set"]["file"] for expert in info["experts"]] == [path.name for path in made.sets]
    assert info["base"]["name"] == "base"
    assert [entry["sha256"] for entry in info["router"]["sets"]] == [e["set"]["sha256"] for e in info["experts"]]
    assert str(made.base.parent) not in json.dumps(info)


def copied(experts: list[Path], folder: Path, *, provenance: bool = True) -> list[Path]:
    """Return copies of experts, that a test may change."""
    left_out = None if provenance else shutil.ignore_patterns("moe.json")
    return [shutil.copytree(expert, folder / expert.name, ignore=left_out) for expert in experts]


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("llama", {"attention_bias": True}, "has biases"),
        ("llama", {"mlp_bias": True}, "has biases"),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}, "in different ways"),
        ("gpt2", {}, "is a gpt2 model, expected one of these as a base: llama, mistral, phi3, qwen2, qwen3"),
    ],
)
def test_a_base_that_cannot_become_a_mixture_is_refused(
    kind: str, more: dict[str, Any], message: str, made: Made, tmp_path: Path
) -> None:
    base = write_base(tmp_path / "base", kind, **more)
    experts = copied(made.experts, tmp_path, provenance=False)
    with pytest.raises(ModelError, match=message):
        compose_mixture(experts, tmp_path / "moe", ComposeSettings(), base=str(base))
    assert not (tmp_path / "moe").exists()


def test_experts_that_do_not_belong_together_are_refused(made: Made, tmp_path: Path) -> None:
    strange = write_experts(tmp_path, write_base(tmp_path / "other", seed=5), made.sets[:1])
    spoken = shutil.copytree(made.experts[1], tmp_path / "spoken")
    (spoken / "chat_template.jinja").write_text(CHATML)
    for second, base, message in (
        (strange[0], None, "come from different bases"),
        (strange[0], str(made.base), "was trained on another base"),
        (spoken, None, "different tokenizers or chat templates"),
    ):
        with pytest.raises(ModelError, match=message):
            compose_mixture([made.experts[0], second], tmp_path / "moe", ComposeSettings(), base=base)


def test_an_adapter_that_is_none_or_not_plain_is_refused(made: Made, tmp_path: Path) -> None:
    first, second = copied(made.experts, tmp_path)
    config = json.loads((second / "adapter_config.json").read_text())

    def refused(message: str) -> None:
        with pytest.raises(ModelError, match=message):
            compose_mixture([first, second], tmp_path / "moe", ComposeSettings())

    (second / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True}))
    refused("use_dora is True, expected False")
    (second / "adapter_config.json").write_text(json.dumps(config))
    (second / "adapter_model.safetensors").write_bytes(b"torn")
    refused("cannot be read")
    (second / "adapter_config.json").unlink()
    refused(r"holds no adapter_config.json")


@pytest.mark.parametrize(
    ("experts", "sets", "settings", "message"),
    [
        (1, 0, {}, "at least 2 to mix"),
        (2, 0, {"top_k": 3}, "top k is 3 and there are 2 experts"),
        (2, 1, {"router": "informed"}, "1 sets"),
        (2, 2, {}, "looks at no sets"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    experts: int, sets: int, settings: dict[str, Any], message: str, made: Made, tmp_path: Path
) -> None:
    with pytest.raises(SettingError, match=message):
        compose_mixture(made.experts[:experts], tmp_path / "moe", ComposeSettings(**settings), sets=made.sets[:sets])


def test_nothing_replaces_what_it_is_made_from_or_another_kind(made: Made, tmp_path: Path) -> None:
    experts = copied(made.experts, tmp_path)
    shutil.copytree(made.mixture, tmp_path / "moe")
    with pytest.raises(OutputError, match="holds the kind 'expert', not 'moe'"):
        compose_mixture(experts, experts[0], ComposeSettings(), overwrite=True)
    with pytest.raises(OutputError, match="exists already"):
        compose_mixture(experts, tmp_path / "moe", ComposeSettings())
    said = command(2, "moe", "train", tmp_path / "moe", "--sets", *made.sets, "-o", tmp_path / "moe", "--overwrite")
    assert "is an input as well" in said
    compose_mixture(experts, tmp_path / "moe", ComposeSettings(), overwrite=True)


def test_tensors_of_different_types_lie_aligned_in_one_file(made: Made, tmp_path: Path) -> None:
    base = shutil.copytree(made.base, tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    narrow = {name: one if "norm" in name else one.bfloat16() for name, one in tensors.items()}
    save_file(narrow, base / "model.safetensors", metadata={"format": "pt"})
    experts = copied(made.experts, tmp_path, provenance=False)
    compose_mixture(experts, tmp_path / "moe", ComposeSettings(), base=str(base))
    found = load_file(tmp_path / "moe" / "model.safetensors")
    for name in narrow.keys() & found.keys():
        assert torch.equal(found[name], narrow[name])
        assert found[name].dtype == narrow[name].dtype
    assert {one.dtype for one in found.values()} == {torch.float32, torch.bfloat16}


def test_the_command_warns_says_what_the_router_is_and_gives_the_same_bytes(made: Made, tmp_path: Path) -> None:
    assert "the router is random (seeded)" in command(0, "moe", "compose", *made.experts, "-o", tmp_path / "random")
    said = command(0, "moe", "compose", *made.experts, "-o", tmp_path / "moe", "--sets", *made.sets)
    assert "informed router" in said
    assert (tmp_path / "moe/model.safetensors").read_bytes() == (made.mixture / "model.safetensors").read_bytes()
    said = command(2, "moe", "compose", *made.experts, "-o", tmp_path / "new", "--max-shard-size", "0")
    assert said.startswith("empathy: error: max shard size is '0'")


def test_a_mixtral_with_scaled_rope_warns_of_servers_that_do_not_read_it(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", rope_scaling={"rope_type": "linear", "factor": 2.0})
    info = compose_mixture(write_adapters(tmp_path, base), tmp_path / "moe", ComposeSettings())
    assert "rope_scaling" in info.warnings[0]
