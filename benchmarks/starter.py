"""Make the starter: teachers, soft scores, student, bundle, by the product's own commands and from the data alone.

    python -m benchmarks.starter RELEASE UNLABELLED... -o WORK --teacher-backbone ENCODER --student-backbone ENCODER

RELEASE is val_results.json. Several fits run at once (``--jobs``), on a GPU under CUDA's MPS where it is there. A
killed run continues where it was. ``--small`` takes one large teacher and one of the student's size, one fit each with
a tenth of the conversations held out, a quarter of the unlabelled dialogues, and half of them more for the further
trainings: some four hours and a quarter on two cores that multiply bfloat16. The starter that ships was made so.
``--smoke`` does all of it with few dialogues, in minutes on a laptop.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click

Recipe = dict[str, float]
"""Values of `TrainSettings` by name."""

TEACHER: Recipe = {"epochs": 3, "layer_decay": 0.85, "edits": 0.1}
TEACHERS: dict[str, Recipe] = {
    "teacher-1": {"learning_rate": 1.2e-4, "seed": 1},
    "teacher-2": {"learning_rate": 1.6e-4, "seed": 2},
    "teacher-3": {"learning_rate": 1.2e-4, "seed": 3, "batch_size": 16},
}
"""What each teacher has of its own. None learns bad replies: that cost them sensibility (benchmarks/README.md)."""

STUDENT: Recipe = {
    "epochs": 6,
    "batch_size": 256,
    "learning_rate": 6e-4,
    "layer_decay": 0.9,
    "dropout": 0,
    "judge_share": 0,
    "counterexamples": 0.08,
    "edits": 0.2,
}
ALONE: Recipe = {"epochs": 5, "learning_rate": 3e-4, "batch_size": 64, "layer_decay": 0.9, "edits": 0.1, "seed": 4}
"""A teacher of the student's own encoder. With one large teacher it is the cheapest second opinion."""

FURTHER = [
    STUDENT | {"epochs": 2, "batch_size": 128, "learning_rate": 2.5e-4, **more}
    for more in (
        {"counterexamples": 0.25, "edits": 0.3},
        {"counterexamples": 0.3, "edits": 0.4, "seed": 1, "earlier_share": 0.5},
    )
]
"""The student's further trainings go on from the first: real dialogues alone, as the first teacher scores them."""

PAIRS = 2
SPLIT_SEED = 17
"""No choice of a recipe was made on these folds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How large a run is; ``rows`` of the release and of each unlabelled file are read, None all.

    A ``share`` of the unlabelled dialogues is drawn from these, and a share ``further`` more for the student's
    further trainings, None where it has none; ``folds`` 0 holds out a tenth instead.
    """

    rows: int | None = None
    share: float = 1
    further: float | None = None
    folds: int = 3
    split_seed: int = SPLIT_SEED
    teachers: int = len(TEACHERS)
    options: str = ""
    alone: bool = False
    student: str = ""


SMALL_STUDENT = "--epochs 4 --batch-size 128 --learning-rate 4e-4"
SMALL = Sizes(share=0.25, further=0.5, folds=0, teachers=1, alone=True, student=SMALL_STUDENT)
SMOKE = Sizes(
    rows=240, share=0.5, further=0.5, folds=2, teachers=1, options="--epochs 1 --max-length 64 --batch-size 16"
)


def options(recipe: Recipe) -> str:
    """Return a recipe as options of `empathy train`."""
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in recipe.items())


def empathy(arguments: str, log: Path) -> None:
    """Run one command of the product; RuntimeError with its last line where it fails."""
    command = [sys.executable, "-c", "from scorer.cli.main import run; run()", *arguments.split()]
    began = time.monotonic()
    with open(log, "ab") as file:
        done = subprocess.run(command, stdout=file, stderr=file, check=False)
    seconds = time.monotonic() - began
    if done.returncode:
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise RuntimeError(f"empathy {arguments}: exit code {done.returncode}: {''.join(last)} (log: {log})")
    print(f"{seconds:6.0f} s  empathy {arguments}", flush=True)


def at_once(jobs: int, commands: Sequence[tuple[str, Path]]) -> None:
    """Run commands, ``jobs`` at a time."""
    with ThreadPoolExecutor(jobs) as pool:
        for future in [pool.submit(empathy, *command) for command in commands]:
            future.result()


def fits(train: str, output: Path, folds: int) -> list[tuple[str, Path]]:
    """Return the commands of a training's fits that are not done; they may run at once."""
    if output.exists():
        return []
    return [(f"{train} -o {output} --fit {k}", output.with_name(f"{output.name}-{k}.log")) for k in range(folds + 1)]


def assemble(train: str, output: Path) -> None:
    """Put a training's fits together into its checkpoint."""
    if not output.exists():
        empathy(f"{train} -o {output} --resume", output.with_name(f"{output.name}.log"))


def mps() -> None:
    """Start CUDA's MPS, by which several processes share a card, where it is installed."""
    daemon = shutil.which("nvidia-cuda-mps-control")
    if daemon:
        subprocess.run([daemon, "-d"], check=False)


def turns_of(record: dict[str, object]) -> list[dict[str, str]]:
    """Return the messages of a record in OpenAI's form, [] of another."""
    messages = record.get("messages")
    return messages if isinstance(messages, list) else []


