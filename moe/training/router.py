"""`empathy moe train`: the router of a mixture learns, on the union of the sets, whom to ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from transformers import set_seed

from distill.pretrained import save_tokenizer
from distill.training.checkpoint import writing_weights
from moe.errors import ModelError, SettingError
from moe.mixture.architectures import write_config
from moe.mixture.initial_router import mixture_of
from moe.mixture.routing_table import draw_routing, gates, measure_routing
from moe.models import find_model, load_causal, load_config, load_tokenizer, model_hash
from moe.provenance import MOE_JSON, Mixture, RouterLosses, RoutingChange, TrainedMixture, read_made
from moe.sets.chat import Chat
from moe.sets.examples import read_examples, set_source
from moe.settings import RouterSettings
from moe.training.trainer import beginning, fit_causal, losses_of
from scorer.apart import check_apart
from scorer.finished import seal
from scorer.outputs import Existing, end_work, new_folder, write_json
from scorer.progress import Progress

MIXTURES = {"mixtral": "num_local_experts", "qwen2_moe": "num_experts", "qwen3_moe": "num_experts"}
"""For each model type that is a mixture, what its configuration calls the number of experts."""

PICTURE = "routing.png"
_MEASURED = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class _Identity:
    sets: list[str]
    mixture: str
    settings: RouterSettings


def train_mixture(
    mixture: str,
    sets: Sequence[Path],
    output: Path,
    settings: RouterSettings,
    *,
    existing: Existing = "error",
    progress: Progress | None = None,
) -> TrainedMixture | None:
    """Train a mixture's routers on the union of ``sets``, write it to ``output`` and return its moe.json.

    Of several processes the first returns it. moe.json and routing.png say to which expert each set's tokens go, by
    layer, before and after, on the dialogues that are held out (without any, on some of those that are trained on). A
    whole ``output`` is left as it is, if all that it was made from is the same.
    """
    check_apart(output, mixture)
    sources = [set_source(path) for path in sets]
    folder = find_model(mixture)
    config = load_config(folder)
    _check_mixture(config, mixture, settings)
    chat = Chat(load_tokenizer(folder), settings.max_length)
    found = {_name(path, sets): read_examples(path, chat) for path in sets}
    parts = {name: one.split(settings.held_out, settings.seed) for name, one in found.items()}
    train = [example for learnt, _ in parts.values() for example in learnt]
    held_out = [example for _, out in parts.values() for example in out]
    measured = {name: (out or learnt)[:_MEASURED] for name, (learnt, out) in parts.items()}
    hashes = [source.sha256 for source in sources]
    identity = _Identity(sets=hashes, mixture=model_hash(mixture), settings=settings)
    with beginning(output, "moe", identity, existing) as (processes, work):
        if work is None:
            return read_made(output, TrainedMixture)
        with writing_weights(output):
            set_seed(settings.seed)
            model = load_causal(folder, eager=True)
            before = measure_routing(model, measured, chat.pad_id, progress)
            _prepare(model, settings)
            trainer = fit_causal(model, train, held_out, settings, work / "trainer", chat.pad_id, progress, "router")
            info = None
            if processes.is_main_process:
                change = RoutingChange(before=before, after=measure_routing(model, measured, chat.pad_id, progress))
                about = read_made(folder, Mixture) or Mixture()
                info = TrainedMixture(
                    **{name: getattr(about, name) for name in _KEPT},
                    sets=[one.about(source) for source, one in zip(sources, found.values(), strict=True)],
                    settings=settings,
                    metrics=RouterLosses(**asdict(losses_of(trainer)), routing=change),
                    expert_names=_experts(about, config),
                )
                _write(model, config, output, chat, info, identity)
                end_work(output, identity)
        processes.wait_for_everyone()
        return info


_KEPT = ("base", "tokenizer_sha256", "architecture", "experts", "router", "shared")


def _check_mixture(config: Any, name: str, settings: RouterSettings) -> None:
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


def _write(model: Any, config: Any, output: Path, chat: Chat, info: TrainedMixture, identity: _Identity) -> None:
    model.config.output_router_logits, model.config.use_cache = config.output_router_logits, config.use_cache
    extract_model_from_parallel(model, keep_fp32_wrapper=False)
    model.to(config.dtype or torch.float32)  # as the mixture came
    with new_folder(output) as folder:
        model.save_pretrained(folder)
        write_config(model.config, folder)
        save_tokenizer(chat.tokenizer, folder)
        routing = info.metrics.routing
        draw_routing({"before training": routing.before, "after": routing.after}, info.expert_names, folder / PICTURE)
        write_json(folder / MOE_JSON, info)
        seal(folder, identity)


def _experts(about: Mixture, config: Any) -> list[str]:
    known = [expert.name for expert in about.experts or ()]
    count = int(getattr(config, MIXTURES[config.model_type]))
    return known if len(known) == count == len(set(known)) else [f"expert {number}" for number in range(count)]


def _name(path: Path, sets: Sequence[Path]) -> str:
    """Return what a set is called: its file's name, or its whole path where two files have that name."""
    return path.stem if [other.stem for other in sets].count(path.stem) == 1 else str(path)
