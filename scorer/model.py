"""The scorer as an object: load a bundle, score dialogues."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scorer.bundle.bundle import Bundle
from scorer.bundle.encode import Encoded, Encoder
from scorer.bundle.trial import open_bundle
from scorer.dialogue import HEADS, SCORE_RANGE, Dialogue
from scorer.engines.auto import make_engine
from scorer.engines.base import PAD_MULTIPLE, Engine, Scores, collate
from scorer.engines.names import BATCH_SIZE
from scorer.errors import BundleError, EngineError, RejectedError
from scorer.inputs.parse import RecordError, parse_record

_CHUNK = 4096


class Scorer:
    """Scores dialogues for sensibility and rationality, 0 to 10, offline.

    Scores do not depend on what else is in a batch, nor on its size or order (to 1e-3 in fp32, 0.02 below it).
    """

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        """Join a verified bundle and an engine that has its model loaded; ``load`` does both."""
        self.bundle = bundle
        self.engine = engine
        self.encoder = Encoder(bundle.tokenizer, bundle.info.max_length)

    @classmethod
    def load(
        cls,
        path: Path | str | None = None,
        *,
        engine: str = "auto",
        threads: int | None = None,
        precision: str | None = None,
    ) -> Scorer:
        """Return the scorer in a bundle folder, the starter for None; BundleError if it cannot be trusted.

        ``engine`` and ``precision`` are as in ``make_engine``.
        """
        bundle = open_bundle(path)
        return cls(bundle, make_engine(engine, bundle, threads, precision))

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
        uncertainty = self.bundle.info.uncertainty
        if uncertainty is None:
            raise BundleError(f"{self.bundle.path}: holds no uncertainty; train and export it again to have one")
        return uncertainty.of(scores)

    def run(
        self,
        encoded: Sequence[Encoded],
        *,
        batch_tokens: int | None = None,
        batch_size: int = BATCH_SIZE,
        on_batch: Callable[[int, int], None] | None = None,
    ) -> Scores:
        """Return the scores (N, 2) of encoded dialogues, in order; the same object among them is scored once.

        ``batch_tokens`` None are as many padded tokens per batch as suit the engine. ``on_batch`` is told the rows and
        tokens of each batch that is done.
        """
        distinct = list({id(item): item for item in encoded}.values())
        lengths = np.array([len(item) for item in distinct], dtype=np.int64)
        engine = self.engine
        plan = list(plan_batches(lengths, batch_tokens or engine.batch_tokens, batch_size, engine.pad_multiple))
        scores = np.empty((len(distinct), len(HEADS)), dtype=np.float32)
        pad_id = self.bundle.info.pad_id
        batches = (collate([distinct[row] for row in rows], pad_id, engine.pad_multiple) for rows in plan)
        with closing(engine.stream(batches)) as outputs:
            for rows, found in zip(plan, outputs, strict=True):
                scores[rows] = found
                if on_batch is not None:
                    on_batch(len(rows), int(lengths[rows].sum()))
        if not np.isfinite(scores).all():
            row = int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])
            gave = f"gave {scores[row].tolist()} for a dialogue of {lengths[row]} tokens"
            raise EngineError(f"{self.bundle.path}: {gave}, expected numbers")
        if len(distinct) < len(encoded):
            place = {id(item): row for row, item in enumerate(distinct)}
            scores = scores[[place[id(item)] for item in encoded]]
        return scores.clip(*SCORE_RANGE)


def plan_batches(
    lengths: npt.NDArray[np.int64], batch_tokens: int, batch_size: int, pad_multiple: int = PAD_MULTIPLE
) -> Iterator[npt.NDArray[np.int64]]:
    """Yield rows for each batch, longest dialogues first: at most ``batch_tokens`` padded tokens, at least one row.

    Sorting by length keeps padding near nothing, and the longest batch first shows at once whether memory suffices.
    """
    padded = -(-lengths // pad_multiple) * pad_multiple
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
