"""A checkpoint on disk: a plain Hugging Face folder, and empathy.json beside the weights.

config.json, model.safetensors, tokenizer.json ...   what every tool of the ecosystem loads
empathy.json    how it was made and measured, its cuts and uncertainty, the hashes of what it was trained on
oof.parquet     predictions of the dialogues that were held out, from which all its figures come
folds/0 ...     with cross-validation, each fold's own checkpoint: the teachers of a student's folds
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType
from safetensors import SafetensorError
from transformers import PreTrainedModel

from distill.errors import CHECKPOINT_JSON, CheckpointError, require_checkpoint
from distill.pretrained import RAW_SCORES, tokenizer_files
from distill.training.calibrate import Calibration
from distill.training.network import Backbone, load_backbone, load_network
from distill.training.settings import TrainSettings
from scorer.bundle.cuts import read_cuts
from scorer.bundle.domain import Domain
from scorer.bundle.encode import Encoder
from scorer.bundle.info import Measured, check_measured
from scorer.bundle.uncertainty import Uncertainty
from scorer.dialogue import TEMPLATE_VERSION
from scorer.errors import OutputError, reason_of
from scorer.outputs import read_json, write_json, writing
from scorer.values import Count, Line

FORMAT, FORMAT_VERSION = "empathy-checkpoint", 1
OOF = "oof.parquet"
FOLDS = "folds"
THEN = "; fix that and continue with --resume"


@dataclass(frozen=True, slots=True, kw_only=True)
class LearntFrom:
    """What a fit learnt from. ``judge`` and ``rubric`` are None where the labels do not say."""

    data: str
    dialogues: Count
    judgements: Count
    judge: list[str] | None = None
    rubric: list[str] | None = None
    conversations: Count
    unlabelled: Count
    teachers: list[str]
    content_hashes: list[str]
    unlabelled_hashes: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    format: str = FORMAT
    format_version: int = FORMAT_VERSION
    template_version: Any = TEMPLATE_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointInfo(_Header):
    """What empathy.json holds; of a single fit, nothing is measured and so the fields with UNSET are missing.

    ``epochs_before`` are those of the checkpoint that its training went on from.
    ``measured`` has ``how``, the figures by name (``selection.metrics.all_figures``), the ``coverage`` of the
    uncertainty per head and ``coverage_aim``; of a student also Pearson's r with its teachers per head,
    ``follows_held_out`` and ``follows_learnt``.
    """

    settings: TrainSettings
    max_length: Annotated[int, Meta(ge=16, le=1 << 20)]
    backbone: Line
    created: Line
    versions: dict[str, str]
    bf16: bool
    part: str
    calibration: Calibration | UnsetType = UNSET
    cuts: dict[str, list[float]] | UnsetType = UNSET
    uncertainty: Uncertainty | UnsetType = UNSET
    measured: Measured | UnsetType = UNSET
    training: LearntFrom
    epochs_before: Count = 0
    domain: Domain | UnsetType = UNSET
    seconds: Count | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Raise ValueError for cuts or figures that are none."""
        if self.cuts is not UNSET:
            read_cuts(self.cuts)
            if self.measured is UNSET or self.domain is UNSET:
                raise ValueError("it has cuts, and no figures or no domain")
        if self.measured is not UNSET:
            check_measured(self.measured)
            if not self.measured.get("how"):
                raise ValueError("measured does not say how")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that `empathy train` made. ``info`` is its empathy.json."""

    path: Path
    info: CheckpointInfo

    @cached_property
    def backbone(self) -> Backbone:
        """Its own folder as a backbone: its tokenizer and its dimensions; CheckpointError if they do not fit."""
        found = load_backbone(str(self.path))
        if self.info.max_length > found.max_length:
            said = f"{CHECKPOINT_JSON} says max_length {self.info.max_length} and its network takes {found.max_length}"
            raise CheckpointError(f"{self.path}: {said} tokens; train again")
        return found

    @property
    def encoder(self) -> Encoder:
        """What turns dialogues into its token ids."""
        return self.backbone.encoder(self.info.max_length)

    def load_model(self) -> PreTrainedModel:
        """Return the network, ready to predict."""
        return load_network(self.path, whole=True).eval()

    def fold(self, number: int) -> Checkpoint:
        """Return the checkpoint that did not see a fold."""
        return load_checkpoint(self.path / FOLDS / str(number))

    @property
    def sha256(self) -> str:
        """The hash of its weights and its empathy.json."""
        digest = sha256((self.path / CHECKPOINT_JSON).read_bytes())
        for weights in sorted(self.path.glob("*.safetensors")):
            with open(weights, "rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Return the checkpoint in a folder; CheckpointError says why there is none."""
    folder = Path(path)
    file = folder / CHECKPOINT_JSON
    require_checkpoint(folder)
    header = read_json(file, _Header, "train again", CheckpointError)
    if (header.format, header.format_version) != (FORMAT, FORMAT_VERSION):
        raise CheckpointError(f"{file}: is no checkpoint of format version {FORMAT_VERSION}")
    if header.template_version != TEMPLATE_VERSION:
        raise CheckpointError(
            f"{folder}: was trained with text template {header.template_version!r} and this release renders "
            f"{TEMPLATE_VERSION}: use the release that made it, or train again"
        )
    return Checkpoint(folder, read_json(file, CheckpointInfo, "train again", CheckpointError))


def save_checkpoint(folder: Path, model: PreTrainedModel, backbone: Backbone, info: CheckpointInfo) -> None:
    """Write a checkpoint into an empty folder; OutputError where the disk does not take it."""
    with writing_weights(folder):
        model.config.sentence_transformers = RAW_SCORES
        model.save_pretrained(folder)
        files = tokenizer_files(backbone.tokenizer, info.max_length, token_types=backbone.has_token_types)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        write_json(folder / CHECKPOINT_JSON, info)


@contextmanager
def writing_weights(folder: Path) -> Iterator[None]:
    """Turn a fault of the file system into one line, safetensors' and torch's own exceptions included."""
    try:
        with writing(folder, then=THEN):
            yield
    except (SafetensorError, RuntimeError) as error:
        # torch's writer says "unexpected pos" or "write failed" when the disk takes no more.
        full = re.search("unexpected pos|write failed|PytorchStreamWriter", str(error))
        if not (full or isinstance(error, SafetensorError)):
            raise
        raise OutputError(f"{folder}: cannot be written: {reason_of(error)}{THEN}") from error
