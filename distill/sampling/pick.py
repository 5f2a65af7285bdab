"""From inputs to the dialogues that a judge is to see: read, scored by the scorer at hand, and sampled."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distill.errors import LabelError
from scorer.dialogue import Dialogue
from scorer.inputs.corpus import Corpus


def read_dialogues(inputs: Sequence[str]) -> tuple[list[Dialogue], list[dict[str, Any]]]:
    """Return all dialogues and, as JSON, all rejects; LabelError if there is no dialogue."""
    dialogues: list[Dialogue] = []
    rejects: list[dict[str, Any]] = []
    for record in Corpus(inputs):
        if isinstance(record, Dialogue):
            dialogues.append(record)
        else:
            rejects.append(asdict(record))
    if not dialogues:
        first = f"; the first: {rejects[0]['reason']}: {rejects[0]['detail']}" if rejects else ""
        raise LabelError(f"{', '.join(inputs)}: no dialogue among {len(rejects)} records{first}")
    return dialogues, rejects


def pick(
    dialogues: Sequence[Dialogue],
    count: int,
    strategy: str,
    *,
    seed: int,
    bundle: Path | None = None,
    whole_conversations: bool = False,
    taken: Collection[str] = (),
) -> list[Dialogue]:
    """Return a sample by one of ``distill.sample``'s strategies, in the order of choice.

    ``bundle`` is the scorer that ``stratified`` and ``uncertain`` go by, the starter if left out. ``taken`` are ids
    that have labels already.
    """
    from distill.sampling.strategies import choose, embed  # a labelling without a sample needs no scorer
    from scorer.model import Scorer

    found: dict[str, Any] = {}
    if strategy in {"stratified", "uncertain"}:
        scorer = Scorer.load(bundle)
        scores = scorer.score(dialogues)
        found = {"scores": scores, "cuts": scorer.bundle.cuts}
        if scorer.bundle.uncertainty is not None:
            found["uncertainty"] = scorer.uncertainty(scores)
    elif strategy == "diverse":
        found = {"embeddings": embed(dialogues)}
    rows = choose(dialogues, count, strategy, seed=seed, whole_conversations=whole_conversations, taken=taken, **found)
    return [dialogues[row] for row in rows]
