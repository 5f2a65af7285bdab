"""How this package runs a module of its own in another process."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def own_python(module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Return a command that runs a module of this package, and its environment.

    It finds the modules that this process finds, and none in the folder that it happens to be started in.
    """
    places = [*filter(None, sys.path), str(Path(__file__).parents[1])]
    return [sys.executable, "-P", "-m", module, *arguments], os.environ | {"PYTHONPATH": os.pathsep.join(places)}
