"""Scored lots -> what is answered, and what is watched."""

from __future__ import annotations

import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from scorer.bundle.cuts import Cuts
from scorer.bundle.domain import FEATURES
from scorer.dialogue import HEADS, SCORE_RANGE
from scorer.engines.base import Scores
from selection.rules import PAPER
from selection.serving.messages.shapes import (
    HalfWidths,
    Prediction,
    PredictRequest,
    Rank,
    Refused,
    RerankRequest,
    ScoreAnswer,
    Scored,
    invalid,
)
from selection.serving.reading import Lot

if TYPE_CHECKING:
    from selection.watching.observation import Observation

encode = msgspec.json.Encoder().encode
_PAIR = 2
_INPUTS = "expected a pair [context, response], or a list of pairs"


def results_of(lot: Lot, columns: Scores | None, cuts: Cuts) -> list[Scored | Refused]:
    """Return the results of a lot in the order of its records; ``columns`` as `score_columns` gives them."""
    found: list[Scored | Refused] = list(lot.refused)
    if columns is not None and len(columns):
        found += _scored(lot, columns, cuts)
        found.sort(key=lambda one: one.record)  # stable: the two of a pair stay in their order
    return found


def _scored(lot: Lot, columns: Scores, cuts: Cuts) -> Iterator[Scored]:
    sets = PAPER.apply(columns[:, : len(HEADS)], cuts).tolist()
    rows = [[float(str(value)) for value in row] for row in columns]  # the decimals of the score file
    flags: list[bool] = np.any(lot.outside, axis=1).tolist()
    for i, (dialogue, row) in enumerate(zip(lot.dialogues, rows, strict=True)):
        names: list[Any] = [name for name, out in zip(FEATURES, lot.outside[i], strict=True) if out] if flags[i] else []
        notes = [*dialogue.notes.present, *(["cut"] if lot.encoded[i].cut else [])]
        widths = HalfWidths(row[2], row[3]) if len(row) > len(HEADS) else None
        name: Any = PAPER.sets[sets[i]]
        yield Scored(lot.places[i], dialogue.id, row[0], row[1], name, widths, names, notes)


def score_answer(results: list[Scored | Refused]) -> tuple[HTTPStatus, bytes]:
    """Return the status and body of a request's results."""
    refused = sum(isinstance(one, Refused) for one in results)
    answer = ScoreAnswer(results, len(results) - refused, refused)
    if refused and refused == len(results):
        first = next(one for one in results if isinstance(one, Refused))
        answer.error, answer.error_type = f"no record could be scored; the first: {first.reason}", "Validation"
        return HTTPStatus.UNPROCESSABLE_ENTITY, encode(answer)
    return HTTPStatus.OK, encode(answer)


def observed_of(lot: Lot, columns: Scores, cuts: Cuts, *, texts: bool) -> list[Observation]:
    """Return what is watched of a scored lot, with its texts if they are to be kept."""
    from selection.watching.observation import observations

    return observations(
        [time.time()] * len(lot.dialogues),
        [dialogue.id for dialogue in lot.dialogues],
        columns[:, : len(HEADS)],
        cuts,
        categories=[dialogue.category for dialogue in lot.dialogues],
        outside=np.any(lot.outside, axis=1).tolist(),
        texts=lot.texts() if texts else None,
    )


def predict_records(request: PredictRequest) -> tuple[list[Any], bool]:
    """Return the records that /predict asks for, and whether it asks for one alone."""
    inputs = request.inputs
    if isinstance(inputs, list) and len(inputs) == _PAIR and all(isinstance(one, str) for one in inputs):
        return [_record(*inputs)], True
    if not isinstance(inputs, list) or not inputs or not all(isinstance(one, list) for one in inputs):
        raise invalid(f"inputs: {_INPUTS}; a response is judged by its context", HTTPStatus.UNPROCESSABLE_ENTITY)
    for number, pair in enumerate(inputs):
        if len(pair) != _PAIR or not all(isinstance(one, str) for one in pair):
            raise invalid(f"inputs: number {number} is no pair, {_INPUTS}", HTTPStatus.UNPROCESSABLE_ENTITY)
    return [_record(*pair) for pair in inputs], False


def rerank_records(request: RerankRequest) -> list[Any]:
    """Return the records that /rerank asks for."""
    if not request.texts:
        raise invalid("texts is empty, expected responses to rank", HTTPStatus.UNPROCESSABLE_ENTITY)
    return [_record(request.query, text) for text in request.texts]


def _record(context: str, response: str) -> dict[str, str]:
    return {"context": context, "response": response}


def whole(lot: Lot) -> Lot:
    """Return a lot of which every record is one dialogue; RefusedError (422) names the first that is none."""
    if lot.refused:
        first = min(lot.refused, key=lambda one: one.record)
        raise invalid(f"number {first.record}: {first.reason}: {first.detail}", HTTPStatus.UNPROCESSABLE_ENTITY)
    return lot


def predictions(columns: Scores, *, raw: bool, one: bool) -> bytes:
    """Return the body that answers /predict: labels with the highest score first, as the original does."""
    lists = [
        sorted(
            (Prediction(_scaled(value, raw=raw), head) for head, value in zip(HEADS, row[: len(HEADS)], strict=True)),
            key=lambda found: -found.score,
        )
        for row in columns
    ]
    return encode(lists[0] if one else lists)


def ranks(columns: Scores, request: RerankRequest) -> bytes:
    """Return the body that answers /rerank: the highest score first."""
    values = columns[:, HEADS.index(request.head)]
    found = [
        Rank(i, _scaled(value, raw=request.raw_scores), request.texts[i] if request.return_text else None)
        for i, value in enumerate(values)
    ]
    return encode(sorted(found, key=lambda rank: -rank.score))


def _scaled(value: Any, *, raw: bool) -> float:
    """Return a score as it is, or from 0 to 1."""
    return float(str(value)) if raw else round(float(value) / SCORE_RANGE[1], 6)
