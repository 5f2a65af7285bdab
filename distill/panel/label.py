"""Several judges label the same dialogues: one sample, one store, one budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from distill.errors import LabelError
from distill.judge.asker import Outcome
from distill.judge.budget import Spending
from distill.judge.labelling import Labelling
from distill.judge.rubric import Rubric
from distill.judge.store import Store
from distill.settings import LabelSettings
from scorer.dialogue import Dialogue
from scorer.progress import Progress


@dataclass(frozen=True, slots=True)
class Part:
    """What one judge of a panel does: its model, the dialogues it judges, by which rubric, and what to call it."""

    model: str
    dialogues: Sequence[Dialogue]
    rubric: Rubric
    name: str

    def labelling(self, settings: LabelSettings, store: Store) -> Labelling:
        """Look its questions up."""
        return Labelling(self.dialogues, self.rubric, replace(settings, model=self.model), store)


class Panel:
    """The judges of one run, each with its own questions; what the store knew is as of the beginning."""

    def __init__(self, parts: Sequence[Part], settings: LabelSettings, store: Store) -> None:
        """Look the questions of every judge up; LabelError if one has no price and needs one."""
        self.settings = settings
        self.store = store
        self.parts = parts
        self.judges = [part.labelling(settings, store) for part in parts]

    @classmethod
    def of_models(
        cls, dialogues: Sequence[Dialogue], rubric: Rubric, settings: LabelSettings, models: Sequence[str], store: Store
    ) -> Panel:
        """Return the panel of several models that judge the same by one rubric; LabelError if one is named twice."""
        if len(set(models)) < len(models):
            raise LabelError(f"--model {max(models, key=list(models).count)} is given twice; name each judge once")
        return cls([Part(model, dialogues, rubric, model) for model in models], settings, store)

    def run(self, progress: Progress | None = None) -> tuple[Outcome, Spending]:
        """Let one judge after the other ask all that is missing, and return what it came to together.

        Money and requests are divided by what each judge is expected to need, so that where they do not suffice all
        judge about as many dialogues; what one leaves goes to the next, and at last to those that had too little.
        LabelError names the judge that cannot be asked.
        """
        outcome, spending = Outcome(), Spending()
        waiting = list(zip(self.parts, self.judges, strict=True))
        for last in (False, True):
            stopped: list[tuple[Part, str]] = []
            for number, (part, labelling) in enumerate(waiting):
                judges = [labelling for _, labelling in waiting[number:]]
                labelling.settings = self._share(judges, spending, all_of_it=last)
                try:
                    came, spent = labelling.run(progress)
                except LabelError as error:
                    if len(self.judges) == 1:
                        raise
                    raise LabelError(f"{part.name}: {error}; what was answered is in the store") from None
                outcome.scored += came.scored
                outcome.failed |= came.failed
                spending = Spending(
                    requests=spending.requests + spent.requests,
                    usd=spending.usd + spent.usd,
                    lost=spending.lost + spent.lost,
                    lost_usd=spending.lost_usd + spent.lost_usd,
                )
                if came.stopped is not None:
                    stopped.append((part, came.stopped))
            outcome.stopped = "; ".join(f"{part.name}: {why}" for part, why in stopped) or None
            if len(self.judges) == 1:
                outcome.stopped = next((why for _, why in stopped), None)
            if not stopped or len(self.judges) == 1:
                break
            waiting = [(part, part.labelling(self.settings, self.store)) for part, _ in stopped]
        return outcome, spending

    def _share(self, waiting: Sequence[Labelling], spending: Spending, *, all_of_it: bool) -> LabelSettings:
        """Return the settings of the first of those that wait, with its part of what is left."""
        settings, first = self.settings, waiting[0]
        money, requests = settings.max_cost, settings.max_requests
        if money is not None:
            parts = [_expected_usd(labelling) for labelling in waiting]
            rest = max(0.0, money - spending.usd)
            money = rest if all_of_it or not sum(parts) else rest * parts[0] / sum(parts)
        if requests is not None:
            counts = [len(labelling.to_ask) for labelling in waiting]
            left = max(0, requests - spending.requests)
            requests = left if all_of_it or not sum(counts) else -(-left * counts[0] // sum(counts))
        return replace(settings, model=first.settings.model, max_cost=money, max_requests=requests)


def _expected_usd(labelling: Labelling) -> float:
    size = labelling.size
    return labelling.price.of(size.prompt, size.completion) if labelling.price else 0.0
