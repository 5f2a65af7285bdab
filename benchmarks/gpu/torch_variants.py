"""The yardstick: torch with fused attention (SDPA) on padded batches, and on packed ones without any padding."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks.gpu.rows import Batch, Floats, Run


def padded(model: Any, device: str, dtype: torch.dtype) -> Run:
    """Return what runs a model of transformers on padded batches, the next copied while one is computed."""
    moved = _moved(model, device, dtype)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    names = names if getattr(model.config, "type_vocab_size", 0) > 1 else names[:2]

    def run(batches: Sequence[Batch]) -> list[Floats]:
        with torch.inference_mode():
            found = [moved(**{name: _sent(batch[name], device) for name in names}).logits for batch in batches]
            return [part.float().cpu().numpy() for part in found]  # copies wait for what they copy

    return run


def packed(model: Any, device: str, dtype: torch.dtype) -> tuple[Run, str]:
    """Return what runs BERT or RoBERTa without padding: tokens of a batch in one row, attention within each text.

    ValueError for another architecture. The note says which attention was taken.
    """
    if model.config.model_type not in ("bert", "roberta"):
        raise ValueError(f"packing is written for BERT and RoBERTa, not for {model.config.model_type}")
    moved = _moved(model, device, dtype)
    attend, note = _attention(device)

    def one(batch: Batch) -> torch.Tensor:
        lengths = batch["attention_mask"].sum(axis=1)
        real = batch["attention_mask"].astype(bool)
        ids, types = _sent(batch["input_ids"][real], device), _sent(batch["token_type_ids"][real], device)
        place = np.concatenate([np.arange(length) for length in lengths])
        ends = _sent(np.concatenate([[0], np.cumsum(lengths)]), device).int()
        hidden = _embedded(moved, ids, types, _sent(place, device))
        for layer in moved.base_model.encoder.layer:
            hidden = _layer(layer, hidden, ends, int(lengths.max()), model.config.num_attention_heads, attend)
        first = hidden[ends[:-1].long()][:, None]  # (B, 1, hidden)
        if model.config.model_type == "bert":
            return torch.as_tensor(moved.classifier(moved.base_model.pooler(first)))
        return torch.as_tensor(moved.classifier(first))

    def run(batches: Sequence[Batch]) -> list[Floats]:
        with torch.inference_mode():
            found = [one(batch) for batch in batches]
            return [part.float().cpu().numpy() for part in found]

    return run, note


def _embedded(model: Any, ids: torch.Tensor, types: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    table = model.base_model.embeddings
    if model.config.model_type == "roberta":
        place, types = place + table.padding_idx + 1, torch.zeros_like(types)
    words = table.word_embeddings(ids) + table.position_embeddings(place) + table.token_type_embeddings(types)
    return torch.as_tensor(table.LayerNorm(words))


def _layer(layer: Any, hidden: torch.Tensor, ends: torch.Tensor, longest: int, heads: int, attend: Any) -> torch.Tensor:
    own = layer.attention.self
    queries, keys, values = (
        product(hidden).unflatten(1, (heads, -1)) for product in (own.query, own.key, own.value)
    )  # (tokens, heads, size)
    attended = attend(queries, keys, values, ends, longest).flatten(1)
    out = layer.attention.output
    hidden = out.LayerNorm(out.dense(attended) + hidden)
    return torch.as_tensor(layer.output.LayerNorm(layer.output.dense(layer.intermediate(hidden)) + hidden))


def _attention(device: str) -> tuple[Any, str]:
    """Return attention within each text of a packed batch, torch's own for such where it is there."""
    if device == "cuda":
        try:
            from torch.nn.attention.varlen import varlen_attn
        except ImportError:
            pass
        else:
            return lambda q, k, v, ends, longest: varlen_attn(q, k, v, ends, ends, longest, longest), "varlen_attn"

    def nested(q: Any, k: Any, v: Any, ends: Any, longest: int) -> Any:
        rows = [
            torch.nested.nested_tensor_from_jagged(part, ends.long(), max_seqlen=longest).transpose(1, 2)
            for part in (q, k, v)
        ]
        return functional.scaled_dot_product_attention(*rows).transpose(1, 2).values()

    def by_text(q: Any, k: Any, v: Any, ends: Any, _longest: int) -> Any:
        bounds = ends.tolist()
        pairs = pairwise(bounds)
        cuts = [[part[start:end].transpose(0, 1)[None] for part in (q, k, v)] for start, end in pairs]
        return torch.cat([functional.scaled_dot_product_attention(*cut)[0].transpose(0, 1) for cut in cuts])

    return (nested, "nested tensors") if device == "cuda" else (by_text, "text by text")


def _moved(model: Any, device: str, dtype: torch.dtype) -> Any:
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("torch finds no GPU")
    return model.to(device=device, dtype=dtype).eval()


def _sent(array: Any, device: str) -> torch.Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device == "cuda" else tensor
