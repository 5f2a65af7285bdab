"""Export an encoder whose last layer is computed for its first token only: of six layers' work, a seventh is saved.

BERT's pooler and the heads of RoBERTa, DistilBERT and MPNet read one vector of the last layer, the first token's. Keys
and values are needed of every token; queries, attention, both feed-forward products and the norms of that one only. So
the last layer's inputs are cut in torch, before the export. Whatever comes out is compared with the model itself.
"""

from __future__ import annotations

import copy
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from optimum.exporters.onnx import onnx_export_from_model
from transformers import PreTrainedModel

from scorer.engines.onnxruntime import onnxruntime_faults
from scorer.errors import reason_of

MAX_DRIFT = 1e-4
"""How far a score of the exported graph may lie from the model's, of 10; rounding comes to 1e-5."""

_LAST_LAYERS = (
    ("encoder.layer", "attention.self", "query", "attention.output.LayerNorm"),  # BERT, RoBERTa, ELECTRA
    ("encoder.layer", "attention.attn", "q", "attention.LayerNorm"),  # MPNet
    ("transformer.layer", "attention", "q_lin", "sa_layer_norm"),  # DistilBERT
)
"""Where a model has its layers; in a layer, the attention; in that, the queries; in a layer, the norm behind both."""

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
    return to_onnx(model), f"every token is computed in every layer: {reason}"


def to_onnx(model: PreTrainedModel) -> onnx.ModelProto:
    """Return a model as ONNX in fp32: inputs (batch, length) int64, output ``logits`` (batch, 2) float32."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's tracer, about shapes that are constant here
        logging.getLogger("optimum").setLevel(logging.ERROR)
        onnx_export_from_model(copy.deepcopy(model), folder, task="text-classification", do_validation=False)
        return onnx.load(Path(folder) / "model.onnx")


class _UnknownModelError(Exception):
    """A model whose last layer cannot be cut, and why."""


def _eager(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy whose attention is computed step by step: fused attention wants as many queries as keys."""
    copied = type(model)._from_config(copy.deepcopy(model.config), attn_implementation="eager")
    copied.load_state_dict(model.state_dict())
    return copied.eval()


def _cut(model: PreTrainedModel) -> PreTrainedModel:
    """Let the last layer of a model compute queries, and all that follows them, of the first token only."""
    for layers, attention, query, norm in _LAST_LAYERS:
        try:
            last = model.base_model.get_submodule(layers)[-1]
            modules = [last.get_submodule(name) for name in (f"{attention}.{query}", norm, attention)]
        except AttributeError:
            continue
        for module in modules[:2]:
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0][:, :1],))  # (B, T, hidden)
        modules[2].register_forward_pre_hook(_first_row, with_kwargs=True)
        return model
    raise _UnknownModelError(f"where {type(model).__name__} has its last layer is not known")


def _first_row(_: torch.nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Cut masks and position biases (B or 1, heads or 1, T or 1, T) to those of the first query."""

    def cut(value: Any) -> Any:
        return value[:, :, :1] if isinstance(value, torch.Tensor) and value.ndim == 4 else value

    return tuple(map(cut, inputs)), {name: cut(value) for name, value in named.items()}


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
