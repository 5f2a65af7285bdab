"""Soft scores: dialogues and what teachers made of them, fold by fold, in one Parquet file.

Whoever has the GPU runs the teachers (`empathy teach`), and the student is trained anywhere (`empathy train --soft`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Meta, to_builtins

from distill.errors import TrainError
from distill.labelled import LabelledSet
from distill.training.settings import TrainSettings
from scorer.arrays import Mask
from scorer.bundle.encode import Encoded, Encoder
from scorer.dialogue import HEADS, Dialogue, training_hash
from scorer.engines.base import Scores
from scorer.errors import OutputError, reason_of
from scorer.finished import AFRESH, Finished, check_made_from
from scorer.inputs.parse import parse_json, parse_record, to_record
from scorer.outputs import decode_json, replacing_binary
from scorer.values import Count

SOFT_KEY, _RUN = b"empathy-soft", b"empathy-run"
_CONTENT = "content"
_VERSION = 1
_SCORES = (-100.0, 100.0)  # they are not clipped, and what lies further off is no score


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftInfo:
    """What a file of soft scores says of itself: by which folds its teachers held out conversations, and who they are.

    ``teachers`` are their backbones and ``teacher_hashes`` the hashes of their checkpoints.
    """

    version: int = _VERSION
    folds: Annotated[int, Meta(ge=0, le=100)]
    split_seed: Count
    teachers: list[str]
    teacher_hashes: list[str]

    @property
    def as_options(self) -> str:
        """The options of `empathy train` by which a student holds out the same."""
        return f" --folds {self.folds} --split-seed {self.split_seed}"


@dataclass(frozen=True, eq=False)
class SoftSet:
    """Dialogues (N) with soft scores (max(folds, 1), N, 2), 0 to 10 and not clipped.

    Those of fold k are by teachers that never saw the conversations of fold k; without folds there is one, by teachers
    that held out their tenth. ``partners`` (N) names the conversation that a response is from: the dialogue's own, but
    for re-paired dialogues.
    """

    dialogues: Sequence[Dialogue]
    partners: Sequence[str]
    scores: Scores
    info: SoftInfo

    def __len__(self) -> int:
        """Return the number of dialogues."""
        return len(self.dialogues)

    def is_real(self, row: int) -> bool:
        """Whether a dialogue is one that was given, and not a re-paired one."""
        return self.dialogues[row].conversation == self.partners[row]

    @property
    def re_paired(self) -> int:
        """How many dialogues are re-paired."""
        return sum(not self.is_real(row) for row in range(len(self)))

    @cached_property
    def hashes(self) -> list[str]:
        """The training hash of each dialogue."""
        return [training_hash(dialogue) for dialogue in self.dialogues]

    def take(self, rows: Sequence[int]) -> SoftSet:
        """Return the set of some rows."""
        dialogues, partners = [self.dialogues[row] for row in rows], [self.partners[row] for row in rows]
        return SoftSet(dialogues, partners, self.scores[:, list(rows)], self.info)

    @property
    def sha256(self) -> str:
        """The hash of everything that a student learns from it."""
        digest = sha256(json.dumps(to_builtins(self.info)).encode())
        digest.update("\n".join((*self.hashes, *self.partners, *(d.conversation for d in self.dialogues))).encode())
        digest.update(np.ascontiguousarray(self.scores).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Lessons:
    """Soft scores as a student learns them.

    ``labelled`` (max(folds, 1), L, 2) are those of its labelled dialogues, which only those in ``known`` (L,) have.
    ``extra`` are the others (E), and ``encoded`` these as the student's token ids.
    """

    labelled: Scores
    known: Mask
    extra: SoftSet
    encoded: Sequence[Encoded]

    @classmethod
    def of(cls, soft: SoftSet, labelled: LabelledSet, settings: TrainSettings, encoder: Encoder) -> Lessons:
        """Divide soft scores into those of labelled dialogues and the others.

        TrainError if the teachers held out other conversations than the student will, or if labelled dialogues have no
        soft score and ``settings`` give it a weight.
        """
        check_split(soft.info.folds, soft.info.split_seed, settings)
        place = {content: row for row, content in enumerate(soft.hashes)}
        rows = [place.get(content, -1) for content in labelled.hashes]
        missing = rows.count(-1)
        if missing and settings.judge_share < 1:
            raise TrainError(
                f"{missing} of {len(rows)} labelled dialogues have no soft score: let the teachers score the labelled "
                "files too, or say --judge-share 1"
            )
        taken = set(rows)
        extra = soft.take([row for row in range(len(soft)) if row not in taken])
        return cls(soft.scores[:, rows], np.array(rows) >= 0, extra, encoder.encode(extra.dialogues))

    def without(self, conversations: Sequence[str]) -> Mask:
        """Return which extra dialogues have neither context nor response of some conversations, (E,)."""
        held_out = set(conversations)
        rows = zip(self.extra.dialogues, self.extra.partners, strict=True)
        return np.array([d.conversation not in held_out and p not in held_out for d, p in rows], dtype=bool)

    def scores(self, fold: int | None) -> tuple[Scores, Scores]:
        """Return soft scores of labelled (L, 2) and extra (E, 2) dialogues for the student of a fold.

        None is the student of everything, which learns the mean of all teachers.
        """
        return of_fold(self.labelled, fold), of_fold(self.extra.scores, fold)


def of_fold(scores: Scores, fold: int | None) -> Scores:
    """Return one fold's scores (N, 2) of (folds, N, 2), or the mean of all."""
    return np.asarray(scores.mean(axis=0) if fold is None else scores[fold])


