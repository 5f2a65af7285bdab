"""The loop from dialogues to a scorer: sample, label, train, export, agree - until it is good enough, or enough.

Some conversations are drawn at random and kept apart: their labels are never trained on, and every round's scorer is
read on them. All else is the pool. Each round labels some more of the pool, those that the last scorer is least sure
of or another strategy's choice, trains on all labels of the pool so far, exports, and measures. Everything stands in
one folder; a step that is finished is never done again, and answers are the store's, so a killed loop goes on where
it was.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from distill.agreement.compare import judge_against_scorer
from distill.errors import LabelError
from distill.exporting.export import ExportSettings, export
from distill.exporting.gate import MIN_CHECKED
from distill.judge.ask import Watcher
from distill.judge.labelling import INTERRUPTED, Labelling, LabelSettings, write_labels
from distill.judge.rubric import Rubric
from distill.judge.store import Store
from distill.labelled import read_labelled
from distill.sampling.pick import pick
from distill.training.checkpoint import load_checkpoint
from distill.training.fits import Progress
from distill.training.settings import TrainSettings
from distill.training.train import checked_backbone, train
from scorer.dialogue import HEADS, Dialogue
from scorer.errors import OutputError
from scorer.model import Scorer
from scorer.outputs import replacing, writing

STATE = "distill.json"
SCORER = "scorer"
_CHECKED = 2000
"""So many dialogues of the pool, not labelled, hold a round's int8 and bf16 against its checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """When to sample what, and when to stop.

    ``check`` dialogues are labelled to measure; each of up to ``rounds`` rounds labels ``step`` more. Agreement is the
    mean over both heads of Pearson's correlation with the judge on what was kept apart; the loop ends when it reaches
    ``target``, or when a round gains less than ``min_gain``. ``max_cost`` (USD) is of the whole loop, all runs.
    """

    check: int = 300
    step: int = 500
    rounds: int = 5
    strategy: str = "uncertain"
    target: float | None = None
    min_gain: float = 0.005
    seed: int = 0
    max_cost: float | None = None

    def __post_init__(self) -> None:
        """Check every value; LabelError gives the value and what was expected."""
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:  # NaN is in no range
                raise LabelError(f"--{name.replace('_', '-')} is {value}, expected {low:g} to {high:g}")


_RANGES = (
    ("check", 20, 10**6),
    ("step", 50, 10**6),
    ("rounds", 1, 1000),
    ("target", 0, 1),
    ("min_gain", -2, 2),
    ("max_cost", 0, 10**9),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one round came to: labels so far, agreement (None if it is not defined), and what the loop has spent."""

    number: int
    labels: int
    agreement: float | None
    pearson: Mapping[str, float | None]
    kappa: float | None
    usd: float


