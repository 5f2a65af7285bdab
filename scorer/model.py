"""The scorer as an object: load a bundle, score dialogues."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt

from scorer.bundle.bundle import STARTER, Bundle, load_bundle
from scorer.bundle.encode import Encoded, Encoder
from scorer.bundle.tokens import Tokens
from scorer.bundle.trial import open_bundle
from scorer.calls.bar import CallBar
from scorer.calls.columns import Table, check_columns, with_columns
from scorer.calls.given import Fields, OnBad, read_given
from scorer.dialogue import HEADS, SCORE_RANGE, Dialogue
from scorer.engines.auto import make_engine, started_again
from scorer.engines.base import PAD_MULTIPLE, Engine, Scores, padded
from scorer.engines.names import BATCH_SIZE
from scorer.errors import BundleError, EngineError, RejectedError, printable
from scorer.inputs.parse import RecordError
from scorer.progress import Progress

_CHUNK = 4096

T = TypeVar("T")


class Scorer:
    """Scores dialogues for sensibility and rationality, 0 to 10, offline.

    Scores do not depend on what else is in a batch, nor on its size or order (to 1e-3 in fp32, 0.02 below it). A scorer
    can be pickled, and used in any thread and in forked or spawned processes: each starts an engine of its own when it
    first scores there. A pickle names the bundle's folder and hash, so the folder must be there where it is read.
    """

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        """Join a verified bundle and an engine that has its model loaded; ``load`` does both."""
        self._recipe: _Recipe | None = None
        self._found: _Loaded | None = _Loaded(bundle, engine)

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

        What is no folder but has the form user/repo or user/repo@revision is downloaded from the Hugging Face hub, once
        (see `scorer.hub.fetch`). ``engine`` and ``precision`` are as in ``make_engine``.
        """
        bundle = open_bundle(path)
        return cls(bundle, make_engine(engine, bundle, threads, precision))

    @property
    def bundle(self) -> Bundle:
        """The bundle, verified."""
        return self._loaded.bundle

    @property
    def encoder(self) -> Encoder:
        """What turns dialogues into token ids."""
        return self._loaded.encoder

    @property
    def engine(self) -> Engine:
        """What runs the network in this process."""
        return self._loaded.engine

    def score(
        self,
        dialogues: Dialogue | Iterable[Any],
        *,
        on_bad: OnBad = "raise",
        fields: Fields | None = None,
        progress: bool | None = None,
    ) -> Scores:
        """Return the scores of dialogues in order: (N, 2), float32, 0 to 10, columns as in ``HEADS``; of one, (2,).

        One dialogue is a `Dialogue`, a record as it stands in a file, a list of messages or a tuple (context,
        response). Many are any iterable of these, a table (pandas, polars, pyarrow, DuckDB) with the columns of a
        Parquet file or with the ``fields`` that are named ({"response": "answer"}), or a `datasets.Dataset`.

        RejectedError names the first that is no dialogue; with ``on_bad`` "nan" such rows are NaN. A long call draws a
        bar where a person watches; ``progress`` True draws it anyway and False never.
        """
        if on_bad not in ("raise", "nan"):
            raise RejectedError(f"on_bad is {on_bad!r}, expected 'raise' or 'nan'")
        given = read_given(dialogues, fields)
        items = given.items if on_bad == "nan" else _all_good(given.items, one=given.one)
        parts = [np.zeros((0, len(HEADS)), dtype=np.float32)]
        done = 0
        with CallBar(show=progress) as bar:
            bar.stage("scoring", given.count)
            for chunk in _chunks(items, _CHUNK):
                parts.append(self._scored(chunk, done, bar))
                done += len(chunk)
                bar.update(done)
        scores = np.concatenate(parts)
        return scores[0] if given.one else scores

    def _scored(self, chunk: Sequence[Dialogue | RecordError], before: int, bar: Progress) -> Scores:
        good = [row for row, item in enumerate(chunk) if isinstance(item, Dialogue)]
        done = before

        def on_batch(rows: int, _tokens: int) -> None:
            nonlocal done
            done += rows
            bar.update(done)

        scores = np.full((len(chunk), len(HEADS)), np.nan, dtype=np.float32)
        dialogues = [item for item in chunk if isinstance(item, Dialogue)]
        scores[good] = self.run(self.encoder.encode(dialogues), on_batch=on_batch)
        return scores

    def score_frame(
        self,
        frame: Table,
        *,
        columns: Sequence[str] = HEADS,
        on_bad: OnBad = "raise",
        fields: Fields | None = None,
        progress: bool | None = None,
    ) -> Table:
        """Return a new table of the same kind with two columns more, the scores of its rows (float32).

        ``frame`` is a pandas or polars DataFrame, a pyarrow Table or a `datasets.Dataset`, all else is as in ``score``.
        RejectedError where a column of that name is there already, such as a judge's.
        """
        check_columns(frame, columns)
        scores = self.score(cast("Iterable[Any]", frame), on_bad=on_bad, fields=fields, progress=progress)
        return with_columns(frame, columns, scores)

    def uncertainty(self, scores: Scores) -> Scores:
        """Return the half-width of each score, both (N, 2) or (2,): the judge's lies within for 9 of 10 of its domain.

        BundleError if the scorer was exported without one.
        """
        uncertainty = self.bundle.info.uncertainty
        if uncertainty is None:
            raise BundleError(f"{self.bundle.path}: holds no uncertainty; train and export it again to have one")
        return uncertainty.of(scores)

    def run(
        self,
        encoded: Sequence[Encoded] | Tokens,
        *,
        batch_tokens: int | None = None,
        batch_size: int = BATCH_SIZE,
        on_batch: Callable[[int, int], None] | None = None,
    ) -> Scores:
        """Return the scores (N, 2) of encoded dialogues, in order; the same object among them is scored once.

        ``batch_tokens`` None are as many padded tokens per batch as suit the engine. ``on_batch`` is told the rows and
        tokens of each batch that is done.
        """
        tokens = encoded if isinstance(encoded, Tokens) else Tokens.of(encoded)
        lengths, engine = tokens.lengths, self.engine
        plan = list(plan_batches(lengths, batch_tokens or engine.batch_tokens, batch_size, engine.pad_multiple))
        scores = np.empty((len(lengths), len(HEADS)), dtype=np.float32)
        pad_id = self.bundle.info.pad_id
        batches = (padded(tokens, rows, pad_id, engine.pad_multiple) for rows in plan)
        with closing(engine.stream(batches)) as outputs:
            for rows, found in zip(plan, outputs, strict=True):
                scores[rows] = found
                if on_batch is not None:
                    on_batch(len(rows), int(lengths[rows].sum()))
        if not np.isfinite(scores).all():
            row = int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])
            gave = f"gave {scores[row].tolist()} for a dialogue of {lengths[row]} tokens"
            raise EngineError(f"{self.bundle.path}: {gave}, expected numbers")
        return scores[tokens.texts].clip(*SCORE_RANGE)

    @property
    def _loaded(self) -> _Loaded:
        if self._found is None:
            assert self._recipe is not None
            self._found = _loaded_again(self._recipe)
        return self._found

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle where the bundle lies and how it is run, not its 20 MB and more."""
        return _unpickled, (self._recipe or self._loaded.recipe,)

    def __repr__(self) -> str:
        """Return what it is: name, backbone, hash, engine, licence."""
        if self._found is None:
            return f"<Scorer, to be loaded from {(self._recipe and self._recipe.path) or 'the starter'}>"
        info, engine = self.bundle.info, self._found.recipe
        made = printable(f"{info.name}: {info.backbone}, {info.created}, {info.licence}")
        runs = f"{engine.engine} {engine.precision}, {engine.threads} thread{'s' * (engine.threads != 1)}"
        return f"<Scorer {made}; {self.bundle.sha256[:12]}; {runs}>"


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


class _Recipe(NamedTuple):
    """What a pickle of a scorer holds; ``path`` None is the starter."""

    path: str | None
    sha256: str
    engine: str
    threads: int
    precision: str


class _Loaded:
    """A bundle and what scores with it in this process."""

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self.bundle = bundle
        self.encoder = Encoder(bundle.tokenizer, bundle.info.max_length)
        self._engine, self._process = engine, os.getpid()

    @property
    def engine(self) -> Engine:
        """The engine; after a fork another one."""
        if self._process != os.getpid():
            self._engine, self._process = started_again(self._engine, self.bundle), os.getpid()
        return self._engine

    @property
    def recipe(self) -> _Recipe:
        """What it takes to load it elsewhere."""
        bundle, engine = self.bundle, self._engine
        path = None if bundle.path == STARTER else str(bundle.path.absolute())
        return _Recipe(path, bundle.sha256, engine.name, engine.threads, engine.precision)


@lru_cache(maxsize=2)  # a pool's tasks each bring the scorer once more
def _loaded_again(recipe: _Recipe) -> _Loaded:
    bundle = load_bundle(recipe.path)
    if bundle.sha256 != recipe.sha256:
        said = f"{bundle.sha256[:12]}, expected {recipe.sha256[:12]}"
        raise BundleError(f"{bundle.path}: is another scorer ({said}) than the one that was pickled")
    return _Loaded(bundle, make_engine(recipe.engine, bundle, recipe.threads, recipe.precision))


def _unpickled(recipe: _Recipe) -> Scorer:
    """Return a scorer that loads when it is first used: a pool that cannot read its task would wait for ever."""
    scorer = Scorer.__new__(Scorer)
    scorer._recipe, scorer._found = recipe, None
    return scorer


def _all_good(items: Iterable[Dialogue | RecordError], *, one: bool) -> Iterator[Dialogue]:
    for number, item in enumerate(items):
        if isinstance(item, RecordError):
            raise RejectedError(printable(f"the dialogue: {item}" if one else f"dialogue {number}: {item}"))
        yield item


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
