"""Several responses to one dialogue: each with its seed, told apart by their ids, resumed, scored and paired."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moe.errors import SettingError
from moe.evaluation.generate import Answered, generate_responses
from moe.evaluation.responses import read_responses
from moe.settings import CandidateSettings, GenerateSettings
from scorer.bundle.bundle import Bundle
from scorer.errors import OutputError
from scorer.inputs.corpus import Corpus
from tests.conftest import record, varied, write_lines
from tests.moe.conftest import Killed, KilledAt, Made, command

SAMPLE = GenerateSettings(max_new_tokens=6, max_length=128, batch_size=4, sample=True, temperature=1.5)


def candidates(made: Made, output: Path, n: int, settings: GenerateSettings = SAMPLE) -> list[tuple[str, str]]:
    """Return the id and the text of each response to ten dialogues."""
    found = generate_responses(str(made.base), varied(10), output, settings, candidates=CandidateSettings(n=n))
    responses = read_responses(output)
    assert found == Answered(responses=10 * n, rejected=0, copies=found.copies)
    assert [one.reference for one in responses] == [one.response for one in varied(10) for _ in range(n)]
    return [(one.id, one.text) for one in responses]


def test_each_candidate_has_its_number_and_a_seed_of_its_own(made: Made, tmp_path: Path) -> None:
    three = candidates(made, tmp_path / "three", 3)
    assert [id_ for id_, _ in three] == [f"{one.id}#{number}" for one in varied(10) for number in (1, 2, 3)]
    texts = [[text for _, text in three[k : k + 3]] for k in range(0, 30, 3)]
    assert sum(len(set(some)) == 3 for some in texts) >= 8
    # More candidates begin with the same ones, and a single one is what a run without --n gives.
    two = candidates(made, tmp_path / "two", 2)
    assert two == [entry for entry in three if not entry[0].endswith("#3")]
    one = candidates(made, tmp_path / "one", 1)
    assert one == [(id_.removesuffix("#1"), text) for id_, text in three if id_.endswith("#1")]
    assert "candidate" not in json.loads((tmp_path / "one").read_text().splitlines()[0])


def test_a_killed_run_of_candidates_ends_as_a_whole_one(made: Made, tmp_path: Path) -> None:
    candidates(made, tmp_path / "whole", 3)
    given = (str(made.base), varied(10), tmp_path / "out", SAMPLE)
    with pytest.raises(Killed):
        generate_responses(*given, candidates=CandidateSettings(n=3), progress=KilledAt(6))
    lines = (tmp_path / "out.partial").read_text().splitlines()
    assert len(lines) == 1 + 5  # the run, a batch of three candidates, two of the next
    with pytest.raises(OutputError, match="another model's or another setting's"):
        generate_responses(*given, candidates=CandidateSettings(n=2))
    generate_responses(*given, candidates=CandidateSettings(n=3))
    assert (tmp_path / "out").read_text() == (tmp_path / "whole").read_text()


def test_the_likeliest_response_is_one(made: Made, tmp_path: Path) -> None:
    greedy = GenerateSettings(max_new_tokens=6, max_length=128)
    with pytest.raises(SettingError, match=r"n is 2 and all responses to a dialogue would be the same.*say --sample"):
        candidates(made, tmp_path / "out", 2, greedy)
    with pytest.raises(SettingError, match="n is 0, expected 1 to 1000"):
        CandidateSettings(n=0)
    assert not list(tmp_path.iterdir())


def test_candidates_that_repeat_each_other_are_counted(made: Made, tmp_path: Path) -> None:
    nearly_greedy = GenerateSettings(max_new_tokens=3, max_length=128, sample=True, temperature=0.01)
    dialogues, several = varied(5), CandidateSettings(n=4)
    found = generate_responses(str(made.base), dialogues, tmp_path / "out", nearly_greedy, candidates=several)
    responses = read_responses(tmp_path / "out")
    assert found.copies == 20 - len({(one.id.split("#")[0], one.text) for one in responses}) > 10


def test_candidates_are_scored_and_become_pairs(made: Made, bundle: Bundle, tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "in.jsonl", [record(f"i am {n}", "so", "we won", "great", id=f"d{n}") for n in range(6)]
    )
    out, scores, pairs = tmp_path / "candidates.jsonl", tmp_path / "scores.parquet", tmp_path / "pairs"
    more = ("--n", "4", "--sample", "--max-new-tokens", "4", "--temperature", "2")
    said = command(0, "moe", "generate", made.base, path, "-o", out, *more)
    assert "answered 6 with 4 candidates each" in said
    select = ("select", out, "--scores", scores, "-o", pairs, "--rule", "pairs", "--margin", "0")
    command(0, "score", out, "-o", scores, "--scorer", bundle.path)
    assert "6 without a response that may be chosen; responses: " in command(2, *select)  # bytes at random
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    for number, line in enumerate(lines):  # what another model might have said
        line["messages"][-1]["content"] = f"oh that is {number} times what i had hoped for"
        line["finished"] = True
    write_lines(out, lines)
    command(0, "score", out, "-o", scores, "--scorer", bundle.path, "--overwrite")
    command(0, *select)
    info = json.loads((pairs / "selection.json").read_text())
    scored = [record for record in Corpus([str(out)]) if hasattr(record, "turns")]
    assert info["dialogues"] == len(scored) == sum(entry["count"] for entry in info["sets"].values())
    assert sum(info["pairs"]["contexts"].values()) == 6
    for line in (pairs / "pairs.jsonl").read_text().splitlines():
        pair = json.loads(line)
        assert pair["id_chosen"].split("#")[0] == pair["id_rejected"].split("#")[0]
        assert [turn["role"] for turn in pair["prompt"]] == ["user", "assistant", "user"]


def test_an_empty_response_is_no_candidate(made: Made, bundle: Bundle, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "in.jsonl", [record("i am sad", "so sorry to hear", "we won", "great", id="d")])
    command(0, "moe", "generate", made.base, path, "-o", tmp_path / "c.jsonl", "--n", "2", "--sample")
    lines = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()]
    lines[0]["messages"][-1]["content"] = ""
    write_lines(tmp_path / "c.jsonl", lines)
    command(0, "score", tmp_path / "c.jsonl", "-o", tmp_path / "s.jsonl", "--scorer", bundle.path)
    scored = [json.loads(line)["id"] for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert "d#1" not in scored
