"""Routers: informed ones tell the sets apart before any training, and training moves nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from moe.cli.lines import routing_lines
from moe.errors import ModelError, SettingError
from moe.mixture.compose import compose_mixture
from moe.mixture.initial_router import informed_router, predicting, random_router, states_of
from moe.mixture.routing_table import draw_routing, measure_routing
from moe.models import load_causal, load_tokenizer
from moe.provenance import ComposedMixture, TrainedMixture, read_made
from moe.sets.chat import Chat
from moe.sets.examples import pad_examples, read_examples
from moe.settings import ComposeSettings, RouterSettings
from moe.training.router import train_mixture
from scorer.progress import Silent
from tests.moe.conftest import TINY, Made, command


def examples_of(made: Made) -> tuple[Chat, dict[str, Any]]:
    chat = Chat(load_tokenizer(made.mixture), 96)
    return chat, {path.stem: read_examples(path, chat).examples for path in made.sets}


def own_weight(routing: dict[str, list[list[float]]]) -> float:
    """Return the mean weight that tokens of a set give the set's own expert."""
    return float(np.mean([[layer[k] for layer in by_layer] for k, by_layer in enumerate(routing.values())]))


def test_the_positions_that_predict_a_response_are_those_before_it() -> None:
    labels = torch.tensor([[-100, -100, 5, 6], [-100, 7, -100, -100]])
    assert predicting(labels).tolist() == [[False, True, True, False], [True, False, False, False]]


def test_an_informed_router_sends_each_set_to_its_expert_and_a_random_one_does_not(made: Made, tmp_path: Path) -> None:
    chat, sets = examples_of(made)
    compose_mixture(made.experts, tmp_path / "random", ComposeSettings())
    informed, random = (
        own_weight(measure_routing(load_causal(path), sets, chat.pad_id))
        for path in (made.mixture, tmp_path / "random")
    )
    assert informed > 0.6
    assert random == pytest.approx(0.5, abs=0.08)


class Told(Silent):
    """Notes of each stage its total and how far it came."""

    def __init__(self) -> None:
        self.stages: dict[str, tuple[float | None, float]] = {}

    def stage(self, name: str, total: float | None = None, done: float = 0) -> None:
        self.name, self.total = name, total
        self.stages[name] = total, done

    def update(self, done: float, *, total: float | None = None, note: str = "") -> None:
        self.stages[self.name] = self.total, done


def test_mixing_and_measuring_say_how_far_they_are(made: Made, tmp_path: Path) -> None:
    told = Told()
    compose_mixture(made.experts, tmp_path / "moe", ComposeSettings(router="informed"), sets=made.sets, progress=told)
    chat, sets = examples_of(made)
    measure_routing(load_causal(tmp_path / "moe"), sets, chat.pad_id, told)
    assert len(told.stages) == 4
    assert all(total and total == done for total, done in told.stages.values()), told.stages


