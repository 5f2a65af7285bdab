"""Score on a Ray cluster: this process reads, hands out windows and writes; actors on other machines score them.

The output, its manifest and the way to resume are those of `scorer.run.score.score_on`, which never knows who scored a
window. A window's token ids go to a worker through Ray's object store and its scores come back; only this process needs
to see inputs, outputs and the bundle's folder. A worker that dies, with its machine or alone, loses the windows that it
had; they are still here, and others get them.

Plain actors, not Ray Data, because the input is one stream that is read once, in order (ids are made unique along it,
and it may be standard input). In Ray Data 2.60 such a stream is a read task that runs as long as the whole run. When a
machine died with results that nobody had taken yet, Ray wanted to run that task again to restore them, waited for
it to end first, and the run stood still (ray-project/ray, pull request 64805, describes the same circle).
"""

from __future__ import annotations

import pickle
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from scorer.cluster.actor import actor_class
from scorer.cluster.connection import AUTO, LOCAL, check_ready, connect
from scorer.cluster.worker import EngineFacts, Job
from scorer.engines.base import Scores
from scorer.errors import EmpathyError, EngineError
from scorer.model import Scorer
from scorer.reading.cut import Prepared
from scorer.run.estimate import Estimate
from scorer.run.settings import ScoreSettings

_PACKAGE = "empathy-scorer"
_THREADS = 4  # per worker, where the machines have as many
_IN_FLIGHT = 2  # windows per worker: one that it scores and one that waits, so that the worker never waits
_AHEAD = 4  # windows per worker that are read and not yet written, so that memory has a bound
_ATTEMPTS = 5  # a window that so many workers died of is not tried on yet another
_PATIENCE = 600.0  # seconds to wait for a worker where there is none: an autoscaler takes minutes
_LOOK = 5.0  # seconds between two looks at the machines that there are


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """Which cluster, and what of it is used.

    ``address`` is HOST:PORT, ``local`` for a cluster of this machine only that ends with the run, or ``auto``: that of
    RAY_ADDRESS, else the one that runs on this machine, else a local one. Each worker has ``threads`` processor cores
    (None: 4, or as many as the smallest machine has) and ``gpus`` GPUs (workers may share one: 0.5).
    """

    address: str = AUTO
    threads: int | None = None
    workers: int | None = None
    gpus: float = 0.0


@dataclass(slots=True)
class _Task:
    """A call on its way: a window, or whatever ``name`` says.

    ``result`` is what it came to, or the error that the run ends with when its turn comes.
    """

    name: str
    sent: Any
    window: Prepared | None = None
    attempts: int = 0
    result: Any = None


@dataclass(slots=True, eq=False)
class _Worker:
    """A worker: its actor, the machine it runs on once it has started, and the windows that it has."""

    actor: Any
    node: str = ""
    has: list[_Task] = field(default_factory=list)


