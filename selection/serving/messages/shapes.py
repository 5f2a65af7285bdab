"""What goes over the wire, as typed records: the OpenAPI document is made from them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Kind = Literal["Validation", "Overloaded", "Unhealthy", "Backend", "Unauthorized", "NotFound"]
"""What an error is about, by the names of text-embeddings-inference where it has one."""

Score = Annotated[float, Meta(ge=0, le=10)]
Place = Annotated[int, Meta(ge=0, description="The record's place in the request, from 0; of NDJSON its line.")]


class Message(Struct):
    """A turn."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str


class Record(Struct, omit_defaults=True):
    """A dialogue; any other layout that `empathy score` reads is read here too. The last assistant turn is judged."""

    messages: list[Message]
    id: str | None = None
    category: str | None = None
    conversation: str | None = None


class HalfWidths(Struct):
    """How far the judge's score may lie from each score, for 9 of 10 dialogues of the training domain."""

    sensibility: Score
    rationality: Score


class Scored(Struct, omit_defaults=True):
    """A dialogue's scores. ``set`` is the paper's rule at threshold 5, read off the scorer's cuts.

    ``outside`` are the features in which it is unlike the training data; ``notes`` what reading it left aside.
    """

    record: Place
    id: str
    sensibility: Score
    rationality: Score
    set: Literal["sensibility", "rationality", "discard"]
    uncertainty: HalfWidths | None = None
    outside: list[Literal["turns", "tokens", "response_characters", "unseen_tokens"]] = []
    notes: list[str] = []


class Refused(Struct, omit_defaults=True):
    """A record that was not scored, with the reason that `empathy score` writes into its rejects."""

    record: Place
    reason: str
    detail: str
    id: str | None = None


class Fault(Struct, omit_defaults=True):
    """Why a request was refused."""

    error: str
    error_type: Kind


class ScoreAnswer(Struct, omit_defaults=True):
    """The results in the order of the records; ``error`` is there where none could be scored (status 422)."""

    results: list[Any]  # Scored or Refused; a union of the two would want a tag on the wire
    scored: int
    rejected: int
    error: str | None = None
    error_type: Kind | None = None


class PredictRequest(Struct):
    """Pairs [context, response], as text-embeddings-inference takes them: one, or a list of pairs."""

    inputs: Any
    raw_scores: bool = False
    truncate: bool = True


class Prediction(Struct):
    """A score from 0 to 1, with ``raw_scores`` from 0 to 10."""

    score: float
    label: str


class RerankRequest(Struct):
    """A query (what was said) and responses to it, ranked by a score."""

    query: str
    texts: list[str]
    raw_scores: bool = False
    return_text: bool = False
    truncate: bool = True
    head: Literal["sensibility", "rationality"] = "sensibility"


class Rank(Struct, omit_defaults=True):
    """A response's place in ``texts`` and its score, from 0 to 1, with ``raw_scores`` from 0 to 10."""

    index: int
    score: float
    text: str | None = None


class RefusedError(Exception):
    """A request is answered with an error: its status, what it is about, and in how many seconds to come again."""

    def __init__(self, status: HTTPStatus, kind: Kind, text: str, retry: int | None = None) -> None:
        """Take what the client is told; ``text`` is one line."""
        super().__init__(text)
        self.status, self.kind, self.text, self.retry = status, kind, text, retry


def invalid(text: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> RefusedError:
    """Return the error of a request that will never be right."""
    return RefusedError(status, "Validation", text)
