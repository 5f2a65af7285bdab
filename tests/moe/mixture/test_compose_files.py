"""A mixture on disk to the byte: its tensors' places, its index, provenance, and what it takes along."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from moe.errors import ModelError, SettingError
from moe.mixture.architectures import architecture_of
from moe.mixture.compose import MixtureTensor, compose_mixture, shards_of, tensors_of
from moe.mixture.initial_router import informed_router
from moe.models import base_info, load_causal, load_tokenizer, open_weights, tokenizer_hash
from moe.provenance import ComposedMixture, Expert, read_made
from moe.sets.chat import Chat
from moe.sets.examples import read_examples, set_source
from moe.settings import ComposeSettings
from scorer.errors import OutputError
from selection.folds import fold_of
from tests.moe.conftest import CHATML, Made, write_adapters, write_base

UP = "model.layers.0.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("stored", "dtype", "size"),
    [("F64", torch.float64, 48), ("F32", torch.float32, 24), ("F16", torch.float16, 12), ("BF16", torch.bfloat16, 12)],
)
def test_a_tensor_knows_its_type_and_bytes(stored: str, dtype: torch.dtype, size: int) -> None:
    part = MixtureTensor("a", stored, (2, 3), None)
    assert (part.dtype, part.size, part.expert, part.layer) == (dtype, size, None, -1)


def test_a_shard_is_filled_to_the_last_byte() -> None:
    parts = [MixtureTensor(str(n), "F32", (size,), None) for n, size in enumerate([10, 5, 5, 20, 1])]
    assert [[part.name for part in shard] for shard in shards_of(iter(parts), 80)] == [["0", "1", "2"], ["3"], ["4"]]
    assert shards_of(iter(()), 80) == [[]]


def test_a_type_that_has_no_name_here_is_refused(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    experts = write_adapters(tmp_path, base)
    tensors = load_file(base / "model.safetensors")
    save_file({**tensors, UP: tensors[UP].to(torch.float8_e4m3fn)}, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=rf"{UP} is stored as F8_E4M3, expected F64, F32, F16, BF16"):
        compose_mixture(experts, tmp_path / "moe", ComposeSettings())
    assert not (tmp_path / "moe").exists()


@pytest.mark.parametrize("tied", [False, True])
def test_every_tensor_of_the_base_has_its_place(tmp_path: Path, tied: bool) -> None:
    base = write_base(tmp_path / "base", tie_word_embeddings=tied)
    tensors = load_file(base / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()  # some checkpoints hold it although tied
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    config = AutoConfig.from_pretrained(base)
    parts = list(tensors_of(open_weights(base), architecture_of(config, "base"), config, 3))
    assert ("lm_head.weight" in {part.name for part in parts}) is not tied
    routers = [part for part in parts if part.source is None]
    assert [(part.layer, part.shape, part.expert) for part in routers] == [(0, (3, 32), None), (1, (3, 32), None)]
    experts = [part for part in parts if part.expert is not None]
    assert len(experts) == 2 * 3 * 3
    assert sorted({part.expert for part in experts if part.expert is not None}) == [0, 1, 2]
    shared = {part.name for part in parts if part.expert is None and part.source is not None}
    assert shared == {name for name in tensors if ".mlp." not in name and not (tied and name == "lm_head.weight")}


def header(path: Path) -> tuple[int, dict[str, Any]]:
    """Return how long the header of a safetensors file is, and what it says."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return length, json.loads(raw[8 : 8 + length])


def test_a_file_begins_as_the_format_says(made: Made) -> None:
    path = made.mixture / "model.safetensors"
    length, entries = header(path)
    assert length % 8 == 0
    text = path.read_bytes()[8 : 8 + length]
    assert text.rstrip(b" ") == json.dumps(entries, separators=(",", ":")).encode()
    assert length - len(text.rstrip(b" ")) < 8
    assert entries.pop("__metadata__") == {"format": "pt"}
    places = sorted(entry["data_offsets"] for entry in entries.values())
    assert places[0][0] == 0
    assert [start for start, _ in places[1:]] == [end for _, end in places[:-1]]
    assert path.stat().st_size == 8 + length + places[-1][1]
    with safe_open(path, framework="pt") as file:
        assert set(file.keys()) == set(entries)
    assert not (made.mixture / "model.safetensors.index.json").exists()


