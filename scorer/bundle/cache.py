"""The folder of this user where what can be had again is kept: bundles from the hub, and which ones were tried out."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder, there or not; RuntimeError where there is no home."""
    given = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else None)
    folder = Path(given) if given else Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return folder / "empathy-scorer"


def is_mine(found: os.stat_result) -> bool:
    """Whether a file is this user's; what somebody else left there does not count."""
    return not hasattr(os, "getuid") or found.st_uid == os.getuid()
