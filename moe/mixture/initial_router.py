"""Routers before any training: random ones, and ones that know the sets their experts were trained on.

The informed router is a linear discriminant with a diagonal covariance, made from a base's hidden states h where the
MLP reads them. With m_e the mean over expert e's set, m the mean of these and v the variance of each dimension,

    w_e = (m_e - m) / v,   made orthogonal to m,   all scaled so that the logits w_e h of the sample have RMS 1.

A router has no bias: orthogonal to m, the average token goes to all experts alike instead of all tokens to one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from moe.sets.chat import Example
from moe.sets.examples import IGNORED, batches_of, pad_examples
from scorer.progress import Progress, Silent

_TOKENS = 8192


def random_router(layers: int, experts: int, hidden_size: int, deviation: float, seed: int) -> torch.Tensor:
    """Return routers (layers, experts, hidden size) of normal numbers with this standard deviation."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(layers, experts, hidden_size, generator=generator) * deviation


@torch.inference_mode()
def informed_router(
    model: Any, sets: Sequence[Sequence[Example]], pad_id: int, progress: Progress | None = None
) -> torch.Tensor:
    """Return routers (layers, experts, hidden size), float32, from the hidden states that predict the responses.

    ``sets`` are examples of each expert's own set; ``model`` is the base, with ``model.model.layers`` as Llama's.
    ``progress`` is told the examples that were read, twice: for the directions, and for their scale.
    """
    progress = progress or Silent()
    total = sum(map(len, sets))
    layers, hidden = len(model.model.layers), model.config.hidden_size
    sums = torch.zeros(len(sets), layers, hidden, dtype=torch.float64)
    squares = torch.zeros(layers, hidden, dtype=torch.float64)
    counts = torch.zeros(len(sets), dtype=torch.float64)

    progress.stage("reading the sets for the router", total)
    for number, layer, states in states_of(model, sets, pad_id, progress):
        states = states.double()
        sums[number, layer] += states.sum(dim=0).cpu()
        squares[layer] += states.square().sum(dim=0).cpu()
        if layer == 0:
            counts[number] += len(states)
    means = (sums / counts[:, None, None]).transpose(0, 1)  # (layers, experts, hidden)
    middle = means.mean(dim=1, keepdim=True)
    everywhere = sums.sum(dim=0) / counts.sum()
    variance = squares / counts.sum() - everywhere.square()
    router = (means - middle) / (variance[:, None, :] + 1e-6 * variance.mean())
    router -= middle * (router * middle).sum(-1, keepdim=True) / middle.square().sum(-1, keepdim=True)
    progress.stage("scaling the router", total)
    return (router / _spread(model, sets, pad_id, router, progress)).float()


def _spread(
    model: Any, sets: Sequence[Sequence[Example]], pad_id: int, router: torch.Tensor, progress: Progress
) -> torch.Tensor:
    """Return the RMS of each layer's logits on the sets, (layers, 1, 1)."""
    total = torch.zeros(len(router), dtype=torch.float64)
    count = torch.zeros(len(router), dtype=torch.float64)

    for _, layer, states in states_of(model, sets, pad_id, progress):
        logits = states.double().cpu() @ router[layer].T
        total[layer] += logits.square().sum()
        count[layer] += logits.numel()
    return (total / count).sqrt().clamp_min(1e-12)[:, None, None]


@torch.inference_mode()
def states_of(
    model: Any, sets: Sequence[Sequence[Example]], pad_id: int, progress: Progress | None = None
) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Yield what each layer's MLP, or mixture, reads at the positions that predict the responses, batch by batch.

    Each is the number of a set, of a layer, and its hidden states (tokens, hidden size). ``progress`` is told the
    examples that were read, in a stage that the caller began.
    """
    progress = progress or Silent()
    model.eval()
    done = 0
    for number, examples in enumerate(sets):
        for rows in batches_of(examples, _TOKENS):
            inputs = pad_examples([examples[row] for row in rows], pad_id)
            chosen = predicting(inputs.pop("labels"))
            with _watching(model) as seen:
                model(**{name: tensor.to(model.device) for name, tensor in inputs.items()}, use_cache=False)
            for layer, states in enumerate(seen):
                yield number, layer, states[chosen.to(states.device)]
            done += len(rows)
            progress.update(done)


def mixture_of(layer: Any) -> Any:
    """Return what stands where a layer's MLP does: Mixtral's mixture has a name of its own."""
    return layer.block_sparse_moe if hasattr(layer, "block_sparse_moe") else layer.mlp


def predicting(labels: torch.Tensor) -> torch.Tensor:
    """Return which positions (B, T) predict a token of a response: those before it."""
    chosen = torch.zeros_like(labels, dtype=torch.bool)
    chosen[:, :-1] = labels[:, 1:] != IGNORED
    return chosen


@contextmanager
def _watching(model: Any) -> Iterator[list[torch.Tensor]]:
    """Collect what enters each layer's MLP, (B, T, hidden size), in a list by layer."""
    seen: list[torch.Tensor] = []
    handles = [
        mixture_of(layer).register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
        for layer in model.model.layers
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
