"""What runs on a machine of a cluster: the bundle, loaded once, and windows of token ids, one after another.

Nothing here knows of Ray, so that a worker is tested without it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from scorer.bundle.tokens import Tokens
from scorer.engines.base import PAD_MULTIPLE, Inputs, Scores
from scorer.errors import EmpathyError, EngineError
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.reading.windows import Share
from scorer.run.backend import Local, score_columns
from scorer.run.mirror import opened, score_into
from scorer.run.score import Summary
from scorer.run.settings import ScoreSettings


@dataclass(slots=True)
class EngineFacts:
    """An engine that runs elsewhere: all that is said of it beside the scores. It cannot run here."""

    name: str
    precision: str
    threads: int
    notice: str = ""
    pad_multiple: int = PAD_MULTIPLE
    batch_tokens: int = 1

    def run(self, inputs: Inputs) -> Scores:
        """Raise EngineError: what has only these facts scores nothing."""
        rows, length = inputs["input_ids"].shape
        what = f"{self.name} {self.precision} runs on the cluster's workers"
        raise EngineError(f"{what} and not in this process, which got a batch of {rows} x {length} tokens")

    def stream(self, batches: Iterable[Inputs]) -> Generator[Scores]:
        """Raise EngineError, as ``run`` does."""
        yield from map(self.run, batches)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a worker is sent once: a bundle's files, the engine and its threads, how to score.

    ``expected`` is the engine and the precision that every worker must have, None for the first one's own. ``gpus``
    are those that the worker was given.
    """

    files: Mapping[str, bytes]
    engine: str
    precision: str | None
    threads: int
    gpus: float
    expected: tuple[str, str] | None
    settings: ScoreSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A share of a run that a worker reads and writes itself; paths are as seen from ``folder``."""

    inputs: tuple[str, ...]
    fields: Mapping[str, str]
    output: Path | str
    share: Share
    folder: Path


class Worker:
    """Holds a loaded scorer; EngineError where it is not the engine that the run was begun with."""

    def __init__(self, job: Job) -> None:
        """Verify and load the bundle of a job; BundleError or EngineError says why that cannot be."""
        with tempfile.TemporaryDirectory(prefix="empathy-") as folder:
            for name, data in job.files.items():
                (Path(folder) / name).write_bytes(data)
            self._scorer = Scorer.load(folder, engine=job.engine, threads=job.threads, precision=job.precision)
        self._settings = job.settings
        engine = self._scorer.engine
        self.facts = EngineFacts(engine.name, engine.precision, engine.threads, engine.notice)
        if job.gpus and "cuda" not in engine.name:
            why = engine.notice or "onnxruntime-gpu is not installed there"
            raise EngineError(f"it was given a GPU and {engine.name} runs on the processor ({why})")
        if job.expected and job.expected != (engine.name, engine.precision):
            raise EngineError(
                f"it runs {engine.name} {engine.precision} and this run is {' '.join(job.expected)}: scores are never "
                "mixed; take an --engine that does the same on every machine"
            )

    def score(self, tokens: Tokens) -> Scores:
        """Return the score columns of a window's dialogues."""
        return score_columns(self._scorer, tokens, self._settings)

    def share(self, part: Part) -> Summary:
        """Score a share of the windows into its folder, from where whoever had it before ended."""
        here = [name for name in (*part.inputs, str(part.output)) if "://" not in name]
        try:
            if here:
                os.chdir(part.folder)
        except OSError as error:
            raise EngineError(
                f"{part.folder}: cannot be read on a worker ({error.strerror or error}); inputs and output have to be "
                "on a file system that all machines see, under the same names, or at URLs"
            ) from None
        corpus = Corpus(part.inputs, fields=part.fields, keep_records=self._settings.keep)
        settings = replace(self._settings, share=part.share, existing="resume")
        with opened(part.output, part.share) as output:
            return score_into(Local(self._scorer, settings), corpus, output, settings)


def start(job: Job) -> Worker | str:
    """Return a worker, or in one line why this machine cannot have one."""
    try:
        return Worker(job)
    except EmpathyError as error:
        return str(error)
    except OSError as error:  # no room for the bundle
        return f"the bundle cannot be written there: {error.strerror or error}"
