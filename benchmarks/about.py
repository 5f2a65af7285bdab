"""What a measurement ran on and of what, as every benchmark writes it: machine, versions of packages, settings."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from scorer.engines.base import available_cores
from scorer.outputs import replacing


def machine() -> dict[str, str | int]:
    """Return the processor and the number of cores that this process may use."""
    return {"processor": platform.processor() or platform.machine(), "cores": available_cores()}


def versions(*names: str) -> dict[str, str]:
    """Return the version of this package and of the packages ``names``."""
    return {name: version(name) for name in ("empathy-scorer", *names)}


def check_same(work: Path, mine: dict[str, Any]) -> None:
    """Refuse a work folder that holds points of other labels or settings; ``mine`` is what they depend on, as JSON."""
    path = work / "run.json"
    if not path.exists():
        with replacing(path) as file:
            file.write(json.dumps(mine, indent=1) + "\n")
    if json.loads(path.read_text()) != mine:
        raise click.ClickException(f"{work}: holds points of other labels or settings; name another folder")
