"""How a stage is set: in its settings record each default, range and explanation stands once.

A settings record is a frozen dataclass whose fields are made by ``setting``. The commands read their options from it
(`scorer.cli.options`), and ``check`` holds every value against its range, also when it comes from Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, Field, field, fields
from typing import Any, NamedTuple

from scorer.errors import EmpathyError

_KEY = "setting"


class Setting(NamedTuple):
    """What a field of a settings record means: the help of its option, its range (ends included) or its choices.

    ``shown`` is the default as the help shows it, where the value alone says too little.
    """

    text: str
    low: float | None = None
    high: float | None = None
    choices: Sequence[str] = ()
    shown: str | None = None


def setting(
    default: Any = MISSING,
    text: str = "",
    low: float | None = None,
    high: float | None = None,
    *,
    choices: Sequence[str] = (),
    shown: str | None = None,
) -> Any:
    """Return a dataclass field with a ``default`` and what ``Setting`` says of it; a default of None is allowed."""
    return field(default=default, metadata={_KEY: Setting(text, low, high, tuple(choices), shown)})


def setting_of(entry: Field[Any]) -> Setting | None:
    """Return what a field means, None for a field that is no option."""
    found: Setting | None = entry.metadata.get(_KEY)
    return found


def check(record: Any, error: type[EmpathyError]) -> None:
    """Raise ``error`` for the first value of a settings record that its field does not allow."""
    for entry in fields(record):
        value, allowed = getattr(record, entry.name), setting_of(entry)
        if allowed is None or (value is None and entry.default is None):
            continue
        name = entry.name.replace("_", " ")
        if allowed.choices and value not in allowed.choices:
            raise error(f"{name} is {value!r}, expected {' or '.join(allowed.choices)}")
        if not _within(value, allowed.low, allowed.high):
            raise error(f"{name} is {value}, expected {_range(allowed.low, allowed.high)}")


def _within(value: Any, low: float | None, high: float | None) -> bool:
    """Whether a value lies in its range, ends included; None and NaN lie in no range."""
    if low is None and high is None:
        return True
    return value is not None and (low is None or value >= low) and (high is None or value <= high) and value == value


def _range(low: float | None, high: float | None) -> str:
    if high is None:
        return f"at least {low:g}"
    return f"at most {high:g}" if low is None else f"{low:g} to {high:g}"
