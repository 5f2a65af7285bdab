"""Scores over HTTP: the same as in a file, whatever form they are asked in."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import to_record
from scorer.model import Scorer
from scorer.run.score import score_files
from selection.rules import PAPER
from selection.watching.watch import Watch
from tests.conftest import record, varied, write_lines
from tests.selection.serving.served import LINES, Client, served

GOOD = record("my dog died today", "so sorry")


@pytest.fixture(scope="module")
def client(scorer: Scorer) -> Iterator[Client]:
    with Watch(None) as watch, served(scorer, watch=watch) as found:
        yield found


def test_the_same_scores_as_in_a_file(client: Client, scorer: Scorer, tmp_path: Path) -> None:
    records = [to_record(dialogue) for dialogue in varied(300)]
    score_files(scorer, Corpus([str(write_lines(tmp_path / "in.jsonl", records))]), tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    expected = dict(
        zip(table["id"].to_pylist(), np.stack([table[name] for name in table.column_names[1:]], axis=1), strict=True)
    )
    answers: list[list[dict[str, object]]] = [[] for _ in range(10)]

    def ask(part: int) -> None:
        answers[part] = client.ask("/v1/score", records[part * 30 : part * 30 + 30]).json["results"]

    threads = [threading.Thread(target=ask, args=(part,)) for part in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [one for part in answers for one in part]
    assert [one["id"] for one in found] == [one["id"] for one in records]
    scores = np.array([[one["sensibility"], one["rationality"]] for one in found], dtype=np.float32)
    np.testing.assert_allclose(scores, [expected[str(one["id"])] for one in found], atol=1e-3)
    sets = PAPER.apply(scores, scorer.bundle.info.cuts)
    assert [one["set"] for one in found] == [PAPER.sets[place] for place in sets]
    lines = "".join(json.dumps(one) + "\n" for one in records)
    streamed = client.ask("/v1/score", lines.encode(), LINES).lines
    assert [(one["record"], one["id"]) for one in streamed] == [(i, one["id"]) for i, one in enumerate(records)]
    again = np.array([[one["sensibility"], one["rationality"]] for one in streamed], dtype=np.float32)
    np.testing.assert_allclose(again, scores, atol=1e-3)


def test_a_bad_record_gets_its_reason_and_the_others_their_scores(client: Client) -> None:
    deep = {"messages": GOOD["messages"], "more": json.loads("[" * 50 + "]" * 50)}
    many = record(*["i am sad", "so sorry"] * 200)
    pair = {"prompt": "i am sad", "chosen": "so sorry", "rejected": "great"}
    answer = client.ask("/v1/score", [GOOD, 5, {"messages": []}, deep, many, pair, GOOD])
    assert answer.status == 200
    results = answer.json["results"]
    reasons = [(one["record"], one.get("reason", "")) for one in results]
    assert reasons == [
        (0, ""), (1, "not_an_object"), (2, "no_response"), (3, "too_deep"), (4, "too_many_turns"),
        (5, ""), (5, ""), (6, ""),
    ]  # fmt: skip
    assert (answer.json["scored"], answer.json["rejected"]) == (4, 4)
    assert results[0] | {"record": 6} == results[-1]
    none = client.ask("/v1/score", {"messages": []})
    assert none.status == 422
    assert none.json["results"][0]["reason"] == "no_response"
    assert none.json["error_type"] == "Validation"


def test_lines_with_faults(client: Client) -> None:
    good = json.dumps(GOOD).encode()
    body = b"\xef\xbb\xbf" + b"\n".join([good, b"", b"\xff\xfe", b"{", good, b"[]", b"x" * 5_000_000, good])
    found = client.ask("/v1/score", body, LINES).lines
    assert [(one["record"], one.get("reason", "")) for one in found] == [
        (0, ""), (2, "invalid_utf8"), (3, "broken_json"), (4, ""), (5, "not_an_object"),
        (6, "record_too_long"), (7, ""),
    ]  # fmt: skip


def test_outside_the_domain_and_what_was_left_aside(client: Client) -> None:
    long = record("i am sad", " ".join(["great"] * 500))
    later = {"messages": [*GOOD["messages"], {"role": "user", "content": "i am happy"}]}
    found = client.ask("/v1/score", [long, later]).json["results"]
    assert {"tokens", "response_characters"} <= set(found[0]["outside"])
    assert "cut" in found[0]["notes"]
    assert found[1]["notes"] == ["ends_in_user"]


def test_the_shapes_of_text_embeddings_inference(client: Client) -> None:
    expected = client.ask("/v1/score", {"context": "i am sad", "response": "so sorry"}).json["results"][0]
    one = client.ask("/predict", {"inputs": ["i am sad", "so sorry"], "raw_scores": True}).json
    assert {item["label"]: item["score"] for item in one} == {
        head: pytest.approx(expected[head], abs=1e-3) for head in ("sensibility", "rationality")
    }
    assert one[0]["score"] >= one[1]["score"]
    many = client.ask("/predict", {"inputs": [["i am sad", "so sorry"], ["we won", "great"]]}).json
    assert len(many) == 2
    assert {item["label"]: item["score"] for item in many[0]} == {
        item["label"]: pytest.approx(item["score"] / 10, abs=1e-3) for item in one
    }
    ranks = client.ask("/rerank", {"query": "i am sad", "texts": ["great", "so sorry"], "return_text": True}).json
    assert sorted(rank["index"] for rank in ranks) == [0, 1]
    assert ranks[0]["score"] >= ranks[1]["score"]
    assert {rank["index"]: rank["text"] for rank in ranks} == {0: "great", 1: "so sorry"}
    for body in (
        {"inputs": "alone"},
        {"inputs": []},
        {"inputs": [["a"]]},
        {"inputs": ["a", ""]},
        {},
        {"inputs": [1, 2]},
    ):
        answer = client.ask("/predict", body)
        assert (answer.status, answer.json["error_type"]) == (422, "Validation"), body


def test_pages_for_machines_and_people(client: Client) -> None:
    assert client.ask("/health").json == {"status": "ok"}
    info = client.ask("/info").json
    assert client.service is not None
    assert info["model_sha"] == client.service.scorer.bundle.sha256
    text = client.ask("/metrics").body.decode()
    assert "empathy_scored_total" in text
    state = client.ask("/dashboard/state").json
    counted = sum(float(line.split()[1]) for line in text.splitlines() if line.startswith("empathy_scored_total"))
    assert state["total"] == counted > 0
    document = client.ask("/openapi.json").json
    references = {part.partition('"')[0] for part in json.dumps(document).split('"#/components/schemas/')[1:]}
    assert references <= set(document["components"]["schemas"])
    assert {"/v1/score", "/predict", "/rerank", "/health", "/info", "/metrics"} <= set(document["paths"])
    page = client.ask("/docs")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert b"http-equiv" not in page.body
    assert b"<script" not in page.body
    assert b"https://" not in page.body


def test_categories_are_watched_and_texts_are_not(scorer: Scorer) -> None:
    with Watch(None) as watch, served(scorer, watch=watch) as client:
        client.ask("/v1/score", [{**GOOD, "category": "grief", "id": "a"}, record("we won", "great", id="b")])
        state = json.dumps(client.ask("/dashboard/state").json)
    assert "grief" in state
    assert "my dog died" not in state