class Cluster:
    """The workers of one run. Ray is connected to when it is first needed, and left at the end of the context."""

    def __init__(
        self, scorer: Scorer, settings: ScoreSettings, where: ClusterSettings, engine: str, precision: str | None = None
    ) -> None:
        """Score with the bundle of ``scorer`` and an engine as in ``make_engine``; CPUs compute as ``scorer`` does."""
        self.scorer = scorer
        engines = (engine, precision) if where.gpus else (scorer.engine.name, scorer.engine.precision)
        self._engine, self._precision = engines
        self._settings = settings
        self._where = where
        self._ray: Any = None
        self._job: Any = None
        self._threads = where.threads or _THREADS
        self._workers: list[_Worker] = []
        self._calls: dict[Any, tuple[_Worker, _Task | None]] = {}
        """Which worker does what, by the reference of its result; None is loading the bundle."""
        self._again: deque[_Task] = deque()
        self._served: dict[_Worker, str] = {}
        self._lost = 0
        self._why = ""
        self._wanted = 0
        self._looked = self._alive = float("-inf")

    def __enter__(self) -> Cluster:
        """Return the cluster; on GPUs ``scorer`` is then what the first worker computes with.

        EngineError or MissingExtraError where there is none, before an output is begun.
        """
        check_ready(self._where.address)
        if self._where.gpus:
            self._start(expected=None)
            while not self._served:
                self._step()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave Ray: the workers end, and so does a local cluster."""
        if self._ray is not None:
            self._ray.shutdown()

    def score(self, windows: Iterator[Prepared], estimate: Estimate) -> Iterator[tuple[Prepared, Scores]]:
        """Yield windows with their score columns, in their order.

        EngineError where workers cannot start or do not compute as ``scorer`` does. An error of reading, such as
        RejectedError under ``strict``, comes after all windows before it.
        """
        if self._ray is None:
            self._start(expected=(self.scorer.engine.name, self.scorer.engine.precision))
        turn: deque[_Task] = deque()
        more = True
        fault: EmpathyError | None = None
        while more or turn:
            idle = self._idle()
            handed = idle is not None
            if idle and self._again:
                self._hand(self._again.popleft(), idle)
            elif idle and more and len(turn) < _AHEAD * sum(bool(worker.node) for worker in self._workers):
                try:
                    window = next(windows, None)
                except EmpathyError as error:
                    window, fault = None, error
                more = window is not None
                if window is not None:
                    turn.append(_Task(f"window {window.number}", self._ray.put(window.tokens), window))
                    self._hand(turn[-1], idle)
            else:
                handed = False
            self._step(wait=not handed)
            while turn and turn[0].result is not None:
                task = turn.popleft()
                if isinstance(task.result, Exception):
                    raise task.result from None
                assert task.window is not None
                estimate.read(task.window.work, task.window.position)
                estimate.scored(len(task.window.ids), task.window.work)
                yield task.window, task.result
        if fault is not None:
            raise fault

    def each(self, call: str, given: Mapping[str, Any]) -> Iterator[Any]:
        """Yield what a method of workers returns for each of some things, by their names, in the order of its ends.

        A worker has one of them at a time. Errors are as in ``score``, but at once.
        """
        if self._ray is None:
            self._start(expected=(self.scorer.engine.name, self.scorer.engine.precision))
        under_way = [_Task(name, sent) for name, sent in given.items()]
        todo = deque(under_way)
        while under_way:
            idle = next((worker for worker in self._workers if worker.node and not worker.has), None)
            waiting = self._again or todo
            handed = idle is not None and bool(waiting)
            if idle is not None and waiting:
                self._hand(waiting.popleft(), idle, call)
            self._step(wait=not handed)
            for task in [task for task in under_way if task.result is not None]:
                under_way.remove(task)
                if isinstance(task.result, Exception):
                    raise task.result from None
                yield task.result

    def wait_for(self, workers: int) -> None:
        """Wait until so many workers have loaded the bundle."""
        if self._ray is None:
            self._start(expected=(self.scorer.engine.name, self.scorer.engine.precision))
        while len(self._served) < workers:
            self._step()

    def closing(self) -> list[str]:
        """Return a line that says which workers scored."""
        nodes = len(set(self._served.values()))
        machines = "one machine" if nodes == 1 else f"{nodes} machines"
        lost = f"; {self._lost} of them died and other workers scored their windows" if self._lost else ""
        return [f"workers: {len(self._served)} of {self._threads} threads, on {machines}{lost}"]

    def _start(self, expected: tuple[str, str] | None) -> None:
        self._ray, address = connect(self._where.address)
        if self._where.threads is None:
            cores = [int(node["Resources"].get("CPU", 0)) for node in self._ray.nodes() if node["Alive"]]
            self._threads = min([_THREADS, *(count for count in cores if count)])
        if address == LOCAL and not self._room():  # no machine will ever join
            raise EngineError(f"this machine has no room for {self._asked()}: it has {self._has()}")
        job = Job(
            files=self.scorer.bundle.files,
            engine=self._engine,
            precision=self._precision,
            threads=self._threads,
            gpus=self._where.gpus,
            expected=expected,
            settings=self._settings,
        )
        self._job = self._ray.put(pickle.dumps(job))  # bytes, which a machine without this package can take
        self._alive = time.monotonic()

    def _idle(self) -> _Worker | None:
        """Return the worker with the least to do, if one may have another window."""
        ready = [worker for worker in self._workers if worker.node and len(worker.has) < _IN_FLIGHT]
        return min(ready, key=lambda worker: len(worker.has), default=None)

    def _hand(self, task: _Task, worker: _Worker, call: str = "score") -> None:
        worker.has.append(task)
        self._calls[getattr(worker.actor, call).remote(task.sent)] = worker, task

    def _step(self, *, wait: bool = True) -> None:
        """Start workers that are missing and take in what calls returned; ``wait`` up to a second for a first one."""
        self._recruit()
        calls = list(self._calls)
        ready = self._ray.wait(calls, num_returns=1, timeout=1.0 if wait else 0.0)[0] if calls else []
        for reference in ready:  # one at most
            self._take(reference)

    def _take(self, reference: Any) -> None:
        worker, task = self._calls.pop(reference)
        errors = self._ray.exceptions
        try:
            result = self._ray.get(reference)
        except errors.RayTaskError as error:
            if task is None:
                raise
            # What a window fails of, it fails of anywhere. A fault that is nobody's mistake keeps its traceback.
            result = error.cause if isinstance(error.cause, EmpathyError) else error
        except errors.RayError as error:
            self._drop(worker, task, error)
            return
        if task is None:
            self._join(worker, *result)
            return
        worker.has.remove(task)
        task.result, task.sent = result, None
        self._alive = time.monotonic()

    def _join(self, worker: _Worker, node: str, found: EngineFacts | str) -> None:
        if isinstance(found, str):
            raise EngineError(f"worker on {node}: {found}")
        engine = self.scorer.engine
        if self._served and (found.name, found.precision) != (engine.name, engine.precision):  # GPUs: as the first one
            raise EngineError(f"worker on {node}: runs {found.name} {found.precision}, another {engine.name}")
        self.scorer = Scorer(self.scorer.bundle, found)
        worker.node = node
        self._served[worker] = node
        self._alive = time.monotonic()

    def _drop(self, worker: _Worker, task: _Task | None, error: Exception) -> None:
        """Give the windows of a dead worker to others."""
        self._workers.remove(worker)
        self._calls = {call: (who, what) for call, (who, what) in self._calls.items() if who is not worker}
        self._ray.kill(worker.actor)
        self._lost += bool(worker.node)
        self._why = f"; the last one died so: {' '.join(str(error).split())[:200]}"
        self._looked = float("-inf")
        for other in worker.has:
            other.attempts += other is worker.has[0]  # it was at the first one; the others waited
            if other.attempts >= _ATTEMPTS:
                raise EngineError(f"{other.name}: {_ATTEMPTS} workers died at it{self._why}")
        self._again.extend(worker.has)

    def _recruit(self) -> None:
        now = time.monotonic()
        if any(worker.node for worker in self._workers):
            self._alive = now
        if now - self._alive > _PATIENCE:
            raise EngineError(
                f"no worker started for {_PATIENCE:.0f} s: wanted {self._asked()}, and the cluster has {self._has()}"
                f"{self._why}"
            )
        if now - self._looked > _LOOK:
            self._looked = now
            self._wanted = self._where.workers or max(1, self._room())
        while len(self._workers) < self._wanted:
            actor = actor_class(self._ray, self._threads, self._where.gpus).remote()
            self._workers.append(_Worker(actor))
            self._calls[actor.start.remote(version(_PACKAGE), self._job)] = self._workers[-1], None

    def _asked(self) -> str:
        return f"a worker of {self._threads} CPUs and {self._where.gpus:g} GPUs"

    def _has(self) -> str:
        has = self._ray.cluster_resources()
        return f"{has.get('CPU', 0):g} CPUs and {has.get('GPU', 0):g} GPUs"

    def _room(self) -> int:
        """Return the number of workers that the machines of now have room for."""
        asked = {"CPU": self._threads, "GPU": self._where.gpus}
        return sum(
            min(int(node["Resources"].get(name, 0) / count) for name, count in asked.items() if count)
            for node in self._ray.nodes()
            if node["Alive"]
        )