def check_split(folds: int, split_seed: int, settings: TrainSettings, who: str = "the teachers were") -> None:
    """Raise TrainError unless those before, ``who``, held out the very conversations that a training will.

    Else it would learn, through them, the labels that it is measured on.
    """
    theirs, mine = (folds, split_seed), (settings.folds, settings.split_seed)
    if theirs != mine:
        raise TrainError(
            f"{who} trained with --folds {theirs[0]} --split-seed {theirs[1]} and this training is to be with "
            f"{mine[0]} and {mine[1]}; give the former: both must hold out the same"
        )


def write_soft(path: Path, soft: SoftSet, identity: Any) -> None:
    """Write soft scores as Parquet: ``dialogue`` (JSON), ``partner``, and two columns per fold.

    ``identity`` is the record of all that they were made from.
    """
    columns: dict[str, pa.Array] = {
        "dialogue": pa.array([json.dumps(to_record(d), ensure_ascii=False) for d in soft.dialogues], pa.string()),
        "partner": pa.array(list(soft.partners), pa.string()),
    }
    for fold, scores in enumerate(soft.scores):
        columns |= {f"{head}_{fold}": pa.array(scores[:, i], pa.float32()) for i, head in enumerate(HEADS)}
    made = Finished(identity=to_builtins(identity), files={_CONTENT: soft.sha256})
    about = {SOFT_KEY: json.dumps(to_builtins(soft.info)), _RUN: json.dumps(to_builtins(made))}
    table = pa.table(columns).replace_schema_metadata(about)
    with replacing_binary(path) as file:
        pq.write_table(table, file, compression="zstd")


def check_soft(path: Path, identity: Any) -> SoftSet:
    """Return the soft scores of a file; OutputError unless they were made from the same, and are what was made."""
    soft = read_soft(path)
    said = (pq.read_schema(path).metadata or {}).get(_RUN)
    if said is None:
        raise OutputError(f"{path}: is finished and does not say what it was made from; {AFRESH}")
    known = decode_json(said, Finished, path, AFRESH)
    check_made_from(path, known.identity, identity)
    if known.files.get(_CONTENT) != soft.sha256:
        raise OutputError(f"{path}: was changed since it was made; {AFRESH}")
    return soft


def read_soft(path: Path) -> SoftSet:
    """Read what ``write_soft`` wrote; TrainError says what is wrong with a file."""
    fix = "expected a file that `empathy teach` wrote; teach again"
    try:
        table = pq.read_table(path)
        said = (table.schema.metadata or {}).get(SOFT_KEY)
        if said is None:
            raise ValueError("nothing in it says so")
        info = decode_json(said, SoftInfo, path, fix, TrainError)
        names = [[f"{head}_{fold}" for head in HEADS] for fold in range(max(info.folds, 1))]
        _check_columns(table, ["dialogue", "partner"], [name for fold in names for name in fold])
        scores = np.array([[table[name].to_numpy() for name in fold] for fold in names], dtype=np.float32)
        dialogues = [parse_record(parse_json(text)) for text in table["dialogue"].to_pylist()]
        partners = table["partner"].to_pylist()
    except FileNotFoundError:
        raise TrainError(f"{path}: no such file, {fix}") from None
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise TrainError(f"{path}: is no file of soft scores ({reason_of(error)}); {fix}") from None
    low, high = _SCORES
    if info.version != _VERSION or not ((scores >= low) & (scores <= high)).all():  # NaN is in no range
        raise TrainError(f"{path}: is no complete file of soft scores of version {_VERSION}; {fix}")
    return SoftSet(dialogues, partners, np.ascontiguousarray(scores.transpose(0, 2, 1)), info)


def read_soft_files(paths: Sequence[Path]) -> SoftSet:
    """Read several files of the same teachers as one set; a dialogue that several hold counts once, in the first.

    TrainError if a file is none, or if other teachers or folds made it.
    """
    first, *others = [read_soft(path) for path in paths]
    known = set(first.hashes)
    dialogues, partners, scores = list(first.dialogues), list(first.partners), [first.scores]
    for path, soft in zip(paths[1:], others, strict=True):
        if soft.info != first.info:
            raise TrainError(
                f"{path}: holds the scores of {_whose(soft.info)}, and {paths[0]} those of {_whose(first.info)}; "
                "several files must be of the same teachers: teach one of them again"
            )
        new = soft.take([row for row, content in enumerate(soft.hashes) if content not in known])
        known.update(new.hashes)
        dialogues += new.dialogues
        partners += new.partners
        scores.append(new.scores)
    return SoftSet(dialogues, partners, np.concatenate(scores, axis=1), first.info)


def _whose(info: SoftInfo) -> str:
    teachers = zip(info.teachers, info.teacher_hashes, strict=True)
    return f"{', '.join(f'{name} ({sha[:8]})' for name, sha in teachers)} with{info.as_options}"


def _check_columns(table: pa.Table, texts: Sequence[str], numbers: Sequence[str]) -> None:
    """Raise ValueError for a column that is missing, of another type, or lacks a value."""
    for name in (*texts, *numbers):
        found = table.schema.field(name)
        fine = pa.types.is_string(found.type) if name in texts else pa.types.is_floating(found.type)
        if not fine or table[name].null_count:
            raise ValueError(f"its column {name} holds {found.type}, or nothing in some rows")
