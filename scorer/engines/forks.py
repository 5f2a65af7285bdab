"""Engines and forks: the threads of a parent's engine are not in its child, where it neither runs nor ends.

There it would wait for them for ever, or bring the process down, even if it is only forgotten. So in a child the
engines of its parent are never destroyed, and whoever has one starts another (`scorer.engines.auto.started_again`).
"""

from __future__ import annotations

import os
from typing import Any
from weakref import WeakSet

_ALIVE: WeakSet[Any] = WeakSet()


def survive_forks(engine: Any) -> None:
    """Keep an engine for ever in each process that is forked while it lives."""
    _ALIVE.add(engine)


def _keep() -> None:
    import ctypes  # only needed in a child

    for engine in list(_ALIVE):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))  # a list would be emptied when Python ends


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep)
