"""How experts are trained, composed, routed and asked: frozen records, each saved beside what it made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from moe.errors import SettingError
from scorer.settings import check_settings, setting
from selection.settings import SelectSettings

MLP = ("gate_proj", "up_proj", "down_proj")
"""The projections of an MLP block, which become the experts."""

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
"""The projections of an attention block, which all experts of a mixture share."""

PACKED_MLP = "gate_up_proj"
"""Phi-3's name of the first two projections of an MLP, one under the other."""

PACKED_ATTENTION = "qkv_proj"
"""Phi-3's name of the first three projections of an attention block, one under the other."""

TARGETS = {"mlp": (*MLP, PACKED_MLP), "all": (*ATTENTION, PACKED_ATTENTION, *MLP, PACKED_MLP)}
"""What an expert may train, by its name on the command line; a model has those of its kind."""

_TOKENS = (16, 1 << 20)
_BATCH = (1, 4096)
_SEED = (0, 2**32 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What every training here has in common. SettingError gives a value that is out of its range."""

    learning_rate: float = setting(1e-4, "The highest learning rate.", 1e-8, 1)
    epochs: int = setting(1, "Passes over the data.", 1, 1000)
    batch_size: int = setting(8, "Dialogues per batch and device.", *_BATCH)
    accumulate: int = setting(1, "Batches per optimiser step.", 1, 65536)
    warmup: float = setting(0.03, "Share of the steps in which the learning rate rises; then it falls.", 0, 0.9)
    max_length: int = setting(512, "Tokens per dialogue, at most; the oldest turns go first.", *_TOKENS)
    held_out: float = setting(0.05, "Share of conversations that the evaluation loss is read on.", 0, 0.5)
    checkpointing: bool = setting(True, "Compute activations twice to save memory.")
    seed: int = setting(0, "Decides the new weights, the order and the dropout.", *_SEED)

    def __post_init__(self) -> None:
        """Check every value."""
        check_settings(self, SettingError)

    def steps(self, rows: int) -> int:
        """Return the number of optimiser steps that so many rows take on one device."""
        batches = -(-rows // self.batch_size)
        return self.epochs * -(-batches // self.accumulate)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertSettings(Schedule):
    """One expert: a LoRA of this ``rank``, scaled by ``alpha`` / ``rank``, on the ``targets``.

    Defaults are those of the published code (Efficient-Empathy).
    """

    base: str
    rank: int = setting(8, "Rank r of the LoRA.", 1, 4096)
    alpha: int = setting(32, "The adapter is scaled by alpha / r.", 1, 1 << 20)
    dropout: float = setting(0.1, "Dropout before the adapter, in training.", 0, 0.9)
    targets: Literal["mlp", "all"] = setting(
        "mlp", "What the adapter changes; with mlp a mixture holds each expert exactly.", choices=tuple(TARGETS)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSettings(Schedule):
    """Training of a mixture: its router alone, or ``also_experts``."""

    learning_rate: float = setting(1e-3, "The highest learning rate.", 1e-8, 1)
    # The loss is that of Switch Transformers, arXiv 2101.03961, equation 4.
    balance: float = setting(0.01, "Coefficient of the load-balancing loss.", 0, 100)
    also_experts: bool = setting(False, "Train the experts too, not the router alone.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeSettings:
    """How experts become a mixture. No output file holds more than ``max_shard_bytes``, except one larger tensor."""

    router: Literal["informed", "random"] = setting(
        "random", "How routing begins.", choices=("informed", "random"), shown="informed if there are sets"
    )
    top_k: int = setting(2, "Experts per token.", 1, 1024)
    max_shard_bytes: int = setting(5_000_000_000, "Bytes per output file.", 1, 1 << 50)
    sample: int = setting(256, "Dialogues per set that an informed router is made from.", 1, 1 << 20)
    max_length: int = setting(512, "Tokens per such dialogue, at most.", *_TOKENS)
    seed: int = setting(0, "Decides a random router, and the sample.", *_SEED)

    def __post_init__(self) -> None:
        """Check every value; SettingError gives the value and what was expected."""
        check_settings(self, SettingError)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateSettings:
    """How responses are generated: greedily, or with ``sample`` at a ``temperature`` from the ``top_p`` nucleus."""

    max_new_tokens: int = setting(128, "Tokens per response, at most.", 1, 1 << 20)
    max_length: int = setting(512, "Tokens of a dialogue and its response, at most.", *_TOKENS)
    batch_size: int = setting(16, "Dialogues per batch.", *_BATCH)
    sample: bool = setting(False, "Sample the responses, instead of the likeliest word each time.")
    temperature: float = setting(0.7, "With --sample: below 1, likely words become likelier.", 0.01, 10)
    top_p: float = setting(0.9, "With --sample: only from the words that have this share of the chance.", 0.01, 1)
    seed: int = setting(0, "Decides the samples.", *_SEED)

    def __post_init__(self) -> None:
        """Check every value; SettingError gives the value and what was expected."""
        check_settings(self, SettingError)
        if self.max_new_tokens >= self.max_length:
            raise SettingError(
                f"max new tokens is {self.max_new_tokens} of a max length of {self.max_length}, which leaves nothing "
                "for the dialogue before it; expected less"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateSettings:
    """How many responses each dialogue gets, to choose from."""

    n: int = setting(1, "Responses per dialogue, each sampled with a seed of its own; with --sample.", 1, 1000)

    def __post_init__(self) -> None:
        """Check the value; SettingError gives it and what was expected."""
        check_settings(self, SettingError)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """Settings of all stages. ``sets`` name those that become experts, the rule's first two if None."""

    expert: ExpertSettings
    select: SelectSettings = field(default_factory=SelectSettings)
    compose: ComposeSettings = field(default_factory=lambda: ComposeSettings(router="informed"))
    router: RouterSettings = field(default_factory=RouterSettings)
    generate: GenerateSettings = field(default_factory=GenerateSettings)
    held_out: float = setting(0.1, "Share of conversations that nothing but the evaluation sees.", above=0, high=0.5)
    evaluate_on: int = setting(500, "Held-out dialogues that the models answer.", 1)
    sets: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Check every value; SettingError gives the value and what was expected."""
        check_settings(self, SettingError)
        if self.sets is not None and len(set(self.sets)) < 2:
            raise SettingError(f"{len(set(self.sets))} set to become an expert, expected at least 2")
