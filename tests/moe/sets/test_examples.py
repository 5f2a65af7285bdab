"""Dialogues as a causal model reads them: templates, loss on the response only, cuts and drops, and what a set is."""

from __future__ import annotations

import json
from collections import Counter
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from moe.errors import ModelError, SetError
from moe.provenance import CutTurns
from moe.sets.chat import Chat, Dropped, Example
from moe.sets.examples import IGNORED, batches_of, pad_examples, read_examples, set_source
from scorer.dialogue import Dialogue
from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import parse_record, to_record
from selection.files.layouts import LAYOUTS
from selection.select import select_sets
from selection.settings import SelectSettings
from tests.conftest import make_dialogue, record, varied, write_lines
from tests.moe.conftest import CHATML, byte_tokenizer

ENDLESS = (
    "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
STRICT = "{% if messages[0]['role'] != 'user' %}{{ raise_exception('user first') }}{% endif %}" + CHATML


def chat(max_length: int = 256, template: str | None = None) -> Chat:
    return Chat(byte_tokenizer(template), max_length)


def example_of(one: Chat, dialogue: Dialogue) -> Example:
    found = one.example(dialogue)
    assert isinstance(found, Example), found
    return found


def texts(one: Chat, example: Example) -> tuple[str, str]:
    """Return what of an example is context and what is learnt."""
    context, response = example.ids[: example.prompt], example.ids[example.prompt :]
    return one.tokenizer.decode(context), one.tokenizer.decode(response)


@pytest.mark.parametrize(
    ("template", "context", "response"),
    [
        (None, "<s>User: i am sad\nAssistant:", " so sorry</s>"),
        # without the line feed behind it, which no one generates
        (CHATML, "<|im_start|>user\ni am sad<|im_end|>\n<|im_start|>assistant\n", "so sorry<|im_end|>"),
        (ENDLESS, "[user] i am sad [assistant] ", "so sorry<|im_end|>"),  # an end where the template writes none
    ],
)
def test_templates_part_context_and_response(template: str | None, context: str, response: str) -> None:
    one = chat(template=template)
    assert texts(one, example_of(one, make_dialogue("i am sad", "so sorry"))) == (context, response)


@pytest.mark.parametrize("template", [None, CHATML])
def test_what_a_model_is_asked_is_what_it_was_trained_behind(template: str | None) -> None:
    one = chat(template=template)
    for dialogue in varied(20):
        example, prompt = example_of(one, dialogue), one.prompt(dialogue, 256)
        assert isinstance(prompt, Example)
        assert prompt.ids.tolist() == example.ids[: example.prompt].tolist()


def test_the_oldest_turns_go_first_and_the_context_begins_with_the_user() -> None:
    one = chat(80)
    example = example_of(one, make_dialogue("first " * 9, "second " * 9, "third " * 3, "fourth", "fifth", "so sorry"))
    assert len(example) <= 80
    context = f"<s>User: {'third ' * 3}\nAssistant: fourth</s>\nUser: fifth\nAssistant:"
    assert texts(one, example) == (context, " so sorry</s>")
    assert example.cut_turns == 2


def test_system_turns_at_the_beginning_stay() -> None:
    turns = [("system", "be kind"), ("user", "a " * 40), ("assistant", "b " * 40), ("user", "c"), ("assistant", "d")]
    one = chat(64)
    example = example_of(one, parse_record({"messages": [{"role": role, "content": text} for role, text in turns]}))
    assert texts(one, example)[0] == "<s>System: be kind\nUser: c\nAssistant:"
    assert example.cut_turns == 2


@pytest.mark.parametrize("turns", [("i " * 40, "so"), ("i", "so " * 40)])
def test_what_never_fits_is_dropped_with_its_length(turns: tuple[str, str]) -> None:
    dropped = chat(32).example(make_dialogue(*turns))
    assert isinstance(dropped, Dropped)
    assert dropped.reason == "too_long"
    assert "at most 32 fit" in dropped.detail


def test_a_dialogue_that_the_template_refuses_is_dropped_with_its_reason() -> None:
    one = chat(template=STRICT)
    refused = one.example(Dialogue(id="a", turns=make_dialogue("so", "sad").turns[1:] * 2, conversation="c"))
    assert refused == Dropped("template_refused", "user first")
    assert example_of(one, make_dialogue("hello", "i am sad", "so sorry")).cut_turns == 1  # the assistant began


def test_a_template_that_hides_where_the_response_begins_is_an_error() -> None:
    one = chat(template="{{ messages | length }}" + CHATML)
    with pytest.raises(ModelError, match="the loss cannot be kept to the response"):
        one.example(make_dialogue("i am sad", "so sorry"))


def test_a_tokenizer_without_an_end_is_an_error() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no end token"):
        Chat(tokenizer, 64)


def test_labels_are_the_response_and_nothing_else() -> None:
    one = chat()
    examples = [example_of(one, dialogue) for dialogue in varied(5)]
    batch = pad_examples(examples, one.pad_id)
    assert batch["input_ids"].shape[1] % 16 == 0
    for row, example in enumerate(examples):
        labels = batch["labels"][row].numpy()
        learnt = np.flatnonzero(labels != IGNORED)
        assert learnt.tolist() == list(range(example.prompt, len(example)))
        assert labels[learnt].tolist() == example.ids[example.prompt :].tolist()
        assert batch["attention_mask"][row].sum() == len(example)


def test_batches_hold_every_row_once_and_keep_to_their_budget() -> None:
    one = chat()
    examples = [example_of(one, dialogue) for dialogue in varied(50)]
    found = list(batches_of(examples, 512))
    assert sorted(np.concatenate(found).tolist()) == list(range(50))
    for rows in found:
        assert pad_examples([examples[row] for row in rows], 0)["input_ids"].numel() <= 512 or len(rows) == 1


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_every_layout_of_select_gives_the_same_examples(layout: str, tmp_path: Path) -> None:
    records = [to_record(dialogue) for dialogue in varied(30)]
    write_lines(tmp_path / "plain.jsonl", records)
    write_lines(tmp_path / "set.jsonl", [LAYOUTS[layout](dict(entry), Counter()) for entry in records])
    expected, found = (read_examples(tmp_path / name, chat()).examples for name in ("plain.jsonl", "set.jsonl"))
    assert [one.ids.tolist() for one in found] == [one.ids.tolist() for one in expected]
    assert [one.conversation for one in found] == [one.conversation for one in expected]


def test_drops_and_cuts_are_counted(tmp_path: Path) -> None:
    records = [record("i am sad", "so sorry"), record("a " * 60, "b", "c", "d"), record("i", "so " * 90), {"no": 1}]
    path = write_lines(tmp_path / "set.jsonl", records)
    counts = read_examples(path, chat(64)).about(set_source(path))
    assert (counts.examples, counts.cut) == (2, CutTurns(dialogues=1, turns=2))
    assert counts.dropped == {"too_long": 1, "no_messages": 1}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "among 1 records; the first: empty_file"),
        ("nonsense\n", "among 1 records; the first: broken_json"),
        (json.dumps(record("i", "so " * 90)) + "\n", "among 1 records; the first: too_long"),
    ],
)
def test_a_set_that_holds_nothing_to_learn_is_an_error(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "set.jsonl").write_text(text)
    with pytest.raises(SetError, match=f"no dialogue to learn from {reason}"):
        read_examples(tmp_path / "set.jsonl", chat(64))


