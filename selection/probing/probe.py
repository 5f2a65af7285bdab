"""`empathy probe`: what a scorer makes of replies that nobody should be trained on, and of edits that say nothing new.

A behavioural test in the manner of CheckList (Ribeiro et al., ACL 2020): each kind is a directional or an invariance
test over many contexts and wordings. The wordings are not for training: a scorer that saw them is not tested by them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from scorer.arrays import Floats, Mask
from scorer.bundle.probed import Probed, ProbedKind
from scorer.cli.preview import examples_path
from scorer.dialogue import Dialogue
from scorer.engines.base import Scores
from scorer.errors import without_secrets
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.progress import Progress, Silent
from selection.errors import ProbeError
from selection.metrics import wilson
from selection.probing.kinds import KINDS, REPLIES, Trial, trials_of
from selection.rules import PAPER
from selection.settings import ProbeSettings

EXAMPLES = "the examples that come with the package"
"""What the contexts of a probe are called where nobody gave any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeExample:
    """A reply that was kept, or an edit that changed a decision: the worst of its kind come first.

    ``scores`` are its own and ``real`` those of what it is held against, sensibility and rationality of each.
    """

    kind: str
    id: str
    speaker: str
    response: str
    scores: tuple[float, float]
    real: tuple[float, float]
    set_before: str
    set_after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What a probe found: the record that stands in scorer.json, and the worst examples of each kind."""

    record: Probed
    examples: Sequence[ProbeExample]

    @property
    def passed(self) -> bool:
        """Whether every kind is within its limit."""
        return self.record.passed


def probe(
    scorer: Scorer,
    dialogues: Iterable[Dialogue],
    settings: ProbeSettings | None = None,
    *,
    data: str = "dialogues",
    progress: Progress | None = None,
) -> ProbeResult:
    """Score contexts with every kind of reply and edit; ``data`` is what the contexts are called in the record.

    Of each conversation one dialogue is taken, so that the contexts are independent. Sets are those of the paper rule,
    threshold 5, with the scorer's cuts. ProbeError if there is no dialogue.
    """
    settings = settings or ProbeSettings()
    chosen = sample_contexts(dialogues, settings.sample, settings.seed)
    if not chosen:
        raise ProbeError(f"{data}: holds no dialogue, and a probe needs contexts")
    trials = {kind: made for kind in KINDS if (made := trials_of(kind, chosen, settings.seed))}
    scores = _score(scorer, chosen, trials, progress or Silent())
    real = scores[""]
    cuts = scorer.bundle.info.cuts
    rows, examples = [], []
    for kind, made in trials.items():
        before = scores.get(f"{kind}, before", real)
        found = _Found(kind, made, before, scores[kind], cuts)
        rows.append(found.row(getattr(settings.limits, kind)))
        examples += found.worst(chosen, settings.show)
    kept = PAPER.apply(real, cuts) == 0
    means = real.mean(axis=0, dtype=float)
    record = Probed(
        data=without_secrets(data if data.isprintable() else ascii(data)[1:-1]),
        contexts=len(chosen),
        seed=settings.seed,
        engine=scorer.engine.name,
        precision=scorer.engine.precision,
        sensibility=round(float(means[0]), 4),
        rationality=round(float(means[1]), 4),
        kept=round(float(kept.mean()), 5),
        interval_95=share_interval(kept, range(len(kept))),
        kinds=rows,
    )
    return ProbeResult(record=record, examples=examples)


def example_contexts() -> list[Dialogue]:
    """Return the examples that ship, without those that are bad on purpose: their ids begin with a kind of reply."""
    found = (item for item in Corpus([str(examples_path())]) if isinstance(item, Dialogue))
    return [dialogue for dialogue in found if dialogue.id.partition("-")[0] not in REPLIES]


def sample_contexts(dialogues: Iterable[Dialogue], count: int, seed: int) -> list[Dialogue]:
    """Return one dialogue of each of ``count`` conversations, all chosen by hashes: whatever the order of the input."""
    best: dict[str, tuple[int, int, Dialogue]] = {}
    for dialogue in dialogues:
        key = dialogue.conversation
        mine = (_hash(f"{seed}:{key}"), _hash(f"{seed}:{dialogue.id}"), dialogue)
        if key not in best or mine[1] < best[key][1]:
            best[key] = mine
        if len(best) >= 4 * count:
            best = dict(sorted(best.items(), key=lambda item: item[1][0])[: 2 * count])
    return [found[-1] for found in sorted(best.values(), key=lambda found: found[0])[:count]]


def share_interval(hits: Mask, groups: Iterable[Any]) -> tuple[float, float]:
    """Return the 95 % interval of the share of ``hits`` (N,): Wilson's, on as many rows as N in groups are worth.

    Rows of a group (trials of one wording) go together, so N is divided by the design effect: the variance between
    groups over that of N independent rows, at least 1 (Kish 1965).
    """
    share, count = float(hits.mean()), len(hits)
    _, group = np.unique(np.array(list(groups), dtype=object).astype(str), return_inverse=True)
    alone = share * (1 - share) / count
    off = np.bincount(group, hits - share)
    effect = max(1.0, float((off**2).sum()) / count**2 / alone) if alone else 1.0
    low, high = wilson(share * count / effect, count / effect)
    return round(low, 5), round(high, 5)


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def _score(
    scorer: Scorer, chosen: Sequence[Dialogue], trials: Mapping[str, Sequence[Trial]], progress: Progress
) -> dict[str, Scores]:
    """Return the scores (N, 2) of the real responses under "", of each kind, and of what is held against it."""
    parts: dict[str, Sequence[Dialogue]] = {"": chosen}
    for kind, made in trials.items():
        parts[kind] = [trial.dialogue for trial in made]
        if against := [trial.against for trial in made if trial.against is not None]:
            parts[f"{kind}, before"] = against
    whole = [dialogue for part in parts.values() for dialogue in part]
    encoded = scorer.encoder.encode(whole)
    done = 0

    def on_batch(rows: int, _: int) -> None:
        nonlocal done
        done += rows
        progress.update(done, note=f"{done:,} of {len(whole):,} dialogues")

    progress.stage("probing", len(whole))
    scores = scorer.run(encoded, on_batch=on_batch)
    ends = np.cumsum([len(part) for part in parts.values()])
    return dict(zip(parts, np.split(scores, ends[:-1]), strict=True))


class _Found:
    """The scores of one kind's trials and of what they are held against, both (N, 2), and the sets of both, (N,)."""

    def __init__(self, kind: str, trials: Sequence[Trial], real: Scores, scores: Scores, cuts: Any) -> None:
        self.kind, self.trials, self.real, self.scores = kind, trials, real, scores
        self.before, self.after = (PAPER.apply(given, cuts) for given in (real, scores))
        self.replies = kind in REPLIES
        self.hits = self.after == 0 if self.replies else self.after != self.before

    def row(self, limit: float) -> ProbedKind:
        """Return what the record says of the kind; a limit of 1 is none."""
        change: Floats = self.scores.mean(axis=0, dtype=float) - self.real.mean(axis=0, dtype=float)
        return ProbedKind(
            kind=self.kind,
            measure="kept" if self.replies else "changed",
            contexts=len(self.trials),
            sensibility=round(float(change[0]), 4),
            rationality=round(float(change[1]), 4),
            share=round(float(self.hits.mean()), 5),
            interval_95=share_interval(self.hits, (trial.wording for trial in self.trials)),
            limit=limit if limit < 1 else None,
        )

    def worst(self, chosen: Sequence[Dialogue], count: int) -> list[ProbeExample]:
        """Return the replies kept with the highest S, or the edits with the largest change, each wording once."""
        change = np.abs(self.scores - self.real).sum(axis=1)
        order = np.argsort(-(self.scores[:, 0] if self.replies else change), kind="stable")
        wordings: dict[str, int] = {}
        for row in order[self.hits[order]].tolist():
            wordings.setdefault(self.trials[row].wording, row)
        return [self._example(chosen[row], row) for row in list(wordings.values())[:count]]

    def _example(self, dialogue: Dialogue, row: int) -> ProbeExample:
        (s, r), (real_s, real_r) = self.scores[row].tolist(), self.real[row].tolist()
        return ProbeExample(
            kind=self.kind,
            id=dialogue.id,
            speaker=dialogue.context[-1].content,
            response=self.trials[row].dialogue.response,
            scores=(round(s, 4), round(r, 4)),
            real=(round(real_s, 4), round(real_r, 4)),
            set_before=PAPER.sets[self.before[row]],
            set_after=PAPER.sets[self.after[row]],
        )
