"""Packages that the base install leaves out: imported when a command needs them, named when they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from scorer.errors import MissingExtraError


def require(extra: str, *modules: str) -> list[ModuleType]:
    """Return the imported modules; MissingExtraError with the exact ``pip install`` line if one is not there."""
    found = []
    for module in modules:
        try:
            found.append(importlib.import_module(module))
        except ModuleNotFoundError as error:
            raise MissingExtraError(extra, error.name or module) from None
    return found
