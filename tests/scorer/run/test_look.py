"""What scoring would judge, counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from scorer.bundle.bundle import Bundle
from scorer.cli.look import look
from tests.conftest import Run, write_lines
from tests.test_map import ODD


def test_look_counts_warns_and_shows_no_control_characters(tmp_path: Path) -> None:
    """A warning is exit code 1; the judged turn is marked."""
    turns = [("user", "I lost \x1b[31mmy dog."), ("assistant", "I am so sorry."), ("user", "Thanks.")]
    record = {"messages": [{"role": role, "content": text} for role, text in turns], "model": "x"}
    source, figures = tmp_path / "in.jsonl", tmp_path / "out.json"
    source.write_text(json.dumps(record) + "\nbroken\n")
    found = CliRunner().invoke(look, [str(source), "--json", str(figures)])
    assert found.exit_code == 1
    assert "judged > assistant: I am so sorry." in found.output
    assert "\x1b" not in found.output
    counts = json.loads(figures.read_text())["all"]
    assert (counts["dialogues"], counts["ends_in_user"], counts["rejected"]) == (1, 1, {"broken_json": 1})
    assert counts["keys_left_aside"] == {"model": 1}
    source.write_text(json.dumps(ODD) + "\n")
    assert counts["later_turns"] == 0  # it is told once
    assert found.output.count("warning:") == 1
    mapped = [str(source), "--map", "response=answer", "--map", "context=question"]
    assert CliRunner().invoke(look, mapped).exit_code == 0


def outcome(tmp_path: Path, *names: str) -> tuple[int, str, dict[str, Any]]:
    """Look at some files; return the exit code, what was shown, and every figure."""
    figures = tmp_path / "figures.json"
    found = CliRunner().invoke(look, [*(str(tmp_path / name) for name in names), "--json", str(figures)])
    assert not isinstance(found.exception, Exception) or isinstance(found.exception, SystemExit), found.exception
    return found.exit_code, found.output, json.loads(figures.read_text())


def test_look_counts_each_source_by_itself_and_all_together(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "My dog died."}, {"role": "assistant", "content": "<think>x</think>Oh no."}]
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    long = [{"role": "user", "content": "word " * 3000}, {"role": "assistant", "content": "Oh no."}]
    image = {"role": "user", "content": [{"type": "text", "text": "My dog died."}, {"type": "image_url"}]}
    records = [{"messages": turns, "model": "m", "id": 1}, {"messages": [turns[0], call, turns[1]]}, {"messages": long}]
    write_lines(tmp_path / "a.jsonl", [*records, {"text": "x"}, {"messages": [image, turns[1]]}])
    (tmp_path / "b.csv").write_text("prompt,response\nMy dog died.,Oh no.\nMy cat died.,Oh no.\nx,\n")
    code, shown, figures = outcome(tmp_path, "a.jsonl", "b.csv")
    assert code == 1
    assert list(figures["sources"]) == [str(tmp_path / "a.jsonl"), str(tmp_path / "b.csv")]
    first, second = figures["sources"].values()
    assert (first["layouts"], second["layouts"]) == ({"messages": 4}, {"prompt, response": 2})
    assert (first["keys_used"], first["keys_left_aside"]) == ({"messages": 4, "id": 1}, {"model": 1})
    assert (first["dialogues"], first["rejected"]) == (4, {"no_messages": 1})
    assert (second["dialogues"], second["rejected"]) == (2, {"no_messages": 1})
    assert "the first no_messages, line 4: keys text, expected messages" in shown
    assert "b.csv:4: no_messages: keys prompt, response" in second["first_rejects"]["no_messages"]
    assert {*figures["all"]["first_rejects"].values()} == {*first["first_rejects"].values()}  # the first of all
    assert [first[name] for name in ("thoughts", "tool_turns", "parts", "truncated")] == [3, 1, 1, 1]
    assert (first["repeated_texts"], second["repeated_texts"], figures["all"]["repeated_texts"]) == (2, 1, 3)
    assert (first["conversations"], first["largest_conversation"]) == (2, 3)
    assert (figures["all"]["conversations"], figures["all"]["largest_conversation"]) == (3, 4)
    assert shown.count("judged > assistant: Oh no.") == 3
    assert [line for line in figures["warnings"] if "tool turns" in line] == [
        "1 dialogues have tool turns, which the scorer does not read"
    ]


def test_rejects_are_counted_and_no_warning(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("prompt,response\nMy dog died.,Oh no.\nx,\n")
    assert outcome(tmp_path, "b.csv")[0] == 0
    (tmp_path / "c.csv").write_text("prompt,response\nx,\n")
    code, shown, _ = outcome(tmp_path, "c.csv")
    assert code == 1
    assert "no dialogue could be scored" in shown


@pytest.mark.parametrize(("one", "warned"), [(5, False), (15, True), (30, True)])
def test_conversation_that_covers_much_of_a_corpus_is_told_by_look_and_score(
    tmp_path: Path, empathy: Run, bundle: Bundle, one: int, warned: bool
) -> None:
    def said(number: int) -> list[dict[str, str]]:
        first = {"role": "user", "content": "Hello." if number < one else f"Question {number}"}
        return [first, {"role": "assistant", "content": f"Answer {number}"}]

    write_lines(tmp_path / "a.jsonl", [{"messages": said(number)} for number in range(40)])
    _, shown, figures = outcome(tmp_path, "a.jsonl")
    assert figures["all"]["largest_conversation"] == one
    assert (f"one conversation key covers {one / 40:.0%} of the dialogues" in shown) is warned
    for out in ("-o", tmp_path / "out.parquet"), ():
        scored = empathy("score", tmp_path / "a.jsonl", "--scorer", bundle.path, "--window", "8", *out)
        assert (f"covers {one / 40:.0%}" in scored.stderr) is warned
