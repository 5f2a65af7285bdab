"""From inputs to the dialogues that a judge is to see: read, scored by the scorer at hand, and sampled."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distill.errors import LabelError
from distill.settings import SampleSettings
from scorer.dialogue import Dialogue
from scorer.inputs.corpus import Corpus


def read_unlabelled(
    inputs: Sequence[str], fields: Mapping[str, str] | None = None
) -> tuple[list[Dialogue], list[dict[str, Any]]]:
    """Return all dialogues and, as JSON, all rejects; LabelError if there is no dialogue.

    ``fields`` says which column holds what, as of ``Corpus``.
    """
    dialogues: list[Dialogue] = []
    rejects: list[dict[str, Any]] = []
    for record in Corpus(inputs, fields=fields):
        if isinstance(record, Dialogue):
            dialogues.append(record)
        else:
            rejects.append(asdict(record))
    if not dialogues:
        first = f"; the first: {rejects[0]['reason']}: {rejects[0]['detail']}" if rejects else ""
        raise LabelError(f"{', '.join(inputs)}: no dialogue among {len(rejects)} records{first}")
    return dialogues, rejects


def pick_dialogues(
    dialogues: Sequence[Dialogue],
    count: int,
    settings: SampleSettings,
    *,
    bundle: Path | None = None,
    taken: Collection[str] = (),
) -> list[Dialogue]:
    """Return a sample by one of the strategies of ``distill.sampling.strategies``, in the order of choice.

    ``bundle`` is the scorer that ``stratified`` and ``uncertain`` go by, the starter if left out. ``taken`` are ids
    that have labels already.
    """
    from distill.sampling.strategies import choose_rows  # a labelling without a sample needs neither this nor a scorer

    found: dict[str, Any] = {}
    if settings.strategy in {"stratified", "uncertain"}:
        from scorer.model import Scorer

        scorer = Scorer.load(bundle)
        scores = scorer.score(dialogues, progress=False)
        found = {"scores": scores, "cuts": scorer.bundle.info.cuts}
        if scorer.bundle.info.uncertainty is not None:
            found["uncertainty"] = scorer.uncertainty(scores)
    elif settings.strategy == "diverse":
        from distill.sampling.embeddings import embed_dialogues

        found = {"embeddings": embed_dialogues(dialogues)}
    return [dialogues[row] for row in choose_rows(dialogues, count, settings, taken=taken, **found)]