def test_held_out_are_whole_conversations(tmp_path: Path) -> None:
    records = [record(f"i am {n // 3}", f"so {n}", conversation=f"c{n // 3}") for n in range(90)]
    train, out = read_examples(write_lines(tmp_path / "set.jsonl", records), chat()).split(0.2, 0)
    assert not {one.conversation for one in train} & {one.conversation for one in out}
    assert len(train) + len(out) == 90
    assert 0 < len(out) < 45


def test_synthetic_dialogues_are_counted_and_never_held_out(tmp_path: Path) -> None:
    records = [record(f"i am {n}", f"so {n}", **({"synthetic": True} if n % 2 else {})) for n in range(60)]
    found = read_examples(write_lines(tmp_path / "set.jsonl", records), chat())
    about = found.about(set_source(found.path))
    assert (about.examples, about.synthetic) == (60, 30)
    train, out = found.split(0.4, 0)
    assert 0 < len(out) < 30
    assert not any(one.synthetic for one in out)
    assert sum(one.synthetic for one in train) == 30


def test_a_set_says_how_it_was_selected(tmp_path: Path) -> None:
    rows = [to_record(dialogue) | {"sensibility": 8, "rationality": 2} for dialogue in varied(5)]
    corpus = Corpus([str(write_lines(tmp_path / "in.jsonl", rows))], labels="required")
    select_sets(corpus, tmp_path / "selection", SelectSettings())
    path = tmp_path / "selection" / "sensibility.jsonl"
    known = set_source(path)
    assert known.sha256 == sha256(path.read_bytes()).hexdigest()
    assert known.selection is not None
    assert (known.selection.set, known.selection.rule.name, known.selection.scorer) == ("sensibility", "paper", None)
    assert set_source(path.with_name("selection.json")).selection is None  # beside it, but no set
    assert set_source(tmp_path / "in.jsonl").selection is None
    with pytest.raises(SetError, match="cannot be read"):
        set_source(tmp_path / "missing.jsonl")