class Loop:
    """A loop in a folder. ``say`` is told what happens, a line a fact."""

    def __init__(
        self,
        dialogues: Sequence[Dialogue],
        rubric: Rubric,
        label: LabelSettings,
        training: TrainSettings,
        settings: LoopSettings,
        store: Store,
        output: Path,
        *,
        say: Callable[[str], None],
        watcher: Watcher | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Open or begin the loop in ``output``; OutputError if the folder is another's."""
        self._rubric = rubric
        self._label = label
        self._training = training
        self._settings = settings
        self._store = store
        self._output = output
        self._say = say
        self._watcher = watcher
        self._progress = progress
        self._state = self._open()
        kept = pick(dialogues, settings.check, "random", seed=settings.seed, whole_conversations=True)
        apart = {dialogue.conversation for dialogue in kept}
        self._check = kept
        self._pool = [dialogue for dialogue in dialogues if dialogue.conversation not in apart]
        if len(self._pool) < settings.step:
            raise LabelError(
                f"{len(dialogues)} dialogues, of which {len(self._pool)} are left to learn from, expected at least "
                f"--step {settings.step}: give more dialogues, or lower --check or --step"
            )

    def run(self) -> tuple[list[Round], str]:
        """Go on until there is a reason to stop; return the rounds and the reason. The best scorer is in ``scorer``."""
        rounds = [Round(**entry) for entry in self._state["rounds"]]
        why = self._enough(rounds)
        if why is None:
            checked_backbone(self._training)  # before any money is spent
        if why is None and self._labels("check", self._check) is None:
            return rounds, self._stopped
        while why is None:
            done = self._round(len(rounds) + 1)
            if done is None:
                why = self._stopped
                break
            rounds.append(done)
            self._state["rounds"] = [asdict(entry) for entry in rounds]
            self._write()
            self._say(_line(done))
            why = self._enough(rounds)
        if rounds:
            self._publish(max(rounds, key=lambda entry: -1.0 if entry.agreement is None else entry.agreement))
        return rounds, why

    def _round(self, number: int) -> Round | None:
        folder = self._output / f"round-{number}"
        with writing(folder):
            folder.mkdir(exist_ok=True)
        chosen = self._chosen(number, folder)
        taken = {dialogue.id for dialogue in chosen}
        labels = self._labels(f"round-{number}/labels", chosen)
        if labels is None:
            return None
        checkpoint = folder / "checkpoint"
        if not (checkpoint / "empathy.json").exists():
            self._say(f"round {number}: training on {len(chosen)} labels")
            train(read_labelled([str(labels)]), self._training, checkpoint, existing="resume", progress=self._progress)
        if not (folder / SCORER).exists():
            unseen = [dialogue for dialogue in self._pool if dialogue.id not in taken][:_CHECKED]
            settings = ExportSettings(name=f"{self._output.name}, round {number}")
            enough = unseen if len(unseen) >= 2 * MIN_CHECKED else []
            export(load_checkpoint(checkpoint), folder / SCORER, enough, settings)
        found = judge_against_scorer(
            read_labelled([str(self._output / "check.jsonl")]), Scorer.load(folder / SCORER)
        ).measure(0)
        pearson = {head: _null(found.figures[f"{head}.pearson"]) for head in HEADS}
        values = [value for value in pearson.values() if value is not None]
        return Round(
            number=number,
            labels=len(chosen),
            agreement=sum(values) / len(values) if len(values) == len(HEADS) else None,
            pearson=pearson,
            kappa=_null(found.figures["paper.kappa"]),
            usd=round(self._usd, 6),
        )

    def _chosen(self, number: int, folder: Path) -> list[Dialogue]:
        """Return the dialogues of all rounds up to this one; what was chosen once stays chosen."""
        path = folder / "sample.json"
        if not path.exists():
            before = self._output / f"round-{number - 1}"
            ids = json.loads((before / "sample.json").read_text()) if number > 1 else []
            new = pick(
                self._pool,
                min(self._settings.step, len(self._pool) - len(ids)),
                self._settings.strategy,
                seed=self._settings.seed + number,
                bundle=before / SCORER if number > 1 else None,
                taken=ids,
            )
            with writing(path), replacing(path) as file:
                file.write(json.dumps([*ids, *(dialogue.id for dialogue in new)]) + "\n")
        by_id = {dialogue.id: dialogue for dialogue in self._pool}
        return [by_id[name] for name in json.loads(path.read_text())]

    def _labels(self, name: str, dialogues: Sequence[Dialogue]) -> Path | None:
        """Label dialogues and return the file, None if the asking was stopped."""
        path = self._output / f"{name}.jsonl"
        settings = self._label
        if self._settings.max_cost is not None:
            settings = replace(settings, max_cost=max(0.0, self._settings.max_cost - self._usd))
        labelling = Labelling(dialogues, self._rubric, settings, self._store)
        if not path.exists() or labelling.to_ask:
            self._say(f"{name}: {len(labelling.to_ask)} questions to ask, {labelling.saved[0]} answered by the store")
            outcome, _ = labelling.run(self._watcher or Watcher())
            if outcome.stopped is not None:
                self._stopped = outcome.stopped
                if outcome.stopped == INTERRUPTED:
                    raise KeyboardInterrupt
                return None
            write_labels(labelling, outcome, [], path)
        return path

    def _enough(self, rounds: Sequence[Round]) -> str | None:
        """Return why the loop ends, None if it goes on."""
        settings = self._settings
        last = rounds[-1].agreement if rounds else None
        if last is not None and settings.target is not None and last >= settings.target:
            return f"the target of {settings.target:g} is reached"
        if rounds and rounds[-1].labels >= len(self._pool):
            return "every dialogue of the pool is labelled"
        if last is not None and len(rounds) > 1:
            best = max((entry.agreement for entry in rounds[:-1] if entry.agreement is not None), default=-1.0)
            if last - best < settings.min_gain:
                return f"the last round gained {last - best:+.3f}, less than {settings.min_gain:g}"
        if len(rounds) >= settings.rounds:
            return f"{len(rounds)} rounds are done"
        return None

    @property
    def _usd(self) -> float:
        """What the store has paid since the loop began, in all its runs."""
        return self._store.spent() - float(self._state["spent_before"])

    def _publish(self, best: Round) -> None:
        """Put a copy of the best round's scorer where people look for it."""
        target, new = self._output / SCORER, self._output / f".{SCORER}.new"
        with writing(target):
            shutil.rmtree(new, ignore_errors=True)
            shutil.copytree(self._output / f"round-{best.number}" / SCORER, new)
            shutil.rmtree(target, ignore_errors=True)
            new.rename(target)
        self._say(f"the scorer of round {best.number} is in {target}")

    def _open(self) -> dict[str, Any]:
        self._stopped = ""
        identity = {
            "asking": asdict(self._label.asking(self._rubric)),
            "draws": self._label.draws,
            "training": self._training.to_json(),
            "sampling": {name: getattr(self._settings, name) for name in ("check", "step", "strategy", "seed")},
        }
        path = self._output / STATE
        if path.exists():
            state: dict[str, Any] = json.loads(path.read_text())
            for name, value in json.loads(json.dumps(identity)).items():
                if state["identity"].get(name) != value:
                    raise OutputError(
                        f"{self._output}: was begun with {name} {state['identity'].get(name)} and this run has "
                        f"{value}; use the same, or name another folder"
                    )
            return state
        if self._output.exists() and any(self._output.iterdir()):
            raise OutputError(f"{self._output}: holds other files and no {STATE}; name a new or empty folder")
        if not self._output.parent.is_dir():
            raise OutputError(f"{self._output}: the folder {self._output.parent} does not exist; create it first")
        self._state = {"identity": identity, "spent_before": self._store.spent(), "rounds": []}
        with writing(self._output):
            self._output.mkdir(exist_ok=True)
        self._write()
        return self._state

    def _write(self) -> None:
        path = self._output / STATE
        with writing(path), replacing(path) as file:
            file.write(json.dumps(self._state, indent=1) + "\n")


def _line(done: Round) -> str:
    pearson = " / ".join("-" if value is None else f"{value:.3f}" for value in done.pearson.values())
    agreement = "-" if done.agreement is None else f"{done.agreement:.3f}"
    kappa = "-" if done.kappa is None else f"{done.kappa:.3f}"
    return (
        f"round {done.number}: {done.labels:,} labels, agreement {agreement} (r {pearson}, kappa {kappa}), "
        f"${done.usd:.4f} spent"
    )


def _null(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)
