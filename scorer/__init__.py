"""Score dialogues for sensibility and rationality, offline.

The whole public surface of the package:

    from scorer import Scorer
    scores = Scorer.load().score([{"messages": [{"role": "user", "content": "..."}, ...]}])  # (N, 2)

`docs/python.md` shows tables, datasets and other processes.

Names are loaded when they are first used, so that ``import scorer`` costs next to nothing. What libraries would report
to their makers is turned off, unless the environment says otherwise.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# ONNX Runtime 1.32 reports every process that imports it, with a number that stays with the machine. It looks here
# once, when it is imported.
for _name, _value in {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}.items():
    os.environ.setdefault(_name, _value)

if TYPE_CHECKING:
    __version__: str
    from scorer.bundle.bundle import Bundle, load_bundle, write_bundle
    from scorer.dialogue import HEADS, Dialogue, Labels, Turn
    from scorer.errors import BundleError, EmpathyError, EngineError, RejectedError
    from scorer.inputs.corpus import Corpus
    from scorer.inputs.parse import Reject
    from scorer.model import Scorer
    from scorer.reading.windows import Share
    from scorer.run.score import Summary, score_files
    from scorer.run.settings import ScoreSettings

_HOME = {
    "dialogue": ("HEADS", "Dialogue", "Labels", "Turn"),
    "errors": ("BundleError", "EmpathyError", "EngineError", "RejectedError"),
    "inputs.corpus": ("Corpus",),
    "inputs.parse": ("Reject",),
    "bundle.bundle": ("Bundle", "load_bundle", "write_bundle"),
    "model": ("Scorer",),
    "run.score": ("Summary", "score_files"),
    "run.settings": ("ScoreSettings",),
    "reading.windows": ("Share",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "HEADS",
    "Bundle",
    "BundleError",
    "Corpus",
    "Dialogue",
    "EmpathyError",
    "EngineError",
    "Labels",
    "Reject",
    "RejectedError",
    "ScoreSettings",
    "Scorer",
    "Share",
    "Summary",
    "Turn",
    "load_bundle",
    "score_files",
    "write_bundle",
]


if not TYPE_CHECKING:  # else a type checker would take any name for one that is there

    def __getattr__(name: str) -> Any:
        """Import a public name from the module that holds it; ``__version__`` is that of the installed package."""
        if name == "__version__":
            from importlib.metadata import version

            return version("empathy-scorer")
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
