"""Engines and precisions on the machine at hand: what they score, and how fast, against ONNX Runtime in fp32."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from scorer.bundle.encode import Encoded
from scorer.bundle.tokens import Tokens
from scorer.engines.base import Engine, Network, Scores, padded
from scorer.engines.machine import GPU, processor_kind, processor_name
from scorer.engines.names import INT8_DYNAMIC, ON_GPU
from scorer.engines.onnxruntime import OnnxRuntimeEngine
from scorer.engines.openvino import OpenVinoEngine
from scorer.engines.verdicts import Verdict
from scorer.errors import BundleError, EngineError
from scorer.model import plan_batches
from scorer.progress import Progress, Silent
from selection.gating.judge import Decide, judge_decisions

MIN_GAIN = 1.05
"""How many times the rate of the fastest fp32 a lower precision must have to be worth its changes."""

_ROUNDS = 3
_ROUND_SECONDS = 2.0
_FEWEST, _MOST = 16, 512
_ON_PROCESSOR = (("openvino", "fp32"), ("openvino", "bf16"), ("openvino", INT8_DYNAMIC))
_ON_A_GPU = (("onnxruntime-cuda", "fp32"), ("onnxruntime-cuda", "fp16"))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """What is measured: a network, the rows it is measured on as token ids, and what its numbers decide.

    ``span`` are the lowest and highest score, None where the network's numbers are taken as they are.
    """

    network: Network
    encoded: Sequence[Encoded]
    pad_id: int
    decide: Decide
    span: tuple[float, float] | None = None


def measure(
    subject: Subject,
    *,
    max_flips: float,
    threads: int | None = None,
    gpu: bool = False,
    progress: Progress | None = None,
) -> list[Verdict]:
    """Return a verdict for ONNX Runtime in fp32, which is the reference, and for each other engine and precision.

    One that cannot run here has ``checked`` 0 and says why. A precision below fp32 is refused also where it is no
    faster than the fastest fp32. ``gpu`` says to try the GPU too. BundleError if the network does not load, EngineError
    if it gives no numbers.
    """
    progress = progress or Silent()
    reference_engine = OnnxRuntimeEngine(subject.network, threads)
    reference, seconds = _all_scores(subject, reference_engine, progress)
    if not np.isfinite(reference).all():
        bad = int(np.flatnonzero(~np.isfinite(reference).all(axis=1))[0])
        raise EngineError(f"{subject.network.path}: gave {reference[bad].tolist()} for row {bad + 1}, expected numbers")
    engines: list[Engine] = [reference_engine]
    verdicts = [judge_decisions(reference, reference, subject.decide, max_flips)]
    absent = []
    for name, precision in (*_ON_PROCESSOR, *(_ON_A_GPU if gpu else ())):
        try:
            engine = started(name, subject.network, threads, precision)
            scores, _ = _all_scores(subject, engine, progress)
        except (EngineError, BundleError) as error:
            row = Verdict(allowed=False, reason=f"not run: {error}", precision=precision, engine=name)
            absent.append(row)
            continue
        engines.append(engine)
        verdicts.append(judge_decisions(reference, scores, subject.decide, max_flips))
    found = rates(engines, subject, progress, seconds=seconds)
    return [*ruled(verdicts, engines, found), *absent]


def started(name: str, network: Network, threads: int | None, precision: str) -> Engine:
    """Return an engine, whatever any gate says; EngineError or BundleError if it does not run here."""
    if name == "openvino":
        return OpenVinoEngine(network, threads, precision)
    return OnnxRuntimeEngine(network, threads, precision, name)


def scores_of(
    engine: Engine, subject: Subject, tokens: Tokens, on_rows: Callable[[int], None] = lambda _: None
) -> Scores:
    """Return the numbers (N, C) that an engine gives for rows, in order; ``on_rows`` is told how many are done."""
    plan = list(plan_batches(tokens.lengths, engine.batch_tokens, 256, engine.pad_multiple))
    scores = np.empty((len(tokens.lengths), subject.network.columns), dtype=np.float32)
    done = 0
    batches = (padded(tokens, rows, subject.pad_id, engine.pad_multiple) for rows in plan)
    with closing(engine.stream(batches)) as outputs:
        for rows, found in zip(plan, outputs, strict=True):
            scores[rows] = found
            on_rows(done := done + len(rows))
    scores = scores[tokens.texts]
    return scores if subject.span is None else scores.clip(*subject.span)


def rates(engines: Sequence[Engine], subject: Subject, progress: Progress, *, seconds: float) -> list[float]:
    """Return how many rows a second each engine scores: its best of some rounds, in which all take turns.

    ``seconds`` is what the first engine takes for all rows: a round has as many as take it two seconds.
    """
    count = int(np.clip(len(subject.encoded) * _ROUND_SECONDS / max(seconds, 1e-6), _FEWEST, _MOST))
    chosen = np.unique(np.linspace(0, len(subject.encoded) - 1, min(count, len(subject.encoded))).astype(int))
    tokens = Tokens.of([subject.encoded[row] for row in chosen])
    best = [float("inf")] * len(engines)
    progress.stage("measuring rates", _ROUNDS * len(engines))
    for turn in range(_ROUNDS):
        for place, engine in enumerate(engines):
            began = time.perf_counter()
            scores_of(engine, subject, tokens)
            best[place] = min(best[place], time.perf_counter() - began)
            progress.update(turn * len(engines) + place + 1)
    return [len(tokens) / one for one in best]


def ruled(verdicts: Sequence[Verdict], engines: Sequence[Engine], found: Sequence[float]) -> list[Verdict]:
    """Return verdicts with the place where they were measured and their rates, the first engine's being 1.

    A precision below fp32 that is no faster than the fastest fp32 of the same hardware is refused.
    """
    rows = []
    for verdict, engine, rate in zip(verdicts, engines, found, strict=True):
        row = replace(verdict, **place_of(engine), rate=round(rate, 1), gain=round(rate / found[0], 3))
        plain = [
            other_rate
            for other, other_rate in zip(engines, found, strict=True)
            if other.precision == "fp32" and (other.name in ON_GPU) == (engine.name in ON_GPU)
        ]
        if row.allowed and row.precision != "fp32" and plain and rate < MIN_GAIN * max(plain):
            times = f"{rate / max(plain):.2f} times the rate of fp32 on {row.processor}"
            row = replace(row, allowed=False, reason=f"{row.reason}, but no faster: {times}, expected {MIN_GAIN:g}")
        rows.append(row)
    return rows


def place_of(engine: Engine) -> dict[str, Any]:
    """Return what a verdict says of where it was measured."""
    library = engine.name.partition("-")[0]
    on_gpu = engine.name in ON_GPU
    return {
        "precision": engine.precision,
        "engine": engine.name,
        "version": next(filter(None, map(_version, (library, f"{library}-gpu"))), ""),
        "processor": GPU if on_gpu else processor_kind(),
        "model": "" if on_gpu else processor_name(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _all_scores(subject: Subject, engine: Engine, progress: Progress) -> tuple[Scores, float]:
    tokens = Tokens.of(subject.encoded)
    progress.stage(f"scoring with {engine.name} in {engine.precision}", len(tokens.lengths))
    began = time.perf_counter()
    scores = scores_of(engine, subject, tokens, progress.update)
    return scores, time.perf_counter() - began
