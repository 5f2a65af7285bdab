"""`empathy synthesize` as a user runs it, against a real server that fails on demand."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from scorer.bundle.bundle import Bundle
from scorer.dialogue import Dialogue
from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import to_record
from scorer.model import Scorer
from tests.conftest import Run, varied, write_lines
from tests.distill.conftest import Serve
from tests.distill.judge.judge_server import Running
from tests.distill.judge.labelling import environment, started
from tests.selection.selection_data import one_line

FEELINGS = ("afraid", "joyful", "sad")
WIRE = {"429", "429_after", "500", "503"}
"""Faults that no reply comes of, so that nothing is billed."""
FAULTS = ("429", "429_after", "500", "503", "reset", "half", "truncated", "prose", "range", "no_choices", "duplicate")


class Made:
    """The command in one folder; called, it runs to its end."""

    def __init__(self, empathy: Run, folder: Path, bundle: Bundle) -> None:
        self.empathy, self.folder, self.bundle = empathy, folder, bundle
        self.corpus = folder / "corpus.jsonl"
        self.output, self.json = folder / "out.jsonl", folder / "run.json"
        self.dialogues = varied(60)
        records = [to_record(one) | {"category": FEELINGS[number % 3]} for number, one in enumerate(self.dialogues)]
        write_lines(self.corpus, records)

    def line(self, server: Running, *more: object, count: int = 60) -> list[object]:
        where = ["--like", self.corpus, "--scorer", self.bundle.path, "--store", self.folder / "store.sqlite"]
        asked = ["--model", "writer-1", "--base-url", server.url, "--timeout", 20, "--count", count]
        return ["synthesize", *where, *asked, "-o", self.output, "--json", self.json, *more]

    def __call__(self, server: Running, *more: object, count: int = 60) -> subprocess.CompletedProcess[str]:
        return self.empathy(*map(str, self.line(server, *more, "--overwrite", count=count)), env=environment())

    def report(self) -> dict[str, Any]:
        return dict(json.loads(self.json.read_text()))

    def rejects(self) -> list[dict[str, Any]]:
        text = self.output.with_name("out.jsonl.rejects.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def made(empathy: Run, tmp_path: Path, bundle: Bundle) -> Made:
    return Made(empathy, tmp_path, bundle)


def check_accounts(made: Made, server: Running) -> dict[str, Any]:
    """Check that every request and every reply is accounted for; return the report."""
    report, stats = made.report(), server.stats()
    assert max(stats["scored"].values()) == 1  # no usable answer was paid for twice
    billed = sum(count for name, count in stats["outcomes"].items() if name not in WIRE)
    assert sum(report["replies"].values()) == billed
    assert report["replies"]["written"] == len(stats["scored"])
    for entry in report["regions"].values():
        assert entry["asked"] == entry["kept"] + sum(entry["not_kept"].values())
        assert sum(entry["fell"].values()) == entry["not_kept"].get("elsewhere", 0)
    kept = sum(entry["kept"] for entry in report["regions"].values())
    assert kept == len(made.output.read_text().splitlines()) == sum(cell["kept"] for cell in report["cells"])
    assert len(made.rejects()) == sum(entry["asked"] for entry in report["regions"].values()) - kept
    return report


@pytest.mark.slow
def test_with_a_fifth_of_faults_nothing_is_paid_twice_and_every_reply_is_accounted_for(
    made: Made, serve: Serve
) -> None:
    server = serve(share=0.2, faults=FAULTS)
    prices = ("--price-in", 1, "--price-out", 2, "--budget", 5)
    first = made(server, *prices)
    assert first.returncode == 0, first.stderr
    report = check_accounts(made, server)
    assert list(report["regions"]) == ["sensibility", "both_high"]
    assert report["cost_usd"] == pytest.approx(report["this_run"]["usd"])
    assert sum(entry["planned"] for entry in report["regions"].values()) == 60
    asked, text = server.stats()["requests"], made.output.read_text()
    again = made(server, *prices)
    assert (again.returncode, server.stats()["requests"], made.output.read_text()) == (0, asked, text)
    assert made.report()["this_run"]["requests"] == 0


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_as_one_that_was_not_killed(made: Made, serve: Serve) -> None:
    server = serve(share=0.2, faults=FAULTS, latency=0.05)
    for number in range(1, 3):
        with started(*made.line(server, "--concurrency", 2)) as process:
            server.wait_for(requests=number * 15)
            process.send_signal(signal.SIGKILL)
    assert not made.output.exists()
    with started(*made.line(server, "--concurrency", 2)) as process:
        server.wait_for(requests=45)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"run the same command again to continue" in errors
    assert made(server).returncode == 0
    stats = server.stats()
    # A kill may lose the answers that were in flight, two at most each time; SIGINT none.
    assert sum(count - 1 for count in stats["scored"].values()) <= 4
    assert sum(entry["asked"] for entry in made.report()["regions"].values()) == 60
    text = made.output.read_text()
    (made.folder / "store.sqlite").unlink()
    whole = serve()
    assert made(whole).returncode == 0
    assert made.output.read_text().replace(whole.url.split("/")[2], "") == text.replace(server.url.split("/")[2], "")


def test_what_is_kept_lies_where_it_was_planned_and_says_where_it_comes_from(made: Made, serve: Serve) -> None:
    server = serve()
    assert made(server, "--region", "both_high").returncode == 0
    scorer = Scorer.load(made.bundle.path)
    kept = [one for one in Corpus([str(made.output)]) if isinstance(one, Dialogue)]
    assert kept
    assert all(one.synthetic and one.category in FEELINGS for one in kept)
    assert (scorer.score(kept) > 5.5).all()
    prompts = set()
    for line, scores in zip(made.output.read_text().splitlines(), scorer.score(kept), strict=True):
        about = json.loads(line)["synthesis"]
        assert (about["model"], about["region"], about["scorer"]) == ("writer-1", "both_high", made.bundle.sha256)
        assert list(about["scores"].values()) == pytest.approx(scores.tolist(), abs=1e-3)
        prompts.add(about["prompt"])
    assert len(prompts) == len(kept)
    bad = {entry["reason"] for entry in made.rejects()}
    assert {"filler", "hostile", "refusal", "instruction"} <= bad  # the server writes some of each
    made(server, "--region", "both_high", "--allow", "hostile")
    assert "hostile" not in {entry["reason"] for entry in made.rejects()}


@pytest.mark.slow
def test_a_reply_that_an_earlier_release_took_is_a_reject_where_this_one_reads_more_strictly(
    made: Made, serve: Serve
) -> None:
    server = serve()
    made(server, count=20)
    with closing(sqlite3.connect(made.folder / "store.sqlite")) as store, store:
        (raw,) = store.execute("SELECT raw FROM replies WHERE status = 'written' LIMIT 1").fetchone()
        store.execute("UPDATE replies SET raw = ? WHERE raw = ?", (raw.replace('"says": "', '"says": "User: '), raw))
    asked = server.stats()["requests"]
    ran = made(server, count=20)
    assert ran.returncode in {0, 1}, ran.stderr
    assert "label" in {entry["reason"] for entry in made.rejects()}
    assert server.stats()["requests"] == asked


def test_a_speakers_name_before_what_is_said_is_no_dialogue(made: Made, serve: Serve) -> None:
    said = _reply("The person and the listener: my dog died", "i am so sorry for you")
    assert made(serve(answer={"message": {"role": "assistant", "content": said}}), count=4).returncode == 1
    assert {(entry["reason"], entry["detail"].rpartition(": ")[2]) for entry in made.rejects()} == {
        ("instruction", "The person and the listener")
    }


@pytest.mark.slow
def test_the_corpus_and_what_is_kept_have_no_near_duplicates(made: Made, serve: Serve) -> None:
    server = serve(answer={"message": {"role": "assistant", "content": _reply("my dog died today", "i am so sorry 1")}})
    ran = made(server, "--region", "both_high", "--region", "both_low", "--region", "sensibility", count=60)
    reasons = [entry["reason"] for entry in made.rejects()]
    assert set(reasons) <= {"elsewhere", "near_kept"}
    assert ran.returncode == (0 if "near_kept" in reasons else 1)
    assert len(reasons) >= 59  # one at most is kept
    turns = [turn.content for turn in next(one for one in made.dialogues if len(one.turns) == 2).turns]
    copied = serve(answer={"message": {"role": "assistant", "content": _reply(*turns)}})
    assert made(copied, count=10).returncode == 1
    assert {entry["reason"] for entry in made.rejects()} <= {"near_corpus", "filler", "loop", "echo"}


def _reply(*texts: str) -> str:
    exchanges = [{"says": said, "answers": answer} for said, answer in zip(texts[::2], texts[1::2], strict=True)]
    return json.dumps({"exchanges": exchanges})


def test_a_dry_run_shows_the_plan_asks_nothing_and_leaves_nothing(made: Made, serve: Serve) -> None:
    server = serve()
    line = made.line(server, "--dry-run", "--price-in", 1, "--price-out", 2)
    ran = made.empathy(*map(str, line), env=environment())
    assert ran.returncode == 0, ran.stderr
    assert "to ask: 60 questions" in ran.stdout
    assert "cost: about $" in ran.stdout
    assert "joyful" in ran.stdout
    assert server.stats()["requests"] == 0
    assert {path.name for path in made.folder.iterdir()} == {"corpus.jsonl"}


@pytest.mark.slow
def test_limits_end_a_run_and_the_next_goes_on(made: Made, serve: Serve) -> None:
    server = serve()
    ran = made(server, "--max-requests", 25)
    assert "stopped by --max-requests 25; 35 dialogues were not asked for" in ran.stderr
    assert sum(entry["asked"] for entry in made.report()["regions"].values()) == 25
    assert made(server).returncode == 0
    assert server.stats()["requests"] == 60
    more = made(server, count=90)
    assert more.returncode == 0
    assert server.stats()["requests"] == 90  # a larger plan asks for the difference


def test_what_cannot_be_is_one_line(made: Made, serve: Serve) -> None:
    server = serve()
    scores = made.folder / "scores.parquet"
    made.empathy("score", made.corpus, "-o", scores, "--scorer", made.bundle.path)
    assert made(server, "--scores", scores).returncode == 0
    by_file, text = made.report()["cells"], made.output.read_text()
    assert made(server).returncode == 0
    assert (made.report()["cells"], made.output.read_text()) == (by_file, text)
    other = write_lines(made.folder / "other.jsonl", [to_record(one) for one in varied(80)])
    foreign = write_lines(made.folder / "foreign.jsonl", [{"a": 1}])
    faults = (
        (("--like", other, "--scores", scores), "scores.parquet: has no score for"),
        (
            ("--region", "both_high", "--region", "both_high"),
            "region is both_high, both_high, expected each region once",
        ),
        (("--count", 0), "count is 0, expected"),
        (("-o", foreign), "foreign.jsonl"),
        (("-o", made.corpus), "corpus.jsonl"),
    )
    for given, said in faults:
        ran = made(server, *given)
        assert said in one_line(ran.returncode, ran.stderr), given
    assert foreign.read_text() == '{"a": 1}\n'
