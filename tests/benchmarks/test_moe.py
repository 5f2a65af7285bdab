"""The benchmark of sets and mixtures on a base, end to end on a tiny one; what its figures mean."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from scipy.stats import ttest_1samp

from benchmarks.moe.__main__ import main
from benchmarks.moe.figures import lines, summary
from benchmarks.moe.marking import BundleScorer
from benchmarks.moe.plan import ALL, BASE, BOTH, RANDOM, RATIONALITY, SENSIBILITY, WEIGHTED, lora_plan
from benchmarks.moe.seed import Seed, drawn_by_score
from distill.labelled import read_labelled
from scorer.bundle.bundle import Bundle
from scorer.dialogue import Dialogue
from scorer.inputs.corpus import Corpus
from tests.conftest import labels, write_lines
from tests.moe.conftest import CHATML, write_base
from tests.moe.mixture.test_compose import QWEN2


def run(folder: Path, *more: str) -> Result:
    arguments = [str(folder / "labels.jsonl"), "-o", str(folder / "work"), *more]
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def dialogues_of(path: Path) -> list[Dialogue]:
    return [one for one in Corpus([str(path)]) if isinstance(one, Dialogue)]


def ids_of(path: Path) -> set[str]:
    return {one.id.rpartition("#")[0] for one in dialogues_of(path)}


def test_a_row_is_drawn_by_its_scores() -> None:
    scores = np.array([[9, 1], [9, 9], [1, 1], [1, 9]] * 500, dtype=np.float32)
    drawn = drawn_by_score(np.arange(2000), scores, 5, seed=3)
    assert len(drawn) == 2000
    shares = np.bincount(drawn % 4, minlength=4) / 2000
    assert shares[0] > 0.93
    assert 0.005 < shares[1] < 0.03 > shares[2] > 0.005


@pytest.mark.slow
def test_every_variant_of_a_base_is_measured_once(bundle: Bundle, tmp_path: Path) -> None:
    write_lines(tmp_path / "labels.jsonl", labels(300))
    base = write_base(tmp_path / "base", "qwen2", template=CHATML, **QWEN2)
    arguments = ["--base", str(base), "--scorer", str(bundle.path), "--seeds", "0,1", "--limit", "24", "--equal-steps"]
    arguments += ["--held-out", "6", "--both-low", "discard", "--max-length", "128", "--max-new-tokens", "4"]
    output = tmp_path / "figures.json"
    first = run(tmp_path, *arguments, "--json", str(output))
    assert first.exit_code == 0, (first.output, first.exception)
    found = json.loads(output.read_text())
    assert len(found["rows"]) == 12
    assert found["held_out"] == {"0": 6, "1": 6}
    assert all(row["seeds"] == [0, 1] for row in found["rows"].values())
    assert {tuple(row["steps"]) for row in found["rows"].values()} == {(3, 3), (None, None)}
    for name in ("perplexity", "sensibility", "dist_2", "bleu", "hostile", "words"):
        assert len(found["rows"]["MoE, informed router, trained"]["figures"][name]["by_seed"]) == 2, name
    assert found["rows"][BASE]["figures"]["perplexity"] != found["rows"][ALL]["figures"]["perplexity"]
    page = (tmp_path / "work" / "seed0" / "responses.html").read_text()
    assert page.count('<td class="left" dir="auto">') == 6 * 13
    assert not list((tmp_path / "work").glob("*/MoE-*/model.safetensors"))
    points = (tmp_path / "work" / "points.jsonl").read_bytes()
    again = run(tmp_path, *arguments)
    assert again.exit_code == 0
    assert "seed 0, " not in again.output
    assert (tmp_path / "work" / "points.jsonl").read_bytes() == points
    refused = run(tmp_path, *arguments, "--threshold", "6")
    assert refused.exit_code == 1
    assert "holds points of other labels or settings" in refused.output


def test_sets_follow_the_rule_and_held_out_conversations_are_in_none(bundle: Bundle, tmp_path: Path) -> None:
    labelled = read_labelled([str(write_lines(tmp_path / "labels.jsonl", labels(300)))])
    plan = lora_plan("base")
    seeds = {}
    for both_low in ("keep", "discard"):
        options: Any = {"both_low": both_low, "equal_steps": both_low == "discard", "limit": 50}
        seeds[both_low] = Seed(
            1, tmp_path / both_low, labelled, BundleScorer(str(bundle.path)), replace(plan, **options)
        )
    kept, discarded = seeds["keep"], seeds["discard"]
    out = {one.conversation for one in kept.held_out}
    for name in (ALL, RANDOM, SENSIBILITY, RATIONALITY, BOTH):
        assert out.isdisjoint(one.conversation for one in dialogues_of(kept.set_file(name))), name
        assert len(dialogues_of(discarded.lesson_file(name))) == 50, name
    by_score = {one.id.rpartition("#")[0] for one in dialogues_of(discarded.lesson_file(WEIGHTED))}
    assert by_score <= {one.id.rpartition("#")[0] for one in dialogues_of(discarded.set_file(ALL))}
    assert kept.counts[RANDOM] == kept.counts[SENSIBILITY] == discarded.counts[SENSIBILITY]
    low = {labelled.dialogues[row].id for row in np.flatnonzero((labelled.scores < 5).all(axis=1))}
    learnt, still = (
        {one.id.rpartition("#")[0] for one in dialogues_of(seed.set_file(RATIONALITY))} for seed in (kept, discarded)
    )
    assert learnt - still == learnt & low != set()
    assert discarded.counts[BOTH] == discarded.counts[SENSIBILITY] + len(still)
    with pytest.raises(click.ClickException, match="seed 1: none of 1 dialogues is in the"):
        Seed(1, tmp_path / "few", labelled, BundleScorer(str(bundle.path)), replace(plan, limit=1))


def test_intervals_are_students_over_seeds_and_differences_are_paired() -> None:
    rng = np.random.default_rng(0)
    points = []
    for seed in range(3):
        base = rng.normal(size=8) + 10 * seed
        for variant, less in ((RANDOM, 0.0), (ALL, 1.0 + seed / 10)):
            losses = (base - less).tolist()
            point = {"seed": seed, "variant": variant, "trained_on": 8, "steps": 1, "losses": losses, "tokens": [2] * 8}
            point["note"] = f"nothing of {seed}"
            names = [f"{seed} {row // 2}" for row in range(8)]
            figures = {"log_perplexity": float(np.mean(losses) / 2), "sensibility": None if seed == 1 else 7.0}
            points.append(point | {"conversations": names, "sets": [0] * 8, "figures": figures})
    report = summary(points)
    assert report["held_out"] == {0: 8, 1: 8, 2: 8}  # also where the base was not measured
    assert report["notes"][2] == "seed 2: nothing of 2"
    assert not any("in the data" in line for line in lines(report))
    row = report["rows"][ALL]
    found = row["less_random_subset"]["log_perplexity"]
    interval = ttest_1samp([-0.5, -0.55, -0.6], 0).confidence_interval(0.95)
    assert found["mean"] == pytest.approx(-0.55)
    assert found["plus_minus"] == pytest.approx((interval.high - interval.low) / 2)
    assert row["pooled"]["value"] == pytest.approx(-0.55)
    assert row["perplexity_by_set"]["rationality"] is None
    assert "sensibility" not in row["figures"]