def chained(records: Sequence[dict[str, object]]) -> Iterator[dict[str, object]]:
    """Give each record, and each pair of neighbours as one dialogue of four turns.

    The unlabelled pairs of EmpatheticDialogues stand in their original order without their earlier turns, and half of
    the release's dialogues have some. Most neighbours are of one conversation; a chain of strangers is an odd context
    that the teachers score as such.
    """
    before: list[dict[str, str]] = []
    for number, record in enumerate(records):
        yield record
        messages = turns_of(record)
        if len(messages) == len(before) == 2:
            yield {"id": f"chain-{number}", "messages": [*before, *messages]}
        before = messages


def prepare(release: Path, unlabelled: Sequence[Path], work: Path, sizes: Sizes) -> tuple[Path, list[Path], list[Path]]:
    """Write what the run reads to ``work``: a part of the files for a smoke run, and the chained dialogues.

    Returned are the labels, the dialogues, and those that only the student's further trainings read.
    """
    labels = release
    if sizes.rows:
        labels = work / "labels.json"
        labels.write_text(json.dumps(json.loads(release.read_text())[: sizes.rows]))
    made, more = [], []
    for path in unlabelled:
        text = path.read_text()
        records = [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)
        found = list(chained(records[: sizes.rows]))
        if sizes.share < 1:
            random.Random(0).shuffle(found)
        first = round(sizes.share * len(found))
        parts = {"chained": found[:first]}
        made.append(work / f"{path.stem}.chained.jsonl")
        if sizes.further:
            parts["further"] = found[first : first + round(sizes.further * len(found))]
            more.append(work / f"{path.stem}.further.jsonl")
        for name, rows in parts.items():
            lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in rows)
            (work / f"{path.stem}.{name}.jsonl").write_text("".join(lines))
    return labels, made, more


@click.command()
@click.argument("release", type=click.Path(exists=True, path_type=Path))
@click.argument("unlabelled", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--work", required=True, type=click.Path(path_type=Path), help="The folder of everything made.")
@click.option("--teacher-backbone", required=True, help="Encoder of the teachers: a folder or hub id.")
@click.option("--student-backbone", required=True, help="Encoder of the student: a folder or hub id.")
@click.option("--jobs", default=1, show_default=True, help="Fits at once; 6 share a large GPU well.")
@click.option("--pairs", default=PAIRS, show_default=True, help="Re-paired dialogues per dialogue.")
@click.option("--check", type=click.Path(exists=True, path_type=Path), help="Dialogues for the gate of the export.")
@click.option("--small", is_flag=True, help="One teacher, no folds, a part of the unlabelled dialogues.")
@click.option("--smoke", is_flag=True, help="A few dialogues, to try everything.")
@click.option("--no-export", is_flag=True, help="End with the student's checkpoint.")
def main(
    release: Path,
    unlabelled: tuple[Path, ...],
    work: Path,
    teacher_backbone: str,
    student_backbone: str,
    jobs: int,
    pairs: int,
    check: Path | None,
    small: bool,
    smoke: bool,
    no_export: bool,
) -> None:
    """Make the starter from the release's labels and unlabelled dialogues."""
    sizes = SMOKE if smoke else SMALL if small else Sizes()
    work.mkdir(parents=True, exist_ok=True)
    labels, dialogues, more = prepare(release, unlabelled, work, sizes)
    mps()
    shared = f"--folds {sizes.folds} --split-seed {sizes.split_seed}"
    recipes = {name: (teacher_backbone, TEACHER | recipe) for name, recipe in list(TEACHERS.items())[: sizes.teachers]}
    if sizes.alone:
        recipes["alone"] = student_backbone, ALONE
    teachers = {
        work / name: f"train {labels} --backbone {backbone} {shared} {options(recipe)} {sizes.options} -q"
        for name, (backbone, recipe) in recipes.items()
    }
    at_once(jobs, [command for path, train in teachers.items() for command in fits(train, path, sizes.folds)])
    for path, train in teachers.items():
        assemble(train, path)
    soft, student, bundle = work / "soft.parquet", work / "student", work / "starter"
    if not soft.exists():
        names = " ".join(map(str, [*teachers, labels, *dialogues]))
        empathy(
            f"teach {names} -o {soft} --pairs {pairs} --near-encoder {student_backbone} --resume", work / "teach.log"
        )
    train = f"train {labels} --backbone {student_backbone} {shared} --soft {soft} {options(STUDENT)} {sizes.options}"
    train = f"{train} {sizes.student} -q"
    at_once(jobs, fits(train, student, sizes.folds))
    assemble(train, student)
    if more:
        soft = work / "further.parquet"
        if not soft.exists():
            names = " ".join(map(str, [next(iter(teachers)), labels, *dialogues, *more]))
            empathy(f"teach {names} -o {soft} --resume", work / "teach.log")
        taught = f"train {labels} {shared} --soft {soft}"
        for number, recipe in enumerate(FURTHER, start=2):
            train = f"{taught} --backbone {student} {options(recipe)} {sizes.options} -q"
            student = work / f"student-{number}"
            at_once(jobs, fits(train, student, sizes.folds))
            assemble(train, student)
    if not no_export and not bundle.exists():
        checked = f" --check {check}" if check else ""
        empathy(f"export {student} -o {bundle}{checked} --name starter", work / "export.log")
    print((student / "README.md").read_text())


if __name__ == "__main__":
    main()
