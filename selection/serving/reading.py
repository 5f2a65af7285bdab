"""What a request holds -> dialogues as token ids, and a reject for each record that is none.

Records are read by the package's own readers, so they are read, and refused, as `empathy score` does it.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import numpy as np

from scorer.arrays import Mask
from scorer.bundle.domain import FEATURES, Domain
from scorer.bundle.encode import Encoded, Encoder
from scorer.dialogue import Dialogue, render
from scorer.inputs.cursor import Place
from scorer.inputs.files.sources import Source
from scorer.inputs.json_lines import text_lines
from scorer.inputs.parse import Reject, parse_json
from scorer.inputs.records.faults import RecordError
from scorer.model import Scorer
from scorer.reading.chunks import encode_apart
from selection.serving.messages.shapes import Refused, invalid
from selection.serving.settings import ServeSettings

_MOST_CHARACTERS = 16
"""Characters a token, at most: a text with more of them than its tokens may have is refused before it is tokenised."""

_Found = tuple[int, Dialogue | Reject]


@dataclass(slots=True)
class Lot:
    """Records ready for the network: dialogues in order, each with its record's place and token ids.

    ``outside`` (N, 4) says in which of ``FEATURES`` each is outside the training domain. ``refused`` are the others.
    """

    dialogues: list[Dialogue] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    encoded: list[Encoded] = field(default_factory=list)
    outside: Mask = field(default_factory=lambda: np.zeros((0, len(FEATURES)), dtype=bool))
    refused: list[Refused] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """The tokens that the network will see, those of repeated texts as well."""
        return sum(map(len, self.encoded))

    def texts(self) -> list[str]:
        """Return each dialogue in one text."""
        return ["\n".join(f"{turn.role}: {turn.content}" for turn in dialogue.turns) for dialogue in self.dialogues]


class Reader:
    """Reads requests for one scorer; any thread may use it."""

    def __init__(self, scorer: Scorer, settings: ServeSettings) -> None:
        """Read for ``scorer``, within the limits of ``settings``."""
        self._encoder: Encoder = scorer.encoder
        self._domain: Domain = scorer.bundle.info.domain
        self._settings = settings

    def json(self, body: bytes) -> Lot:
        """Return the records of a JSON body, one or a list; RefusedError where it is none."""
        value = _decoded(body)
        values = value if isinstance(value, list) else [value]
        if not values:
            raise invalid("the list is empty, expected records", HTTPStatus.UNPROCESSABLE_ENTITY)
        return self.records(values)

    def records(self, values: Sequence[Any]) -> Lot:
        """Return decoded records."""
        if len(values) > self._settings.records:
            most = f"{len(values)} records, expected at most {self._settings.records}; send several requests, or NDJSON"
            raise invalid(most, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return self._lot(self._parsed(enumerate(values)))

    def lines(self, data: bytes, first: int) -> Lot:
        """Return the records of some whole lines of NDJSON, the first of which is line number ``first`` from 0."""
        place = Place(Source("request"), "ignore")
        place.line = first

        def found() -> Iterator[_Found]:
            for text in text_lines(io.BytesIO(data), place):
                number = place.line - 1
                if isinstance(text, Reject):
                    yield number, text
                    continue
                try:
                    value = parse_json(text)
                except RecordError as error:
                    yield number, place.reject(error.reason, error.detail)
                else:
                    yield from self._parsed([(number, value)])

        return self._lot(found())

    def too_long(self, number: int) -> Lot:
        """Return the lot of a line that is too long to be kept."""
        most = f"the line is longer than {self._settings.body_bytes} bytes"
        return Lot(refused=[Refused(number, "record_too_long", most)])

    def _parsed(self, values: Iterable[tuple[int, Any]]) -> Iterator[_Found]:
        place = Place(Source("request"), "ignore")
        for number, value in values:
            place.line = number + 1
            if _deeper(value, self._settings.depth):
                yield number, place.reject("too_deep", f"nested deeper than {self._settings.depth} levels")
                continue
            for one in place.parse(value, ""):
                yield number, self._within(one, place) if isinstance(one, Dialogue) else one

    def _within(self, dialogue: Dialogue, place: Place) -> Dialogue | Reject:
        """Return the dialogue, or its reject where it has too many turns or far too many characters."""
        turns, most = len(dialogue.turns), self._settings.turns
        if turns > most:
            return place.reject("too_many_turns", f"{turns} turns, expected at most {most}", id_=dialogue.id)
        characters = sum(len(turn.content) for turn in dialogue.turns)
        if characters > _MOST_CHARACTERS * self._settings.tokens:
            most = _MOST_CHARACTERS * self._settings.tokens
            return place.reject("too_many_tokens", f"{characters} characters, at most {most}", id_=dialogue.id)
        return dialogue

    def _lot(self, found: Iterable[_Found]) -> Lot:
        lot = Lot()
        for number, one in found:
            if isinstance(one, Dialogue):
                lot.dialogues.append(one)
                lot.places.append(number)
            else:
                lot.refused.append(Refused(number, one.reason, one.detail, one.id))
        self._encode(lot)
        return lot

    def _encode(self, lot: Lot) -> None:
        """Add the token ids; take out what the tokenizer fails on and what has too many tokens."""
        if not lot.dialogues:
            return
        texts = [render(dialogue) for dialogue in lot.dialogues]
        lot.encoded, poisoned = encode_apart(self._encoder, lot.dialogues, texts)
        if poisoned:
            for number, one in poisoned.items():
                lot.refused.append(Refused(lot.places[number], one.reason, one.detail, one.id))
            _keep(lot, [number not in poisoned for number in range(len(texts))], encoded=False)
        most = self._settings.tokens
        whole = [len(item) + item.cut_tokens for item in lot.encoded]
        if max(whole, default=0) > most:
            for number, dialogue, count in zip(lot.places, lot.dialogues, whole, strict=True):
                if count > most:
                    detail = f"{count} tokens, expected at most {most}"
                    lot.refused.append(Refused(number, "too_many_tokens", detail, dialogue.id))
            _keep(lot, [count <= most for count in whole])
        if lot.dialogues:
            outside = self._domain.outside(lot.dialogues, lot.encoded)
            lot.outside = np.stack([outside[name] for name in FEATURES], axis=1)


def _keep(lot: Lot, fine: Sequence[bool], *, encoded: bool = True) -> None:
    lot.dialogues = [one for one, is_fine in zip(lot.dialogues, fine, strict=True) if is_fine]
    lot.places = [one for one, is_fine in zip(lot.places, fine, strict=True) if is_fine]
    if encoded:
        lot.encoded = [one for one, is_fine in zip(lot.encoded, fine, strict=True) if is_fine]


def _decoded(body: bytes) -> Any:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise invalid(f"byte {error.start + 1} of the body is 0x{body[error.start]:02x}, expected UTF-8") from None
    try:
        return parse_json(text)
    except RecordError as error:
        raise invalid(f"{error.reason}: {error.detail}") from None


def _deeper(value: Any, depth: int) -> bool:
    """Whether a decoded value is nested deeper than ``depth`` levels."""
    level = [value]
    for _ in range(depth):
        level = [
            inner
            for one in level
            if isinstance(one, (dict, list))
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True
