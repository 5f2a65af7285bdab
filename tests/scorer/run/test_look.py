"""What scoring would judge, counted."""

from __future__ import annotations

import json
from pathlib import Path

from scorer.cli.look import look
from tests.scorer.cli.test_map import ODD


def test_look_counts_warns_and_shows_no_control_characters(tmp_path: Path) -> None:
    """A warning is exit code 1; the judged turn is marked."""
    from click.testing import CliRunner

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
    mapped = [str(source), "--map", "response=answer", "--map", "context=question"]
    assert CliRunner().invoke(look, mapped).exit_code == 0
