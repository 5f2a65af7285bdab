"""How a checkpoint is exported: one frozen record."""

from __future__ import annotations

from dataclasses import dataclass

from distill.errors import ExportError
from scorer.engines.names import PRECISIONS
from scorer.settings import check_settings, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSettings:
    """How to export. ``precisions`` are those to check; ``max_flips`` is the gate's limit."""

    name: str = setting("", "What the scorer is called.", shown="the checkpoint's folder")
    licence: str = setting("not stated", "Under which its users may use it.")
    precisions: tuple[str, ...] = PRECISIONS
    weights: str = setting(
        "int8", "How to store weights; int8 a quarter of the size, if the gate allows it.", choices=("int8", "fp32")
    )
    half: bool = setting(False, "Also store the model in half precision, for a GPU, if the gate allows it.")
    max_flips: float = setting(0.01, "Share of selection decisions that a precision may change.", 0, 1)
    probe: int = setting(400, "Contexts on which the scorer is tried with bad replies; 0 for none.", 0)

    def __post_init__(self) -> None:
        """Check every value; ExportError gives the value and what was expected."""
        check_settings(self, ExportError)
