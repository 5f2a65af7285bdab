"""Every input -> one stream of dialogues, with a reject for every record that is none."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from scorer.dialogue import Dialogue, content_hash
from scorer.errors import InputError
from scorer.inputs.files.sources import expand
from scorer.inputs.formats import looks_like_data, read_source
from scorer.inputs.id_set import HashSet, hash64
from scorer.inputs.parse import LabelUse, Reject, fields_fault


class Corpus:
    """The dialogues of several files, folders, globs, URLs or standard input, in order, one pass at a time.

    Iterating yields a ``Dialogue`` or a ``Reject`` for every record. Ids are unique: a second record with the same
    explicit id is rejected; of records without an id and with the same content, the second gets the content's hash and
    "-2". Memory grows by 16 to 32 bytes per id.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        *,
        labels: LabelUse = "ignore",
        unique_ids: bool = True,
        fields: Mapping[str, str] | None = None,
        keep_records: bool | Collection[str] = False,
    ) -> None:
        """Find the files that ``inputs`` stand for; InputError if there is none, or for wrong ``fields``.

        ``unique_ids`` False takes ids as they are: several judgements of one dialogue share its id. ``fields`` says
        which column holds a field of ``parse.FIELDS``, for layouts that no reader knows, and whose a name is.
        ``keep_records`` keeps the decoded record with each dialogue; of tables only the columns (or paths) that it
        names, if it names some. ``skipped`` are files in folders that hold no records.
        """
        if fault := fields_fault(fields or {}):
            raise InputError(fault)
        self.inputs = tuple(inputs)
        self.sources, self.skipped = expand(inputs, looks_like_data)
        self.labels = labels
        self._unique_ids = unique_ids
        self.fields = dict(fields or {})
        self.keeps_records: bool | frozenset[str] = (
            keep_records if keep_records is True else frozenset(keep_records or ())
        )

    @property
    def total_bytes(self) -> int | None:
        """Bytes to be read in all, or None if a source does not say (standard input)."""
        sizes = [source.size for source in self.sources]
        return None if None in sizes else sum(size or 0 for size in sizes)

    @property
    def bytes_read(self) -> int:
        """Bytes read so far, compressed ones where a source is compressed."""
        return sum(source.bytes_read for source in self.sources)

    def __iter__(self) -> Iterator[Dialogue | Reject]:
        """Yield every record of every source, in order."""
        unique = UniqueIds()
        for source in self.sources:
            source.bytes_read = 0
            for record in read_source(source, self.labels, self.fields, keep=self.keeps_records):
                yield unique(record) if self._unique_ids else record


class UniqueIds:
    """Makes the ids of records unique along a stream; see ``Corpus``."""

    def __init__(self) -> None:
        """Begin with none."""
        self._seen = HashSet()
        self._repeats: dict[int, int] = {}

    def __call__(self, record: Dialogue | Reject) -> Dialogue | Reject:
        """Return the dialogue with an id that did not occur before, or its reject; a reject as it is."""
        if isinstance(record, Reject):
            return record
        first = id_hash(record.id)
        if self._seen.add(first):
            return record
        if record.id != content_hash(record.turns):
            detail = f"id {record.id!a} occurred before, expected unique ids (or none: the content's hash is taken)"
            return Reject(record.source, record.line, "duplicate_id", detail, record.id)
        while True:
            self._repeats[first] = self._repeats.get(first, 1) + 1
            id_ = f"{record.id}-{self._repeats[first]}"
            if self._seen.add(id_hash(id_)):
                return replace(record, id=id_)


def id_hash(text: str) -> int:
    """Return a 64-bit hash of an id: to tell ids apart, and to sort them in an order that nobody chose."""
    return hash64(text)
