"""Fit an encoder to scores with transformers' Trainer: from token ids and targets to a model whose logits are scores.

It opens no file but the Trainer's own.
"""

from __future__ import annotations

import json
import shutil
import time
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from distill.training.dropout import QuickDropout
from distill.training.network import (
    Backbone,
    depth_of,
    fold_affine,
    has_bf16,
    keep_freed_memory,
    load_network,
    to_tensors,
)
from distill.training.settings import TrainSettings
from scorer.arrays import Mask
from scorer.bundle.encode import Encoded
from scorer.engines.base import Scores
from scorer.progress import Progress

_SAVE_SECONDS = 60
TRANSFORMERS_4 = version("transformers").startswith("4.")
"""Version 5 renamed arguments."""

_NAMES = ("activation_checkpointing", "gradient_checkpointing")
CHECKPOINTING = next(name for name in _NAMES if hasattr(TrainingArguments, name))
"""The argument that computes hidden states again in the backward pass; its name changed in version 5."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingRows:
    """What to learn: token ids, target scores (N, 2) from 0 to 10, and what each row counts (N,), mean about 1.

    ``ceilings`` (N,) says whose targets are the most that the row may score, and any less is as good; None: nobody's.
    """

    encoded: Sequence[Encoded]
    targets: Scores
    weights: Scores
    ceilings: Mask | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.encoded)

    def joined(
        self, encoded: Sequence[Encoded], targets: Scores, *, weight: float = 1.0, ceiling: bool = False
    ) -> TrainingRows:
        """Return these rows and others of one weight, whose targets are ceilings or not."""
        weights = np.concatenate([self.weights, np.full(len(encoded), weight, dtype=np.float32)])
        ceilings = np.concatenate([self.are_ceilings, np.full(len(encoded), ceiling)])
        return TrainingRows([*self.encoded, *encoded], np.concatenate([self.targets, targets]), weights, ceilings)

    @property
    def are_ceilings(self) -> Mask:
        """Whose targets are ceilings, (N,)."""
        return np.zeros(len(self), dtype=bool) if self.ceilings is None else self.ceilings


def fine_tune(
    backbone: Backbone,
    train: TrainingRows,
    validation: TrainingRows | None,
    settings: TrainSettings,
    folder: Path,
    steps: Steps | None = None,
) -> PreTrainedModel:
    """Fine-tune a backbone on ``train``; the returned model's logits are scores on the scale of the targets.

    Mean squared error of z-scored targets, whose mean and sd are folded into the last layer. ``validation`` stops it
    early, after ``settings.patience`` epochs that bring no lower error, and the best epoch's weights are kept. A
    checkpoint goes on from its scores, and keeps ``settings.earlier_share`` of its weights.
    ``folder`` is where the Trainer keeps its checkpoints; it resumes the newest that is there.
    """
    keep_freed_memory()
    set_seed(settings.seed)
    model = load_network(backbone.name, backbone.layers, settings.dropout, allow_pickle=settings.allow_pickle)
    frozen = min(settings.frozen_layers, backbone.layers)
    for name, parameter in model.named_parameters() if frozen else ():
        if depth_of(name, backbone.layers, model.base_model_prefix) <= frozen:  # the embeddings are of depth 0
            parameter.requires_grad_(False)
    # Ceilings lie far below all else: counted in, they would make the differences between good replies small.
    plain = train.targets[~train.are_ceilings]
    mean, sd = plain.mean(axis=0), plain.std(axis=0)
    if backbone.is_checkpoint:
        fold_affine(model, 1 / sd, -mean / sd)  # a checkpoint goes on from its scores, as z-scores
    earlier = [weights.detach().clone() for weights in model.parameters()] if settings.earlier_share else []
    callbacks: list[TrainerCallback] = [_SaveSeldom(), *([steps] if steps else [])]
    if validation is not None and settings.patience is not None:
        callbacks.append(_Patience(settings.patience))
    trainer = _Regressor(
        model=model,
        args=_arguments(settings, folder, early_stopping=validation is not None),
        data_collator=lambda rows: _collate(rows, backbone),
        train_dataset=_rows(train, mean, sd),
        eval_dataset=None if validation is None else _rows(validation, mean, sd),
        callbacks=callbacks,
        settings=settings,
        backbone=backbone,
    )
    if validation is not None and settings.patience is not None:
        _end_where_it_ended(trainer, folder, settings.patience)
    with nullcontext() if torch.cuda.is_available() else QuickDropout():
        resume_training(trainer, folder)
    extract_model_from_parallel(model, keep_fp32_wrapper=False)  # computes in float32 again
    if earlier:
        with torch.no_grad():
            for weights, before in zip(model.parameters(), earlier, strict=True):
                weights.lerp_(before.to(weights.device), settings.earlier_share)
    fold_affine(model, sd, mean)  # score = sd * z + mean
    return model.eval()


def training_arguments(folder: Path, settings: Any, **more: Any) -> TrainingArguments:
    """Return the arguments that all trainings here share, for settings with epochs, batch size, warmup and seed."""
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        **({"warmup_ratio": settings.warmup} if TRANSFORMERS_4 else {"warmup_steps": settings.warmup}),
        seed=settings.seed,
        data_seed=settings.seed,
        bf16=has_bf16(),
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        dataloader_num_workers=2 if torch.cuda.is_available() else 0,
        remove_unused_columns=False,
        save_total_limit=1,
        report_to=[],
        disable_tqdm=True,
        **more,
    )


def resume_training(trainer: Trainer, folder: Path) -> None:
    """Train to the end, from the newest whole checkpoint in ``folder`` if there is one."""
    trainer.remove_callback(PrinterCallback)  # prints to standard output where the Trainer draws no bar
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*mtime may not be reliable.*")  # then they are sorted by step
        warnings.filterwarnings("ignore", message=".*pin_memory.*")  # there is no accelerator, and none is needed
        warnings.filterwarnings("ignore", message=".*torch.cpu.amp.autocast.*")  # transformers 4 calls it so in bf16
        trainer.train(resume_from_checkpoint=last_whole(folder))


def last_whole(folder: Path) -> str | None:
    """Return the newest of the Trainer's checkpoints that was written to its end, and remove those that were not.

    The Trainer writes trainer_state.json last; a kill or a full disk leaves a checkpoint without it, which
    transformers' own search would take.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    whole = [path for path in found if _holds_json(path / "trainer_state.json")]
    for path in found:
        if path not in whole:
            shutil.rmtree(path)
    return str(whole[-1]) if whole else None


