"""`empathy moe train`: the router of a mixture learns, on the union of the sets, whom to ask."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from distill.training.checkpoint import writing_weights
from distill.training.fits import Progress
from moe.errors import ModelError, SettingError
from moe.mixture.initial_router import mixture_of
from moe.mixture.routing_table import Routing, draw_routing, gates, measure_routing
from moe.models import find_model, load_causal, load_config, load_tokenizer, open_weights
from moe.outputs import building, check_apart, read_info, write_info
from moe.sets.chat import Chat
from moe.sets.examples import read_examples, set_info
from moe.settings import RouterSettings
from moe.training.expert import split
from moe.training.trainer import begin, claim, fit, losses, steps_of
from scorer.outputs import Existing

MIXTURES = {"mixtral": "num_local_experts", "qwen3_moe": "num_experts"}
"""For each model type that is a mixture, what its configuration calls the number of experts."""

PICTURE = "routing.png"
_MEASURED = 512


def train_mixture(
    mixture: str,
    sets: Sequence[Path],
    output: Path,
    settings: RouterSettings,
    *,
    existing: Existing = "error",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a mixture's routers on the union of ``sets``, write it to ``output`` and return its moe.json.

    moe.json and routing.png say to which expert each set's tokens go, by layer, before and after, on the dialogues
    that are held out (without any, on some of those that are trained on).
    """
    progress = progress or Progress()
    check_apart(output, [mixture])
    sources = [set_info(path) for path in sets]
    folder = find_model(mixture)
    config = load_config(folder)
    _check(config, mixture, settings)
    chat = Chat(load_tokenizer(folder), settings.max_length)
    found = {_name(path, sets): read_examples(path, chat) for path in sets}
    parts = {name: split(examples, settings.held_out, settings.seed, Path(name)) for name, examples in found.items()}
    train = [example for learnt, _ in parts.values() for example in learnt]
    held_out = [example for _, out in parts.values() for example in out]
    measured = {name: (out or learnt)[:_MEASURED] for name, (learnt, out) in parts.items()}
    identity = {
        "sets": [source["sha256"] for source in sources],
        "mixture": open_weights(folder).fingerprint(),
        "settings": settings.to_json(),
    }
    processes, work = claim(output, "moe", identity, existing)
    begin(progress, "router", steps_of(len(train), settings) // processes.num_processes)
    with writing_weights(output):
        set_seed(settings.seed)
        model = load_causal(folder, eager=True)
        before = measure_routing(model, measured, chat.pad_id)
        _prepare(model, settings)
        trainer = fit(model, train, held_out, settings, work / "trainer", chat.pad_id, progress.step)
        if processes.is_main_process:
            after = measure_routing(model, measured, chat.pad_id)
            about = read_info(folder) or {}
            info = {
                **{key: about[key] for key in _KEPT if key in about},
                "sets": [{**source, **one.to_json()} for source, one in zip(sources, found.values(), strict=True)],
                "settings": settings.to_json(),
                "metrics": {**losses(trainer), "routing": {"before": before, "after": after}},
                "expert_names": _experts(about, config),
            }
            _finish(model, config, output, chat, info)
            shutil.rmtree(work)
    processes.wait_for_everyone()
    return info if processes.is_main_process else {}


_KEPT = ("base", "tokenizer_sha256", "architecture", "experts", "router", "shared")


def routing_lines(routing: Routing, experts: Sequence[str]) -> list[str]:
    """Return a line a set: the mean routing weight of each expert over the layers."""
    lines = []
    for name, by_layer in routing.items():
        means = [sum(layer[number] for layer in by_layer) / len(by_layer) for number in range(len(experts))]
        shares = ", ".join(f"{expert} {mean:.1%}" for expert, mean in zip(experts, means, strict=True))
        lines.append(f"{name}: {shares}")
    return lines


def _check(config: Any, name: str, settings: RouterSettings) -> None:
    if config.model_type not in MIXTURES:
        raise ModelError(f"{name}: is a {config.model_type} model, expected a mixture (`empathy moe compose`)")
    if config.num_experts_per_tok == 1 and not settings.also_experts:
        raise SettingError(
            f"{name}: gives each token to 1 expert with weight 1, so the loss says nothing to the router alone; "
            "compose with --top-k 2, or train with --also-experts"
        )


def _prepare(model: Any, settings: RouterSettings) -> None:
    """Leave only the routers to train, with the experts if asked, in float32, and add the balancing loss."""
    model.requires_grad_(False)
    for gate in gates(model):
        gate.weight.data = gate.weight.data.float()
        gate.weight.requires_grad_(True)
    if settings.also_experts:
        for layer in model.model.layers:
            mixture_of(layer).experts.float().requires_grad_(True)
    model.config.output_router_logits = True
    model.router_aux_loss_coef = settings.balance


def _finish(model: Any, config: Any, output: Path, chat: Chat, info: dict[str, Any]) -> None:
    model.config.output_router_logits, model.config.use_cache = config.output_router_logits, config.use_cache
    # Mixed precision wraps the forward pass, and stored are the types that the mixture came with.
    vars(model).pop("forward", None)
    model.to(config.dtype or torch.float32)
    with building(output) as folder:
        model.save_pretrained(folder, safe_serialization=True)
        chat.tokenizer.save_pretrained(folder)
        routing = info["metrics"]["routing"]
        stages = {"before training": routing["before"], "after": routing["after"]}
        draw_routing(stages, info["expert_names"], folder / PICTURE)
        info |= write_info(folder, "moe", info)


def _experts(about: dict[str, Any], config: Any) -> list[str]:
    known = [str(expert["name"]) for expert in about.get("experts", ())]
    count = int(getattr(config, MIXTURES[config.model_type]))
    return known if len(known) == count == len(set(known)) else [f"expert {number}" for number in range(count)]


def _name(path: Path, sets: Sequence[Path]) -> str:
    """Return what a set is called: its file's name, or its whole path where two files have that name."""
    return path.stem if [other.stem for other in sets].count(path.stem) == 1 else str(path)
