"""How a scorer is trained: one frozen record, saved beside what it made."""

from __future__ import annotations

from dataclasses import dataclass

from distill.errors import TrainError
from distill.robustness.kinds import CEILINGS
from scorer.settings import check_settings, setting

DEFAULT_BACKBONE = "FacebookAI/roberta-base"
_LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """Settings of one training; two runs with the same settings, labels and machine give the same scorer.

    ``learning_rate`` None is 1.2e-4 at a hidden size of 768, for a batch of 32, and inverse to the size (MiniLM's 384:
    2.4e-4); it and ``layer_decay`` were measured (benchmarks/README.md). The lowest ``layers`` matter most (Sajjad et
    al., On the Effect of Dropping Layers of Pre-trained Transformer Models, arXiv 2004.03844). ``patience`` is measured
    on a tenth of the training conversations; None trains all epochs on all. ``r_drop`` is the weight of the squared
    difference of two passes with different dropout (Liang et al., R-Drop, arXiv 2106.14448). ``earlier_share`` keeps so
    much of the weights that a checkpoint had before it went on (Wortsman et al., Robust fine-tuning of zero-shot
    models, arXiv 2109.01903).
    """

    backbone: str = setting(
        DEFAULT_BACKBONE, "The encoder to fine-tune: its id on the Hugging Face hub, or a folder. A checkpoint goes on."
    )
    allow_pickle: bool = setting(
        False, "Load an encoder that has no safetensors, from a pickle; only if you trust who made it."
    )
    epochs: int = setting(3, "Passes over the data.", 1, 1000)
    learning_rate: float | None = setting(None, "Of the last layer.", 1e-8, 1, shown="1.2e-4 x 768 / hidden size")
    batch_size: int = setting(32, "Dialogues per step and device.", 1, 4096)
    layers: int | None = setting(
        None, "Keep only so many of the lowest layers: smaller, faster, less faithful.", 1, 1000, shown="all"
    )
    layer_decay: float = setting(0.85, "Factor on the learning rate from each layer to the one below.", 0.1, 1)
    frozen_layers: int = setting(0, "Lowest layers that are not trained, with the embeddings.", 0, 1000)
    weight_decay: float = setting(0.01, "Weight decay of AdamW.", 0, 1)
    warmup: float = setting(0.1, "Share of the steps in which the learning rate rises.", 0, 0.9)
    max_length: int = setting(256, "Tokens per dialogue, at most.", 16, 8192)
    seed: int = setting(0, "Decides the new head, the order and the dropout.", 0, _LARGEST_SEED)
    folds: int = setting(0, "Cross-validation folds by conversation; 0 holds out one tenth.", 0, 100)
    split_seed: int = setting(0, "Decides which conversations are in which fold.", 0, _LARGEST_SEED)
    patience: int | None = setting(
        None, "Stop after so many epochs without a lower error.", 1, 1000, shown="train all epochs"
    )
    judge_share: float = setting(
        0.5, "Weight of the judge's label against the teachers' score of the same dialogue.", 0, 1
    )
    earlier_share: float = setting(
        0.0, "Share of the earlier weights in the mean with the new ones, where a checkpoint goes on.", 0, 1
    )
    dropout: float | None = setting(None, "Dropout of hidden states and attention.", 0, 0.9, shown="the backbone's")
    r_drop: float = setting(0.0, "Weight of the difference of two passes with different dropout.", 0, 100)
    counterexamples: float = setting(
        0.0, "Bad replies with a ceiling from the rubric, as a share of the other dialogues.", 0, 1
    )
    left_out_kind: str | None = setting(
        None, "A kind of bad reply that is not learnt, to be tested on it.", choices=tuple(CEILINGS)
    )
    edits: float = setting(
        0.0, "Share of the dialogues that are read with spelling mistakes, emoji or other names.", 0, 1
    )

    def __post_init__(self) -> None:
        """Check every value; TrainError gives the value and what was expected."""
        check_settings(self, TrainError)
        if self.folds == 1:
            raise TrainError("folds is 1, expected 0 (one tenth of the conversations held out) or at least 2")

    def rate_for(self, hidden_size: int) -> float:
        """Return the highest learning rate, that of the last layer."""
        return 1.2e-4 * 768 / hidden_size if self.learning_rate is None else self.learning_rate

    def steps(self, rows: int) -> int:
        """Return the number of optimiser steps that so many rows take on one device."""
        return self.epochs * -(-rows // self.batch_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class TeachSettings:
    """What teachers score besides the dialogues that are given; ``near_encoder`` None is TF-IDF."""

    pairs: int = setting(0, "Re-paired dialogues per unlabelled one: its context with responses of others.", 0, 1000)
    near_encoder: str | None = setting(
        None, "The encoder whose embeddings say which contexts are near.", shown="the hashed words of the context"
    )
    seed: int = setting(0, "Decides the re-paired dialogues.", 0, _LARGEST_SEED)

    def __post_init__(self) -> None:
        """Check every value; TrainError gives the value and what was expected."""
        check_settings(self, TrainError)
