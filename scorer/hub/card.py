"""The card of a scorer on the hub: the bundle's own README.md after a header that the hub reads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scorer.bundle.bundle import Bundle
from scorer.bundle.info import Measured, ScorerInfo

CARD = "README.md"

_BEGIN, _END = b"---\n", b"\n---\n"
_LICENCES = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "isc", "unlicense", "cc0-1.0", "gpl-3.0", "agpl-3.0"),
    *("cc-by-3.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "openrail"),
)
_METRICS = {
    "pearson": "pearsonr",
    "spearman": "spearmanr",
    "mae": "mae",
    "rmse": "rmse",
    "quadratic_kappa": "cohen_kappa",
    "kappa": "cohen_kappa",
    "accuracy": "accuracy",
    "f1": "f1",
}
_HUB_ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?", re.ASCII)


def card_of(bundle: Bundle, *, base_model: str | None = None, datasets: Sequence[str] = ()) -> bytes:
    """Return README.md as the hub keeps it: a header of its own, and the bundle's card, which stays as it is.

    ``base_model`` and ``datasets`` are names on the hub, left out what scorer.json says, where that can be one. A card
    that has a header already is returned unchanged.
    """
    text = bundle.files.get(CARD) or _text_of(bundle.info).encode()
    if has_header(text):
        return text
    return _BEGIN + _header(bundle.info, base_model, datasets).encode() + _END + text


def has_header(card: bytes) -> bool:
    """Whether a card begins with a header."""
    return card.startswith(_BEGIN) and _END in card[len(_BEGIN) - 1 :]


def without_header(card: bytes) -> bytes:
    """Return what stands after a card's header; the card, if it has none. Line ends may have become the hub's."""
    return card.split(_END, 1)[1] if has_header(card) else card


def licence_of(text: str) -> dict[str, str]:
    """Return what the hub calls a licence, or its own words for one that the hub has no name for."""
    plain = re.sub(r"\(.*?\)", "", text).strip().lower().replace(" ", "-")
    return {"license": plain} if plain in _LICENCES else {"license": "other", "license_name": text}


def _header(info: ScorerInfo, base_model: str | None, datasets: Sequence[str]) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    base = base_model or (info.backbone if _HUB_ID.fullmatch(info.backbone) and info.backbone != "none" else None)
    data = info.training.data
    results = [
        EvalResult(
            task_type="text-classification",
            task_name="sensibility and rationality of dialogues",
            dataset_type=datasets[0] if datasets else "other",
            dataset_name=data,
            dataset_args={"how": str(info.measured.get("how", "not said"))},
            metric_type=kind,
            metric_name=name,
            metric_value=value,
        )
        for name, kind, value in measures(info.measured)
    ]
    header = ModelCardData(
        **licence_of(info.licence),
        model_name=info.name,
        library_name="empathy-scorer",
        pipeline_tag="text-classification",
        tags=["empathy", "dialogue", "onnx", "regression"],
        base_model=base,
        datasets=list(datasets) or None,
        metrics=sorted({kind for _, kind, _ in measures(info.measured)}) or None,
        eval_results=results or None,
    )
    return str(header.to_yaml())


def measures(measured: Measured) -> Iterator[tuple[str, str, float]]:
    """Yield the figures that the hub has a metric for: their name here, that metric, the value."""
    for name, value in measured.items():
        values: dict[str, Any] = {name: value}
        if isinstance(value, Mapping):
            values = {f"{head}.{name}": number for head, number in value.items()}
        for full, number in values.items():
            kind = next((_METRICS[part] for part in full.split(".") if part in _METRICS), None)
            if kind is not None and isinstance(number, (int, float)):
                yield full, kind, float(number)


def _text_of(info: ScorerInfo) -> str:
    return f"# {info.name}\n\nA scorer of `empathy-scorer`: sensibility and rationality of dialogues, 0 to 10.\n"
