"""`empathy audit`: rounds of questions through the label store until the answer is sure.

The sample is a random order of the corpus, fixed by ids and seed. Each round asks about the next rows, through the same
store as `empathy label`: what was answered before, in a run that was killed or by another command, is not asked again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np

from distill.auditing.audit import Sample, is_enough, is_sure
from distill.auditing.corpus import Scored
from distill.auditing.settings import AuditSettings
from distill.errors import TrainError
from distill.judge.labelling import Labelling, write_labels
from distill.judge.rubric import Rubric
from distill.judge.store import Store
from distill.labelled import LabelledSet, read_labelled
from distill.settings import LabelSettings
from scorer.arrays import Ints
from scorer.dialogue import HEADS, Dialogue, training_hash
from scorer.progress import Progress, Silent


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked:
    """What the rounds came to: the settled sample, its labels as they stand in a file, money, and why it stopped."""

    sample: Sample
    lines: str
    labelled: LabelledSet | None
    usd: float
    requests: int
    stopped: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reject:
    id: str


@dataclass(eq=False)
class Rounds:
    """An audit's questions. ``rows`` are the first of the corpus' random order, ``dialogues`` theirs."""

    scored: Scored
    rows: Ints
    dialogues: Sequence[Dialogue]
    rubric: Rubric
    label: LabelSettings
    settings: AuditSettings
    store: Store
    progress: Progress = field(default_factory=Silent)
    usd: float = field(init=False, default=0.0)
    requests: int = field(init=False, default=0)

    def labelling(self, count: int) -> Labelling:
        """Return the labelling of the first ``count`` dialogues, within what is left of money and requests."""
        left = self.label
        if left.max_cost is not None:
            left = replace(left, max_cost=max(0.0, left.max_cost - self.usd))
        if left.max_requests is not None:
            left = replace(left, max_requests=max(0, left.max_requests - self.requests))
        return Labelling(self.dialogues[:count], self.rubric, left, self.store)

    def run(self, limit: float) -> Asked:
        """Ask until the tests are sure, everything is asked, or the budget is spent."""
        count = 0
        while True:
            count = min(len(self.rows), count + self.settings.step)
            asked = self._ask(count)
            answer, near = is_sure(asked.sample, limit, self.settings)
            known = len(asked.sample.labelled)
            agreement = "not sure yet" if answer == "open" else f"{answer} {limit:.1%}"
            kept = "not sure yet" if near == "open" else f"{near} {self.settings.shift:.0%} of the judge's"
            self.progress.say(f"audit: {known} labels; agreement {agreement}; kept share {kept}")
            if is_enough(answer, near, known) or asked.stopped is not None or count == len(self.rows):
                return asked

    def _ask(self, count: int) -> Asked:
        labelling = self.labelling(count)
        outcome, spending = labelling.run(self.progress)
        self.usd += spending.usd
        self.requests += spending.requests
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "labels.jsonl"
            write_labels([labelling], outcome, [], path)
            lines = path.read_text() if path.exists() else ""
            labelled = _read(path) if lines else None
            rejects = path.with_name(f"{path.name}.rejects.jsonl")
            bad = rejects.read_bytes() if rejects.exists() else b""
        refused = {msgspec.json.decode(line, type=_Reject).id for line in bad.splitlines()}
        sample = self._sample(count, labelled, refused)
        return Asked(
            sample=sample, lines=lines, labelled=labelled, usd=self.usd, requests=self.requests, stopped=outcome.stopped
        )

    def _sample(self, count: int, labelled: LabelledSet | None, refused: set[str]) -> Sample:
        """Return the rows before the first that is not settled: what came after it came by chance of the network."""
        place = {} if labelled is None else {key: row for row, key in enumerate(labelled.hashes)}
        labels = np.full((count, len(HEADS)), np.nan)
        draws = [np.zeros((0, len(HEADS)))] * count
        settled = count
        for row, dialogue in enumerate(self.dialogues[:count]):
            found = place.get(training_hash(dialogue))
            if found is not None and labelled is not None:
                labels[row] = labelled.scores[found]
                draws[row] = np.array([[getattr(one, head) for head in HEADS] for one in labelled.judgements[found]])
            elif dialogue.id not in refused:
                settled = row
                break
        return Sample(
            scores=self.scored.scores,
            cuts=self.scored.cuts,
            rows=self.rows[:settled],
            labels=labels[:settled],
            draws=draws[:settled],
            conversations=[dialogue.conversation for dialogue in self.dialogues[:settled]],
        )


def _read(path: Path) -> LabelledSet | None:
    try:
        return read_labelled([str(path)])
    except TrainError:
        return None
