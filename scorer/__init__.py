"""Score dialogues for sensibility and rationality, offline.

The whole public surface of the package::

    from scorer import Scorer
    scores = Scorer.load().score([{"messages": [{"role": "user", "content": "..."}, ...]}])  # (N, 2)

Names are loaded when they are first used, so that ``import scorer`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scorer.batch import ScoreSettings, Summary, score_files
    from scorer.bundle import Bundle, load_bundle, write_bundle
    from scorer.corpus import Corpus
    from scorer.dialogue import HEADS, Dialogue, Labels, Turn
    from scorer.errors import EmpathyError
    from scorer.manifest import Share
    from scorer.model import Scorer
    from scorer.records import Reject

_HOME = {
    "Bundle": "bundle", "Corpus": "corpus", "Dialogue": "dialogue", "EmpathyError": "errors", "HEADS": "dialogue",
    "Labels": "dialogue", "Reject": "records", "ScoreSettings": "batch", "Scorer": "model", "Share": "manifest",
    "Summary": "batch", "Turn": "dialogue", "load_bundle": "bundle", "score_files": "batch", "write_bundle": "bundle",
}  # fmt: skip

__all__ = [
    "HEADS",
    "Bundle",
    "Corpus",
    "Dialogue",
    "EmpathyError",
    "Labels",
    "Reject",
    "ScoreSettings",
    "Scorer",
    "Share",
    "Summary",
    "Turn",
    "load_bundle",
    "score_files",
    "write_bundle",
]


def __getattr__(name: str) -> Any:
    """Import a public name from the module that holds it."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