def test_two_shards_have_an_index_in_the_order_of_names(made: Made, tmp_path: Path) -> None:
    whole = (made.mixture / "model.safetensors").stat().st_size
    settings = ComposeSettings(max_shard_bytes=round(whole * 0.7))
    compose_mixture(made.experts, tmp_path / "moe", settings)
    files = sorted(path.name for path in (tmp_path / "moe").glob("*.safetensors"))
    assert files == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = json.loads((tmp_path / "moe" / "model.safetensors.index.json").read_text())
    assert list(index) == ["metadata", "weight_map"]
    assert list(index["weight_map"]) == sorted(index["weight_map"])
    assert index["metadata"] == {"total_size": sum(load_bytes(tmp_path / "moe" / name) for name in files)}
    for name in files:
        named = {key for key, file in index["weight_map"].items() if file == name}
        assert named == set(load_file(tmp_path / "moe" / name))


def load_bytes(path: Path) -> int:
    return sum(tensor.nbytes for tensor in load_file(path).values())


def test_provenance_says_all(made: Made) -> None:
    found = read_made(made.mixture, ComposedMixture)
    experts = [read_made(folder, Expert) for folder in made.experts]
    assert found is not None
    assert found.router
    assert found.experts
    assert found.base == base_info("base", made.base)
    assert found.tokenizer_sha256 == tokenizer_hash(load_tokenizer(made.experts[0]))
    assert found.architecture == "MixtralForCausalLM"
    assert (found.shared, found.warnings, found.settings) == ("the base's", [], ComposeSettings(router="informed"))
    assert (found.router.how, found.router.sets) == ("informed", [set_source(path) for path in made.sets])
    for one, expert, folder in zip(found.experts, experts, made.experts, strict=True):
        assert expert is not None
        assert (one.name, one.set) == (folder.name, expert.set)
        assert (one.settings, one.metrics) == (expert.settings, expert.metrics)


