"""Load what others made: tokenizers, configurations and causal language models, adapters included."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import torch
from huggingface_hub import snapshot_download
from msgspec import Meta
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from distill.errors import loading_as
from distill.pretrained import hub_options
from distill.training.network import check_network, check_sizes, tokenizer_of
from moe.errors import ModelError
from moe.provenance import BaseInfo
from scorer.bundle.info import is_plain_name
from scorer.finished import folder_hash
from scorer.outputs import read_json

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_TRAIN_AGAIN = "train the expert again"
_WEIGHTS = ["*.safetensors", "*.json", "*.model", "*.jinja", "*.txt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Index:
    """Which file of the folder holds each tensor."""

    weight_map: dict[str, str]

    def __post_init__(self) -> None:
        if foreign := [name for name in self.weight_map.values() if not is_plain_name(name)]:
            raise ValueError(f"names {foreign[0]!a}, expected names without folders")


@dataclass(frozen=True, slots=True, kw_only=True)
class _AdapterConfig:
    base_model_name_or_path: Annotated[str, Meta(min_length=1)]
    r: Annotated[int, Meta(ge=1, le=1 << 20)]
    lora_alpha: Annotated[float, Meta(ge=-1e6, le=1e6)]
    use_rslora: bool | None = None


@dataclass(frozen=True)
class Weights:
    """The tensors of a model on disk, one at a time; each is mapped for as long as it is held."""

    folder: Path
    files: Mapping[str, str]

    def get(self, name: str) -> torch.Tensor:
        """Return one tensor."""
        # Opened anew for each: the pages of an open file, once read, would count as memory of this process.
        if name not in self.files:
            raise ModelError(f"{self.folder}: holds no {name}; copy the model again")
        with safe_open(self.folder / self.files[name], framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ModelError(f"{self.folder / self.files[name]}: {name} holds what is no number; copy the model again")
        return tensor

    @cached_property
    def names(self) -> dict[str, set[str]]:
        """The names of the tensors of each file."""
        found = {}
        for file_name in dict.fromkeys(self.files.values()):
            with safe_open(self.folder / file_name, framework="pt") as file:
                found[file_name] = set(file.keys())
        return found

    @cached_property
    def shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and data type (safetensors' name, as BF16) of every tensor that `files` names, in the files' order."""
        found = {}
        for file_name in dict.fromkeys(self.files.values()):
            with safe_open(self.folder / file_name, framework="pt") as file:
                for name in filter(self.files.__contains__, file.keys()):
                    part = file.get_slice(name)
                    found[name] = (tuple(part.get_shape()), str(part.get_dtype()))
        return found

    def fingerprint(self) -> str:
        """Return a hash of every tensor's name, type, shape and first row: other weights, another fingerprint."""
        state = sha256()
        for name, (shape, dtype) in sorted(self.shapes.items()):
            state.update(f"{name}{shape}{dtype}".encode())
            with safe_open(self.folder / self.files[name], framework="pt") as file:
                row = file.get_slice(name)[:1] if shape else file.get_tensor(name)
            state.update(row.reshape(-1).view(torch.uint8).numpy().tobytes())
        return state.hexdigest()


@contextmanager
def loading(what: str, fix: str = "") -> Iterator[None]:
    """Turn what the hub, transformers, peft and safetensors raise into a ModelError that begins with ``what``."""
    with loading_as(ModelError, what, fix):
        yield


def open_weights(folder: Path) -> Weights:
    """Return the safetensors of a folder; ModelError if it has none or they are damaged."""
    with loading(f"{folder}: its weights cannot be read", "; copy the model again"):
        if (folder / INDEX).exists():
            files = read_json(folder / INDEX, _Index, "copy the model again", ModelError).weight_map
        elif (folder / SINGLE).exists():
            with safe_open(folder / SINGLE, framework="pt") as file:
                files = dict.fromkeys(file.keys(), SINGLE)
        else:
            raise ModelError(f"{folder}: holds no {SINGLE} and no {INDEX}; save the model as safetensors first")
        weights = Weights(folder, files)
        if missing := [name for name, file in files.items() if name not in weights.names[file]]:
            raise ModelError(f"{folder}: {INDEX} names {min(missing)!a}, which its file lacks; copy the model again")
        return weights


