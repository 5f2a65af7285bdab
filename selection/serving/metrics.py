"""What Prometheus reads: counts and times, and never a text, an id or a category."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder

from scorer.dialogue import HEADS
from scorer.model import Scorer
from selection.rules import PAPER
from selection.serving.messages.shapes import Refused, Scored

_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_LEVELS = tuple(range(1, 10))


class Metrics:
    """The figures of one server."""

    def __init__(self, scorer: Scorer) -> None:
        """Begin at zero."""
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        info = scorer.bundle.info
        about = Gauge(
            "empathy_scorer_info", "The scorer.", ["name", "sha256", "engine", "precision"], registry=registry
        )
        about.labels(info.name, scorer.bundle.sha256, scorer.engine.name, scorer.engine.precision).set(1)
        self.requests = Counter(
            "empathy_requests", "Requests, by route and status.", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "empathy_request_seconds", "Seconds to answer a request.", ["route"], buckets=_SECONDS, registry=registry
        )
        self._scored = Counter(
            "empathy_scored", "Dialogues scored, by set (paper rule, threshold 5).", ["set"], registry=registry
        )
        self._rejected = Counter("empathy_rejected", "Records rejected, by reason.", ["reason"], registry=registry)
        self._outside = Counter("empathy_outside", "Dialogues outside the training domain.", registry=registry)
        self._scores = Histogram("empathy_score", "Scores, by head.", ["head"], buckets=_LEVELS, registry=registry)
        self._run_rows = Counter("empathy_run_rows", "Dialogues that the network ran on.", registry=registry)
        self._run_tokens = Counter("empathy_run_tokens", "Tokens that the network ran on.", registry=registry)
        self._runs = Counter("empathy_runs", "Runs of the network.", registry=registry)
        self.waiting = Gauge("empathy_waiting_tokens", "Tokens that wait or are being scored.", registry=registry)
        self.in_hand = Gauge("empathy_requests_in_hand", "Requests that are not answered yet.", registry=registry)
        for name in PAPER.sets:
            self._scored.labels(name)

    def ran(self, rows: int, tokens: int) -> None:
        """Count a run of the network."""
        self._runs.inc()
        self._run_rows.inc(rows)
        self._run_tokens.inc(tokens)

    def results(self, results: Sequence[Scored | Refused]) -> None:
        """Count results that are answered."""
        for one in results:
            if isinstance(one, Refused):
                self._rejected.labels(one.reason).inc()
                continue
            self._scored.labels(one.set).inc()
            if one.outside:
                self._outside.inc()
            for head, value in zip(HEADS, (one.sensibility, one.rationality), strict=True):
                self._scores.labels(head).observe(value)

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return all figures in the format that a client accepts, and its content type."""
        encoder: Any
        encoder, content_type = choose_encoder(accept)
        return encoder(self._registry), content_type
