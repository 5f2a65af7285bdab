"""Look into a tokenizer.json before the library does: known parts with sane values, and ids that the model has.

The library does as the file says: pads to 10^9 tokens, replaces each character by a million, ends the process where
memory does not suffice. And what is an id beyond the model's embedding, one engine reports and another one scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from scorer.bundle.tokenizer.file import TokenizerFile
from scorer.bundle.tokenizer.spelling import without_spelling

_SEQUENCES = {
    "normalizer": "normalizers",
    "pre_tokenizer": "pretokenizers",
    "post_processor": "processors",
    "decoder": "decoders",
}
"""The key by which a Sequence of each kind of part holds its members."""

_MOST_PARTS = 12
_MORE_THAN_ONCE = ("Replace", "Split", "Strip", "Punctuation")


class TokenizerFileError(ValueError):
    """The bytes are no tokenizer, or not one of a scorer."""


def check_tokenizer(data: bytes, rows: int) -> bytes:
    """Return a tokenizer.json as the library may load it: spelling, truncation and padding are done before and after.

    ``rows`` is the number of ids that the model has vectors for. TokenizerFileError unless every part is of a known
    type with sane values, no part makes a text much longer, and every id is below ``rows``.
    """
    try:
        found = msgspec.json.decode(data)
        if not isinstance(found, dict):
            raise TokenizerFileError("expected a JSON object")
        found = without_spelling(found)
        parts = {kind: list(_parts(found.get(kind), kind)) for kind in _SEQUENCES}
        file = msgspec.convert({**found, **parts}, TokenizerFile)
    except TokenizerFileError:
        raise
    except (ValueError, RecursionError) as error:
        raise TokenizerFileError(ascii(" ".join(str(error).split()))[1:-1][:300]) from None
    token, number = file.highest()
    if number >= rows:
        raise TokenizerFileError(
            f"the token {token[:60]!a} has id {number}, expected ids below the {rows:,} rows of the model's embedding"
        )
    # What is loaded is what was checked: where a key stands twice, two readers may take different ones.
    return msgspec.json.encode({**found, "truncation": None, "padding": None})


def _parts(value: Any, kind: str) -> Iterator[Any]:
    """Yield the parts of a kind one by one, those in sequences too."""
    types: list[Any] = []
    for part in _flat(value, kind, 0):
        types.append(part.get("type") if isinstance(part, dict) else None)
        if len(types) > _MOST_PARTS:
            raise TokenizerFileError(f"its {kind} has over {_MOST_PARTS} parts")
        if types[-1] in types[:-1] and types[-1] not in _MORE_THAN_ONCE:
            raise TokenizerFileError(f"its {kind} has the part {str(types[-1])[:60]!a} twice")
        yield part


def _flat(value: Any, kind: str, depth: int) -> Iterator[Any]:
    if value is None:
        return
    members = value.get(_SEQUENCES[kind]) if isinstance(value, dict) and value.get("type") == "Sequence" else None
    if not isinstance(members, list) or depth > 3:
        yield value
        return
    if len(value) > 2:
        raise TokenizerFileError(f"a Sequence of its {kind} has unknown keys")
    for member in members:
        yield from _flat(member, kind, depth + 1)
