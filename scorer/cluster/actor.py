"""The class of Ray actors, which travels by value."""

from __future__ import annotations

from typing import Any


def actor_class(ray: Any, threads: int, gpus: float) -> Any:
    """Return the class of actors. It travels by value, so that a machine without this package can say what it lacks."""

    class Remote:
        def start(self, driver: str, job: bytes) -> tuple[str, Any]:
            import importlib.metadata
            import pickle

            import ray

            node = ray.util.get_node_ip_address()
            try:  # whatever the machine lacks is one line on the driver; any other fault keeps its traceback
                here = importlib.metadata.version("empathy-scorer")
                if here != driver:
                    return node, f"has empathy-scorer {here} and this process {driver}; install the same there"
                from scorer.cluster.worker import Worker, start

                found: Worker | str = start(pickle.loads(job))  # noqa: S301 - the driver's own
            except ImportError as error:
                return node, f"{error}; install there what is installed here"
            if isinstance(found, str):
                return node, found
            self._worker = found
            return node, found.facts

        def score(self, tokens: Any) -> Any:
            return self._worker.score(tokens)

        def share(self, part: Any) -> Any:
            return self._worker.share(part)

    # Dead actors are not restarted by Ray, which would wait for room where there is none; others take their windows.
    return ray.remote(Remote).options(num_cpus=threads, num_gpus=gpus, max_restarts=0, scheduling_strategy="SPREAD")
