"""What simpler models reach on the same labels, cross-validated: every scorer should be better."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.pipeline import make_pipeline
from transformers import AutoModel

from distill.errors import TrainError, reason_to_refuse
from distill.labelled import LabelledSet
from distill.pretrained import hub_options
from distill.training.calibrate import cross_levels
from distill.training.network import load_backbone, to_tensors
from scorer.dialogue import render
from selection.folds import folds_of
from selection.metrics import Pair, all_figures
from selection.rules import to_levels

CONSTANT = "constant"
_BATCH = 64


def baseline_figures(
    labelled: LabelledSet, embeddings: str | None = None, threshold: int = 5, folds: int = 5
) -> dict[str, dict[str, float]]:
    """Return the figures of each baseline by its name; ``embeddings`` is an encoder by hub id or folder."""
    texts = np.array([render(dialogue) for dialogue in labelled.dialogues], dtype=object)  # (N, 2)
    makers: dict[str, tuple[Any, Callable[[], Any]]] = {
        CONSTANT: (np.zeros((len(labelled), 1)), Ridge),
        "TF-IDF + ridge": (texts, _tfidf_ridge),
    }
    if embeddings:
        features = embed(labelled, embeddings)
        makers["frozen embeddings + ridge"] = (features, lambda: RidgeCV(alphas=np.logspace(-2, 4, 13)))
    fold = folds_of(labelled.conversations, folds, 0)
    found = {}
    for name, (features, make) in makers.items():
        scores = np.zeros(labelled.scores.shape)
        for k in range(folds):
            scores[fold == k] = make().fit(features[fold != k], labelled.scores[fold != k]).predict(features[fold == k])
        scores = scores.clip(0, 10)
        # No cut divides equal scores: the constant is read as the judge's score that it is.
        levels = to_levels(scores) if name == CONSTANT else cross_levels(scores, labelled.scores, fold)
        pair = Pair.of(labelled.scores, scores, levels)
        found[name] = all_figures(pair, threshold=threshold)
    return found


def _tfidf_ridge() -> Any:
    """Return ridge regression on words and pairs of words, of context and response separately."""
    words = [(TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True), column) for column in (0, 1)]
    return make_pipeline(make_column_transformer(*words, sparse_threshold=1), Ridge(alpha=3.0))


@torch.inference_mode()
def embed(labelled: LabelledSet, name: str) -> npt.NDArray[np.float32]:
    """Return the mean of an untrained encoder's last hidden states, (N, hidden size)."""
    backbone = load_backbone(name)
    encoded = backbone.encoder(min(256, backbone.max_length)).encode(labelled.dialogues)
    device, here = "cuda" if torch.cuda.is_available() else "cpu", hub_options(name, TrainError)
    try:
        model = AutoModel.from_pretrained(name, trust_remote_code=False, use_safetensors=True, **here)
    except (OSError, ValueError, RuntimeError) as error:
        raise TrainError(f"encoder {name!r}: its weights cannot be loaded ({reason_to_refuse(error)})") from None
    model.eval().to(device)
    order = np.argsort([len(item) for item in encoded], kind="stable")
    features = np.zeros((len(encoded), backbone.hidden_size), dtype=np.float32)
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        inputs = to_tensors([encoded[row] for row in rows], backbone.pad_id, types=backbone.has_token_types)
        inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
        mask = inputs["attention_mask"][:, :, None]  # (B, T, 1)
        states = model(**inputs).last_hidden_state  # (B, T, hidden)
        features[rows] = ((states * mask).sum(dim=1) / mask.sum(dim=1)).cpu().numpy()
    return features
