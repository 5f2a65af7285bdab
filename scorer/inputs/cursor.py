"""The place in a source that is being read, and what every reader of a format is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

from scorer.dialogue import Dialogue
from scorer.inputs.parse import LabelUse, RecordError, Reject, parse_record
from scorer.inputs.sources import Source

EXCERPT = 500
"""Characters of a bad record that its reject keeps."""

Records = Iterator[Dialogue | Reject]

Reader = Callable[[BinaryIO, "Place"], Records]
"""A format: yields what a stream holds, and raises nothing for what a file may hold."""


class Place:
    """Makes dialogues and rejects that know where they came from; the reader advances ``line``."""

    def __init__(self, source: Source, labels: LabelUse) -> None:
        self.source = source
        self.labels = labels
        self.line = 0

    def reject(
        self, reason: str, detail: str, *, record: str = "", line: int | None = None, id_: str | None = None
    ) -> Reject:
        """Return the reject of the record at this line, or at another one; ``record`` is its raw text."""
        excerpt = record[:EXCERPT].encode("utf-8", "backslashreplace").decode()
        return Reject(self.source.name, self.line if line is None else line, reason, detail, id_, excerpt)

    def parse(self, value: Any, record: str | None = None) -> Dialogue | Reject:
        """Return the dialogue in a decoded record, or its reject."""
        try:
            return parse_record(value, labels=self.labels, source=self.source.name, line=self.line)
        except RecordError as error:
            id_ = value.get("id") if isinstance(value, Mapping) else None
            shown = ascii(id_)[1:-1] if isinstance(id_, str) else None
            return self.reject(error.reason, error.detail, record=ascii(value) if record is None else record, id_=shown)
