"""What a model answered, as it lies on disk: one JSON line per response, and the journal of a run that is under way."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from moe.settings import GenerateSettings
from scorer.dialogue import Dialogue, Turn, content_hash
from scorer.errors import OutputError
from scorer.outputs import decode_json, partial, read_json_lines, replacing
from scorer.values import Count

REPEAT = "remove it and give the same command again"
FIX_AND_REPEAT = "; fix that and give the same command again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One answered dialogue: ``messages`` are its context and the model's response.

    ``reference`` is the response that the dialogue had; ``finished`` says whether the model ended by itself. Of several
    responses to one dialogue each has its number, from 1, as ``candidate`` and at the end of its id, ``ID#NUMBER``.
    """

    id: str
    conversation: str
    messages: Annotated[tuple[Turn, ...], Meta(min_length=2)]
    reference: str
    finished: bool
    candidate: Count | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Raise ValueError for turns that are none, and for a response that is not the assistant's."""
        if unknown := {turn.role for turn in self.messages} - {"system", "user", "assistant", "tool"}:
            raise ValueError(f"a turn of {min(unknown)!a:.60}, expected system, user, assistant or tool")
        if self.messages[-1].role != "assistant":
            raise ValueError("its last turn is not the assistant's")

    @property
    def text(self) -> str:
        """What the model answered."""
        return self.messages[-1].content

    def dialogue(self, *, reference: bool = False) -> Dialogue:
        """Return the dialogue with the model's response, or with the one that it had."""
        text = self.reference if reference else self.text
        turns = (*self.messages[:-1], Turn("assistant", text))
        return Dialogue(id=content_hash(turns), turns=turns, conversation=self.conversation)


Placed = tuple[Count, Response]
"""A response and its place in the output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunIdentity:
    """What must be the same for a run to be resumed."""

    model: str
    settings: GenerateSettings
    n: Count = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    batch: str
    responses: list[Placed]


def read_responses(path: Path) -> list[Response]:
    """Return the responses of a file; OutputError if it is damaged."""
    return list(read_json_lines(path, Response, REPEAT))


def write_lines(path: Path, records: Sequence[Any], *, ascii_only: bool = False) -> None:
    """Write records as JSON lines, whole or not at all."""
    with replacing(path) as file:
        file.writelines(_line(record, ascii_only=ascii_only) for record in records)


def _line(record: Any, *, ascii_only: bool = True) -> str:
    return json.dumps(msgspec.to_builtins(record), ensure_ascii=ascii_only) + "\n"


class Journal:
    """The finished batches of a run, one line each, after a first line that says which run it is."""

    def __init__(self, output: Path, identity: RunIdentity) -> None:
        """Read OUT.partial if it is there; OutputError if it is damaged or another run's."""
        self._output, self._path = output, partial(output)
        self._identity = identity
        self._done: list[_Batch] = []
        if self._path.exists():
            self._read()

    def _read(self) -> None:
        first, *lines = self._path.read_bytes().split(b"\n")[:-1] or [b""]  # what has no line feed was being written
        if first and decode_json(first, RunIdentity, self._path, REPEAT) != self._identity:
            raise OutputError(f"{self._path}: another model's or another setting's; {REPEAT}")
        self._done = [decode_json(line, _Batch, self._path, REPEAT) for line in lines]
        places = [place for batch in self._done for place, _ in batch.responses]
        if len(set(places)) < len(places) or (lines and not first):
            raise OutputError(f"{self._path}: is damaged (batches are there twice, or the first line is not); {REPEAT}")
        write_lines(self._path, [self._identity, *self._done], ascii_only=True)

    def responses(self, number: int, batch: str) -> list[Placed] | None:
        """Return the responses of a batch if it was answered; OutputError if it was another one."""
        if number >= len(self._done):
            return None
        if self._done[number].batch != batch:
            raise OutputError(f"{self._path}: the input was changed since; {REPEAT}")
        return self._done[number].responses

    def add(self, batch: str, responses: list[Placed]) -> None:
        """Keep the responses of the next batch, on disk when this returns."""
        entries: list[Any] = [_Batch(batch=batch, responses=responses)]
        self._done += entries
        if not self._path.exists():
            entries.insert(0, self._identity)
        with open(self._path, "a", encoding="utf-8") as file:
            file.writelines(_line(entry) for entry in entries)
            file.flush()
            os.fsync(file.fileno())

    def finish(self, count: int) -> int:
        """Write the output from the first ``count`` entries, and remove the journal.

        Return how many responses repeat another one to the same dialogue.
        """
        placed = [entry for batch in self._done[:count] for entry in batch.responses]
        placed.sort(key=lambda entry: entry[0])
        write_lines(self._output, [response for _, response in placed])
        self._path.unlink()
        several = [one for _, one in placed if one.candidate]
        return len(several) - len({(one.id.rpartition("#")[0], one.text) for one in several})
