"""`empathy rubric test` as a user runs it, against a real server that fails on demand."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.judge.rubric import SHIPPED, Rubric, read_rubric
from scorer.inputs.corpus import Corpus
from selection.rubrics.run import RubricRun, read_run
from tests.conftest import Run, record, write_lines
from tests.distill.conftest import Serve
from tests.distill.judge.judge_server import Running
from tests.distill.judge.labelling import environment, options, started, true_scores
from tests.selection.selection_data import one_line

NOISY = "Warmth is sensibility, help is rationality, and I am not sure."


class Tried:
    """The command in one folder, against one server; called, it runs to its end."""

    def __init__(self, empathy: Run, folder: Path) -> None:
        self.empathy = empathy
        self.folder = folder
        self.labels = folder / "labels.jsonl"
        self.page = folder / "rubrics.html"
        self.json = folder / "run.json"
        self.noisy = folder / "noisy.txt"
        self.noisy.write_text(NOISY)
        self.server = Running("http://127.0.0.1:9/v1")  # where nobody listens

    def write_labels(self, count: int, **more: Any) -> None:
        """Label dialogues as the test server does without noise."""
        plain = [record(f"I am sad, number {i}.", f"So sorry {i}.", id=f"d{i}", **more) for i in range(count)]
        read = list(Corpus([str(write_lines(self.labels, plain))]))
        scores = [dict(zip(("sensibility", "rationality"), true_scores(one), strict=True)) for one in read]  # type: ignore[arg-type]
        write_lines(self.labels, [one | score for one, score in zip(plain, scores, strict=True)])

    def line(self, *rubrics: object, **more: Any) -> list[object]:
        given = {"model": "judge-1", "json": self.json, "bootstrap": 50, **more}
        return [
            "rubric",
            "test",
            *rubrics,
            "--on",
            self.labels,
            "-o",
            self.page,
            *options(self.server, self.folder, **given),
        ]

    def __call__(self, *rubrics: object, **more: Any) -> subprocess.CompletedProcess[str]:
        return self.empathy(*map(str, self.line(*rubrics, overwrite=True, **more)), env=environment())

    def run(self) -> RubricRun:
        return read_run(self.json)


@pytest.fixture
def tried(empathy: Run, tmp_path: Path) -> Tried:
    found = Tried(empathy, tmp_path)
    found.write_labels(40)
    return found


def test_each_rubric_with_each_model_is_measured_and_nothing_is_asked_twice(tried: Tried, serve: Serve) -> None:
    tried.server = serve(noise={"I am not sure": 3, "judge-2": 1}, snapshot="-0613")
    prices = {"price_in": 1, "price_out": 2, "budget": 5}
    first = tried("default", tried.noisy, "--model", "judge-1", model="judge-2", **prices)
    assert first.returncode == 0, first.stderr
    run = tried.run()
    assert [one.name for one in run.variants] == [
        "default x judge-1",
        "default x judge-2",
        "noisy x judge-1",
        "noisy x judge-2",
    ]
    plain, other, noisy, _ = run.variants
    assert (plain.judged, plain.failed, plain.unasked, plain.served) == (40, 0, 0, ("judge-1-0613",))
    assert (plain.agreement["sensibility.pearson"].value, plain.agreement["rationality.mae"].value) == (1, 0)
    labels, scores = (np.array(part, float) for part in ([row.label for row in run.dialogues], _column(run, 2)))
    assert noisy.agreement["sensibility.pearson"].value == pytest.approx(
        np.corrcoef(labels[:, 0], scores[:, 0])[0, 1], abs=1e-5
    )
    assert noisy.agreement["rationality.mae"].value == pytest.approx(np.abs(labels - scores)[:, 1].mean(), abs=1e-5)
    assert noisy.mean["sensibility"] == pytest.approx(scores[:, 0].mean(), abs=1e-5)
    assert noisy.deviation["rationality"] == pytest.approx(scores[:, 1].std(), abs=1e-5)
    low, high = noisy.difference["rationality.mae"].low, noisy.difference["rationality.mae"].high
    assert low is not None
    assert high is not None
    assert 0 < low < high
    assert other.difference["rationality.mae"].value == other.agreement["rationality.mae"].value  # less none
    pair = next(one for one in run.between if (one.first, one.second) == (plain.name, noisy.name))
    assert pair.shift["sensibility"] == pytest.approx((scores - labels)[:, 0].mean(), abs=1e-5)
    stats = tried.server.stats()
    assert sum(one.replies for one in run.variants) == 160
    assert plain.prompt_tokens > 40 * 300
    assert plain.cost_usd == pytest.approx((plain.prompt_tokens + 2 * plain.completion_tokens) / 1e6)
    assert run.spent.requests == stats["requests"] > 160  # and the reasons

    again = tried("default", tried.noisy, "--model", "judge-1", model="judge-2", **prices)
    assert "spent $0.0000 in 0 requests, 160 judgements from the store" in again.stderr
    assert tried.server.stats()["requests"] == stats["requests"]
    assert tried.run().variants == run.variants
    assert tried.run().changed == run.changed


def _column(run: RubricRun, variant: int) -> list[Any]:
    return [row.scores[variant] for row in run.dialogues]


@pytest.mark.slow
def test_what_changed_most_is_shown_with_both_reasons(tried: Tried, serve: Serve) -> None:
    tried.server = serve(noise={"I am not sure": 4})
    assert tried("default", tried.noisy, show=5).returncode == 0
    run = tried.run()
    distances = [np.abs(np.subtract(*row.scores)).sum() for row in run.dialogues]  # type: ignore[arg-type]
    assert [one.distance for one in run.changed] == sorted(distances, reverse=True)[:5]
    page = tried.page.read_text()
    for one in run.changed:
        opinions = {opinion.name: opinion for opinion in (one.first, one.second)}
        assert set(opinions) == {"default x judge-1", "noisy x judge-1"}
        for opinion in opinions.values():
            assert opinion.reason == f"It says {opinion.scores[0]:.0f} and {opinion.scores[1]:.0f}."
            assert opinion.reason in page
        assert one.others[0].name == "labels"
        assert one.turns[-1].content in page
    assert "empathy-scorer" in page
    assert not any(text in page for text in ("http://", "https://", '<link rel="style', "src="))


@pytest.mark.slow
def test_judgements_are_kept_where_no_reason_comes(tried: Tried, serve: Serve) -> None:
    gone = {"status": 401, "body": {"error": {"message": "key revoked"}}, "after": 80}
    tried.server = serve(noise={"I am not sure": 4}, answer=gone)
    result = tried("default", tried.noisy)
    assert result.returncode == 0, result.stderr
    run = tried.run()
    assert [one.judged for one in run.variants] == [40, 40]
    assert any("not every reason was asked for: stopped by" in note for note in run.notes)
    assert "(no reason was given)" in tried.page.read_text()


@pytest.mark.slow
def test_one_variant_is_held_against_the_labels(tried: Tried, serve: Serve) -> None:
    tried.server = serve(noise={"I am not sure": 4})
    assert tried(tried.noisy, show=3).returncode == 0
    run = tried.run()
    assert run.between == ()
    assert {opinion.name for one in run.changed for opinion in (one.first, one.second)} == {"noisy x judge-1", "labels"}


@pytest.mark.slow
def test_a_fault_in_five_calls_is_counted_and_nothing_is_paid_twice(tried: Tried, serve: Serve) -> None:
    tried.server = serve(share=0.2, seed=3)
    result = tried("default", "brief", timeout=1, no_reasons=True)
    assert result.returncode == 0, result.stderr
    run, stats = tried.run(), tried.server.stats()
    assert all(one.judged + one.failed == 40 and one.judged >= 38 for one in run.variants)
    assert max(stats["scored"].values()) == 2  # each variant once
    faults = {name: stats["outcomes"].get(name, 0) for name in ("range", "refusal", "duplicate")}
    unusable = [
        sum(one.unusable.get(name, 0) for one in run.variants) for name in ("out_of_range", "refused", "ambiguous")
    ]
    assert unusable == list(faults.values())
    assert sum(unusable) > 0


@pytest.mark.slow
def test_what_a_judge_refuses_is_a_failure_with_its_reason(tried: Tried, serve: Serve) -> None:
    tried.server = serve(always=["number 7."], faults=["refusal"])
    assert tried("default").returncode == 0
    (one,) = tried.run().variants
    assert (one.judged, one.failed, one.reasons, one.unusable) == (39, 1, {"refused": 1}, {"refused": 5})
    assert one.failures == pytest.approx(1 / 40)
    assert "refused 5 of the replies" in " ".join(tried.page.read_text().split())


@pytest.mark.slow
def test_kill_9_and_the_same_command_asks_for_the_rest(tried: Tried, serve: Serve) -> None:
    tried.server = serve(latency=0.1)
    line = tried.line("default", "brief", concurrency=4, no_reasons=True)
    process = started(*line)
    tried.server.wait_for(requests=30)
    process.kill()
    process.communicate()
    assert not tried.page.exists()
    with closing(sqlite3.connect(tried.folder / "store.sqlite")) as store:
        kept = store.execute("SELECT COUNT(*) FROM replies").fetchone()[0]
    assert kept >= 20
    assert tried("default", "brief", no_reasons=True).returncode == 0
    assert tried.run().spent.requests == 80 - kept
    assert sum(tried.server.stats()["scored"].values()) <= 80 + 4  # no more than were in flight


def test_ctrl_c_keeps_what_was_answered(tried: Tried, serve: Serve) -> None:
    tried.server = serve(latency=0.1)
    process = started(*tried.line("default", "brief", concurrency=4))
    tried.server.wait_for(requests=12)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"run the same command again to continue" in err


@pytest.mark.slow
def test_the_budget_holds_for_all_variants_together(tried: Tried, serve: Serve) -> None:
    tried.server = serve()
    stopped = tried("default", "brief", price_in=10, price_out=100, budget=0.3, bootstrap=0)
    assert stopped.returncode == 0, stopped.stderr
    assert "stopped by" in stopped.stderr
    assert "--max-cost" in stopped.stderr
    run = tried.run()
    assert run.stopped
    assert run.spent.usd is not None
    assert 0.1 < run.spent.usd <= 0.3
    counts = [one.judged for one in run.variants]
    assert all(8 <= count < 40 for count in counts)
    assert [one.unasked for one in run.variants] == [40 - count for count in counts]
    assert "stopped by" in tried.page.read_text()
    assert not any(one.first.reason for one in run.changed)  # no money was left for that
    assert tried("default", "brief", price_in=10, price_out=100, budget=9).returncode == 0
    assert [one.judged for one in tried.run().variants] == [40, 40]


@pytest.mark.slow
def test_a_sample_is_seeded_and_repeats_are_questions_of_their_own(tried: Tried, serve: Serve) -> None:
    tried.server = serve()
    assert tried("brief", sample=20, repeats=3, temperature=0.7, show=0).returncode == 0
    run = tried.run()
    (one,) = run.variants
    assert (len(run.dialogues), run.available, one.questions, one.judged) == (20, 40, 60, 60)
    assert one.repeat == {"sensibility": 0, "rationality": 0}
    assert tried.server.stats()["requests"] == 60
    ids = [row.id for row in run.dialogues]
    assert tried("brief", sample=20, show=0).returncode == 0
    assert [row.id for row in tried.run().dialogues] == ids
    assert tried("brief", sample=20, seed=1, show=0).returncode == 0
    assert [row.id for row in tried.run().dialogues] != ids


@pytest.mark.slow
def test_texts_and_names_are_data_on_the_page(tried: Tried, serve: Serve) -> None:
    tried.server = serve(noise={"hostile": 5})
    attack = "<script>alert(1)</script></p><img src=x onerror=alert(2)>"
    lines = [json.loads(line) for line in tried.labels.read_text().splitlines()]
    for line in lines:
        line["id"] = attack + line["id"]
        line["messages"][0]["content"] = attack + line["messages"][0]["content"]
    write_lines(tried.labels, lines)
    rubric = tried.folder / "<b>bad.txt"
    rubric.write_text(f"hostile {attack}")
    assert tried("default", rubric, model="m<i>").returncode == 0
    page = tried.page.read_text()
    assert "&lt;script&gt;" in page
    assert not any(text in page for text in ("<script>alert", "<img", "<b>bad", "m<i>"))


def test_a_dry_run_prices_every_variant_and_asks_nothing(tried: Tried, serve: Serve) -> None:
    tried.server = serve()
    result = tried("default", "brief", dry_run=True, price_in=1, price_out=1)
    assert result.stdout.count("to ask: 40 questions") == 2
    assert "brief x judge-1:" in result.stdout
    assert "all judges: about $" in result.stdout
    assert "reasons: at most 24 questions more" in result.stdout
    assert tried.server.stats()["requests"] == 0
    assert not tried.page.exists()


def test_a_model_that_is_not_there_is_one_line_with_the_variant(tried: Tried, serve: Serve) -> None:
    tried.server = serve(knows_models=["judge-1"])
    result = tried("default", "--model", "gone", show=0)
    assert "default x gone: " in result.stderr.splitlines()[-1]
    assert result.returncode == 2


@pytest.mark.parametrize(
    ("rubrics", "more", "text"),
    [
        (("default", "default"), {}, "two rubrics would be called default"),
        (("default", "copy.txt"), {}, "is the same rubric as default"),
        (("nothing.txt",), {}, "cannot be read: No such file or directory; these ship: default, brief"),
        (("empty.txt",), {}, "0 characters, expected a rubric"),
        (("default", "--model", "judge-1"), {}, "--model judge-1 is given twice"),
        (("default",), {"sample": 50}, "a sample of 50, expected 0 to 40"),
        (("default",), {"sample": 3}, "sample is 3, expected 10 to"),
        (("default",), {"budget": 1}, "needs the price of judge-1"),
        (("default",), {"json": "labels.jsonl"}, "is an input as well"),
        (("default",), {"json": "foreign.json"}, "is no JSON with 'rubric_test'"),
        (("rubrics.html",), {}, "is an input as well"),
    ],
)
def test_what_cannot_be_is_one_line(tried: Tried, rubrics: Any, more: dict[str, Any], text: str) -> None:
    folder = tried.folder
    (folder / "empty.txt").write_text(" \n")
    (folder / "copy.txt").write_text(SHIPPED["default"])
    (folder / "foreign.json").write_text('{"mine": 1}')
    if "rubrics.html" in rubrics:
        (folder / "rubrics.html").write_text("mine")
    named = [folder / name if "." in name else name for name in rubrics]
    result = tried(*named, **{name: folder / value if name == "json" else value for name, value in more.items()})
    assert text in one_line(result.returncode, result.stderr)


def test_a_page_of_somebody_else_is_not_replaced(tried: Tried) -> None:
    tried.page.write_text("<html>mine</html>")
    assert "is no page that was written here" in one_line(*_ended(tried("default")))


def _ended(result: subprocess.CompletedProcess[str]) -> tuple[int, str]:
    return result.returncode, result.stderr


def test_the_rubrics_that_ship_are_shown_and_label_takes_their_names(tried: Tried, serve: Serve) -> None:
    assert tried.empathy("rubric", "show").stdout.split() == list(SHIPPED)
    assert tried.empathy("rubric", "show", "brief").stdout.strip() == SHIPPED["brief"].strip()
    assert read_rubric(Path("brief")) == Rubric(SHIPPED["brief"])
    tried.server = serve()
    output = tried.folder / "brief.jsonl"
    given = options(tried.server, tried.folder, rubric="brief")
    assert tried.empathy("label", tried.labels, "-o", output, *given, env=environment()).returncode == 0
    assert json.loads(output.read_text().splitlines()[0])["judge"]["rubric"] == Rubric(SHIPPED["brief"]).hash
