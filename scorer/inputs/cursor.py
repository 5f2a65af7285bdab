"""The place in a source that is being read, and what every reader of a format is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, BinaryIO

from scorer.dialogue import Dialogue
from scorer.inputs.files.sources import Source
from scorer.inputs.parse import LabelUse, Reject, columns_of, parse_records
from scorer.inputs.records.faults import RecordError
from scorer.inputs.records.wrappers import unwrapped

EXCERPT = 500
"""Characters of a bad record that its reject keeps."""

Records = Iterator[Dialogue | Reject]

Reader = Callable[[BinaryIO, "Place"], Records]
"""A format: yields what a stream holds, and raises nothing for what a file may hold."""


class Place:
    """Makes dialogues and rejects that know where they came from; the reader advances ``line``.

    ``fields`` are those that hold a column: what they name is there, whatever else the layout is.
    """

    def __init__(
        self,
        source: Source,
        labels: LabelUse,
        fields: Mapping[str, str] | None = None,
        *,
        keep: bool | Collection[str] = False,
    ) -> None:
        self.source = source
        self.labels = labels
        self.fields = columns_of(fields or {})
        self._given = fields
        self.keep = keep
        self.line = 0

    def reject(
        self, reason: str, detail: str, *, record: str = "", line: int | None = None, id_: str | None = None
    ) -> Reject:
        """Return the reject of the record at this line, or at another one; ``record`` is its raw text."""
        excerpt = record[:EXCERPT].encode("utf-8", "backslashreplace").decode()
        return Reject(self.source.shown, self.line if line is None else line, reason, detail, id_, excerpt)

    def parse(self, value: Any, record: str | None = None) -> list[Dialogue | Reject]:
        """Return the dialogues in a decoded record, or its reject; and those of the records that a wrapper holds."""
        try:
            found = parse_records(value, self.labels, self.source.shown, self.line, self._given, keep=bool(self.keep))
        except RecordError as error:
            try:
                wrapped = () if self.fields else unwrapped(value)
            except RecordError as tree:
                return [self._refused(tree, value, record)]
            if not wrapped:
                return [self._refused(error, value, record)]
            return [one for item in wrapped for one in self.parse(item)]
        return [self._refused(one, value, record) if isinstance(one, RecordError) else one for one in found]

    def _refused(self, error: RecordError, value: Any, record: str | None) -> Reject:
        id_ = value.get("id") if isinstance(value, Mapping) else None
        shown = ascii(id_)[1:-1] if isinstance(id_, str) else None
        return self.reject(error.reason, error.detail, record=_raw(value) if record is None else record, id_=shown)


def _raw(value: Any) -> str:
    try:
        return ascii(value)
    except RecursionError:
        return ""
