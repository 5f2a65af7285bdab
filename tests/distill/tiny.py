"""What the tests of distillation share: tiny real encoders, and labels that can be learnt from words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from distill.training.settings import TrainSettings
from scorer.progress import Silent
from tests.conftest import make_tokenizer, record, write_lines

WARM = ["i am so sorry", "that is sad", "so sorry my dog died"]
COLD = ["what happened today", "we won the game", "that is great"]
KINDS = ("bert", "roberta", "distilbert", "mpnet")


def write_backbone(folder: Path, *, kind: str = "bert", seed: int = 0, layers: int = 2) -> Path:
    """Write a random encoder of one of ``KINDS`` with its tokenizer, as a Hugging Face folder."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    sizes: dict[str, Any] = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 32,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "pad_token_id": 0,
        "max_position_embeddings": 128,
    }
    sizes |= {"roberta": {"type_vocab_size": 1}, "distilbert": {"hidden_dim": 64}}.get(kind, {})
    AutoModel.from_config(AutoConfig.for_model(kind, **sizes)).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "attention_mask", *(["token_type_ids"] if kind == "bert" else [])],
    ).save_pretrained(folder)
    return folder


def tiny_settings(backbone: Path, **more: Any) -> TrainSettings:
    """Return settings by which such an encoder learns in seconds."""
    values: dict[str, Any] = {
        "epochs": 4,
        "learning_rate": 5e-3,
        "layer_decay": 0.9,
        "max_length": 64,
        "batch_size": 16,
        **more,
    }
    return TrainSettings(backbone=str(backbone), **values)


def labelled_records(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Return dialogues, two per conversation; warm words raise their sensibility, cold ones their rationality."""
    rng = np.random.default_rng(seed)
    records = []
    for number in range(count):
        warm = rng.random() < 0.6
        words = rng.choice(WARM if warm else COLD, rng.integers(1, 4))
        sensibility = 8 - int(rng.integers(3)) if warm else 2 + int(rng.integers(3))
        rationality = 3 + int(rng.integers(2)) if warm else 7 + int(rng.integers(2))
        context = f"today {number // 2 + 1000 * seed} i am {rng.choice(['sad', 'happy'])}"
        more = {"sensibility": sensibility, "rationality": rationality, "conversation": f"c{seed}-{number // 2}"}
        records.append(record(context, f"{' '.join(words)} {number}", **more))
    return records


def labelled_file(path: Path, count: int, *, seed: int = 0) -> Path:
    """Write such dialogues as JSON lines."""
    return write_lines(path, labelled_records(count, seed=seed))


def raw_scores(checkpoint: Path) -> np.ndarray[Any, Any]:
    """Return the held-out predictions before calibration, (N, 2)."""
    table = pq.read_table(checkpoint / "oof.parquet")
    return np.stack([table[f"{head}_raw"].to_numpy() for head in ("sensibility", "rationality")], axis=1)


class Watch(Silent):
    """Notes the stages and steps of a training, and ends it in a step of one of its fits, as a kill would."""

    def __init__(self, fit: str = "", step: int = 0) -> None:
        self.fit, self.step = fit, step
        self.stages: list[tuple[str, float | None, float]] = []
        self.steps: list[tuple[str, float]] = []

    def stage(self, name: str, total: float | None = None, done: float = 0) -> None:
        self.stages.append((name, total, done))

    def update(self, done: float, *, total: float | None = None, note: str = "") -> None:
        fit = note.split(",", maxsplit=1)[0]
        self.steps.append((fit, done))
        if [name for name, _ in self.steps].count(self.fit) == self.step > 0:
            raise KeyboardInterrupt
