"""How a scorer is trained: one frozen record, saved beside what it made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from distill.errors import TrainError

DEFAULT_BACKBONE = "FacebookAI/roberta-base"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """Settings of one training; two runs with the same settings, labels and machine give the same scorer.

    ``learning_rate`` None is 5e-5 at a hidden size of 768 and falls with its square (MiniLM's 384: 2e-4).
    ``layers`` keeps so many of the backbone's layers, the lowest, which matter most (Sajjad et al., On the Effect of
    Dropping Layers of Pre-trained Transformer Models, arXiv 2004.03844); None keeps all.
    ``layer_decay`` is the factor on the learning rate from each layer to the one below it; ``frozen_layers`` are not
    trained at all, counted from the embeddings. ``warmup`` is a share of all steps. ``folds`` is the number of
    cross-validation folds by conversation, 0 for one tenth held out; ``split_seed`` deals conversations into them.
    ``patience`` stops after so many epochs without a lower error on a tenth of the training conversations; None
    trains all epochs on all of them. ``judge_share`` is the weight of the judge's own labels against the teacher's
    scores where a dialogue has both.
    """

    backbone: str = DEFAULT_BACKBONE
    epochs: int = 3
    learning_rate: float | None = None
    batch_size: int = 32
    layers: int | None = None
    layer_decay: float = 0.9
    frozen_layers: int = 0
    weight_decay: float = 0.01
    warmup: float = 0.1
    max_length: int = 256
    seed: int = 0
    folds: int = 0
    split_seed: int = 0
    patience: int | None = None
    judge_share: float = 0.5

    def __post_init__(self) -> None:
        """Check every value; TrainError gives the value and what was expected."""
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            if value is None or not low <= value <= high:  # NaN is in no range
                raise TrainError(f"{name.replace('_', ' ')} is {value}, expected {low:g} to {high:g}")
        if self.folds == 1:
            raise TrainError("folds is 1, expected 0 (one tenth of the conversations held out) or at least 2")

    def rate_for(self, hidden_size: int) -> float:
        """Return the highest learning rate, that of the last layer."""
        return 5e-5 * (768 / hidden_size) ** 2 if self.learning_rate is None else self.learning_rate

    def to_json(self) -> dict[str, Any]:
        """Return what ``from_json`` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TrainSettings:
        """Return settings from JSON, without the fields that this release does not know."""
        known = {entry.name for entry in fields(cls)}
        return cls(**{name: entry for name, entry in value.items() if name in known})


_OPTIONAL = ("learning_rate", "layers", "patience")
_RANGES = (
    ("epochs", 1, 1000),
    ("learning_rate", 1e-8, 1),
    ("batch_size", 1, 4096),
    ("layers", 1, 1000),
    ("layer_decay", 0.1, 1),
    ("frozen_layers", 0, 1000),
    ("weight_decay", 0, 1),
    ("warmup", 0, 0.9),
    ("max_length", 16, 8192),
    ("seed", 0, 2**32 - 1),
    ("folds", 0, 100),
    ("split_seed", 0, 2**32 - 1),
    ("patience", 1, 1000),
    ("judge_share", 0, 1),
)
