"""`empathy check` of a test of rubrics: a changed rubric, model or worse agreement is one line and exit code 1."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from scorer.cli.main import main
from tests.selection.selection_data import one_line

FIGURES = {
    "sensibility.pearson": 0.6,
    "rationality.pearson": 0.5,
    "sensibility.mae": 1.2,
    "rationality.mae": 1.4,
    "paper.kappa": 0.4,
}


def variant(name: str, rubric: str) -> dict[str, Any]:
    """Return a variant as JSON holds it."""
    both = {"sensibility": 5.0, "rationality": 4.0}
    return {
        "name": name,
        "rubric": rubric,
        "model": "judge",
        "host": "api.openai.com",
        "served": ["judge-1"],
        "temperature": 0.0,
        "max_tokens": 128,
        "questions": 20,
        "judged": 20,
        "failed": 0,
        "unasked": 0,
        "reasons": {},
        "dialogues": 20,
        "replies": 20,
        "unusable": {},
        "prompt_tokens": 9000,
        "completion_tokens": 240,
        "cost_usd": None,
        "seconds": 0.5,
        "mean": both,
        "deviation": both,
        "repeat": {},
        "agreement": {key: {"value": value, "low": value, "high": value} for key, value in FIGURES.items()},
        "difference": {},
    }


def run() -> dict[str, Any]:
    """Return a test of two rubrics as JSON holds it."""
    return {
        "rubric_test": 1,
        "created": "2026-11-27",
        "version": "0.1.0",
        "labels": ["labels.jsonl"],
        "label_judges": "people",
        "available": 20,
        "strategy": "all",
        "seed": 0,
        "repeats": 1,
        "threshold": 5,
        "stopped": None,
        "between": [],
        "changed": [],
        "notes": [],
        "spent": {"requests": 40, "usd": None, "lost": 0, "lost_usd": None, "from_store": 0},
        "rubrics": {name: {"hash": f"{name}-hash", "text": name} for name in ("default", "brief")},
        "variants": [variant(f"{name} x judge", name) for name in ("default", "brief")],
        "dialogues": [
            {"id": f"d{i}", "content": f"c{i}", "label": [i % 11, 3], "scores": [[8, 2], [2, 8]]} for i in range(20)
        ],
    }


Check = Callable[..., Result]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Hold a later run, changed from the earlier one by a function, against it."""

    def checked(change: Callable[[dict[str, Any]], Any], *arguments: str) -> Result:
        golden, later, now = tmp_path / "golden.json", tmp_path / "later.json", run()
        change(now)
        golden.write_text(json.dumps(run(), indent=1))
        later.write_text(json.dumps(now, indent=1))
        return CliRunner().invoke(main, ["check", str(golden), str(later), *arguments], catch_exceptions=False)

    return checked


def _figure(name: str, value: float | None) -> Callable[[dict[str, Any]], None]:
    return lambda now: now["variants"][1]["agreement"].update({name: {"value": value}})


def _variant(**more: Any) -> Callable[[dict[str, Any]], None]:
    return lambda now: now["variants"][1].update(more)


def _flipped(now: dict[str, Any]) -> None:
    now["dialogues"][0]["scores"][1] = [8, 2]


def _one_more(now: dict[str, Any]) -> None:
    now["variants"].insert(0, variant("more x judge", "default"))
    for row in now["dialogues"]:
        row["scores"].insert(0, None)


WORSE: dict[str, tuple[Callable[[dict[str, Any]], Any], tuple[str, ...], str]] = {
    "a rubric": (
        lambda now: now["rubrics"]["brief"].update(hash="new-hash"),
        (),
        "rubric brief: its text changed (brief-hash -> new-hash)",
    ),
    "a model": (_variant(served=["judge-2"]), (), "brief x judge: the model that answers changed (judge-1 -> judge-2)"),
    "a server": (_variant(host="localhost:8000"), (), "brief x judge: its server changed"),
    "a temperature": (_variant(temperature=0.7), (), "brief x judge: the temperature changed (0.0 -> 0.7)"),
    "a variant": (
        lambda now: now["variants"][1].update(name="other"),
        (),
        "brief x judge: is missing (there: default x judge, other)",
    ),
    "r": (
        _figure("sensibility.pearson", 0.52),
        (),
        "brief x judge: r of sensibility 0.600 -> 0.520 (fell by 0.08, at most 0.05 may)",
    ),
    "the MAE": (_figure("rationality.mae", 1.7), (), "MAE of rationality 1.400 -> 1.700 (rose by 0.3, at most 0.25"),
    "kappa": (_figure("paper.kappa", 0.3), (), "kappa of the paper's rule 0.400 -> 0.300"),
    "no figure": (_figure("paper.kappa", None), (), "kappa of the paper's rule 0.400 -> not defined"),
    "failures": (_variant(judged=19, failed=1), (), "share of failures 0.000 -> 0.050 (rose by 0.05, at most 0.02"),
    "a mean": (_variant(mean={"sensibility": 5.6, "rationality": 4.0}), (), "mean sensibility 5.000 -> 5.600 (moved"),
    "questions": (_variant(judged=15, unasked=5), (), "unfinished, 5 of 20 questions were not asked"),
    "decisions": (_flipped, ("--max-flips", "0.01"), "brief x judge: 5.00% of 20 decisions changed, at most 1.00% may"),
}


