"""Export an encoder whose last layer is computed for its first token only: of six layers' work, a seventh is saved.

BERT's pooler and the heads of RoBERTa, DistilBERT and MPNet read one vector of the last layer, the first token's. Keys
and values are needed of every token; queries, attention, both feed-forward products and the norms of that one only. So
the last layer is changed in torch, before the export. Whatever comes out is compared with the model itself.
"""

from __future__ import annotations

import copy
import io
import warnings
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from transformers import PreTrainedModel

from scorer.engines.onnxruntime import onnxruntime_faults
from scorer.errors import reason_of

MAX_DRIFT = 1e-4
"""How far a score of the exported graph may lie from the model's, of 10; rounding comes to 1e-5."""

_LAST_LAYERS = (
    ("encoder.layer", "attention.self", "query key value", "attention.output.LayerNorm"),  # BERT, RoBERTa, ELECTRA
    ("encoder.layer", "attention.attn", "q k v o", "attention.LayerNorm"),  # MPNet
    ("transformer.layer", "attention", "q_lin k_lin v_lin out_lin", "sa_layer_norm"),  # DistilBERT
)
"""Where a model has its layers; in a layer, the attention; in that, its products; in a layer, the norm behind both."""

_OPSET = 18
_PRODUCTS = 6  # queries, scores, weighted values, output, and two of the feed-forward network


def export_first_token(model: PreTrainedModel, longest: int) -> tuple[onnx.ModelProto, str]:
    """Return an encoder as ONNX whose last layer is computed for the first token only, and a note that says so.

    ``longest`` is the number of tokens of the longest dialogue. The logits are the model's within ``MAX_DRIFT``, or the
    whole model is exported and the note says why.
    """
    try:
        exported = to_onnx(_cut(_eager(model)))
        drift = _drift(model, exported, longest)
    except _UnknownModelError as error:
        reason = str(error)
    except onnxruntime_faults() as error:
        reason = f"cut to the first token, it does not run ({reason_of(error)})"
    else:
        if drift <= MAX_DRIFT:  # NaN is not
            return exported, f"matrix products computed for the first token only: {_PRODUCTS}"
        reason = f"cut to the first token, its scores differ by {drift:.2g}"
    return to_onnx(_eager(model)), f"every token is computed in every layer: {reason}"


def to_onnx(model: PreTrainedModel) -> onnx.ModelProto:
    """Return a model as ONNX in fp32: inputs (batch, length) int64, output ``logits`` (batch, 2) float32."""
    names = ["input_ids", "attention_mask"]
    if getattr(model.config, "type_vocab_size", 0) > 1:
        names.append("token_type_ids")
    example = torch.ones((2, 16), dtype=torch.long)
    graph = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's tracer, about shapes that are constant here
        torch.onnx.export(
            _Logits(model, names),
            (example,) * len(names),
            graph,
            input_names=names,
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "length"} for name in names} | {"logits": {0: "batch"}},
            opset_version=_OPSET,
            dynamo=False,  # its graph of attention is fixed to one length, and twice as large
        )
    return onnx.load_from_string(graph.getvalue())


class _Logits(torch.nn.Module):
    """A model of tensors: its inputs by their place, its logits alone."""

    def __init__(self, model: PreTrainedModel, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Return the logits (batch, 2)."""
        return self.model(**dict(zip(self.names, inputs, strict=True))).logits


class _UnknownModelError(Exception):
    """A model whose last layer cannot be cut, and why."""


def _eager(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy whose attention is computed step by step: fused attention wants as many queries as keys."""
    copied = type(model)._from_config(copy.deepcopy(model.config), attn_implementation="eager")
    copied.load_state_dict(model.state_dict())
    return copied.eval()


def _cut(model: PreTrainedModel) -> PreTrainedModel:
    """Let the last layer of a model compute queries, and all that follows them, of the first token only."""
    for layers, attention, products, norm in _LAST_LAYERS:
        try:
            last = model.base_model.get_submodule(layers)[-1]
            linear = [last.get_submodule(f"{attention}.{name}") for name in products.split()]
            behind = last.get_submodule(norm)
        except AttributeError:
            continue
        last.set_submodule(attention, _FirstToken(model.config.num_attention_heads, *linear))
        behind.register_forward_pre_hook(lambda _, inputs: (inputs[0][:, :1],))  # (B, T, hidden)
        return model
    raise _UnknownModelError(f"where {type(model).__name__} has its last layer is not known")


class _FirstToken(torch.nn.Module):
    """Self-attention (Vaswani et al., arXiv 1706.03762) of the first token to all: one query (B, 1, hidden)."""

    def __init__(self, heads: int, *linear: torch.nn.Module) -> None:
        super().__init__()
        self.heads, self.linear = heads, torch.nn.ModuleList(linear)

    def forward(self, states: Any = None, *others: Any, **named: Any) -> tuple[torch.Tensor, None]:
        """Return what the first token attends to, and no weights, of states (B, T, hidden) and what masks them.

        Masks and position biases (B or 1, heads or 1, T or 1, T) are added to the products, DistilBERT's mask (B, T) in
        transformers 4 is 1 for what counts.
        """
        states = named.pop("query") if states is None else states
        queries, keys, values = (
            product(given).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, T, hidden / heads)
            for product, given in zip(self.linear, (states[:, :1], states, states), strict=False)
        )
        weights = queries @ keys.transpose(2, 3) / queries.shape[-1] ** 0.5
        for tensor in (*others, *named.values()):
            if isinstance(tensor, torch.Tensor) and tensor.ndim == 4:
                weights = weights + tensor[:, :, :1]
            elif isinstance(tensor, torch.Tensor) and tensor.ndim == 2:
                weights = weights.masked_fill(tensor[:, None, None] == 0, torch.finfo(weights.dtype).min)
        attended = (weights.softmax(dim=-1) @ values).transpose(1, 2).flatten(2)
        return (self.linear[3](attended) if len(self.linear) > 3 else attended), None


@torch.inference_mode()
def _drift(model: PreTrainedModel, exported: onnx.ModelProto, longest: int) -> float:
    """Return the largest difference of the two models' logits, on random dialogues of several shapes."""
    rng = np.random.default_rng(0)
    session = ort.InferenceSession(exported.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [port.name for port in exported.graph.input]
    differences = []
    for rows, length in ((2, longest), (3, 7), (1, max(1, longest // 2)), (1, 1)):
        lengths = rng.integers(1, length + 1, (rows, 1))
        lengths[0] = length
        mask = (np.arange(length) < lengths).astype(np.int64)
        ids = rng.integers(0, model.config.vocab_size, mask.shape) * mask
        known = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(mask)}
        batch = {name: known[name] for name in names if name in known}
        expected = model(**{name: torch.from_numpy(array).to(model.device) for name, array in batch.items()}).logits
        differences.append(np.abs(session.run(["logits"], batch)[0] - expected.cpu().numpy()).max())
    return float(np.max(differences))
