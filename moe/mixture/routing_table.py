"""Which expert each set's tokens go to, layer by layer: figures and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from moe.mixture.initial_router import mixture_of, states_of
from moe.provenance import Routing
from moe.sets.chat import Example
from scorer.outputs import replacing_binary
from scorer.progress import Progress, Silent


def gates(model: Any) -> list[Any]:
    """Return the router of each layer of a mixture."""
    return [mixture_of(layer).gate for layer in model.model.layers]


@torch.inference_mode()
def measure_routing(
    model: Any, sets: Mapping[str, Sequence[Example]], pad_id: int, progress: Progress | None = None
) -> Routing:
    """Return what the routers give each expert at the positions that predict the responses, before any top-k."""
    progress = progress or Silent()
    progress.stage("measuring the routing", sum(map(len, sets.values())))
    routers = [gate.weight for gate in gates(model)]
    experts = routers[0].shape[0]
    totals = torch.zeros(len(sets), len(routers), experts, dtype=torch.float64)
    for number, layer, states in states_of(model, list(sets.values()), pad_id, progress):
        weight = routers[layer]
        chances = torch.softmax(states.to(weight.dtype) @ weight.T, dim=-1)
        totals[number, layer] += chances.double().sum(dim=0).cpu()
    shares = totals / totals.sum(dim=-1, keepdim=True).clamp_min(1e-12)
    return {
        name: [[round(value, 4) for value in layer] for layer in shares[number].tolist()]
        for number, name in enumerate(sets)
    }


def draw_routing(stages: Mapping[str, Routing], experts: Sequence[str], path: Path) -> None:
    """Draw the weight of each expert by layer, one panel per stage (before, after), one line per set and expert."""
    import altair as alt  # a second that only a picture needs

    panels = []
    for stage, routing in stages.items():
        points = [
            {"layer": layer, "weight": weight, "tokens of": name, "expert": experts[number]}
            for name, by_layer in routing.items()
            for layer, weights in enumerate(by_layer)
            for number, weight in enumerate(weights)
        ]
        panels.append(
            alt.Chart(alt.Data(values=points))
            .mark_line(point=True)
            .encode(
                x=alt.X("layer:O", axis=alt.Axis(labelAngle=0)),
                y=alt.Y("weight:Q", scale=alt.Scale(domain=[0, 1]), title="mean routing weight"),
                color=alt.Color("expert:N"),
                strokeDash=alt.StrokeDash("tokens of:N"),
                shape=alt.Shape("tokens of:N"),
            )
            .properties(width=320, height=220, title=stage)
        )
    with replacing_binary(path) as file:
        alt.hconcat(*panels).save(file, format="png", scale_factor=2)