@pytest.mark.parametrize("name", WORSE)
def test_what_changed_or_got_worse_is_one_line_and_exit_code_1(check: Check, name: str, tmp_path: Path) -> None:
    change, arguments, text = WORSE[name]
    result = check(change, *arguments, "--json", str(tmp_path / "found.json"))
    assert result.exit_code == 1
    (line,) = result.stdout.strip().splitlines()
    assert text in line
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["passed"], found["beyond_tolerance"], found["findings"][0]["text"]) == (False, 1, line)


def test_the_same_and_what_is_within_the_limits_passes(check: Check) -> None:
    for change in (
        lambda _: None,
        _figure("sensibility.pearson", 0.55),
        _figure("sensibility.mae", 0.1),
        _flipped,
        lambda now: now["dialogues"].reverse(),
        _one_more,
    ):
        result = check(change)
        assert (result.exit_code, result.stdout.count("\n")) == (0, 1), result.stdout
        assert "2 variants on 20 dialogues as expected" in result.stdout


def test_the_limits_can_be_set(check: Check) -> None:
    assert check(_figure("sensibility.pearson", 0.52), "--max-fall", "0.1").exit_code == 0
    assert check(_figure("sensibility.pearson", 0.59), "--max-fall", "0.001").exit_code == 1
    assert check(_figure("rationality.mae", 1.7), "--max-rise", "0.5").exit_code == 0
    assert check(_variant(judged=19, failed=1), "--max-failures", "0.06").exit_code == 0


def test_an_edit_that_is_meant_is_said_and_measured(check: Check) -> None:
    changed = WORSE["a rubric"][0]
    result = check(changed, "--allow-changed")
    assert result.exit_code == 0
    assert "warning: rubric brief: its text changed" in result.stderr

    def worse(now: dict[str, Any]) -> None:
        changed(now)
        _figure("paper.kappa", 0.1)(now)

    assert check(worse, "--allow-changed").exit_code == 1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda now: now["dialogues"].pop(), "19 of its 19 dialogues are among the 20"),
        (lambda now: now["dialogues"][0].update(content="x"), "19 of its 20 dialogues are among the 20"),
        (lambda now: now["dialogues"][0].update(label=[9, 9]), "1 labels are not those of"),
        (lambda now: now.update(threshold=6), "threshold 6, expected 5"),
        (lambda now: now.update(rubric_test=2), "is damaged"),
        (lambda now: now.pop("variants"), "is damaged"),
        (lambda now: now["dialogues"][0]["scores"].pop(), "a dialogue's scores are not one per variant"),
        (lambda now: now["variants"][0].update(name="evil\x1b[2J"), "is damaged"),
    ],
)
def test_what_cannot_be_compared_is_one_line(check: Check, change: Any, text: str) -> None:
    result = check(change)
    assert text in one_line(result.exit_code, result.stderr)


def test_a_scorers_options_and_a_missing_run_are_one_line(check: Check, tmp_path: Path) -> None:
    assert "leave all but its own limits out" in one_line(*_ended(check(lambda _: None, "--tolerance", "1")))
    golden = str(tmp_path / "golden.json")
    alone = CliRunner().invoke(main, ["check", golden])
    assert "name the later one" in one_line(*_ended(alone))
    other = CliRunner().invoke(main, ["check", golden, str(tmp_path / "none.json")])
    assert "no such file" in one_line(*_ended(other))
    (tmp_path / "golden.jsonl").write_text("{}\n")
    wrong = CliRunner().invoke(main, ["check", str(tmp_path / "golden.jsonl"), "--max-fall", "0.1"])
    assert "--max-fall is a limit of a test of rubrics" in one_line(*_ended(wrong))


def _ended(result: Result) -> tuple[int, str]:
    return result.exit_code, result.stderr