def test_adapters_without_provenance_have_their_names_alone(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    (base / "generation_config.json").unlink()
    experts = write_adapters(tmp_path, base)
    info = compose_mixture(experts, tmp_path / "moe", ComposeSettings())
    assert info.experts
    assert [(one.name, one.set, one.settings, one.metrics) for one in info.experts] == [
        (path.name, *([None] * 3)) for path in experts
    ]
    assert read_made(tmp_path / "moe", ComposedMixture) == info
    assert not (tmp_path / "moe" / "generation_config.json").exists()
    with pytest.raises(OutputError, match="exists already"):
        compose_mixture(experts, tmp_path / "moe", ComposeSettings())


def test_generation_settings_and_the_experts_own_template_come_along(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    text = json.dumps({**json.loads((base / "generation_config.json").read_text()), "repetition_penalty": 1.3})
    (base / "generation_config.json").write_text(text)
    experts = write_adapters(tmp_path, base)
    compose_mixture(experts, tmp_path / "plain", ComposeSettings())
    assert (tmp_path / "plain" / "generation_config.json").read_text() == text
    template = load_tokenizer(tmp_path / "plain").chat_template
    assert template  # the default one, for the base has none
    spoken = write_base(tmp_path / "spoken", template=CHATML)
    for expert in experts:
        for path in spoken.glob("*token*"):
            shutil.copy(path, expert)
        shutil.copy(spoken / "chat_template.jinja", expert)
    compose_mixture(experts, tmp_path / "own", ComposeSettings())
    assert load_tokenizer(tmp_path / "own").chat_template == CHATML != template


def test_an_informed_router_is_made_from_a_sample_by_hash(made: Made, tmp_path: Path) -> None:
    settings = ComposeSettings(router="informed", sample=5, seed=3, max_length=64)
    compose_mixture(made.experts, tmp_path / "moe", settings, sets=made.sets)
    chat = Chat(load_tokenizer(made.experts[0]), 64)
    samples = []
    for path in made.sets:
        examples = read_examples(path, chat).examples
        samples.append(sorted(examples, key=lambda one: fold_of(one.conversation, 1 << 60, 3))[:5])
        assert samples[-1] != examples[:5]
    expected = informed_router(load_causal(made.base), samples, chat.pad_id)
    found = load_file(tmp_path / "moe" / "model.safetensors")
    for layer in range(2):
        written = found[f"model.layers.{layer}.block_sparse_moe.gate.weight"]
        torch.testing.assert_close(written, expected[layer], atol=1e-5, rtol=1e-4)


def test_a_change_of_attention_by_one_of_two_counts_by_half(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    attention, plain = write_adapters(tmp_path / "a", base, "all")[0], write_adapters(tmp_path / "b", base)[1]
    info = compose_mixture([attention, plain], tmp_path / "moe", ComposeSettings())
    assert info.shared == "the mean of the experts'"
    name, a, b = "model.layers.1.self_attn.v_proj.weight", load_file(base / "model.safetensors"), attention
    with safe_open(b / "adapter_model.safetensors", framework="pt") as file:
        key = f"base_model.model.{name.removesuffix('.weight')}"
        change = file.get_tensor(f"{key}.lora_B.weight") @ file.get_tensor(f"{key}.lora_A.weight")
    found = load_file(tmp_path / "moe" / "model.safetensors")
    torch.testing.assert_close(found[name], a[name] + 6 / 4 * change / 2)
    assert torch.equal(found["model.embed_tokens.weight"], a["model.embed_tokens.weight"])


def test_bfloat16_attention_is_averaged_in_float32(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    experts = write_adapters(tmp_path, base, "all")
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(base)
    compose_mixture(experts, tmp_path / "moe", ComposeSettings())
    name, weight = "model.layers.0.self_attn.o_proj.weight", load_file(base / "model.safetensors")
    total = torch.zeros(weight[name].shape)
    for number, expert in enumerate(experts):
        found = load_file(expert / "adapter_model.safetensors")
        key = f"base_model.model.{name.removesuffix('.weight')}"
        total += weight[name].float() + (6 + number) / 4 * found[f"{key}.lora_B.weight"] @ found[f"{key}.lora_A.weight"]
    written = load_file(tmp_path / "moe" / "model.safetensors")[name]
    assert written.dtype == torch.bfloat16
    assert torch.equal(written, (total / 2).bfloat16())


def test_an_adapter_of_a_larger_base_is_told_apart(tmp_path: Path) -> None:
    base, larger = write_base(tmp_path / "base"), write_base(tmp_path / "larger", num_hidden_layers=3)
    own, strange = write_adapters(tmp_path / "a", base)[0], write_adapters(tmp_path / "b", larger)[1]
    with pytest.raises(ModelError, match=r"adapter1: changes model.layers.2.mlp.\w+.weight, which the base lacks"):
        compose_mixture([own, strange], tmp_path / "moe", ComposeSettings(), base=str(base))
    with pytest.raises(ModelError, match=r"come from different bases, .*larger"):
        compose_mixture([own, strange], tmp_path / "moe", ComposeSettings())


def test_three_experts_and_the_largest_top_k_are_fine(made: Made, tmp_path: Path) -> None:
    three = [made.experts[0], made.experts[1], made.experts[0]]
    info = compose_mixture(three, tmp_path / "moe", ComposeSettings(top_k=3))
    assert info.experts
    assert len(info.experts) == 3
    config = AutoConfig.from_pretrained(tmp_path / "moe")
    assert (config.num_local_experts, config.num_experts_per_tok) == (3, 3)
    with pytest.raises(SettingError, match="0 expert"):
        compose_mixture([], tmp_path / "x", ComposeSettings())


def test_nothing_is_written_into_what_it_is_made_from(made: Made, tmp_path: Path) -> None:
    base = shutil.copytree(made.base, tmp_path / "base")
    experts = write_adapters(tmp_path, base)
    for output in (base / "moe", experts[1] / "moe"):
        with pytest.raises(OutputError, match="lies in the input"):
            compose_mixture(experts, output, ComposeSettings())
        assert not output.exists()


def test_only_a_mixtral_with_scaled_rope_is_warned_of(tmp_path: Path) -> None:
    scaled: dict[str, Any] = {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    for kind, more in (("qwen3", scaled), ("llama", {}), ("mistral", {})):
        base = write_base(tmp_path / kind, kind, **more)
        experts = write_adapters(tmp_path / f"{kind}-a", base)
        info = compose_mixture(experts, tmp_path / f"{kind}-moe", ComposeSettings())
        assert info.warnings == []
