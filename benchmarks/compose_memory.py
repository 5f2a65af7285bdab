"""Peak memory of `empathy moe compose`: on a base of random weights, far larger than a shard.

    python -m benchmarks.compose_memory -o WORK [--gigabytes 1.5] [--max-shard-size 200MB]

The base is written tensor by tensor, in files of 1 GB. The command runs in its own process, and the peak is that
process's resident set as the kernel counts it (VmHWM), including file pages that it maps.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

_SIZES = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
}
_LAYER_BYTES = 2 * (3 * 2048 * 8192 + 2 * 2048 * 2048 + 2 * 1024 * 2048)

# ru_maxrss includes what a process had before exec; VmHWM starts again at exec.
_MEASURED = """
from scorer.cli.main import main
main(standalone_mode=False)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@click.command()
@click.option("-o", "--work", type=click.Path(path_type=Path), required=True)
@click.option("--gigabytes", default=1.5, show_default=True)
@click.option("--max-shard-size", default="200MB", show_default=True)
def main(work: Path, gigabytes: float, max_shard_size: str) -> None:
    """Write a base and two random experts, compose them, and print what it took."""
    shutil.rmtree(work, ignore_errors=True)
    layers = round(gigabytes * 1e9 / _LAYER_BYTES)
    config = LlamaConfig(num_hidden_layers=layers, **_SIZES)
    write_base(work / "base", config)
    experts = [write_expert(work / f"expert{seed}", work / "base", config, seed) for seed in (0, 1)]
    command = [sys.executable, "-c", _MEASURED, "moe", "compose", *map(str, experts), "-o", str(work / "moe")]
    start = time.monotonic()
    result = subprocess.run(
        [*command, "--max-shard-size", max_shard_size], check=True, stdout=subprocess.PIPE, text=True
    )
    seconds = time.monotonic() - start
    peak = int(result.stdout.split()[-1]) * 1024
    sizes = {name: sum(f.stat().st_size for f in (work / name).glob("*.safetensors")) for name in ("base", "moe")}
    shards = len(list((work / "moe").glob("*.safetensors")))
    print(
        json.dumps(
            {
                "base_gb": sizes["base"] / 1e9,
                "moe_gb": sizes["moe"] / 1e9,
                "shards": shards,
                "max_shard_size": max_shard_size,
                "peak_gb": peak / 1e9,
                "seconds": round(seconds, 1),
            }
        )
    )


def tensors(config: LlamaConfig) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every tensor of the base, random, in bfloat16."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in LlamaForCausalLM(config).state_dict().items()}
    for name, shape in shapes.items():
        yield name, torch.randn(shape, dtype=torch.bfloat16) * 0.02


def write_base(folder: Path, config: LlamaConfig) -> None:
    """Write the base in files of 1 GB and its tokenizer."""
    folder.mkdir(parents=True)
    index: dict[str, str] = {}
    batch: dict[str, torch.Tensor] = {}
    for name, tensor in [*tensors(config), ("", torch.empty(0))]:
        if not name or sum(one.nbytes for one in batch.values()) + tensor.nbytes > 1e9:
            file = f"model-{len(set(index.values())):05d}.safetensors"
            save_file(batch, folder / file, metadata={"format": "pt"})
            index |= dict.fromkeys(batch, file)
            batch = {}
        batch[name] = tensor
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({"</s>": 0, "<unk>": 1}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>").save_pretrained(folder)


def write_expert(folder: Path, base: Path, config: LlamaConfig, seed: int) -> Path:
    """Write an adapter with random weights, as peft does."""
    torch.manual_seed(seed)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    lora = LoraConfig(r=8, lora_alpha=32, target_modules=["gate_proj", "up_proj", "down_proj"], task_type="CAUSAL_LM")
    adapted = get_peft_model(model, lora, low_cpu_mem_usage=True)
    adapted.peft_config["default"].base_model_name_or_path = str(base.resolve())
    weights = {
        name.replace(".default", ""): torch.randn(tensor.shape) * 0.02
        for name, tensor in adapted.state_dict().items()
        if "lora_" in name
    }
    folder.mkdir()
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    adapted.peft_config["default"].save_pretrained(str(folder))
    return folder


if __name__ == "__main__":
    main()