def test_an_informed_router_is_the_formula_and_treats_the_average_token_alike(made: Made) -> None:
    chat, sets = examples_of(made)
    model = load_causal(made.base)
    router = informed_router(model, list(sets.values()), chat.pad_id)
    seen: list[list[torch.Tensor]] = [[], []]
    for number, layer, states in states_of(model, list(sets.values()), chat.pad_id):
        if layer == 1:
            seen[number].append(states.double())
    first, second = (torch.cat(states) for states in seen)
    everything = torch.cat([first, second])
    middle = (first.mean(0) + second.mean(0)) / 2
    direction = (first.mean(0) - middle) / everything.var(0, correction=0)
    direction -= middle * (direction @ middle) / (middle @ middle)
    torch.testing.assert_close(
        router[1, 0].double(), direction / (everything @ direction).square().mean().sqrt(), atol=1e-3, rtol=1e-3
    )
    torch.testing.assert_close(router[1] @ middle.float(), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(router[:, 0], -router[:, 1])


def test_states_are_those_of_the_positions_that_predict(made: Made) -> None:
    chat, sets = examples_of(made)
    counts = {0: 0, 1: 0}
    for number, layer, states in states_of(load_causal(made.base), list(sets.values()), chat.pad_id):
        counts[number] += len(states) if layer == 0 else 0
    assert list(counts.values()) == [sum(len(one) - one.prompt for one in examples) for examples in sets.values()]


def test_random_routers_are_seeded() -> None:
    first, again, other = (random_router(2, 3, 64, 0.02, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert float(first.std()) == pytest.approx(0.02, rel=0.2)


def moved_names(before: Path, after: Path) -> tuple[set[str], set[str]]:
    """Return the names of the tensors that differ, and of all."""
    first, second = (load_file(path / "model.safetensors") for path in (before, after))
    return {name for name, tensor in second.items() if not torch.equal(tensor, first[name])}, set(second)


def test_training_moves_the_routers_and_nothing_else(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "out"
    info = train_mixture(str(made.mixture), made.sets, out, RouterSettings(**TINY, learning_rate=0.05))
    assert info is not None
    moved, names = moved_names(made.mixture, out)
    assert moved == {name for name in names if name.endswith("block_sparse_moe.gate.weight")}
    assert (out / "routing.png").read_bytes().startswith(b"\x89PNG")
    assert read_made(out, TrainedMixture) == info
    about = read_made(made.mixture, ComposedMixture)
    assert about is not None
    assert info.experts == about.experts
    config, of_mixture = (json.loads((path / "config.json").read_text()) for path in (out, made.mixture))
    assert config == of_mixture
    for routing in (info.metrics.routing.before, info.metrics.routing.after):
        for by_layer in routing.values():
            assert np.allclose(np.sum(by_layer, axis=1), 1, atol=1e-3)


def test_the_experts_train_too_if_asked(made: Made, tmp_path: Path) -> None:
    settings = RouterSettings(**TINY, also_experts=True)
    train_mixture(str(made.mixture), made.sets, tmp_path / "out", settings)
    moved, names = moved_names(made.mixture, tmp_path / "out")
    assert moved == {name for name in names if ".block_sparse_moe." in name}


def test_the_balancing_loss_counts(made: Made, tmp_path: Path) -> None:
    compose_mixture(made.experts, tmp_path / "moe", ComposeSettings(router="informed", top_k=1), sets=made.sets)
    model = load_causal(tmp_path / "moe")
    chat, sets = examples_of(made)
    inputs = pad_examples([example for examples in sets.values() for example in examples], chat.pad_id)
    losses = []
    for coefficient in (0.0, 1.0):
        model.router_aux_loss_coef = coefficient
        with torch.no_grad():
            losses.append(float(model(**inputs, output_router_logits=True).loss))
    assert losses[1] - losses[0] > 0.9  # experts x sum of shares x weights: at least 1 for balanced ones


def test_what_cannot_learn_is_refused(made: Made, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a llama model, expected a mixture"):
        train_mixture(str(made.base), made.sets, tmp_path / "out", RouterSettings(**TINY))
    compose_mixture(made.experts, tmp_path / "one", ComposeSettings(top_k=1))
    with pytest.raises(SettingError, match=r"--top-k 2, or train with --also-experts"):
        train_mixture(str(tmp_path / "one"), made.sets, tmp_path / "out", RouterSettings(**TINY))


def test_the_command_reports_who_asks_whom(made: Made, tmp_path: Path) -> None:
    said = command(0, "moe", "train", made.mixture, "--sets", *made.sets, "-o", tmp_path / "out", "--max-length", "96")
    assert "sensibility: expert-sensibility " in said
    assert "routing.png" in said


def test_routing_is_one_line_per_set_and_a_picture(tmp_path: Path) -> None:
    routing = {"warm": [[0.5, 0.5], [0.9, 0.1]], "cold": [[0.2, 0.8], [0.4, 0.6]]}
    assert list(routing_lines(routing, ["a", "b"])) == ["warm: a 70.0%, b 30.0%", "cold: a 30.0%, b 70.0%"]
    draw_routing({"before": routing}, ["a", "b"], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 5000
