"""moe.json: what an expert or a mixture is, what it was made from, and how; it lies beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeVar

from msgspec import UNSET, UnsetType

from moe.settings import ComposeSettings, ExpertSettings, RouterSettings
from scorer.errors import OutputError
from scorer.outputs import Existing, check_folder, read_json
from scorer.values import Amount, Count, Portion
from selection.files.manifest import AppliedRule, CorpusInfo, JudgeInfo

MOE_JSON = "moe.json"

Routing = dict[str, list[list[Portion]]]
"""For each set, by layer, the mean weight that its tokens give each expert; the weights of a layer add up to 1."""

_T = TypeVar("_T")

_PACKAGES = ("empathy-scorer", "torch", "transformers", "peft", "safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseInfo:
    """The base: its name, the last part only of a local one, and the fingerprint of its weights."""

    name: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSelection:
    """What selection.json says of a set: its name, and how it was selected."""

    set: str
    rule: AppliedRule
    scorer: Mapping[str, Any] | None
    judge: JudgeInfo | None
    corpus: CorpusInfo | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSource:
    """Where a set comes from: its file's name and hash, and its selection, None where no selection.json names it."""

    file: str
    sha256: str
    selection: SetSelection | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CutTurns:
    """How many dialogues lost turns for want of room, and how many turns."""

    dialogues: Count
    turns: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class LearntSet(SetSource):
    """A set that was learnt: what of it could be used, and how many dialogues were dropped for which reason.

    ``examples``, ``synthetic`` (of them), ``trained_on`` and ``held_out`` count dialogues; an expert's set has all.
    """

    examples: Count
    tokens: Count
    response_tokens: Count
    synthetic: Count = 0
    cut: CutTurns
    dropped: dict[str, Count]
    trained_on: Count | UnsetType = UNSET
    held_out: Count | UnsetType = UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Loss of the training steps, and of the held-out dialogues after each epoch.

    Each is the mean over batches of the mean over response tokens, in nats; None where nothing was held out.
    """

    steps: Count
    training_loss: list[Amount]
    held_out_loss: list[Amount] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingChange:
    """The routing before and after a training."""

    before: Routing
    after: Routing


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterLosses(Losses):
    """What the training of a router gave."""

    routing: RoutingChange


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What every moe.json begins with."""

    format: Literal["empathy-moe"] = "empathy-moe"
    format_version: int = 1
    kind: Literal["expert", "moe"]
    created: str = field(default_factory=lambda: date.today().isoformat())
    versions: dict[str, str] = field(default_factory=lambda: {name: version(name) for name in _PACKAGES})


@dataclass(frozen=True, slots=True, kw_only=True)
class Expert(Made):
    """moe.json of an expert."""

    kind: Literal["expert"] = "expert"
    base: BaseInfo
    tokenizer_sha256: str
    set: LearntSet
    settings: ExpertSettings
    metrics: Losses


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertInfo:
    """An expert of a mixture; only its folder's name is known where it came without moe.json."""

    name: str
    set: LearntSet | None = None
    settings: ExpertSettings | None = None
    metrics: Losses | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterInfo:
    """How routing began, and the sets that an informed router was made from."""

    how: str
    sets: list[SetSource]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture(Made):
    """moe.json of any mixture; where it was made by others, this is not known.

    ``shared`` says whose attention, norms and embeddings it has.
    """

    kind: Literal["moe"] = "moe"
    base: BaseInfo | UnsetType = UNSET
    tokenizer_sha256: str | UnsetType = UNSET
    architecture: str | UnsetType = UNSET
    experts: list[ExpertInfo] | UnsetType = UNSET
    router: RouterInfo | UnsetType = UNSET
    shared: str | UnsetType = UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposedMixture(Mixture):
    """moe.json of a mixture that `empathy moe compose` wrote."""

    warnings: list[str]
    settings: ComposeSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedMixture(Mixture):
    """moe.json of a mixture whose router was trained."""

    sets: list[LearntSet]
    settings: RouterSettings
    metrics: RouterLosses
    expert_names: list[str]


def read_made(folder: Path, kind: type[_T]) -> _T | None:
    """Return what moe.json of a folder holds, None where there is none; OutputError if it is damaged."""
    path = folder / MOE_JSON
    return read_json(path, kind, "make the folder again") if path.exists() else None


def check_place(output: Path, kind: str, existing: Existing) -> None:
    """Raise OutputError unless ``output`` is new, or an earlier one of the same kind that may be replaced."""
    check_folder(output, existing, MOE_JSON, "`empathy moe`")
    found = read_made(output, Made)
    if found is not None and found.kind != kind:
        raise OutputError(f"{output}: holds the kind {found.kind!r}, not {kind!r}; name another output")
