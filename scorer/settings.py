"""How a stage is set: in its settings record each default, range and explanation stands once.

A settings record is a frozen dataclass whose fields are made by ``setting``. The commands read their options from it
(`scorer.cli.options`), and ``check_settings`` holds every value against its range, also when it comes from Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, Field, field, fields
from math import inf
from typing import Any, NamedTuple

from scorer.errors import EmpathyError

_KEY = "setting"


class Setting(NamedTuple):
    """What a field of a settings record means: the help of its option, its range (ends included) or its choices.

    ``above`` is a lower end that is not included itself. ``shown`` is the default as the help shows it, where the value
    alone says too little.
    """

    text: str
    low: float | None = None
    high: float | None = None
    choices: Sequence[str] = ()
    shown: str | None = None
    above: float | None = None


def setting(
    default: Any = MISSING,
    text: str = "",
    low: float | None = None,
    high: float | None = None,
    *,
    choices: Sequence[str] = (),
    shown: str | None = None,
    above: float | None = None,
) -> Any:
    """Return a dataclass field with a ``default`` and what ``Setting`` says of it; a default of None is allowed."""
    return field(default=default, metadata={_KEY: Setting(text, low, high, tuple(choices), shown, above)})


def setting_of(entry: Field[Any]) -> Setting | None:
    """Return what a field means, None for a field that is no option."""
    found: Setting | None = entry.metadata.get(_KEY)
    return found


def check_settings(record: Any, error: type[EmpathyError]) -> None:
    """Raise ``error`` for the first value of a settings record that its field does not allow."""
    for entry in fields(record):
        value, allowed = getattr(record, entry.name), setting_of(entry)
        if allowed is None or (value is None and entry.default is None):
            continue
        name = entry.name.replace("_", " ")
        if allowed.choices and value not in allowed.choices:
            raise error(f"{name} is {value!r}, expected {' or '.join(allowed.choices)}")
        if not _fits(value, allowed):
            raise error(f"{name} is {value}, expected {_range(allowed)}")


def in_range(value: Any, low: float = -1e300, high: float = 1e300) -> bool:
    """Whether a value is a number in a range, ends included; text, truth values and NaN are none.

    Without a range it is any number that a float holds.
    """
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _fits(value: Any, allowed: Setting) -> bool:
    low, high, above = allowed.low, allowed.high, allowed.above
    if low is None and high is None and above is None:
        return True
    within = in_range(value, -inf if low is None else low, inf if high is None else high)
    return within and (above is None or value > above)


def _range(allowed: Setting) -> str:
    low, high, above = allowed.low, allowed.high, allowed.above
    if above is not None:
        return f"above {above:g}" + ("" if high is None else f", at most {high:g}")
    if high is None:
        return f"at least {low:g}"
    return f"at most {high:g}" if low is None else f"{low:g} to {high:g}"
