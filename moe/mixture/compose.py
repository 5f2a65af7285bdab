"""`empathy moe compose`: a base and its experts become a mixture that transformers and vLLM load without our code.

Tensors stream from the base's safetensors to the output's shards: what is held is one tensor and its change by an
expert, whatever the size of the model. The experts' MLPs become the experts of each layer. All other tensors are the
base's; where experts changed them (``--targets all``, or fine-tuned whole) the mean of the experts', as the published
code does.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig

from distill.pretrained import save_tokenizer
from moe.errors import ModelError, SettingError
from moe.mixture.adapter import load_adapter
from moe.mixture.architectures import Architecture, architecture_of, kind_of_rope, moe_config, places_of, write_config
from moe.mixture.experts import (
    AnyExpert,
    changes_shared,
    check_adapters,
    common_base,
    common_tokenizer,
    expert_info,
    is_model,
)
from moe.mixture.fine_tuned import FineTuned, load_fine_tuned
from moe.mixture.initial_router import informed_router, random_router
from moe.models import (
    INDEX,
    SINGLE,
    Weights,
    base_info,
    find_model,
    load_causal,
    load_config,
    open_weights,
    tokenizer_hash,
)
from moe.provenance import MOE_JSON, ComposedMixture, RouterInfo, check_place
from moe.sets.chat import Chat
from moe.sets.examples import read_examples, set_source
from moe.settings import ComposeSettings
from scorer.apart import check_apart
from scorer.outputs import new_folder, replacing_binary, write_json
from scorer.progress import Progress, Silent
from selection.folds import fold_of

_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class MixtureTensor:
    """One tensor of a mixture: its name, type (safetensors' name) and shape, the base's tensor it is from, and how.

    ``expert`` is the number of the expert whose merged tensor it is, None for a tensor that all share; ``rows`` are the
    first and the end of those it has of its source, None for all. A router has no ``source`` and ``layer`` says which
    it is; one with neither is all zeros.
    """

    name: str
    stored: str
    shape: tuple[int, ...]
    source: str | None
    expert: int | None = None
    layer: int = -1
    rows: tuple[int, int] | None = None

    @property
    def dtype(self) -> torch.dtype:
        """Its type."""
        return _TYPES[self.stored]

    @property
    def size(self) -> int:
        """Its bytes."""
        return int(self.dtype.itemsize) * math.prod(self.shape)


def compose_mixture(
    experts: Sequence[Path],
    output: Path,
    settings: ComposeSettings,
    *,
    base: str | None = None,
    sets: Sequence[Path] = (),
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ComposedMixture:
    """Write the mixture of ``experts`` to the folder ``output``, whole or not at all, and return its moe.json.

    An expert is an adapter or a whole model that was fine-tuned. ``base`` None is the one that the adapters name.
    ``sets`` are needed by an informed router, one for each expert in the same order. ModelError says which experts do
    not fit together or which base cannot become a mixture.
    """
    progress = progress or Silent()
    check_place(output, "moe", "overwrite" if overwrite else "error")
    _check_settings(experts, settings, sets)
    adapters = {path: load_adapter(path) for path in experts if not is_model(path)}
    name = base or common_base(experts, list(adapters.values()))
    folder = find_model(name)
    check_apart(output, *experts, folder)
    config = load_config(folder)
    found = architecture_of(config, name)
    weights = open_weights(folder)
    about = base_info(name, folder)
    check_adapters(list(adapters.values()), weights, about)
    target = moe_config(config, found, len(experts), settings.top_k)
    shards = shards_of(tensors_of(weights, found, config, len(experts)), settings.max_shard_bytes)
    loaded = [adapters.get(path) or load_fine_tuned(path, config, found, weights) for path in experts]
    tokenizer = common_tokenizer(loaded, folder)
    routers = _routers(folder, config, tokenizer, settings, sets, len(experts), progress)
    info = ComposedMixture(
        base=about,
        tokenizer_sha256=tokenizer_hash(tokenizer),
        architecture=found.name,
        experts=[expert_info(expert) for expert in loaded],
        router=RouterInfo(how=settings.router, sets=[set_source(path) for path in sets]),
        shared="the mean of the experts'" if any(changes_shared(expert) for expert in loaded) else "the base's",
        warnings=list(_warnings(config, found, loaded)),
        settings=settings,
    )
    with new_folder(output) as work:
        write_shards(work, shards, weights, loaded, routers, progress)
        write_config(target, work)
        if (folder / "generation_config.json").exists():
            shutil.copyfile(folder / "generation_config.json", work / "generation_config.json")
        save_tokenizer(tokenizer, work)
        write_json(work / MOE_JSON, info)
    return info


def tensors_of(
    weights: Weights, found: Architecture, config: PretrainedConfig, experts: int
) -> Iterator[MixtureTensor]:
    """Yield every tensor of the mixture, in the order of the base's; ModelError for one that has no place in it."""
    tied = bool(config.tie_word_embeddings)
    for name, (shape, stored) in weights.shapes.items():
        places = places_of(name, shape[0] if shape else 0, config, found)
        if stored not in _TYPES:
            raise ModelError(f"{weights.folder}: {name} is stored as {stored}, expected {', '.join(_TYPES)}")
        for place in places:
            rows, layer, own = place.rows, place.layer, shape
            if rows:
                own = (rows[1] - rows[0], *shape[1:])
            if not place.is_expert:
                if not (tied and name == "lm_head.weight"):
                    yield MixtureTensor(place.name, stored, own, name, rows=rows)
                continue
            for number in range(experts):
                of_expert = found.expert_name(layer, place.projection, number)
                yield MixtureTensor(of_expert, stored, own, name, number, rows=rows)
            if place.projection == "gate_proj":
                yield MixtureTensor(found.gate_name(layer), stored, (experts, shape[1]), None, layer=layer)
                for empty, sizes in found.zeros_of(layer, shape[1]).items():
                    yield MixtureTensor(empty, stored, sizes, None)


def shards_of(parts: Iterator[MixtureTensor], limit: int) -> list[list[MixtureTensor]]:
    """Return the parts of each output file: in order, at most ``limit`` bytes, at least one tensor."""
    shards: list[list[MixtureTensor]] = [[]]
    room = limit
    for part in parts:
        if part.size > room and shards[-1]:
            shards.append([])
            room = limit
        shards[-1].append(part)
        room -= part.size
    return shards


def write_shards(
    work: Path,
    shards: Sequence[Sequence[MixtureTensor]],
    weights: Weights,
    experts: Sequence[AnyExpert],
    routers: torch.Tensor,
    progress: Progress,
) -> None:
    """Write the output's safetensors, one tensor in memory at a time, and their index."""
    index: dict[str, str] = {}
    total, done = sum(part.size for shard in shards for part in shard), 0
    progress.stage("writing the mixture", total)
    for number, shard in enumerate(shards, start=1):
        file = SINGLE if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        with replacing_binary(work / file) as stream:
            # The widest first, as the library has it: so each tensor is aligned to its own width.
            ordered = sorted(shard, key=lambda part: -part.dtype.itemsize)
            stream.write(_header(ordered))
            for part in ordered:
                tensor = _tensor(part, weights, experts, routers)
                stream.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
                done += part.size
                progress.update(done)
        index |= {part.name: file for part in shard}
    if len(shards) > 1:
        write_json(work / INDEX, {"metadata": {"total_size": total}, "weight_map": index}, sort_keys=True)


def _header(parts: Sequence[MixtureTensor]) -> bytes:
    """Return the beginning of a safetensors file: the length of a JSON text, 8 bytes, and the text.

    The library's own writer wants all tensors of a file in memory, twice. The format: huggingface/safetensors, README.
    """
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for part in parts:
        start, end = end, end + part.size
        entries[part.name] = {"dtype": part.stored, "shape": part.shape, "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _tensor(part: MixtureTensor, weights: Weights, experts: Sequence[AnyExpert], routers: torch.Tensor) -> torch.Tensor:
    if part.source is None:
        return routers[part.layer].to(part.dtype) if part.layer >= 0 else torch.zeros(part.shape, dtype=part.dtype)
    weight = weights.get(part.source)
    if part.expert is not None:
        weight = experts[part.expert].merged(part.source, weight).to(part.dtype)
    elif any(part.source in expert.targets for expert in experts):
        total = torch.zeros_like(weight, dtype=torch.float32)
        for expert in experts:
            total += expert.merged(part.source, weight)
        weight = (total / len(experts)).to(part.dtype)
    return weight[slice(*part.rows)] if part.rows else weight


def _routers(
    folder: Path,
    config: PretrainedConfig,
    tokenizer: Any,
    settings: ComposeSettings,
    sets: Sequence[Path],
    count: int,
    progress: Progress,
) -> torch.Tensor:
    """Return every layer's router, (layers, experts, hidden size)."""
    if settings.router == "random":
        layers, deviation = config.num_hidden_layers, config.initializer_range
        return random_router(layers, count, config.hidden_size, deviation, settings.seed)
    chat = Chat(tokenizer, settings.max_length)
    samples = []
    for path in sets:
        examples = read_examples(path, chat).examples
        # By a hash, so that the sample is no matter of the order of the set.
        order = sorted(examples, key=lambda one: fold_of(one.conversation, 1 << 60, settings.seed))
        samples.append(order[: settings.sample])
    return informed_router(load_causal(folder), samples, chat.pad_id, progress)


def _check_settings(experts: Sequence[Path], settings: ComposeSettings, sets: Sequence[Path]) -> None:
    if len(experts) < 2:
        raise SettingError(f"{len(experts)} expert, expected at least 2 to mix")
    if settings.top_k > len(experts):
        raise SettingError(f"top k is {settings.top_k} and there are {len(experts)} experts; expected at most those")
    if settings.router == "informed" and len(sets) != len(experts):
        raise SettingError(
            f"an informed router needs the set of each expert, in the same order: {len(sets)} sets (--sets) and "
            f"{len(experts)} experts"
        )
    if settings.router == "random" and sets:
        raise SettingError("a random router looks at no sets; leave --sets out, or say --router informed")


def _warnings(config: PretrainedConfig, found: Architecture, experts: Sequence[AnyExpert]) -> Iterator[str]:
    tuned = [expert for expert in experts if isinstance(expert, FineTuned)]
    for same in (expert.folder for expert in tuned if not expert.targets):
        yield f"{same.name} has the base's weights: as an expert it is the base itself"
    if changed := [expert for expert in tuned if changes_shared(expert)]:
        name = min(name for name in changed[0].targets if ".mlp." not in name)
        yield (
            f"{', '.join(one.folder.name for one in changed)}: more than the MLPs was tuned (as {name}); a mixture has "
            "one of these for all, the mean of the experts', so it holds none of them exactly"
        )
    if kind_of_rope(config) != "default" and found.name == "MixtralForCausalLM":
        yield (
            "the base scales its rotary embeddings, which transformers does in a Mixtral as well; several servers "
            "(older vLLM, SGLang) read no rope_scaling of a Mixtral, so compare their answers before you serve"
        )
