"""`empathy moe generate`: answers do not depend on the batch, a killed run is resumed, every record is counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from moe.errors import SetError
from moe.evaluation.generate import Answered, generate_responses
from moe.evaluation.responses import read_responses
from moe.models import load_causal, load_tokenizer, model_hash
from moe.sets.chat import Chat, Example
from moe.settings import GenerateSettings
from scorer.dialogue import Dialogue, Turn
from scorer.errors import OutputError
from scorer.inputs.corpus import Corpus
from tests.conftest import record, varied, write_lines
from tests.moe.conftest import Killed, KilledAt, Made, command

SETTINGS = GenerateSettings(max_new_tokens=6, max_length=128, batch_size=4)


def test_answers_are_those_of_the_model_alone(made: Made, tmp_path: Path) -> None:
    dialogues = varied(10)
    generate_responses(str(made.mixture), dialogues, tmp_path / "out.jsonl", SETTINGS)
    found = read_responses(tmp_path / "out.jsonl")
    assert [one.id for one in found] == [dialogue.id for dialogue in dialogues]
    assert [one.reference for one in found] == [dialogue.response for dialogue in dialogues]
    chat, model = Chat(load_tokenizer(made.mixture), 128), load_causal(made.mixture).eval()
    for dialogue, one in zip(dialogues, found, strict=True):
        prompt = chat.prompt(dialogue, 122)
        assert isinstance(prompt, Example)
        ids = prompt.ids.tolist()
        with torch.no_grad():
            while len(ids) < len(prompt) + 6 and (len(ids) == len(prompt) or ids[-1] != chat.tokenizer.eos_token_id):
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        text = chat.tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True).strip()
        assert one.messages[-1] == Turn("assistant", text)
        assert one.finished == (ids[-1] == chat.tokenizer.eos_token_id)
    again = list(Corpus([str(tmp_path / "out.jsonl")]))
    pairs = [(one, dialogue) for one, dialogue in zip(found, again, strict=True) if isinstance(dialogue, Dialogue)]
    assert pairs
    assert all(dialogue.turns == one.messages for one, dialogue in pairs)


@pytest.mark.parametrize("sample", [False, True])
def test_a_killed_run_ends_as_a_whole_one(sample: bool, made: Made, tmp_path: Path) -> None:
    settings = GenerateSettings(max_new_tokens=6, max_length=128, batch_size=4, sample=sample, temperature=1.5)
    dialogues = varied(20)
    generate_responses(str(made.experts[0]), dialogues, tmp_path / "whole.jsonl", settings)
    with pytest.raises(Killed):
        generate_responses(str(made.experts[0]), dialogues, tmp_path / "out.jsonl", settings, progress=KilledAt(12))
    assert not (tmp_path / "out.jsonl").exists()
    with open(tmp_path / "out.jsonl.partial", "a") as file:
        file.write('{"batch": "torn')
    generate_responses(str(made.experts[0]), dialogues, tmp_path / "out.jsonl", settings)
    assert (tmp_path / "out.jsonl").read_text() == (tmp_path / "whole.jsonl").read_text()
    assert not (tmp_path / "out.jsonl.partial").exists()


def test_samples_differ_by_seed_and_from_the_greedy(made: Made, tmp_path: Path) -> None:
    made_of = []
    for more in ({}, {"sample": True}, {"sample": True, "seed": 1}):
        settings = GenerateSettings(max_new_tokens=6, max_length=128, temperature=3, **more)
        generate_responses(str(made.base), varied(6), tmp_path / "out", settings, overwrite=True)
        made_of.append((tmp_path / "out").read_text())
    assert len(set(made_of)) == 3


def test_another_model_or_input_does_not_resume_a_run(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with pytest.raises(Killed):
        generate_responses(str(made.base), varied(9), out, SETTINGS, progress=KilledAt(0))
    with pytest.raises(OutputError, match="another model's or another setting's"):
        generate_responses(str(made.mixture), varied(9), out, SETTINGS)
    with pytest.raises(OutputError, match="the input was changed since"):
        generate_responses(str(made.base), varied(9)[1:], out, SETTINGS)
    generate_responses(str(made.base), varied(9), out, SETTINGS)
    with pytest.raises(OutputError, match="exists already"):
        generate_responses(str(made.base), varied(9), out, SETTINGS)


def test_records_that_cannot_be_answered_are_listed(made: Made, tmp_path: Path) -> None:
    rows = [record("i am sad", "so"), {"no": 1}, record("i am sad " * 30, "so"), record("we won", "great")]
    path = write_lines(tmp_path / "in.jsonl", rows)
    counts = generate_responses(str(made.base), Corpus([str(path)]), tmp_path / "out.jsonl", SETTINGS)
    assert counts == Answered(responses=2, rejected=2)
    rejects = [json.loads(line) for line in (tmp_path / "out.jsonl.rejects.jsonl").read_text().splitlines()]
    assert [reject["line"] for reject in rejects] == [2, 3]
    assert rejects[1]["reason"] == "too_long"


def test_nothing_to_answer_is_an_error(made: Made, tmp_path: Path) -> None:
    with pytest.raises(SetError, match="no dialogue to answer among 0 records"):
        generate_responses(str(made.base), [], tmp_path / "out.jsonl", SETTINGS)
    assert not list(tmp_path.iterdir())


def test_models_are_told_apart(made: Made) -> None:
    hashes = {model_hash(str(path)) for path in (made.base, *made.experts, made.mixture)}
    assert len(hashes) == 4


def test_the_command_answers_and_limits(made: Made, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "in.jsonl", [record(f"i am {n}", "so") for n in range(5)])
    more = ("--limit", "3", "--max-new-tokens", "4")
    said = command(0, "moe", "generate", made.mixture, path, "-o", tmp_path / "out.jsonl", *more)
    assert "answered 3" in said
    assert "exists already" in command(2, "moe", "generate", made.mixture, path, "-o", tmp_path / "out.jsonl")
    said = command(2, "moe", "generate", tmp_path / "nothing", path, "-o", tmp_path / "new.jsonl")
    assert "no such folder, and no id of a model" in said
