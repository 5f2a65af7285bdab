"""What servers do, and what comes of it: one row per behaviour."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from distill.errors import LabelError
from distill.judge.rate_limit import Pace
from tests.distill.conftest import Label, Serve
from tests.distill.judge.test_asker import Seen

COUNT = 6
GOOD = '{"sensibility": 8, "rationality": 3}'
LOW = '{"sensibility": 2, "rationality": 2}'


def text(content: Any, finish: str = "stop", **more: Any) -> dict[str, Any]:
    return {"answer": {"message": {"role": "assistant", "content": content}, "finish": finish, **more}}


def thought(reasoning: str, content: Any = None, finish: str = "stop") -> dict[str, Any]:
    message = {"role": "assistant", "content": content, "reasoning_content": reasoning}
    return {"answer": {"message": message, "finish": finish}}


def body(payload: Any, **more: Any) -> dict[str, Any]:
    return {"answer": {"body": payload, **more}}


def lacks(status: int, words: str, part: str = "schema") -> dict[str, Any]:
    return {"lacks": {part: [status, words]}}


class Row(NamedTuple):
    """A behaviour; the labels and rejects of six dialogues; the most calls; whether it costs money; what is said.

    ``labels`` None: the run ends with an error, and no dialogue is rejected or has used an attempt.
    """

    server: dict[str, Any]
    labels: int | None
    rejects: int
    calls: int
    costs: bool
    said: str = ""


PER_CAUSE = 10  # six calls that find out at once, and what is asked again
MATRIX = {
    # Every reply is the same: labels are (8, 3), or all six are rejected after five attempts each.
    "one object": Row(text(GOOD), 6, 0, 6, True),
    "a thought with a draft": Row(text(f"<think>{LOW}?</think>{GOOD}"), 6, 0, 6, True),
    "<thinking>": Row(text(f"<thinking>{LOW}?</thinking>\n{GOOD}"), 6, 0, 6, True),
    "no opening tag": Row(text(f"Maybe {LOW}.\n</think>\n{GOOD}"), 6, 0, 6, True),
    "two thoughts": Row(text(f"<think>a</think>{LOW}<think>b</think>{GOOD}"), 6, 0, 6, True),
    "harmony channels": Row(
        text(
            f"<|channel|>analysis<|message|>{LOW}<|end|><|start|>assistant<|channel|>final<|message|>{GOOD}<|return|>"
        ),
        *(6, 0, 6, True),
    ),
    "25,000 characters of thought": Row(text(f"<think>{'hm ' * 8400}</think>{GOOD}"), 6, 0, 6, True),
    "a trailing comma": Row(text('{"sensibility": 8, "rationality": 3,}'), 6, 0, 6, True),
    "a Python dict": Row(text("{'sensibility': 8, 'rationality': 3, 'sure': True}"), 6, 0, 6, True),
    "JSON in JSON": Row(text(json.dumps(GOOD)), 6, 0, 6, True),
    "8/10": Row(text('{"sensibility": "8/10", "rationality": "3 / 10"}'), 6, 0, 6, True),
    "bold": Row(text("**Sensibility: 8**, **Rationality: 3**"), 6, 0, 6, True),
    "a list of parts": Row(text([{"type": "text", "text": GOOD}]), 6, 0, 6, True),
    "whole in reasoning_content": Row(thought(GOOD), 6, 0, 6, True),
    "a content that is an object": Row(text({"sensibility": 8, "rationality": 3}), 6, 0, 6, True),
    "SSE comments first": Row(text(GOOD, before=": PROCESSING\n\n: PROCESSING\n\n"), 6, 0, 6, True),
    "cut, but one object": Row(text(GOOD, "length"), 6, 0, 6, True),
    # No verdict, paid for
    "an echoed form": Row(
        text('{"sensibility": 0, "rationality": 0} **Sensibility: 8**, **Rationality: 3**'), 0, 6, 30, True, "different"
    ),
    "two verdicts": Row(text(f"{LOW} no, {GOOD}"), 0, 6, 30, True, "2 different judgements"),
    "a refusal": Row(text("I can't judge that."), 0, 6, 30, True, "no JSON object"),
    "a filter": Row(text(GOOD, "content_filter"), 0, 6, 30, True, "content filter"),
    "another tag": Row(text(f"[THINK]{LOW}?[/THINK]I can't."), 0, 6, 30, True, "no JSON object"),
    # A limit that is too low ends the run
    "a cut draft": Row(text(f"Idea {LOW}. But wait", "length"), None, 0, 14, True, "raise --max-tokens"),
    "a cut second verdict": Row(
        text(f'{LOW}, but better {{"sensib', "length"), None, 0, 14, True, "raise --max-tokens"
    ),
    "a thought without end": Row(text(f"<think>{LOW}", "length"), None, 0, 14, True, "raise --max-tokens"),
    "a draft in reasoning_content": Row(thought(f"Maybe {LOW}"), None, 0, 14, True, "raise --max-tokens"),
    "nothing, eight times": Row(text(""), None, 0, 14, True, "raise --max-tokens"),
    "only reasoning": Row(thought("Let me see", "", "length"), None, 0, 14, True, "raise --max-tokens"),
    # The server's fault, with status 200 or with another: no attempt, no reject, no money
    "200, error 502": Row(body({"error": {"code": 502, "message": "upstream"}}), None, 0, 36, False, "HTTP 502: upstr"),
    "200, error 402": Row(body({"error": {"code": 402, "message": "pay"}}), None, 0, 6, False, "no credit left"),
    "200, error 401": Row(body({"error": {"code": 401, "message": "who"}}), None, 0, 6, False, "refuses the key"),
    "200, error as text": Row(body({"error": "model crashed"}), None, 0, 36, False, "HTTP 500: model crashed"),
    "200, an empty body": Row(body(""), None, 0, 36, False, "an empty body"),
    "200, HTML": Row(body("<html>Busy</html>"), None, 0, 36, False, "<html>Busy"),
    "200, choices null": Row(body({"choices": None}), None, 0, 36, False, "no choices"),
    "200, a choice with an error": Row(
        body({"choices": [{"error": {"code": 502, "message": "gone"}}]}), None, 0, 36, False, "HTTP 502: gone"
    ),
    "200, finished by an error": Row(
        body({"choices": [{"finish_reason": "error", "message": {"content": ""}}]}), None, 0, 36, False, "ended with"
    ),
    "200, a message alone": Row(body({"message": "Too slow"}), None, 0, 36, False, "HTTP 500: Too slow"),
    "200, no message": Row(body({"choices": [{"index": 0}]}), None, 0, 36, False, "no choice with a message"),
    "200, broken off": Row(
        body({"choices": [{"finish_reason": "abort", "message": {"content": GOOD}}], "usage": {"prompt_tokens": 9}}),
        *(None, 0, 36, False, "ended with abort"),
    ),
    "524": Row(body("<html>", status=524), None, 0, 36, False, "HTTP 524"),
    "500": Row(body({}, status=500), None, 0, 36, False, "HTTP 500"),
    "502, HTML": Row(body("<html>", status=502), None, 0, 36, False, "HTTP 502"),
    "200, half a body": Row(body('{"choices": [{"mess'), None, 0, 10, True, "no whole JSON object"),
    "resets": Row({"share": 1, "faults": ["reset"]}, None, 0, 10, True, "calls in a row"),
    "200, error 429, three times": Row(body({"error": {"code": 429}}, until=3), 6, 0, 9, True),
    "200, error 502, three times": Row(body({"error": {"code": 502}}, until=3), 6, 0, 9, True),
    # What a server lacks is given up, and said; one flagged dialogue gives nothing up
    "no schema, named": Row(lacks(400, "response_format is not supported"), 6, 0, 6 + 12, True, "takes no JSON schema"),
    "no schema, not named": Row(lacks(400, "Bad request"), 6, 0, 6 + 12, True, "without JSON"),
    "no schema, 500": Row(lacks(500, "oops"), 6, 0, 6 + 18, True, "without JSON"),
    "no temperature": Row(lacks(400, "Unsupported: temperature", "temperature"), 6, 0, 12, True, "no temperature"),
    "no schema kept, three times": Row(
        body({"error": {"message": "Failed to validate JSON", "code": "json_validate_failed"}}, status=400, until=3),
        *(6, 0, 9, True),
    ),
    "no max_tokens": Row(lacks(400, "Unsupported: 'max_tokens'", "max_tokens"), 6, 0, 12, True, "no max_tokens"),
    "no system role": Row(lacks(400, "System role not supported", "system"), 6, 0, 12, True, "no system message"),
    "500 once": Row(body({}, status=500, until=1), 6, 0, 7, True),
    "logprobs, named": Row(lacks(400, "Unknown: 'logprobs'", "logprobs"), 6, 0, 12, True, "takes no log-probabilities"),
    "logprobs, forbidden": Row(
        lacks(403, "You are not allowed to request logprobs", "logprobs"), 6, 0, 12, True, "takes no log-probabilities"
    ),
    "logprobs, not named": Row(lacks(400, "Bad request", "logprobs"), 6, 0, 24, True, "asked without log-prob"),
    "logprobs, 500": Row(lacks(500, "oops", "logprobs"), 6, 0, 30, True, "asked without log-prob"),
    "few logprobs": Row(
        lacks(400, "top_logprobs must be less than or equal to 5", "20 logprobs"), 6, 0, 12, True, "(5 is asked for)"
    ),
    "system, by the order of roles": Row(
        lacks(400, "Conversation roles must alternate user/assistant", "system"), 6, 0, 12, True, "no system message"
    ),
    "one flagged dialogue": Row(lacks(400, "Flagged by policy", "number 0."), 5, 1, 6, True, "Flagged by policy"),
    "one flagged dialogue, 403": Row(lacks(403, "Your input was flagged", "number 0."), 5, 1, 6, True, "was flagged"),
    "one refused dialogue": Row(lacks(400, "I may not", "number 0."), 5, 1, 11, True, "I may not"),
    "one dialogue without a schema": Row(
        lacks(400, "Unsupported response_format", "number 4."), 5, 1, 8, True, "Unsupported response_format"
    ),
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("case", MATRIX)
def test_what_comes_of_a_server(serve: Serve, label: Label, case: str) -> None:
    row, seen = MATRIX[case], Seen()
    server = serve(**row.server)
    more = {"concurrency": 1} if case.startswith("one ") else {}  # the first comes before a form is proven
    work = label(server, COUNT, price_in=1, price_out=2, **more)
    said = seen.said
    if row.labels is None:
        with pytest.raises(LabelError) as caught:
            work.run(seen)
        said.append(str(caught.value))
    else:
        outcome, _ = work.run(seen)
        assert (outcome.scored, len(outcome.failed)) == (row.labels, row.rejects)
        said += [detail for _, detail in outcome.failed.values()]
    assert row.said in "\n".join(said)
    assert server.stats()["requests"] <= row.calls
    assert (work.store.spent() > 0) == row.costs
    known = work.store.known([question.key for question in work.questions]).values()
    if "message" in row.server.get("answer", {}):
        assert {entry.scores for entry in known} <= {None, (8, 3)}
    elif row.labels is None:
        assert [entry.failures for entry in known if entry.failures] == []
    if case.startswith("one "):  # the others are asked as before
        assert server.stats()["forms"]["json_schema"] >= COUNT


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", ["502", "empty", "reset"])
@pytest.mark.parametrize("concurrency", [pytest.param(1, marks=pytest.mark.slow), 16])
def test_an_outage_rejects_nothing_and_costs_no_more_than_the_calls_in_flight(
    serve: Serve, label: Label, fault: str, concurrency: int
) -> None:
    outages = {
        "502": body({"error": {"code": 502, "message": "down"}}),
        "empty": body(""),
        "reset": {"share": 1, "faults": ["reset"]},
    }
    server = serve(**outages[fault])
    work = label(server, 60, concurrency=concurrency, price_in=1, price_out=2)
    with pytest.raises(LabelError, match="calls in a row brought no answer"):
        work.run()
    lost = work.store.spent()
    worst = max(work.price.of(size.most_prompt, size.most_completion) for size in work._sizes) if work.price else 0
    assert lost <= (max(10, concurrency) * worst if fault == "reset" else 0)
    assert len(label(server, 60).to_ask) == 60
    assert lost == 0 or fault == "reset"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "status", [200, pytest.param(400, marks=pytest.mark.slow), 500, pytest.param(502, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("concurrency", [pytest.param(2, marks=pytest.mark.slow), 16])
def test_an_outage_in_the_middle_rejects_nothing_and_the_next_run_asks_the_rest(
    serve: Serve, label: Label, status: int, concurrency: int
) -> None:
    server = serve(**body({"error": {"message": "gone"}}, status=status, after=30))
    work = label(server, 90, concurrency=concurrency)
    with pytest.raises(LabelError, match="calls in a row brought no answer, most of them: HTTP"):
        work.run()
    labelled = len(list(work.store.labels({})))
    assert 10 < labelled <= 30
    again = label(server, 90, concurrency=concurrency)
    assert len(again.to_ask) == 90 - labelled
    assert all(entry.failures == 0 for entry in again.known.values())


@pytest.mark.parametrize(("status", "after"), [(400, 50), (500, 58)])
def test_an_outage_of_the_last_dialogues_leaves_them_unasked(
    serve: Serve, label: Label, status: int, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pace, "backoff", lambda *_: 0.2)  # the last answers come before ten calls have failed
    work = label(serve(**body({"error": {"message": "gone"}}, status=status, after=after)), 60, concurrency=2)
    outcome, _ = work.run()
    assert (outcome.scored, outcome.failed) == (after, {})
    assert "10 calls in a row brought no answer, most of them: HTTP" in (outcome.stopped or "")


@pytest.mark.usefixtures("impatient")
def test_where_no_server_ever_was_the_run_says_so_and_ends_soon(
    serve: Serve, label: Label, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.judge.ask._NOBODY_SECONDS", 0)
    work = label(serve(), 60, base_url="http://127.0.0.1:1/v1")
    with pytest.raises(LabelError, match=r"^127\.0\.0\.1:1: no server answers \(.*\): start it, or give the right --b"):
        work.run()
    assert len(work.to_ask) == 60
    assert work.store.spent() == 0


@pytest.mark.usefixtures("impatient")
def test_an_outage_that_ends_rejects_nothing(serve: Serve, label: Label) -> None:
    work = label(serve(**body({"error": {"code": 502}}, after=30, until=90)), 90, concurrency=16)
    outcome, _ = work.run()
    assert (outcome.scored, outcome.failed) == (90, {})
