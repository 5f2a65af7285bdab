"""`empathy moe evaluate`: each figure against a reference, what is kept, and a page that runs nothing."""

from __future__ import annotations

import json
import math
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moe.cli.lines import evaluation_lines
from moe.errors import SetError, SettingError
from moe.evaluation.evaluate import Evaluation, HeldOut, evaluate_models, read_held_out
from moe.evaluation.measures import distinct, marks_of, perplexity, response_losses, text_figures
from moe.evaluation.page import write_page
from moe.evaluation.responses import Response
from moe.models import load_causal, load_tokenizer
from moe.sets.chat import Chat, Example
from moe.settings import GenerateSettings
from scorer.dialogue import Turn
from scorer.errors import OutputError
from scorer.model import Scorer
from scorer.outputs import read_json
from scorer.progress import Silent
from tests.conftest import labels, record, varied, write_lines
from tests.moe.conftest import Made, command

SETTINGS = GenerateSettings(max_new_tokens=6, max_length=128, batch_size=8)


def test_losses_are_those_of_the_response_alone(made: Made) -> None:
    chat, model = Chat(load_tokenizer(made.mixture), 128), load_causal(made.mixture).eval()
    examples = [example for dialogue in varied(7) if isinstance(example := chat.example(dialogue), Example)]
    found = response_losses(model, examples, chat.pad_id)
    for example, loss in zip(examples, found, strict=True):
        ids = torch.from_numpy(example.ids.astype(np.int64))
        with torch.no_grad():
            chances = torch.log_softmax(model(ids[None]).logits[0], dim=-1)
        places = range(example.prompt, len(example))
        assert loss == pytest.approx(-sum(float(chances[place - 1, ids[place]]) for place in places), rel=1e-4)


def test_perplexity_is_of_tokens_and_its_interval_of_conversations() -> None:
    losses, tokens = np.array([2.0, 4.0, 30.0]), np.array([1.0, 2.0, 10.0])
    found = perplexity(losses, tokens, ["a", "a", "b"])
    assert found.perplexity == pytest.approx(math.exp(36 / 13))
    assert found.interval_95 == pytest.approx((math.exp(2), math.exp(3)))
    assert perplexity(losses, tokens, ["a", "a", "a"]).interval_95 == pytest.approx((math.exp(36 / 13),) * 2)


def test_distinct_counts_different_n_grams() -> None:
    assert distinct(["a b a b", "A b"], 1) == pytest.approx(2 / 6)
    assert distinct(["a b a b", "a b"], 2) == pytest.approx(2 / 4)
    assert distinct(["a", ""], 2) == 0


def test_overlap_is_full_with_itself_and_none_with_other_words() -> None:
    same = ["i am so sorry for your loss", "that is great news my friend"]
    found = text_figures(same, same)
    assert found["bleu"] == pytest.approx(100)
    assert (found["rouge_l"], found["empty"]) == (1.0, 0.0)
    other = text_figures(["xx yy zz", ""], same)
    assert (other["rouge_l"], other["empty"], other["words"]) == (0.0, 0.5, 1.5)
    assert "bleu" not in text_figures(same, None)


def response(text: str, **more: Any) -> Response:
    messages = (Turn("user", "i am sad"), Turn("assistant", text))
    return Response(
        **{"id": "1", "conversation": "c", "messages": messages, "reference": "x", "finished": True, **more}
    )


def test_marks_are_the_scorers_own(scorer: Scorer) -> None:
    dialogues = [response(text).dialogue() for text in ("that is great", "")]
    found = marks_of(scorer, dialogues)
    assert found["scored"] == 1
    assert found["sensibility"] == pytest.approx(float(scorer.score(dialogues[:1])[0, 0]))
    assert marks_of(scorer, dialogues[1:])["sensibility"] is None
    assert response("", reference="so sorry").dialogue(reference=True).response == "so sorry"


