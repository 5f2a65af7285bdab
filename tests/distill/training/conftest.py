"""Labels and a checkpoint of folds, trained once for all tests of training."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.labelled import LabelledSet
from distill.training.checkpoint import Checkpoint
from distill.training.train import train_scorer
from tests.conftest import read
from tests.distill.tiny import labelled_records, tiny_settings


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> LabelledSet:
    """A hundred and sixty labelled dialogues of eighty conversations."""
    return read(tmp_path_factory.mktemp("labels") / "labels.jsonl", labelled_records(160))


@pytest.fixture(scope="session")
def folded(backbone: Path, labelled: LabelledSet, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A checkpoint of three folds."""
    return train_scorer(labelled, tiny_settings(backbone, folds=3), tmp_path_factory.mktemp("folded") / "checkpoint")
