"""Several judges label the same dialogues: one sample, one store, one budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from distill.errors import LabelError
from distill.judge.asker import Outcome
from distill.judge.budget import Spending
from distill.judge.labelling import Labelling
from distill.judge.rubric import Rubric
from distill.judge.store import Store
from distill.settings import LabelSettings
from scorer.dialogue import Dialogue
from scorer.progress import Progress


class Panel:
    """The judges of one run, each with its own questions; what the store knew is as of the beginning."""

    def __init__(
        self,
        dialogues: Sequence[Dialogue],
        rubric: Rubric,
        settings: LabelSettings,
        models: Sequence[str],
        store: Store,
    ) -> None:
        """Look the questions of every model up; LabelError if a model is named twice, or has no price and needs one."""
        if len(set(models)) < len(models):
            raise LabelError(f"--model {max(models, key=list(models).count)} is given twice; name each judge once")
        self._given = (dialogues, rubric)
        self.settings = settings
        self.store = store
        self.judges = [self._labelling(replace(settings, model=model)) for model in models]

    def _labelling(self, settings: LabelSettings) -> Labelling:
        return Labelling(*self._given, settings, self.store)

    def run(self, progress: Progress | None = None) -> tuple[Outcome, Spending]:
        """Let one judge after the other ask all that is missing, and return what it came to together.

        Money and requests are divided by what each judge is expected to need, so that where they do not suffice all
        judge about as many dialogues; what one leaves goes to the next, and at last to those that had too little.
        LabelError names the judge that cannot be asked.
        """
        outcome, spending = Outcome(), Spending()
        waiting = self.judges
        for last in (False, True):
            stopped: dict[str, str] = {}
            for number, labelling in enumerate(waiting):
                labelling.settings = self._share(waiting[number:], spending, all_of_it=last)
                try:
                    came, spent = labelling.run(progress)
                except LabelError as error:
                    if len(self.judges) == 1:
                        raise
                    raise LabelError(
                        f"{labelling.settings.model}: {error}; what was answered is in the store"
                    ) from None
                outcome.scored += came.scored
                outcome.failed |= came.failed
                spending = Spending(
                    requests=spending.requests + spent.requests,
                    usd=spending.usd + spent.usd,
                    lost=spending.lost + spent.lost,
                    lost_usd=spending.lost_usd + spent.lost_usd,
                )
                if came.stopped is not None:
                    stopped[labelling.settings.model] = came.stopped
            outcome.stopped = "; ".join(f"{model}: {why}" for model, why in stopped.items()) or None
            if len(self.judges) == 1:
                outcome.stopped = next(iter(stopped.values()), None)
            if not stopped or len(self.judges) == 1:
                break
            waiting = [self._labelling(replace(self.settings, model=model)) for model in stopped]
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
