"""A table with two columns more: the scores of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from scorer.calls.given import is_table
from scorer.engines.base import Scores
from scorer.errors import RejectedError

Table = TypeVar("Table")
"""A pandas or polars DataFrame, a pyarrow Table or a `datasets.Dataset`."""

_TAKEN = "a pandas or polars DataFrame, a pyarrow Table or a datasets.Dataset"


def check_columns(table: Any, names: Sequence[str]) -> None:
    """Raise RejectedError unless a table takes two new columns of these names."""
    if not is_table(table) or _way(table) is None:
        raise RejectedError(f"a {type(table).__name__} takes no columns, expected {_TAKEN}")
    named = not isinstance(names, str) and all(isinstance(name, str) for name in names)
    if not named or len(names) != 2 or names[0] == names[1]:
        raise RejectedError(f"columns are {names!a}, expected the names of two columns, sensibility and rationality")
    present = set(getattr(table, "column_names", getattr(table, "columns", ())))
    if there := [name for name in names if name in present]:
        raise RejectedError(f'the table has a column {there[0]!a} already; say columns=("other", "names")')


def with_columns(table: Table, names: Sequence[str], scores: Scores) -> Table:
    """Return a new table of the same kind with the columns of scores (N, 2) at its end; ``check_columns`` passed."""
    import pyarrow as pa

    way, made, columns = _way(table), table, dict(zip(names, scores.T.copy(), strict=True))
    grown: Any = made
    if way == "assign":
        grown = grown.assign(**columns)
    elif way == "hstack":
        grown = grown.hstack(type(grown)(columns))
    else:
        for name, values in columns.items():
            grown = getattr(grown, way or "")(name, pa.array(values) if way == "append_column" else values)
    found: Table = grown
    return found


def _way(table: Any) -> str | None:
    """Return the method by which a table takes columns: of polars, pyarrow, `datasets` or pandas."""
    return next((name for name in ("hstack", "append_column", "add_column", "assign") if hasattr(table, name)), None)