def _holds_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return True


def _arguments(settings: TrainSettings, folder: Path, *, early_stopping: bool) -> TrainingArguments:
    return training_arguments(
        folder,
        settings,
        per_device_eval_batch_size=64,
        **({"group_by_length": True} if TRANSFORMERS_4 else {"train_sampling_strategy": "group_by_length"}),
        save_strategy="epoch" if early_stopping else "no",  # else _SaveSeldom saves
        eval_strategy="epoch" if early_stopping else "no",
        load_best_model_at_end=early_stopping,
        metric_for_best_model="loss" if early_stopping else None,
        logging_strategy="epoch",
    )


def _rows(examples: TrainingRows, mean: Scores, sd: Scores) -> list[dict[str, Any]]:
    columns = ((examples.targets - mean) / sd, examples.weights, examples.are_ceilings)
    return [
        {"input_ids": item.ids, "encoded": item, "labels": labels, "weight": weight, "ceiling": ceiling}
        for item, labels, weight, ceiling in zip(examples.encoded, *columns, strict=True)
    ]


def _collate(rows: Sequence[dict[str, Any]], backbone: Backbone) -> dict[str, torch.Tensor]:
    """Return padded inputs (B, T), ``labels`` (B, 2), ``weight`` and ``ceiling`` (B,) of some rows."""
    inputs = to_tensors([row["encoded"] for row in rows], backbone.pad_id, types=backbone.has_token_types)
    inputs["labels"] = torch.from_numpy(np.stack([row["labels"] for row in rows]).astype(np.float32))
    inputs["weight"] = torch.tensor([float(row["weight"]) for row in rows])
    inputs["ceiling"] = torch.tensor([bool(row["ceiling"]) for row in rows])
    return inputs


