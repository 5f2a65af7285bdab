"""A checkpoint on disk: a plain Hugging Face folder, and empathy.json beside the weights.

config.json, model.safetensors, tokenizer.json ...   what every tool of the ecosystem loads
empathy.json    how it was made and measured, its cuts and uncertainty, the hashes of what it was trained on
oof.parquet     predictions of the dialogues that were held out, from which all its figures come
folds/0 ...     with cross-validation, each fold's own checkpoint: the teachers of a student's folds
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import PreTrainedModel

from distill.errors import CheckpointError
from distill.training.network import Backbone, load_backbone, load_network
from distill.training.settings import TrainSettings
from scorer.bundle.encode import Encoder
from scorer.dialogue import TEMPLATE_VERSION
from scorer.errors import OutputError
from scorer.outputs import replacing, writing

MANIFEST = "empathy.json"
FORMAT = "empathy-checkpoint"
FORMAT_VERSION = 1
OOF = "oof.parquet"
FOLDS = "folds"
THEN = "; mend that and go on with --resume"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that `empathy train` made. ``info`` is empathy.json as it stands."""

    path: Path
    info: Mapping[str, Any]

    @property
    def settings(self) -> TrainSettings:
        """How it was trained."""
        return TrainSettings.from_json(self.info["settings"])

    @cached_property
    def backbone(self) -> Backbone:
        """Its own folder as a backbone: its tokenizer and its dimensions."""
        return load_backbone(str(self.path))

    @property
    def encoder(self) -> Encoder:
        """What turns dialogues into its token ids."""
        return self.backbone.encoder(int(self.info["max_length"]))

    def load_model(self) -> PreTrainedModel:
        """Return the network, ready to predict."""
        return load_network(self.path).eval()

    def fold(self, number: int) -> Checkpoint:
        """Return the checkpoint that did not see a fold."""
        return load_checkpoint(self.path / FOLDS / str(number))

    @property
    def sha256(self) -> str:
        """The hash of its weights and its empathy.json."""
        digest = sha256((self.path / MANIFEST).read_bytes())
        for weights in sorted(self.path.glob("*.safetensors")):
            with open(weights, "rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Return the checkpoint in a folder; CheckpointError says why there is none."""
    folder = Path(path)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder, expected a checkpoint (made by `empathy train`)")
    try:
        info = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{folder}: holds no {MANIFEST}, so `empathy train` did not make it") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / MANIFEST}: cannot be read as JSON ({error}); train again") from None
    if not isinstance(info, dict) or info.get("format") != FORMAT or info.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(f"{folder / MANIFEST}: is no checkpoint of format version {FORMAT_VERSION}")
    if info.get("template_version") != TEMPLATE_VERSION:
        raise CheckpointError(
            f"{folder}: was trained with text template {info.get('template_version')!r} and this release renders "
            f"{TEMPLATE_VERSION}: use the release that made it, or train again"
        )
    return Checkpoint(folder, info)


def write_checkpoint(folder: Path, model: PreTrainedModel, backbone: Backbone, info: Mapping[str, Any]) -> Checkpoint:
    """Write a checkpoint whole or not at all; OutputError where the disk does not take it."""
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        with writing_weights(folder):
            unfinished.mkdir(parents=True)
            model.save_pretrained(unfinished, safe_serialization=True)
            backbone.tokenizer.save_pretrained(unfinished)  # type: ignore[attr-defined]
            write_info(unfinished, info)
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return load_checkpoint(folder)


@contextmanager
def writing_weights(folder: Path) -> Iterator[None]:
    """Turn a fault of the file system into one line, safetensors' and torch's own exceptions included."""
    try:
        with writing(folder, then=THEN):
            yield
    except (SafetensorError, RuntimeError) as error:
        text = " ".join(str(error).split())
        # torch's writer says "unexpected pos" or "write failed" when the disk takes no more.
        if not isinstance(error, SafetensorError) and not re.search(
            "unexpected pos|write failed|PytorchStreamWriter", text
        ):
            raise
        raise OutputError(f"{folder}: cannot be written: {text[:200]}{THEN}") from error


def write_info(folder: Path, info: Mapping[str, Any]) -> None:
    """Write empathy.json into a folder."""
    whole = {"format": FORMAT, "format_version": FORMAT_VERSION, "template_version": TEMPLATE_VERSION, **info}
    with replacing(folder / MANIFEST) as file:
        file.write(json.dumps(whole, indent=1) + "\n")