class Stages(Silent):
    """Notes which models are measured."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def stage(self, name: str, total: float | None = None, done: float = 0) -> None:
        self.names.add(name.partition(":")[0])


def test_models_stand_side_by_side_and_are_measured_once(made: Made, tmp_path: Path, scorer: Scorer) -> None:
    def run(models: dict[str, str], count: int = 12) -> tuple[Evaluation, set[str]]:
        stages = Stages()
        found = evaluate_models(models, HeldOut(varied(count), []), tmp_path / "out", SETTINGS, scorer, stages)
        return found, stages.names

    models = {"base": str(made.base), "moe": str(made.mixture)}
    more = {**models, "warm": str(made.experts[0])}
    first, measured = run(models)
    assert measured == {"base", "moe"}
    second, measured = run(more)
    assert measured == {"warm"}
    assert {name: second.models[name] for name in models} == {name: first.models[name] for name in models}
    assert read_json(tmp_path / "out" / "evaluation.json", Evaluation, "") == second
    assert [line.split()[0] for line in list(evaluation_lines(second))[1:5]] == ["base", "moe", "warm", "reference"]
    assert len((tmp_path / "out" / "warm.jsonl").read_text().splitlines()) == 12
    run({"moe": models["moe"]})
    assert not run(more)[1]  # figures of models that were left out once are kept
    assert run(more, 11)[1] == set(more)  # other data


class Tags(HTMLParser):
    """Collects tags, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_escapes_everything_and_loads_nothing(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)> & \"'"
    row = response("", messages=(Turn("user", evil), Turn("assistant", evil)), reference=evil)
    write_page(tmp_path / "page.html", {evil: [row], "none": []}, 1)
    page = Tags((tmp_path / "page.html").read_text())
    own = "html head meta link title style body header footer main section div h1 h2 p b span button script"
    assert {tag for tag, _ in page.tags} == {*own.split(), *"table thead tr th tbody td".split()}
    assert [attributes["href"] for tag, attributes in page.tags if tag == "link"] == ["data:,"]
    page.tags = [entry for entry in page.tags if entry[0] != "link"]
    assert not any(name in attributes for _, attributes in page.tags for name in ("src", "href", "onerror", "onload"))
    assert page.text.count("<script>alert(1)</script>") == 4
    assert any("default-src 'none'" in str(attributes.get("content")) for _, attributes in page.tags)


def test_it_says_what_its_marks_are_worth(made: Made, tmp_path: Path, partly_trained: Scorer) -> None:
    data = read_held_out([str(write_lines(tmp_path / "in.jsonl", labels()))])
    own = shutil.copytree(made.mixture, tmp_path / "own")
    written = json.loads((own / "moe.json").read_text())
    (own / "moe.json").write_text(json.dumps({**written, "sets": [partly_trained.bundle.sha256]}))
    models = {"base": str(made.base), "own": str(own)}
    first, second = evaluate_models(models, data, tmp_path / "out", SETTINGS, partly_trained).notes
    assert first == "the scorer was trained on 15 of these 60 dialogues: it may know their responses"
    assert second.startswith("the scorer selected what own learnt, so it marks its own choice")


def test_synthetic_dialogues_are_no_references(made: Made, tmp_path: Path, scorer: Scorer) -> None:
    records = [record(f"i am {n}", "so sorry", synthetic=n % 3 == 0) for n in range(9)]
    data = read_held_out([str(write_lines(tmp_path / "in.jsonl", records))], 5)
    assert [one.context[0].content for one in data.dialogues] == [f"i am {n}" for n in (1, 2, 4, 5, 7)]
    assert [one.reason for one in data.rejects] == ["synthetic"] * 3
    info = evaluate_models({"base": str(made.base)}, data, tmp_path / "out", SETTINGS, scorer)
    assert (info.dialogues, info.rejected) == (5, 3)
    assert "3 synthetic dialogues were left out" in info.notes[0]


def test_bad_input_is_an_error(made: Made, tmp_path: Path, scorer: Scorer) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    tiny = GenerateSettings(max_new_tokens=2, max_length=16)
    for name, count, output, settings, error, message in (
        ("base", 0, "out", SETTINGS, SetError, "no dialogue to evaluate on"),
        ("../x", 2, "out", SETTINGS, SettingError, r"model name '\.\./x'"),
        ("base", 2, "mine", SETTINGS, OutputError, r"holds no evaluation.json"),
        ("base", 2, "out", tiny, SetError, "none of the 2 dialogues can be read by it"),
    ):
        with pytest.raises(error, match=message):
            evaluate_models({name: str(made.base)}, HeldOut(varied(count), []), tmp_path / output, settings, scorer)


def test_the_command_prints_a_table_and_writes_json(made: Made, tmp_path: Path, scorer: Scorer) -> None:
    path = write_lines(tmp_path / "in.jsonl", [record(f"i am {n}", "so sorry") for n in range(6)])
    more = ("--max-new-tokens", "4", "--scorer", scorer.bundle.path, "--json", tmp_path / "figures.json")
    command(0, "moe", "evaluate", f"plain={made.base}", made.mixture, "--data", path, "-o", tmp_path / "out", *more)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert list(figures["models"]) == ["plain", "moe", "reference"]
    assert figures["models"]["moe"]["made"]["kind"] == "moe"
    assert (tmp_path / "out" / "responses.html").exists()
    said = command(2, "moe", "evaluate", made.base, f"base={made.mixture}", "--data", path, "-o", tmp_path / "new")
    assert "called the same" in said
