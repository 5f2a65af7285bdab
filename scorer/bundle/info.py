"""scorer.json as a record: what a scorer is, how its scores are read, where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec

from scorer.bundle.cuts import read_cuts
from scorer.bundle.domain import Domain
from scorer.bundle.probed import Probed
from scorer.bundle.uncertainty import Uncertainty
from scorer.dialogue import HEADS, SCORE_RANGE, TEMPLATE_VERSION
from scorer.engines.verdicts import Verdict
from scorer.values import Count

FORMAT = "empathy-scorer"
FORMAT_VERSION = 1

Measured = Mapping[str, Any]
"""``how`` something was measured, in words, and figures by name: a number, one for each head, or None."""

_REQUIRED_FILES = ("model.onnx", "tokenizer.json")
_Text = Annotated[str, msgspec.Meta(min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What a scorer was trained on: hashes of its dialogues (`training_hash`), and whose judgement it learnt."""

    content_hashes: Sequence[str]
    unlabelled_hashes: Sequence[str] = ()
    data: str = "not said"
    judge: Any = None
    rubric: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The scorer that another one was adapted from, by so many ``labels`` of ``source``, and what was ``changed``."""

    name: str
    sha256: str
    labels: Count
    source: str
    changed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerInfo:
    """What of scorer.json is used; ValueError for a value that no scorer of this release can have.

    ``max_length`` counts tokens, special ones included; ``pad_id`` fills up a batch. ``files`` holds the SHA-256 of
    every other file by its name, ``precisions`` the verdicts of the export's gate, ``gates`` those that `empathy gate`
    added on other machines, ``measured`` figures on held-out dialogues. ``uncertainty`` is how far the judge's scores
    may be off and ``probe`` what the scorer makes of bad replies, each None where that was not measured.
    ``adapted_from`` is the scorer that `empathy adapt` began with.
    """

    format: str
    format_version: int
    heads: Sequence[str]
    score_range: Sequence[float]
    template_version: int
    name: _Text
    licence: _Text
    precision: _Text
    pad_id: Annotated[int, msgspec.Meta(ge=0)]
    backbone: _Text
    created: _Text
    max_length: Annotated[int, msgspec.Meta(ge=16, le=1 << 20)]
    cuts: Mapping[str, Sequence[float]]
    uncertainty: Uncertainty | None = None
    measured: Measured
    probe: Probed | None = None
    training: Training
    domain: Domain
    adapted_from: Origin | None = None
    graph: str = ""
    weights: Mapping[str, Verdict] = field(default_factory=dict)
    precisions: Mapping[str, Verdict] = field(default_factory=dict)
    gates: Sequence[Verdict] = ()
    files: Mapping[str, str]

    def __post_init__(self) -> None:
        """Check what a type does not say."""
        if (self.format, self.format_version) != (FORMAT, FORMAT_VERSION):
            raise ValueError(f"format {self.format!r} version {self.format_version} is not known")
        if (*self.heads,) != HEADS or (*self.score_range,) != SCORE_RANGE:
            raise ValueError(f"heads {self.heads} on {self.score_range}, expected {list(HEADS)} on 0 to 10")
        if self.template_version != TEMPLATE_VERSION:
            raise ValueError(
                f"it was trained with text template {self.template_version} and this release renders "
                f"{TEMPLATE_VERSION}: use the release that made it, or train and export again"
            )
        read_cuts(self.cuts)
        check_measured(self.measured)
        if self.pad_id >= self.domain.vocabulary:
            raise ValueError(f"pad_id is {self.pad_id}, expected one of the {self.domain.vocabulary} tokens")
        if not set(_REQUIRED_FILES) <= set(self.files):
            raise ValueError(f"files lists {sorted(self.files)}, expected at least {list(_REQUIRED_FILES)}")
        for name in self.files:
            if not is_plain_name(name):
                raise ValueError(f"files names {name!a}, expected names without folders")


def check_measured(measured: Measured) -> None:
    """Raise ValueError for a figure that is a text, words that are a number, and a coverage without its aim."""
    for name, value in measured.items():
        by_head = isinstance(value, Mapping) and set(value) == set(HEADS)
        numbers = list(value.values()) if by_head else [value]
        fine = isinstance(value, str) if name == "how" else value is None or all(map(_is_number, numbers))
        if not fine:
            raise ValueError(f"measured {name!a} is {value!a:.60}, expected a number, or one for each head")
    if "coverage" in measured and not (
        isinstance(measured["coverage"], Mapping) and isinstance(measured.get("coverage_aim"), float)
    ):
        raise ValueError("measured has a coverage without heads or coverage_aim")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_plain_name(name: str) -> bool:
    """Whether a file name is printable and never leads out of its folder."""
    return name.isprintable() and Path(name).name == name and name not in ("", ".", "..") and "\\" not in name
