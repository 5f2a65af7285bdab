"""What labels are made of: expectations where the server gives log-probabilities, and several judges."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distill.errors import LabelError
from distill.judge.rubric import Rubric
from distill.judge.store import Store
from distill.panel.label import Panel
from tests.conftest import Run
from tests.distill.conftest import Label, Serve
from tests.distill.judge.judge_server import Running
from tests.distill.judge.labelling import dialogues, dialogues_file, environment, options, settings, true_scores


@pytest.mark.parametrize("shape", ["openai", "split vllm", "llama.cpp", "completion"])
def test_the_store_holds_the_number_said_and_what_was_expected(serve: Serve, label: Label, shape: str) -> None:
    work = label(serve(logprobs=shape), 30)
    assert work.run()[0].scored == 30
    known = work.store.known([question.key for question in work.questions])
    for question in work.questions:
        judged, truth = known[question.key].judged, true_scores(question.dialogue)
        assert judged is not None
        assert judged.said == truth
        assert judged.means == pytest.approx([s - 0.5 if s >= 5 else s + 0.5 for s in truth], abs=1e-3)
        assert judged.spreads == pytest.approx([0.6708] * 2, abs=1e-3)


def test_without_logprobs_they_are_not_asked_for(serve: Serve, label: Label) -> None:
    server = serve(logprobs="openai", lacks={"logprobs": [400, "no logprobs"]})
    work = label(server, 3, logprobs=False)
    assert work.run()[0].scored == 3
    assert server.stats()["requests"] == 3


def test_a_batch_gives_up_what_the_server_lacks_and_uses_no_attempt(serve: Serve, label: Label) -> None:
    server = serve(logprobs="openai", lacks={"temperature": [400, "Unsupported: temperature"]})
    work = label(server, 5, batch=True, poll_seconds=0.02)
    assert work.run()[0].scored == 5
    assert server.stats()["batches"] == 2
    known = work.store.known([question.key for question in work.questions]).values()
    assert all(entry.judged and entry.judged.means for entry in known)


# Several judges


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store.sqlite") as opened:
        yield opened


def panel(store: Store, server: Running, count: int, *models: str, **more: Any) -> Panel:
    return Panel.of_models(dialogues(count), Rubric(), settings(server, **more), models, store)


def test_each_judge_judges_every_dialogue_and_what_one_has_is_not_asked_again(store: Store, serve: Serve) -> None:
    server = serve()
    panel(store, server, 8, "a").run()
    both = panel(store, server, 10, "a", "b")
    outcome, spending = both.run()
    assert (outcome.scored, spending.requests, outcome.stopped) == (12, 12, None)
    models = [label["judge"]["model"] for label in store.labels({})]
    assert (models.count("a"), models.count("b")) == (10, 10)
    with pytest.raises(LabelError, match="--model a is given twice"):
        panel(store, server, 1, "a", "b", "a")


@pytest.mark.parametrize("limit", ["max_requests", "max_cost"])
def test_a_budget_that_does_not_suffice_is_divided(store: Store, serve: Serve, limit: str) -> None:
    whole = panel(store, serve(), 40, "a", "b", price_in=1, price_out=2)
    size = whole.judges[0].size
    assert whole.judges[0].price is not None
    money = whole.judges[0].price.of(size.prompt, size.completion)  # what one of the two would need
    more: dict[str, Any] = {"max_requests": 41} if limit == "max_requests" else {"max_cost": money}
    part = panel(store, serve(), 40, "a", "b", price_in=1, price_out=2, concurrency=2, **more)
    outcome, spending = part.run()
    models = [label["judge"]["model"] for label in store.labels({})]
    assert abs(models.count("a") - models.count("b")) <= 8
    assert outcome.scored == len(models) > 20
    assert spending.usd <= more.get("max_cost", 1)
    assert spending.requests <= more.get("max_requests", 100)
    assert "a: --max-" in (outcome.stopped or "")


def test_a_judge_that_cannot_be_asked_is_named_and_the_others_answers_stay(store: Store, serve: Serve) -> None:
    both = panel(store, serve(knows_models=["a"]), 4, "a", "b")
    with pytest.raises(LabelError, match=r"^b: .*the server knows no such model"):
        both.run()
    assert len(list(store.labels({}))) == 4


def test_what_one_judge_leaves_goes_to_the_others(store: Store, serve: Serve) -> None:
    server = serve()
    panel(store, server, 30, "a").run()
    outcome, spending = panel(store, server, 40, "a", "b", max_requests=50).run()
    assert (outcome.scored, spending.requests, outcome.stopped) == (50, 50, None)


@pytest.mark.slow
def test_the_command_writes_all_judges_and_agree_compares_them(serve: Serve, empathy: Run, tmp_path: Path) -> None:
    server = serve(logprobs="openai", always=["number 7."], faults=["range"])
    source, output = dialogues_file(tmp_path / "in.jsonl", 60), tmp_path / "labels.jsonl"

    def run(*more: str, **given: Any) -> str:
        models = ("--model", "judge-1", "--model", "judge-2")
        chosen = options(server, tmp_path, timeout=20, **given)
        place = chosen.index("--model")
        result = empathy("label", source, *models, *chosen[:place], *chosen[place + 2 :], *more, env=environment())
        assert result.returncode == 0, result.stderr
        return str(result.stdout + result.stderr)

    text = run("--dry-run", price_in=1, price_out=2, draws=2, temperature=0.7)
    assert "judge-1:\nto ask: 120 questions" in text
    assert "all judges: about $" in text
    text = run("-o", str(output), draws=2, temperature=0.7)
    assert "labelled 236 of 240" in text
    assert "judge-2, 118 labels: means: sensibility" in text
    assert "expectations of log-probabilities: 236 of 236 labels" in text
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    first = [(line["id"], line["judge"]["model"], line["judge"]["draw"]) for line in lines[:5]]
    assert first == [*(("d0", f"judge-{model}", draw) for model in (1, 2) for draw in (0, 1)), ("d1", "judge-1", 0)]
    assert abs(lines[0]["sensibility"] - lines[0]["judge"]["said"]["sensibility"]) == pytest.approx(0.5)
    rejects = [json.loads(line) for line in (tmp_path / "labels.jsonl.rejects.jsonl").read_text().splitlines()]
    assert [(reject["model"], reject["draw"]) for reject in rejects] == [
        (f"judge-{model}", draw) for model in (1, 2) for draw in (0, 1)
    ]
    asked = server.stats()["requests"]
    assert "labelled 236 of 240, 236 of them" in run("-o", str(output), "--overwrite", draws=2, temperature=0.7)
    assert server.stats()["requests"] == asked

    agreed = empathy("agree", output, "--against", output, "--bootstrap", "0", "--json", tmp_path / "a.json")
    assert agreed.returncode == 0, agreed.stderr
    assert "judge-1 with judge-2" in agreed.stdout
    assert "judge-2 with itself, temperature 0.7" in agreed.stdout
    assert "labels are combined by reliability, estimated from 59 dialogues" in agreed.stdout
    found = json.loads((tmp_path / "a.json").read_text())["judges"]
    assert found["comparisons"][0]["judges"] == ["judge-1", "judge-2"]
    assert found["reliability"]["judge-1"]["share"]["sensibility"] == pytest.approx(0.5, abs=0.01)

    said = tmp_path / "said.jsonl"
    arguments = ("--export", "--store", tmp_path / "store.sqlite", "--model", "judge-2", "--no-logprobs", "-o", said)
    assert empathy("label", *arguments).returncode == 0
    exported = [json.loads(line) for line in said.read_text().splitlines()]
    assert {line["judge"]["model"] for line in exported} == {"judge-2"}
    assert all(isinstance(line["sensibility"], int) for line in exported)
