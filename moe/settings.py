"""How experts are trained, composed, routed and asked: frozen records, each saved beside what it made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from moe.errors import SettingError

MLP = ("gate_proj", "up_proj", "down_proj")
"""The projections of an MLP block, which become the experts."""

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
"""The projections of an attention block, which all experts of a mixture share."""

TARGETS = {"mlp": MLP, "all": (*ATTENTION, *MLP)}
"""What an expert may train, by its name on the command line."""

Ranges = Sequence[tuple[str, float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What every training here has in common.

    ``batch_size`` counts dialogues a device and forward pass, ``accumulate`` such passes a step; ``warmup`` is the
    share of steps in which the learning rate rises, after which it falls linearly. ``held_out`` is the share of
    conversations, dealt by a hash, that the evaluation loss is read on. ``max_length`` is in tokens.
    """

    learning_rate: float = 1e-4
    epochs: int = 1
    batch_size: int = 8
    accumulate: int = 1
    warmup: float = 0.03
    max_length: int = 512
    held_out: float = 0.05
    checkpointing: bool = True
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the settings as moe.json holds them."""
        return asdict(self)

    def _check(self, ranges: Ranges = ()) -> None:
        check(self, (*_SCHEDULE, *ranges))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertSettings(Schedule):
    """One expert: a LoRA of this ``rank``, scaled by ``alpha`` / ``rank``, on ``targets`` (``mlp`` or ``all``).

    Defaults are those of the published code (Efficient-Empathy): rank 8, alpha 32, dropout 0.1, learning rate 1e-4,
    one epoch, 512 tokens.
    """

    base: str
    rank: int = 8
    alpha: int = 32
    dropout: float = 0.1
    targets: Literal["mlp", "all"] = "mlp"

    def __post_init__(self) -> None:
        """Check every value; SettingError gives the value and what was expected."""
        self._check((("rank", 1, 4096), ("alpha", 1, 1 << 20), ("dropout", 0, 0.9)))
        if self.targets not in TARGETS:
            raise SettingError(f"targets is {self.targets!r}, expected {' or '.join(TARGETS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSettings(Schedule):
    """Training of a mixture: its router alone, or ``also_experts``.

    ``balance`` is the coefficient of the load-balancing loss (Switch Transformers, arXiv 2101.03961, equation 4).
    """

    learning_rate: float = 1e-3
    balance: float = 0.01
    also_experts: bool = False

    def __post_init__(self) -> None:
        """Check every value; SettingError gives the value and what was expected."""
        self._check((("balance", 0, 100),))


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeSettings:
    """How experts become a mixture.

    ``router`` is ``informed`` (by the mean hidden states of ``sample`` dialogues of each expert's set) or ``random``;
    each token goes through ``top_k`` experts. No output file holds more than ``max_shard_bytes`` of tensors, except
    one tensor that is larger.
    """

    router: Literal["informed", "random"] = "random"
    top_k: int = 2
    max_shard_bytes: int = 5_000_000_000
    sample: int = 256
    max_length: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every value; SettingError gives the value and what was expected."""
        check(self, (("top_k", 1, 1024), ("max_shard_bytes", 1, 1 << 50), ("sample", 1, 1 << 20), *_COMMON))

    def to_json(self) -> dict[str, Any]:
        """Return the settings as moe.json holds them."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateSettings:
    """How responses are generated: greedily, or with ``sample`` at a ``temperature`` from the ``top_p`` nucleus."""

    max_new_tokens: int = 128
    max_length: int = 512
    batch_size: int = 16
    sample: bool = False
    temperature: float = 0.7
    top_p: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every value; SettingError gives the value and what was expected."""
        ranges = (
            ("max_new_tokens", 1, 1 << 20),
            ("batch_size", 1, 4096),
            ("temperature", 0.01, 10),
            ("top_p", 0.01, 1),
        )
        check(self, (*ranges, *_COMMON))
        if self.max_new_tokens >= self.max_length:
            raise SettingError(
                f"max new tokens is {self.max_new_tokens} of a max length of {self.max_length}, which leaves nothing "
                "for the dialogue before it; expected less"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the settings as they are saved."""
        return asdict(self)


_COMMON: Ranges = (("max_length", 16, 1 << 20), ("seed", 0, 2**32 - 1))
_SCHEDULE: Ranges = (
    ("learning_rate", 1e-8, 1),
    ("epochs", 1, 1000),
    ("batch_size", 1, 4096),
    ("accumulate", 1, 65536),
    ("warmup", 0, 0.9),
    ("held_out", 0, 0.5),
    *_COMMON,
)


def check(settings: object, ranges: Ranges) -> None:
    """Raise SettingError for the first value that is not in its range, ends included."""
    for name, low, high in ranges:
        value = getattr(settings, name)
        if not low <= value <= high:  # NaN is in no range
            raise SettingError(f"{name.replace('_', ' ')} is {value}, expected {low:g} to {high:g}")
