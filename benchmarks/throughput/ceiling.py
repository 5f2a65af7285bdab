"""How fast this machine multiplies matrices, and how many operations a dialogue needs.

python -m benchmarks.throughput.ceiling --threads N --hidden 384 --intermediate 1536
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import click
import numpy as np
import numpy.typing as npt

SQUARES = (1024, 2048, 4096)
TOKENS = 1024
"""Rows of the products in the model's own shapes: the padded tokens of one of our batches."""

_SECONDS = 0.4
_LEAST = 3


def flops_per_dialogue(config: Mapping[str, Any], lengths: npt.NDArray[np.int64]) -> float:
    """Return the mean floating point operations of the matrix products of a dialogue, padding not counted.

    For T tokens and L layers of width h with an inner width i, a multiplication and an addition each counted as one:
    2 x L (4 h^2 + 2 h i) x T for the projections and the feed-forward products, 4 x T x h per token and layer for
    the attention (query by key, weights by value), and 2 (h^2 + 2 h) for pooler and head, once. Hoffmann et al. 2022,
    arXiv 2203.15556, appendix F, with both attention products complete, as an encoder has no causal mask. ``lengths``
    are tokens with the special ones, (N,). KeyError for a configuration without BERT's names.
    """
    layers, hidden, inner = (int(config[key]) for key in ("num_hidden_layers", "hidden_size", "intermediate_size"))
    tokens = lengths.astype(np.float64)
    products = 2 * layers * (4 * hidden**2 + 2 * hidden * inner) * tokens
    attention = 4 * tokens * hidden * layers * tokens
    return float((products + attention).mean() + 2 * (hidden**2 + 2 * hidden))


def shapes(hidden: int, inner: int) -> dict[str, tuple[int, int, int]]:
    """Return (rows, inner, columns) of the products that are timed: squares, and the model's own."""
    own = [(TOKENS, hidden, hidden), (TOKENS, hidden, inner), (TOKENS, inner, hidden)]
    return {" x ".join(map(str, shape)): shape for shape in [*((n, n, n) for n in SQUARES), *own]}


@click.command()
@click.option("--threads", type=int, required=True)
@click.option("--hidden", type=int, required=True)
@click.option("--intermediate", type=int, required=True)
def main(threads: int, hidden: int, intermediate: int) -> None:
    """Print TFLOP/s of torch's Linear by precision and shape as JSON, each the best of 3 tries or of 0.4 seconds."""
    import torch  # the formula needs none

    torch.set_num_threads(threads)
    found: dict[str, dict[str, float]] = {}
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        found[name] = {}
        for shape, (rows, inner, columns) in shapes(hidden, intermediate).items():
            left, right = torch.randn(rows, inner, dtype=kind), torch.randn(columns, inner, dtype=kind)
            times: list[float] = []
            with torch.inference_mode():
                torch.nn.functional.linear(left, right)  # set-up does not count
                while len(times) < _LEAST or sum(times) < _SECONDS:
                    start = time.perf_counter()
                    torch.nn.functional.linear(left, right)
                    times.append(time.perf_counter() - start)
            found[name][shape] = 2 * rows * inner * columns / min(times) / 1e12
    print(json.dumps(found))


if __name__ == "__main__":
    main()