def find_model(name: str) -> Path:
    """Return the folder of a model: itself, or the hub's files of that id; ModelError if there is none."""
    if Path(name).is_dir():
        return Path(name)
    here = hub_options(name, ModelError)
    expected = "expected a folder with config.json, safetensors and tokenizer, or the id of such a model on the hub"
    with loading(f"{name!r}: cannot be loaded", f"; {expected}"):
        return Path(snapshot_download(name, allow_patterns=_WEIGHTS, **here))


def load_config(folder: Path | str) -> PretrainedConfig:
    """Return a model's configuration; ModelError if there is none."""
    with loading(f"{folder}: its config.json cannot be used"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        check_sizes(config)
        named = (getattr(config, "rope_parameters", None) or {}).get("rope_theta")
        if named is not None and getattr(config, "rope_theta", named) != named:
            raise ValueError(
                f"rope_theta is {named:g} under its new name and {config.rope_theta:g} under the one that this "
                "transformers knows; it was saved by transformers 5: install that, or write both names"
            )
        return config


def load_tokenizer(folder: Path | str) -> Any:
    """Return a model's tokenizer; ModelError if there is none."""
    found = find_model(str(folder))
    with loading(f"{folder}: its tokenizer cannot be loaded"):
        return tokenizer_of(found)


def tokenizer_hash(tokenizer: Any) -> str:
    """Return a hash of a tokenizer's vocabulary and chat template."""
    known = json.dumps([sorted(tokenizer.get_vocab().items()), tokenizer.chat_template])
    return sha256(known.encode()).hexdigest()


def load_causal(folder: Path | str, *, eager: bool = False) -> PreTrainedModel:
    """Return a causal language model: bfloat16 on a GPU, float32 on a processor; an expert is merged into its base.

    ``eager`` takes the attention whose backward pass is fast on a processor. ModelError if nothing can be loaded.
    """
    on_gpu = torch.cuda.is_available()
    attention = "eager" if eager and not on_gpu else None
    is_expert = (Path(folder) / ADAPTER_CONFIG).exists()
    if is_expert and not (Path(folder) / ADAPTER_WEIGHTS).exists():  # peft would unpickle adapter_model.bin
        raise ModelError(f"{folder}: holds no {ADAPTER_WEIGHTS}; save the adapter as safetensors first")
    base = find_model(adapter_base(Path(folder)) if is_expert else str(folder))
    load_config(base)  # says what is wrong with it, and that it ends
    with loading(f"{folder}: cannot be loaded as a causal language model"):
        model, found = AutoModelForCausalLM.from_pretrained(
            base,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.bfloat16 if on_gpu else torch.float32,
            attn_implementation=attention,
            output_loading_info=True,
        )
        if missing := sorted(found["missing_keys"]):
            raise ValueError(f"its weights lack {missing[0]}")
        if is_expert:
            from peft import PeftModel  # half a second that plain models need not cost

            model = PeftModel.from_pretrained(model, str(folder), trust_remote_code=False).merge_and_unload()
        check_network(model)
        return model


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """Return adapter_config.json; ModelError if the folder holds no adapter."""
    path = folder / ADAPTER_CONFIG
    if not path.exists():
        raise ModelError(f"{folder}: holds no {ADAPTER_CONFIG}; expected an expert (`empathy moe expert`)")
    read_json(path, _AdapterConfig, _TRAIN_AGAIN, ModelError)
    return read_json(path, dict[str, Any], _TRAIN_AGAIN, ModelError)


def adapter_base(folder: Path) -> str:
    """Return the base that an adapter names, a folder or an id; ModelError if the folder holds no adapter."""
    return str(read_adapter_config(folder)["base_model_name_or_path"])


def base_info(name: str, folder: Path) -> BaseInfo:
    """Return what moe.json says of a base, which lies in ``folder``."""
    shown = Path(name).resolve().name if Path(name).is_dir() else name
    return BaseInfo(name=shown, fingerprint=open_weights(folder).fingerprint())


def model_hash(name: str) -> str:
    """Return a hash of all files that a checkpoint is made of, an expert's with its base's: every byte is read."""
    folder = find_model(name)
    own = folder_hash(folder, _WEIGHTS)
    return f"{own} on {model_hash(adapter_base(folder))}" if (folder / ADAPTER_CONFIG).exists() else own
