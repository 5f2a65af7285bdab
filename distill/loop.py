"""The loop from dialogues to a scorer: sample, label, train, export, agree - until it is good enough, or enough.

Some conversations are drawn at random and kept apart: their labels are never trained on, and every round's scorer is
measured on them. All else is the pool. Each round labels some more of the pool, those that the last scorer is least
sure of or another strategy's choice, trains on all labels of the pool so far, exports, and measures. Everything stands
in one folder; a step that is finished is never done again, and answers are the store's, so a loop that was killed
continues where it was.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import msgspec

from distill.account import Account, Bookkeeper
from distill.agreement.compare import judge_against_scorer
from distill.errors import LabelError
from distill.exporting.export import export_bundle
from distill.exporting.settings import ExportSettings
from distill.judge.labelling import Labelling, asking_of, write_labels
from distill.judge.records import Asking
from distill.judge.rubric import Rubric
from distill.judge.store import Store
from distill.labelled import read_labelled
from distill.sampling.pick import pick_dialogues
from distill.settings import LabelSettings, LoopSettings, SampleSettings
from distill.training.settings import TrainSettings
from distill.training.train import checked_backbone, train_scorer
from scorer.dialogue import HEADS, Dialogue, content_hash
from scorer.model import Scorer
from scorer.outputs import check_folder, check_same, new_folder, read_json, replacing, write_json, writing
from scorer.progress import Progress, Silent
from scorer.values import Amount, Correlation, Count, Line
from selection.gating.judge import MIN_CHECKED

STATE = "distill.json"
SCORER = "scorer"
_FIX = "name another folder"
_CHECKED = 2000
"""So many dialogues of the pool, not labelled, hold a round's int8 and bf16 against its checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one round came to: labels so far, agreement (None if it is not defined), and what the loop has spent."""

    number: Count
    labels: Count
    agreement: Correlation | None
    pearson: Mapping[str, Correlation | None]
    kappa: Correlation | None
    usd: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """The settings of a loop that decide which dialogues it labels."""

    check: Count
    step: Count
    strategy: Line
    seed: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopIdentity:
    """All that must be the same for a loop to be continued; ``inputs`` is a hash of all dialogues."""

    inputs: str = ""
    asking: Asking
    draws: int
    training: TrainSettings
    sampling: Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopState:
    """What stands in distill.json: which loop it is, its account of money, and its finished rounds."""

    identity: LoopIdentity
    account: Account
    rounds: tuple[Round, ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError for rounds that are missing or out of order."""
        if (found := [done.number for done in self.rounds]) != list(range(1, len(found) + 1)):
            raise ValueError(f"its rounds are {found}, expected 1, 2 ...")


class _StoppedError(Exception):
    """The asking was stopped; the text says by what."""


@dataclass(eq=False)
class Loop:
    """A loop in the folder ``output``, begun or continued; OutputError if the folder is another's."""

    dialogues: Sequence[Dialogue]
    rubric: Rubric
    label: LabelSettings
    training: TrainSettings
    settings: LoopSettings
    store: Store
    output: Path
    progress: Progress = field(default_factory=Silent)

    def __post_init__(self) -> None:
        """Open the folder and keep the dialogues apart that measure; LabelError if too few are left."""
        self._state = self._open()
        settings = self.settings
        sample = SampleSettings(seed=settings.seed, whole_conversations=True)
        self._check = pick_dialogues(self.dialogues, settings.check, sample)
        apart = {dialogue.conversation for dialogue in self._check}
        self._pool = [dialogue for dialogue in self.dialogues if dialogue.conversation not in apart]
        if len(self._pool) < settings.step:
            raise LabelError(
                f"{len(self.dialogues)} dialogues, of which {len(self._pool)} are left to learn from, expected at "
                f"least --step {settings.step}: give more dialogues, or lower --check or --step"
            )

    def run(self) -> tuple[list[Round], str]:
        """Continue until there is a reason to stop; return rounds and reason. The best scorer is in ``scorer``."""
        why = self._enough(self._state.rounds)
        try:
            if why is None:
                checked_backbone(self.training)  # before any money is spent
                self._labels("check", self._check)
            while why is None:
                done = self._round(len(self._state.rounds) + 1)
                self._keep(replace(self._state, rounds=(*self._state.rounds, done)))
                self.progress.say(_line(done))
                why = self._enough(self._state.rounds)
        except _StoppedError as stopped:
            why = str(stopped)
        rounds = list(self._state.rounds)
        if rounds:
            self._publish(max(rounds, key=lambda entry: -1.0 if entry.agreement is None else entry.agreement))
        return rounds, why

    def _round(self, number: int) -> Round:
        folder = self.output / f"round-{number}"
        with writing(folder):
            folder.mkdir(exist_ok=True)
        chosen = self._chosen(number, folder)
        taken = {dialogue.id for dialogue in chosen}
        labels = self._labels(f"round-{number}/labels", chosen)
        checkpoint = folder / "checkpoint"
        if not checkpoint.exists():
            self.progress.say(f"round {number}: training on {len(chosen)} labels")
        # A finished checkpoint is held against these labels and settings, and its files against their hashes.
        labelled = read_labelled([str(labels)])
        trained = train_scorer(labelled, self.training, checkpoint, existing="resume", progress=self.progress)
        if not (folder / SCORER).exists():
            unseen = [dialogue for dialogue in self._pool if dialogue.id not in taken][:_CHECKED]
            settings = ExportSettings(name=f"{self.output.name}, round {number}")
            enough = unseen if len(unseen) >= MIN_CHECKED else []
            export_bundle(trained, folder / SCORER, enough, settings)
        check = read_labelled([str(self.output / "check.jsonl")])
        figures = judge_against_scorer(check, Scorer.load(folder / SCORER)).measure(0).figures
        pearson = {head: _rounded(figures[f"{head}.pearson"]) for head in HEADS}
        values = [value for value in pearson.values() if value is not None]
        return Round(
            number=number,
            labels=len(chosen),
            agreement=sum(values) / len(values) if len(values) == len(HEADS) else None,
            pearson=pearson,
            kappa=_rounded(figures["paper.kappa"]),
            usd=round(self._state.account.most, 6),
        )

    def _chosen(self, number: int, folder: Path) -> list[Dialogue]:
        """Return the dialogues of all rounds up to this one; what was chosen once stays chosen."""
        path, before = folder / "sample.json", self.output / f"round-{number - 1}"
        settings = self.settings
        if not path.exists():
            ids = read_json(before / "sample.json", list[str], _FIX) if number > 1 else []
            new = pick_dialogues(
                self._pool,
                min(settings.step, len(self._pool) - len(ids)),
                SampleSettings(strategy=settings.strategy, seed=settings.seed + number),
                bundle=before / SCORER if number > 1 else None,
                taken=ids,
            )
            with writing(path), replacing(path) as file:
                file.write(json.dumps([*ids, *(dialogue.id for dialogue in new)]) + "\n")
        by_id, chosen = {dialogue.id: dialogue for dialogue in self._pool}, read_json(path, list[str], _FIX)
        if unknown := [name for name in chosen if name not in by_id]:
            raise LabelError(f"{path}: names {unknown[0]!a:.60}, which no dialogue of the pool is; {_FIX}")
        return [by_id[name] for name in chosen]

    def _labels(self, name: str, dialogues: Sequence[Dialogue]) -> Path:
        """Label dialogues and return the file."""
        path = self.output / f"{name}.jsonl"
        settings, account = self.label, self._state.account
        batches = self.store.open_batches(self._state.identity.asking.base_url) if settings.batch else []
        before = account.without(sum(batch.worst_usd for batch in batches))
        if self.settings.max_cost is not None:
            settings = replace(settings, max_cost=max(0.0, self.settings.max_cost - before))
        labelling = Labelling(dialogues, self.rubric, settings, self.store)
        if not path.exists() or labelling.to_ask:
            asked, answered = len(labelling.to_ask), labelling.saved[0]
            self.progress.say(f"{name}: {asked} questions to ask, {answered} answered by the store")
            ahead = settings.concurrency * labelling.worst_usd
            keeper = Bookkeeper(account, before, ahead, lambda now: self._keep(replace(self._state, account=now)))
            try:
                outcome, _ = labelling.run(self.progress, keeper.book)
            finally:
                keeper.close()
            if outcome.stopped is not None:
                raise _StoppedError(outcome.stopped)
            write_labels([labelling], outcome, [], path)
        return path

    def _enough(self, rounds: Sequence[Round]) -> str | None:
        """Return why the loop ends, None if it continues."""
        settings = self.settings
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

    def _keep(self, state: LoopState) -> None:
        """Write the state; only what is on disk counts."""
        write_json(self.output / STATE, state)
        self._state = state

    def _publish(self, best: Round) -> None:
        """Put a copy of the best round's scorer where people look for it."""
        target = self.output / SCORER
        with new_folder(target) as folder:
            shutil.copytree(self.output / f"round-{best.number}" / SCORER, folder, dirs_exist_ok=True)
        self.progress.say(f"the scorer of round {best.number} is in {target}")

    def _open(self) -> LoopState:
        settings = self.settings
        known_by = [[dialogue.id, dialogue.conversation, content_hash(dialogue.turns)] for dialogue in self.dialogues]
        identity = LoopIdentity(
            inputs=sha256(json.dumps(known_by).encode()).hexdigest(),
            asking=asking_of(self.label, self.rubric),
            draws=self.label.draws,
            training=self.training,
            sampling=Sampling(check=settings.check, step=settings.step, strategy=settings.strategy, seed=settings.seed),
        )
        path = self.output / STATE
        check_folder(self.output, "overwrite", STATE, "`empathy distill`")  # one of its own is continued
        if path.exists():
            state = read_json(path, LoopState, _FIX)
            known, mine = msgspec.to_builtins(state.identity), msgspec.to_builtins(identity)
            check_same(self.output, known, mine, _FIX)
            return state
        state = LoopState(identity=identity, account=Account())
        with writing(self.output):
            self.output.mkdir(exist_ok=True)
        write_json(path, state)
        return state


def _line(done: Round) -> str:
    agreement, kappa, *pearson = (
        "-" if value is None else f"{value:.3f}" for value in (done.agreement, done.kappa, *done.pearson.values())
    )
    return (
        f"round {done.number}: {done.labels:,} labels, agreement {agreement} (r {' / '.join(pearson)}, "
        f"kappa {kappa}), ${done.usd:.4f} spent"
    )


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)
