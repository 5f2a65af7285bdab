"""The scorer as an object: load a bundle, score dialogues."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scorer.bundle import Bundle, load_bundle
from scorer.dialogue import HEADS, SCORE_RANGE, Dialogue
from scorer.encode import Encoded, Encoder
from scorer.engine import PAD_MULTIPLE, Engine, Scores, collate, make_engine
from scorer.errors import BundleError, EngineError, RejectedError
from scorer.records import RecordError, parse_record

BATCH_TOKENS = 1024
"""Padded tokens a batch: small enough for a processor's caches, large enough to fill its cores."""

BATCH_SIZE = 256
"""Dialogues a batch, at most."""

_CHUNK = 4096


class Scorer:
    """Scores dialogues for sensibility and rationality, 0 to 10, offline.

    Scores do not depend on what else is in a batch, nor on its size or order (to 1e-3).
    """

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        """Join a verified bundle and an engine that has its model loaded; ``load`` does both."""
        self.bundle = bundle
        self.engine = engine
        self.encoder = Encoder(bundle.tokenizer, bundle.max_length)

    @classmethod
    def load(cls, path: Path | str | None = None, *, engine: str = "auto", threads: int | None = None) -> Scorer:
        """Return the scorer in a bundle folder, the starter for None; BundleError if it cannot be trusted."""
        bundle = load_bundle(path)
        return cls(bundle, make_engine(engine, bundle, threads))

    def score(self, dialogues: Iterable[Dialogue | Mapping[str, Any]]) -> Scores:
        """Return the scores of dialogues, or of records as they stand in a file, in order.

        Shape (N, 2), float32, 0 to 10, columns in the order of ``HEADS``: sensibility, rationality.
        RejectedError names the first record that is no dialogue; to go on past such records use `score_files`.
        """
        parsed = (_dialogue(item, number) for number, item in enumerate(dialogues))
        parts = [self.run(self.encoder.encode(chunk)) for chunk in _chunks(parsed, _CHUNK)]
        return np.concatenate(parts) if parts else np.zeros((0, len(HEADS)), dtype=np.float32)

    def uncertainty(self, scores: Scores) -> Scores:
        """Return the half-width of each score, both (N, 2): where the judge's lies for 9 of 10 dialogues of the domain.

        BundleError if the scorer was exported without one.
        """
        uncertainty = self.bundle.uncertainty
        if uncertainty is None:
            raise BundleError(f"{self.bundle.path}: holds no uncertainty; train and export it again to have one")
        return uncertainty.of(scores)

    def run(
        self,
        encoded: Sequence[Encoded],
        *,
        batch_tokens: int = BATCH_TOKENS,
        batch_size: int = BATCH_SIZE,
        on_batch: Callable[[int, int], None] | None = None,
    ) -> Scores:
        """Return the scores (N, 2) of encoded dialogues, in order; ``on_batch`` hears rows and tokens done."""
        scores = np.empty((len(encoded), len(HEADS)), dtype=np.float32)
        lengths = np.array([len(item) for item in encoded], dtype=np.int64)
        for rows in plan_batches(lengths, batch_tokens, batch_size):
            scores[rows] = self.engine.run(collate([encoded[row] for row in rows], self.bundle.pad_id))
            if on_batch is not None:
                on_batch(len(rows), int(lengths[rows].sum()))
        if not np.isfinite(scores).all():
            row = int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])
            found = f"gave {scores[row].tolist()} for a dialogue of {lengths[row]} tokens"
            raise EngineError(f"{self.bundle.path}: {found}, expected numbers")
        return scores.clip(*SCORE_RANGE)


def plan_batches(lengths: npt.NDArray[np.int64], batch_tokens: int, batch_size: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield rows for each batch, longest dialogues first: at most ``batch_tokens`` padded tokens, at least one row.

    Sorting by length keeps padding near nothing, and the longest batch first shows at once whether memory suffices.
    """
    padded = -(-lengths // PAD_MULTIPLE) * PAD_MULTIPLE
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, min(batch_size, batch_tokens // int(padded[order[start]])))
        yield order[start : start + rows]
        start += rows


def _dialogue(item: Dialogue | Mapping[str, Any], number: int) -> Dialogue:
    if isinstance(item, Dialogue):
        return item
    try:
        return parse_record(item)
    except RecordError as error:
        raise RejectedError(f"dialogue {number}: {error}") from None


def _chunks(items: Iterable[Dialogue], size: int) -> Iterator[list[Dialogue]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