class _Regressor(Trainer):
    """The Trainer with a weighted squared error and one learning rate per layer."""

    def __init__(self, *, settings: TrainSettings, backbone: Backbone, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._settings = settings
        self._backbone = backbone

    def compute_loss(
        self, model: torch.nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **_: Any
    ) -> Any:
        """Return the mean over rows of weight * squared error of z-scores (0 below a ceiling); outputs on demand."""
        labels, weight, ceiling = inputs["labels"], inputs["weight"], inputs["ceiling"][:, None]
        known = {name: value for name, value in inputs.items() if name not in ("labels", "weight", "ceiling")}

        def error_of(scores: torch.Tensor) -> torch.Tensor:
            over = scores - labels
            return torch.where(ceiling, over.clamp_min(0), over).square().mean(dim=1)  # (B,)

        outputs = model(**known)
        scores = outputs.logits.float()
        error = error_of(scores)
        if self._settings.r_drop and model.training:
            again = model(**known).logits.float()  # another dropout
            error = (error + error_of(again)) / 2
            error = error + self._settings.r_drop * (scores - again).square().mean(dim=1)
        loss = (weight * error).mean()
        return (loss, outputs) if return_outputs else loss

    def create_optimizer(self) -> torch.optim.Optimizer:
        """Return AdamW with a learning rate that falls from the head down, and no decay of norms and biases."""
        settings, backbone = self._settings, self._backbone
        groups: dict[tuple[int, bool], list[torch.nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            depth = depth_of(name, backbone.layers, self.model.base_model_prefix)
            if parameter.requires_grad:
                groups.setdefault((depth, parameter.ndim > 1), []).append(parameter)
        rate = settings.rate_for(backbone.hidden_size)
        described = [
            {
                "params": parameters,
                "lr": rate * settings.layer_decay ** (backbone.layers + 1 - depth),
                "weight_decay": settings.weight_decay if is_matrix else 0.0,
            }
            for (depth, is_matrix), parameters in sorted(groups.items())
        ]
        self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(described, fused=True)
        return self.optimizer


class _SaveSeldom(TrainerCallback):
    """Saves at the end of an epoch, on a GPU only if a minute has passed: there an epoch may take two seconds."""

    def __init__(self) -> None:
        self._saved = time.monotonic()

    def on_epoch_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Say whether to save."""
        now = time.monotonic()
        if not torch.cuda.is_available() or now - self._saved > _SAVE_SECONDS:
            self._saved, control.should_save = now, True


class _Patience(TrainerCallback):
    """Stops after so many epochs that brought no lower error, counted in the log, which a resumed training has too.

    The library's own counts anew after a resume, and so ends later.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience

    def on_evaluate(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Say whether to stop."""
        if _epochs_in_vain(state.log_history) >= self._patience:
            control.should_training_stop = True


def _epochs_in_vain(log: Sequence[dict[str, Any]]) -> int:
    """Return how many epochs there were after the best one."""
    errors = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    return len(errors) - 1 - errors.index(min(errors)) if errors else 0


def _end_where_it_ended(trainer: Trainer, folder: Path, patience: int) -> None:
    """Let a training that had been stopped early, and then killed before it was kept, go through no more epochs."""
    if (last := last_whole(folder)) is not None:
        state = TrainerState.load_from_json(str(Path(last) / "trainer_state.json"))
        if _epochs_in_vain(state.log_history) >= patience:
            trainer.args.num_train_epochs = round(state.epoch)


class Steps(TrainerCallback):
    """Tells a progress how many steps are done, ``before`` of them by earlier fits, and the last loss."""

    def __init__(self, progress: Progress, name: str, before: int = 0) -> None:
        self._progress, self._name, self._before = progress, name, before

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Say how many steps are done."""
        losses = [f"loss {entry['loss']:.3f}" for entry in state.log_history[-1:] if "loss" in entry]
        self._progress.update(self._before + state.global_step, note=", ".join([self._name, *losses]))
