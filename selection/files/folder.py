"""The folder of a selection: written beside its place, and exchanged for an earlier one when it is whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scorer.errors import OutputError
from scorer.outputs import writing

MANIFEST = "selection.json"
FILES = frozenset({MANIFEST, "selection.parquet", "abstain.jsonl", "rejects.jsonl"})
"""What a selection writes beside its sets."""


def check_output(output: Path, *, overwrite: bool) -> None:
    """Raise OutputError unless ``output`` is new, or an earlier selection that may be replaced."""
    with writing(output):
        _settle(output.resolve())
    if not output.parent.is_dir():
        raise OutputError(f"{output}: the folder {output.parent} does not exist; create it first")
    if output.exists() and not (output.is_dir() and ((output / MANIFEST).exists() or not any(output.iterdir()))):
        raise OutputError(f"{output}: holds no {MANIFEST}, so it is no selection to replace; name a new folder")
    if (output / MANIFEST).exists() and not overwrite:
        raise OutputError(f"{output}: exists already; name another folder or say --overwrite")
    old = _aside(output)
    if old.exists() and not (old / MANIFEST).exists():
        raise OutputError(f"{old}: holds other files, and an earlier selection goes there; move them away")


@contextmanager
def unfinished(output: Path, mark: str) -> Iterator[Path]:
    """Give an empty folder beside ``output`` to work in; it is removed at the end, unless it was exchanged.

    What a killed run left, by a file named ``mark``, is removed first; OutputError where something else lies there.
    """
    place = output.resolve()  # of a link what it leads to, and "." has a name
    work = place.with_name(f"{place.name}.partial")
    if work.is_dir() and any(work.iterdir()) and not ((work / mark).exists() or (work / MANIFEST).exists()):
        raise OutputError(f"{work}: holds other files, and an unfinished selection goes there; move them away")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def exchange(work: Path, output: Path) -> None:
    """Give a whole folder its name; of what it replaces only what a selection wrote is removed, and only then."""
    output = output.resolve()
    if output.exists() and not any(output.iterdir()):
        output.rmdir()
    if output.exists():
        mine = {path.name for path in output.iterdir()} - _written(output)
        if clash := sorted(mine & {path.name for path in work.iterdir()}):
            raise OutputError(
                f"{output / clash[0]}: is no file of the earlier selection and would be replaced; move it away"
            )
        output.rename(_aside(output))
    work.rename(output)
    _settle(output)


def _settle(output: Path) -> None:
    """End the exchange of two folders, also where a kill left it half done."""
    old = _aside(output)
    if not (old / MANIFEST).exists():
        return
    if not output.exists():
        old.rename(output)
        return
    for name in {path.name for path in old.iterdir()} - _written(old):
        (old / name).rename(output / name)
    shutil.rmtree(old)


def _written(folder: Path) -> frozenset[str]:
    """Return the names of the files that a selection wrote into its folder."""
    try:
        return FILES | {entry["file"] for entry in json.loads((folder / MANIFEST).read_text())["sets"].values()}
    except (ValueError, KeyError, TypeError, AttributeError):  # damaged: what cannot be told is kept
        return FILES


def _aside(output: Path) -> Path:
    output = output.resolve()
    return output.with_name(f".{output.name}.old")
