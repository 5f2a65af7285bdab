"""Fit a causal language model to examples, on transformers' Trainer: what experts and routers share."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch.utils.data import Dataset, Sampler
from transformers import PrinterCallback, Trainer, TrainingArguments
from transformers.trainer_pt_utils import get_length_grouped_indices

from distill.training.fits import Progress
from distill.training.network import has_bf16, keep_freed_memory
from distill.training.trainer import Steps, last_whole
from moe.outputs import open_work
from moe.sets.chat import Example
from moe.sets.examples import collate
from moe.settings import Schedule
from scorer.outputs import Existing

OnStep = Callable[[int, float], None]
"""Hears the number of steps done so far and the last loss."""

_SAVES = 0.1
"""A checkpoint is kept after each tenth of the steps, so that a kill costs no more."""


def fit(
    model: Any,
    train: Sequence[Example],
    held_out: Sequence[Example],
    settings: Schedule,
    folder: Path,
    pad_id: int,
    on_step: OnStep | None = None,
) -> Trainer:
    """Train what of ``model`` is to be trained on the responses of ``train``; return the trainer, for saving.

    After each epoch the loss of ``held_out`` is read, and stands in the trainer's log. ``folder`` is where the
    Trainer keeps its checkpoints; one that is there is gone on with. Runs on all processes of torchrun or accelerate.
    """
    model.config.use_cache = False  # of no use in training, and gradient checkpointing cannot have it
    trainer = _Trainer(
        model=model,
        args=_arguments(settings, folder, evaluate=bool(held_out)),
        data_collator=lambda rows: collate([row["example"] for row in rows], pad_id),
        train_dataset=_Rows(train),
        eval_dataset=_Rows(held_out) if held_out else None,
        callbacks=[Steps(on_step)] if on_step else [],
    )
    # Trainer prints its log lines to standard output when it draws no bar of its own.
    trainer.remove_callback(PrinterCallback)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*mtime may not be reliable.*")  # then they are sorted by step
        warnings.filterwarnings("ignore", message=".*pin_memory.*")  # there is no accelerator, and none is needed
        trainer.train(resume_from_checkpoint=last_whole(folder))
    return trainer


def claim(output: Path, kind: str, identity: Mapping[str, Any], existing: Existing) -> tuple[PartialState, Path]:
    """Return the processes of a training and the folder in which it works (``folder.open_work``).

    Under torchrun every process comes here; the first one writes, the others wait and read.
    """
    processes = PartialState(cpu=not torch.cuda.is_available())
    with processes.main_process_first():
        return processes, open_work(output, kind, identity, existing if processes.is_main_process else "resume")


def begin(progress: Progress, what: str, steps: int) -> None:
    """Say that a fit of so many steps begins, and ready the memory for it."""
    progress.begin(steps)
    progress.fit(what)
    keep_freed_memory()


def steps_of(rows: int, settings: Schedule) -> int:
    """Return the number of optimiser steps that so many rows take on one device."""
    batches = -(-rows // settings.batch_size)
    return settings.epochs * -(-batches // settings.accumulate)


def losses(trainer: Trainer) -> dict[str, Any]:
    """Return what the trainer logged: the loss of the training steps and the held-out loss after each epoch.

    Each is the mean over batches of the mean over response tokens, in nats; null where nothing was held out.
    """
    log = trainer.state.log_history
    held_out = [round(entry["eval_loss"], 4) for entry in log if "eval_loss" in entry]
    return {
        "steps": trainer.state.global_step,
        "training_loss": [round(entry["loss"], 4) for entry in log if "loss" in entry],
        "held_out_loss": held_out or None,
    }


class _ByLength(Sampler[int]):
    """Rows of like length together, in an order that seed and epoch decide.

    The Trainer's own sampler takes its order from the global generator, and so another one after a resume, which
    would show some rows twice in an epoch and others never.
    """

    def __init__(self, lengths: Sequence[int], group: int, seed: int) -> None:
        self._lengths, self._group, self._seed = lengths, group, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Hear which epoch comes; the data loader says it."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed * 100_003 + self._epoch)
        yield from get_length_grouped_indices(self._lengths, self._group, generator=generator)


class _Trainer(Trainer):
    """The Trainer with that order."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        rows = self.train_dataset if train_dataset is None else train_dataset
        group = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return _ByLength(rows.lengths, group, self.args.data_seed)


class _Rows(Dataset[dict[str, Any]]):
    """Examples as the Trainer wants them, a mapping each."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples
        self.lengths = [len(example) for example in examples]

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"example": self._examples[row]}


def _arguments(settings: Schedule, folder: Path, *, evaluate: bool) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        learning_rate=settings.learning_rate,
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulate,
        warmup_ratio=settings.warmup,
        weight_decay=0.0,
        max_grad_norm=1.0,
        seed=settings.seed,
        data_seed=settings.seed,
        bf16=has_bf16(),
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=settings.checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if settings.checkpointing else None,
        remove_unused_columns=False,
        label_names=["labels"],
        save_strategy="steps",
        save_steps=_SAVES,
        save_total_limit=1,
        eval_strategy="epoch" if evaluate else "no",
        prediction_loss_only=True,
        logging_strategy="steps",
        logging_steps=_SAVES,
        report_to=[],
        disable_tqdm=True,
        ddp_find_unused_parameters=False,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
