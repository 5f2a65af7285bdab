"""The one spelling that is scored (`scorer.text.normalise`), as part of a tokenizer.json.

With it whoever loads the file scores a text as this package does, in whatever spelling it comes: transformers,
sentence-transformers, text-embeddings-inference. This package has spelt a text before it tokenises it, so it takes the
part out again: that costs half of the time.
"""

from __future__ import annotations

from typing import Any

import msgspec

from scorer.dialogue import ROLES
from scorer.text import CONTROL, INVISIBLE, QUOTES, SPACE_AFTER, SPACE_BEFORE, SPELLINGS


def _replace(pattern: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


_STRAIGHT = [_replace(f"[{quotes}]", straight) for straight, quotes in QUOTES.items()]
# A line's beginning is left as it is rendered: "user: ?" keeps its space.
_NO_ROLE = "".join(rf"(?<!^{role}:)" for role in ROLES)

SPELLING: dict[str, Any] = {
    "type": "Sequence",
    "normalizers": [
        _replace(INVISIBLE, ""),
        *_STRAIGHT,
        {"type": "NFKC"},
        *_STRAIGHT,
        _replace(r"(?<=\p{L})Σ(?!\p{L})", "ς"),  # as Python's lower() has it, which looks at words
        {"type": "Lowercase"},
        {"type": "NFKC"},
        _replace(rf"(?!\n){CONTROL}", " "),
        _replace(r"[^\S\n]+", " "),
        _replace(r" ?\n ?", "\n"),
        {"type": "Strip", "strip_left": True, "strip_right": True},
        *(_replace(pattern, content) for _, pattern, content in SPELLINGS),
        _replace(_NO_ROLE + SPACE_BEFORE, ""),
        _replace(SPACE_AFTER, ""),
    ],
}
"""The part of a tokenizer.json. Turns stand in lines of a text, so ends of lines are kept."""


def with_spelling(tokenizer: bytes | str) -> bytes:
    """Return a tokenizer.json that spells each text first; the same where it does already.

    It neither cuts nor pads: some encoders' do, to a length that is not the scorer's.
    """
    found = without_spelling(msgspec.json.decode(tokenizer)) | {"truncation": None, "padding": None}
    own = [] if found.get("normalizer") is None else [found["normalizer"]]
    return msgspec.json.encode({**found, "normalizer": {"type": "Sequence", "normalizers": [SPELLING, *own]}})


def without_spelling(found: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a tokenizer.json without the part; the same where it has none."""
    match found.get("normalizer"):
        case {"type": "Sequence", "normalizers": [first, *others]} if first == SPELLING and len(others) < 2:
            return {**found, "normalizer": others[0] if others else None}
    return found


def unspelt(tokenizer: bytes | str) -> bytes:
    """Return a tokenizer.json without the part."""
    return msgspec.json.encode(without_spelling(msgspec.json.decode(tokenizer)))
