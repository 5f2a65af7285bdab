"""What a measurement ran on: the machine and the versions of packages, as every benchmark writes them."""

from __future__ import annotations

import platform
from importlib.metadata import version

from scorer.engines.base import available_cores


def machine() -> dict[str, str | int]:
    """Return the processor and the number of cores that this process may use."""
    return {"processor": platform.processor() or platform.machine(), "cores": available_cores()}


def versions(*names: str) -> dict[str, str]:
    """Return the version of this package and of the packages ``names``."""
    return {name: version(name) for name in ("empathy-scorer", *names)}
