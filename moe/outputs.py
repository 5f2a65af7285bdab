"""Outputs on disk: whole at their own name or not there, each with a moe.json that says where it comes from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from distill.training.work_folder import claim_work
from scorer.errors import OutputError
from scorer.outputs import Existing, replacing, writing

MANIFEST = "moe.json"
FORMAT, FORMAT_VERSION = "empathy-moe", 1
_PACKAGES = ("empathy-scorer", "torch", "transformers", "peft", "safetensors")


def open_work(output: Path, kind: str, identity: Mapping[str, Any], existing: Existing) -> Path:
    """Return the folder OUT.partial in which a training works; OutputError if the output may not be written.

    ``kind`` is what the output will be, as its moe.json says; ``identity`` is what must be the same for an interrupted
    training to be resumed.
    """
    check_output(output, kind, replace=existing == "overwrite", hint=_HINTS[existing])
    return claim_work(output, json.loads(json.dumps(identity)), existing, _check_same)


_HINTS = {"error": "name another output or say --overwrite", "resume": "it is finished", "overwrite": ""}


def check_output(
    output: Path, kind: str, *, replace: bool, hint: str = "name another output or say --overwrite"
) -> None:
    """Raise OutputError unless ``output`` is new, or an earlier one of the same kind that may be replaced."""
    if not output.parent.is_dir():
        raise OutputError(f"{output}: the folder {output.parent} does not exist; create it first")
    if not output.exists():
        return
    if not output.is_dir() or (any(output.iterdir()) and not (output / MANIFEST).exists()):
        raise OutputError(f"{output}: holds no {MANIFEST}, so it is not replaced; name another output")
    if not replace and any(output.iterdir()):
        raise OutputError(f"{output}: exists already; {hint}")
    if (info := read_info(output)) is not None and info.get("kind") != kind:
        raise OutputError(f"{output}: holds the kind {info.get('kind')!r}, not {kind!r}; name another output")


def check_apart(output: Path, inputs: Sequence[Path | str]) -> None:
    """Raise OutputError if an output would replace what it is made from."""
    for path in inputs:
        if Path(path).exists() and output.resolve() == Path(path).resolve():
            raise OutputError(f"{output}: is an input as well, which it would replace; name another output")


@contextmanager
def building(output: Path) -> Iterator[Path]:
    """Give a new folder that takes the name ``output`` once it is whole; what it replaces is removed only then."""
    unfinished = output.with_name(f".{output.name}.unfinished")
    with writing(output):
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        try:
            yield unfinished
            old = output.with_name(f".{output.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            if output.exists():
                output.rename(old)
            unfinished.rename(output)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def write_info(folder: Path, kind: str, info: Mapping[str, Any]) -> dict[str, Any]:
    """Write moe.json and return it: what the folder is, when and with what it was made, and ``info``."""
    whole = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "created": date.today().isoformat(),
        "versions": {name: version(name) for name in _PACKAGES},
        **info,
    }
    with replacing(folder / MANIFEST) as file:
        file.write(json.dumps(whole, indent=1) + "\n")
    return whole


def read_info(folder: Path) -> dict[str, Any] | None:
    """Return moe.json, None where there is none; OutputError if it is damaged."""
    try:
        info = json.loads((folder / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise OutputError(f"{folder / MANIFEST}: cannot be read as JSON ({error}); make the folder again") from None
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        raise OutputError(f"{folder / MANIFEST}: is not of format {FORMAT!r}; make the folder again")
    return info


def _check_same(work: Path, known: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
    for name in sorted({*known, *mine}):
        first, second = known.get(name), mine.get(name)
        if isinstance(first, dict) and isinstance(second, dict):
            _check_same(work, first, second)
        elif first != second:
            raise OutputError(
                f"{work}: was begun with {name.replace('_', ' ')} {first} and this run has {second}; use the same, or "
                "start afresh with --overwrite"
            )
