"""Fit a causal language model to examples, on transformers' Trainer: what experts and routers share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch.utils.data import Sampler
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_pt_utils import get_length_grouped_indices

from distill.training.network import keep_freed_memory
from distill.training.trainer import CHECKPOINTING, TRANSFORMERS_4, Steps, resume_training, training_arguments
from moe.provenance import MOE_JSON, Losses, check_place
from moe.sets.chat import Example
from moe.sets.examples import pad_examples
from moe.settings import Schedule
from scorer.finished import check_sealed
from scorer.locks import locked
from scorer.outputs import Existing, begin_work, end_work
from scorer.progress import Progress, Silent

_SAVES = 0.1
"""A checkpoint is kept after each tenth of the steps, so that a kill costs no more."""


def fit_causal(
    model: Any,
    train: Sequence[Example],
    held_out: Sequence[Example],
    settings: Schedule,
    folder: Path,
    pad_id: int,
    progress: Progress | None = None,
    name: str = "model",
) -> Trainer:
    """Train what of ``model`` is to be trained on the responses of ``train``; return the trainer, for saving.

    After each epoch the loss of ``held_out`` is read, and stands in the trainer's log. ``folder`` is where the
    Trainer keeps its checkpoints; it resumes the newest that is there. Runs on all processes of torchrun or accelerate.
    """
    progress = progress or Silent()
    steps = settings.steps(len(train)) // PartialState().num_processes
    progress.stage(f"training the {name}", steps)
    if steps <= 1:
        settings = replace(settings, warmup=0.0)  # whose first step has a rate of 0: the model would learn nothing
    keep_freed_memory()
    model.config.use_cache = False  # of no use in training, and gradient checkpointing cannot have it
    trainer = _Trainer(
        model=model,
        args=training_arguments(
            folder,
            settings,
            learning_rate=settings.learning_rate,
            per_device_eval_batch_size=settings.batch_size,
            gradient_accumulation_steps=settings.accumulate,
            **{CHECKPOINTING: settings.checkpointing},
            **{f"{CHECKPOINTING}_kwargs": {"use_reentrant": False} if settings.checkpointing else None},
            label_names=["labels"],
            save_strategy="steps",
            save_steps=_SAVES,
            eval_strategy="epoch" if held_out else "no",
            prediction_loss_only=True,
            logging_steps=_SAVES,
            ddp_find_unused_parameters=False,
        ),
        data_collator=lambda batch: pad_examples(batch, pad_id),
        train_dataset=train,
        eval_dataset=held_out or None,
        callbacks=[_SaveAfterEpoch(), Steps(progress, name)],
    )
    resume_training(trainer, folder)
    return trainer


@contextmanager
def beginning(output: Path, kind: str, identity: Any, existing: Existing) -> Iterator[tuple[PartialState, Path | None]]:
    """Give the processes of a training and the folder OUT.partial in which it works; until the end it is locked.

    ``kind`` is what the output will be, as its moe.json says; ``identity`` is a record of all that must be the same for
    an interrupted training to be resumed. The folder is None where the output is there, of this very training. Under
    torchrun every process comes here; the first one writes, the others wait and read. OutputError if the output may not
    be written, or another training writes it.
    """
    processes = PartialState(cpu=not torch.cuda.is_available())
    first = processes.is_main_process
    with locked(output) if first else nullcontext():
        with processes.main_process_first():
            complete = existing == "resume" and (output / MOE_JSON).exists()
            if complete and first:
                check_sealed(output, identity)
                end_work(output, identity)
            elif first:
                check_place(output, kind, existing)
            work = None if complete else begin_work(output, identity, existing if first else "resume")
        yield processes, work


def losses_of(trainer: Trainer) -> Losses:
    """Return what the trainer logged."""
    log = trainer.state.log_history
    return Losses(
        steps=trainer.state.global_step,
        training_loss=[round(entry["loss"], 4) for entry in log if "loss" in entry],
        held_out_loss=[round(entry["eval_loss"], 4) for entry in log if "eval_loss" in entry] or None,
    )


class _SaveAfterEpoch(TrainerCallback):
    """Moves what would be saved in the last step of an epoch behind the epoch's end, where the held-out loss is read.

    Reading it draws from the global generator. A checkpoint from before it lacks the loss, and a training that goes on
    from there has other dropout than one that was never interrupted.
    """

    def __init__(self) -> None:
        self._due = False

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Put off what is due in the last step of an epoch."""
        ends = state.global_step % (state.max_steps // state.num_train_epochs) == 0
        if control.should_save and ends:
            control.should_save, self._due = False, True

    def on_epoch_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Save it: the Trainer reads the loss first."""
        if self._due:
            control.should_save, self._due = True, False


class _ByLength(Sampler[int]):
    """Rows of like length together, in an order that seed and epoch decide.

    The Trainer's own sampler takes its order from the global generator, and so another one after a resume, which
    would show some rows twice in an epoch and others never.
    """

    def __init__(self, lengths: Sequence[int], group: int, seed: int) -> None:
        self._lengths, self._group, self._seed = lengths, group, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Take the epoch that comes; the data loader calls this."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed * 100_003 + self._epoch)
        yield from get_length_grouped_indices(self._lengths, self._group, generator=generator)


class _Trainer(Trainer):
    """The Trainer with that order, and checkpoints that hold the network's own names.

    Transformers 5 saves a mixture under the names of version 4, which it does not find again when it resumes.
    """

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if TRANSFORMERS_4 or not isinstance(self.model, PreTrainedModel):  # adapters have but one name
            super()._save(output_dir, state_dict)
        else:
            self.model.save_pretrained(output_dir, state_dict=state_dict, save_original_format=False)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        rows = self.train_dataset if train_dataset is None else train_dataset
        group = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return _ByLength([len(row) for row in rows], group, self.args.data_seed)
