"""`empathy moe evaluate`: each figure against a reference, what is kept, and a page that runs nothing."""

from __future__ import annotations

import json
import math
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from moe.errors import SetError, SettingError
from moe.evaluation.evaluate import HeldOut, evaluate, read_held_out, table_lines
from moe.evaluation.measures import answered, distinct, marks, perplexity, response_losses, text_measures
from moe.evaluation.page import write_page
from moe.models import load_causal, load_tokenizer
from moe.sets.chat import Chat, Example
from moe.settings import GenerateSettings
from scorer.errors import OutputError
from scorer.model import Scorer
from tests.conftest import record, varied, write_lines
from tests.moe.moe_fixtures import Made, command, made

__all__ = ["made"]

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
    assert found["perplexity"] == pytest.approx(math.exp(36 / 13))
    assert found["interval_95"] == pytest.approx([math.exp(2), math.exp(3)])
    assert perplexity(losses, tokens, ["a", "a", "a"])["interval_95"] == pytest.approx([math.exp(36 / 13)] * 2)


def test_distinct_counts_different_n_grams() -> None:
    assert distinct(["a b a b", "A b"], 1) == pytest.approx(2 / 6)
    assert distinct(["a b a b", "a b"], 2) == pytest.approx(2 / 4)
    assert distinct(["a", ""], 2) == 0


def test_overlap_is_full_with_itself_and_none_with_other_words() -> None:
    same = ["i am so sorry for your loss", "that is great news my friend"]
    found = text_measures(same, same)
    assert found["bleu"] == pytest.approx(100)
    assert (found["rouge_l"], found["empty"]) == (1.0, 0.0)
    other = text_measures(["xx yy zz", ""], same)
    assert (other["rouge_l"], other["empty"], other["words"]) == (0.0, 0.5, 1.5)
    assert "bleu" not in text_measures(same, None)


def test_marks_are_the_scorers_own(scorer: Scorer) -> None:
    records = [
        {
            "messages": [*record("i am sad", "x")["messages"][:1], {"role": "assistant", "content": text}],
            "reference": "so sorry",
            "conversation": "c",
        }
        for text in ("that is great", "")
    ]
    dialogues = list(answered(records))
    found = marks(scorer, dialogues)
    assert found["scored"] == 1
    assert found["sensibility"] == pytest.approx(float(scorer.score(dialogues[:1])[0, 0]))
    assert [one.response for one in answered(records, reference=True)] == ["so sorry"] * 2
    assert marks(scorer, dialogues[1:])["sensibility"] is None


def test_models_stand_beside_each_other_and_are_measured_once(made: Made, tmp_path: Path, scorer: Scorer) -> None:
    models = {"base": str(made.base), "moe": str(made.mixture)}
    data = HeldOut(varied(12), [])
    heard: list[str] = []
    first = evaluate(models, data, tmp_path / "out", SETTINGS, scorer, report=lambda name, _: heard.append(name))
    assert set(heard) == {"base", "moe"}
    heard.clear()
    more = {**models, "warm": str(made.experts[0])}
    second = evaluate(more, data, tmp_path / "out", SETTINGS, scorer, report=lambda name, _: heard.append(name))
    assert set(heard) == {"warm"}
    assert {name: second["models"][name] for name in models} == {name: first["models"][name] for name in models}
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text()) == second
    lines = list(table_lines(second))
    assert [line.split()[0] for line in lines[1:5]] == ["base", "moe", "warm", "reference"]
    assert len((tmp_path / "out" / "warm.jsonl").read_text().splitlines()) == 12
    heard.clear()
    evaluate({"moe": models["moe"]}, data, tmp_path / "out", SETTINGS, scorer, report=lambda n, _: heard.append(n))
    evaluate(more, data, tmp_path / "out", SETTINGS, scorer, report=lambda name, _: heard.append(name))
    assert not heard  # figures of models that were left out once are kept
    evaluate(more, HeldOut(varied(11), []), tmp_path / "out", SETTINGS, scorer, report=lambda n, _: heard.append(n))
    assert set(heard) == set(more)  # other data


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
    row = {
        "id": "1",
        "messages": [{"role": evil, "content": evil}, {"role": "assistant", "content": evil}],
        "reference": evil,
    }
    write_page(tmp_path / "page.html", {evil: [row], "none": []}, {"dialogues": 1})
    page = Tags((tmp_path / "page.html").read_text())
    assert {tag for tag, _ in page.tags} == {
        *"html head meta title style body h1 p table thead tr th tbody td span".split()
    }
    assert not any(name in attributes for _, attributes in page.tags for name in ("src", "href", "onerror", "onload"))
    assert page.text.count("<script>alert(1)</script>") == 5
    assert any("default-src 'none'" in str(attributes.get("content")) for _, attributes in page.tags)


def test_it_says_what_its_marks_are_worth(made: Made, tmp_path: Path, partly_trained: Scorer) -> None:
    from tests.conftest import labels

    data = read_held_out([str(write_lines(tmp_path / "in.jsonl", labels()))])
    info = evaluate({"base": str(made.base)}, data, tmp_path / "out", SETTINGS, partly_trained)
    assert info["notes"] == ["the scorer was trained on 15 of these 60 dialogues: it may know their responses"]
    own = shutil.copytree(made.mixture, tmp_path / "own")
    written = json.loads((own / "moe.json").read_text())
    (own / "moe.json").write_text(json.dumps({**written, "sets": [partly_trained.bundle.sha256]}))
    info = evaluate({"own": str(own)}, data, tmp_path / "again", SETTINGS, partly_trained)
    assert "marks its own choice" in info["notes"][1]


def test_bad_input_is_an_error(made: Made, tmp_path: Path, scorer: Scorer) -> None:
    models = {"base": str(made.base)}
    with pytest.raises(SetError, match="no dialogue to evaluate on"):
        evaluate(models, HeldOut([], []), tmp_path / "out", SETTINGS, scorer)
    with pytest.raises(SettingError, match=r"model name '\.\./x'"):
        evaluate({"../x": str(made.base)}, HeldOut(varied(2), []), tmp_path / "out", SETTINGS, scorer)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds no evaluation.json"):
        evaluate(models, HeldOut(varied(2), []), tmp_path / "mine", SETTINGS, scorer)
    tiny = GenerateSettings(max_new_tokens=2, max_length=16)
    with pytest.raises(SetError, match="none of the 2 dialogues can be read by it"):
        evaluate(models, HeldOut(varied(2), []), tmp_path / "out", tiny, scorer)


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
