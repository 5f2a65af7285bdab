"""Why a record is no dialogue, said in one line, and the text that may enter one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_TURN_CHARACTERS = 1_000_000
"""A longer turn is rejected: no dialogue has one, and it would cost more memory than a million normal ones."""


class RecordError(ValueError):
    """A record is no dialogue: a stable ``reason`` for counting and a ``detail`` for people."""

    def __init__(self, reason: str, detail: str) -> None:
        """Take a reason in snake_case and a detail that gives the value and what was expected."""
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def clean_text(value: Any, where: str) -> str:
    """Return text as it may enter a dialogue; RecordError for what no tokenizer or file can hold."""
    if not isinstance(value, str):
        raise RecordError("wrong_type", f"{where} is {shown(value)}, expected text")
    if len(value) > MAX_TURN_CHARACTERS:
        raise RecordError("turn_too_long", f"{where} has {len(value)} characters, at most {MAX_TURN_CHARACTERS}")
    if "\x00" in value:
        raise RecordError("nul_byte", f"{where} holds a NUL character, expected text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            code = ord(value[error.start])
            raise RecordError("lone_surrogate", f"{where} holds half a surrogate pair (U+{code:04X})") from None
    return value.strip()


def shown(value: Any) -> str:
    """Return a value as it may stand in a message: its type, and itself where it is short."""
    try:
        text = ascii(value) if not isinstance(value, (Mapping, list)) or len(value) < 10 else "..."
    except RecursionError:  # the JSON reader goes a little deeper than this
        text = "..."
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
