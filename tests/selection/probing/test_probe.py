"""A probe's figures, against what is counted row by row, and its interval against the textbook's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scorer.bundle.bundle import Bundle
from scorer.bundle.probed import Probed, ProbedKind, probe_table, probe_verdict
from scorer.cli.preview import examples_path
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from selection.errors import ProbeError
from selection.metrics import wilson
from selection.probing.kinds import KINDS, trials_of
from selection.probing.probe import ProbeResult, example_contexts, probe, sample_contexts, share_interval
from selection.rules import PAPER
from selection.settings import ProbeLimits, ProbeSettings
from tests.conftest import varied

DIALOGUES = varied(120)


@pytest.fixture(scope="module")
def scorer(lenient: Bundle) -> Scorer:
    """A tiny scorer that keeps some of everything."""
    return Scorer.load(lenient.path, engine="onnxruntime", threads=1)


@pytest.fixture(scope="module")
def found(scorer: Scorer) -> ProbeResult:
    """A probe of the tiny scorer on 40 of 120 conversations."""
    return probe(scorer, DIALOGUES, ProbeSettings(sample=40, show=2), data="random words")


def kind_of(record: Probed, name: str) -> ProbedKind:
    return next(kind for kind in record.kinds if kind.kind == name)


@pytest.mark.parametrize("name", ["filler", "echo", "loop", "thanks", "names"])
def test_the_figures_of_a_kind_are_what_is_counted_by_hand(found: ProbeResult, scorer: Scorer, name: str) -> None:
    chosen = sample_contexts(DIALOGUES, 40, 0)
    trials = trials_of(name, chosen, 0)
    cuts = scorer.bundle.info.cuts
    before = scorer.score([trial.against or one for trial, one in zip(trials, chosen, strict=True)])
    after = scorer.score([trial.dialogue for trial in trials])
    sets = [[PAPER.sets[k] for k in PAPER.apply(scores, cuts)] for scores in (before, after)]
    row = kind_of(found.record, name)
    if row.measure == "kept":
        hits = [now == "sensibility" for now in sets[1]]
    else:
        hits = [was != now for was, now in zip(*sets, strict=True)]
    assert row.share == pytest.approx(np.mean(hits), abs=1e-5)
    assert (row.sensibility, row.rationality) == pytest.approx(tuple((after - before).mean(axis=0)), abs=1e-3)
    assert (row.contexts, row.limit) == (40, getattr(ProbeLimits(), name))


def test_the_record_has_every_kind_and_the_real_responses(found: ProbeResult, scorer: Scorer) -> None:
    record = found.record
    assert [kind.kind for kind in record.kinds] == list(KINDS)
    kept = PAPER.apply(scorer.score(sample_contexts(DIALOGUES, 40, 0)), scorer.bundle.info.cuts) == 0
    assert record.kept == pytest.approx(kept.mean())
    assert (record.contexts, record.data) == (40, "random words")
    assert kind_of(record, "casing").share == 0
    assert record.passed == (record.beyond == [])


def test_the_worst_come_first_and_each_wording_once(found: ProbeResult) -> None:
    assert sum(kind.share > 0 for kind in found.record.kinds) > 8
    for kind in found.record.kinds:
        worst = [one for one in found.examples if one.kind == kind.kind]
        assert len(worst) <= 2
        assert bool(worst) == (kind.share > 0)
        if kind.measure == "kept":
            assert all(one.set_after == "sensibility" for one in worst)
            assert [one.scores[0] for one in worst] == sorted((one.scores[0] for one in worst), reverse=True)
            assert len({one.response for one in worst}) == len(worst)
        else:
            assert all(one.set_before != one.set_after for one in worst)


def test_contexts_are_one_of_a_conversation_whatever_their_order() -> None:
    several = [replace(one, conversation=str(number % 30)) for number, one in enumerate(DIALOGUES)]
    chosen = sample_contexts(several, 12, 5)
    assert len({one.conversation for one in chosen}) == len(chosen) == 12
    assert sample_contexts(reversed(several), 12, 5) == chosen
    assert sample_contexts(several, 2, 5) == chosen[:2]
    assert sample_contexts(several, 12, 6) != chosen
    assert len(sample_contexts(several, 400, 5)) == 30


def test_an_interval_is_wilsons_and_wider_where_wordings_decide() -> None:
    hits = np.arange(100) % 5 == 0
    alone = share_interval(hits, range(100))
    assert alone == pytest.approx(wilson(20, 100), abs=1e-4)
    low, high = share_interval(hits, np.arange(100) % 5)  # one of five wordings is always kept
    assert low < alone[0] < alone[1] < high
    assert share_interval(np.zeros(100, dtype=bool), range(100)) == pytest.approx(wilson(0, 100), abs=1e-4)


def test_limits_are_settings(scorer: Scorer) -> None:
    loose, nothing = (ProbeLimits(**dict.fromkeys(KINDS, limit)) for limit in (0.9999, 1.0))
    for limits, said in ((loose, "all 16 limits hold"), (nothing, "all 0 limits hold")):
        record = probe(scorer, DIALOGUES, ProbeSettings(sample=20, limits=limits)).record
        assert record.passed
        assert probe_verdict(record) == said
    strict = probe(scorer, DIALOGUES, ProbeSettings(sample=20, limits=replace(nothing, loop=0.0, casing=0.0))).record
    loop = kind_of(strict, "loop")
    assert loop.holds == (loop.share == 0)
    assert kind_of(strict, "casing").holds
    verdicts = {row[0]: row[-1] for row in probe_table(strict)}
    assert (verdicts["casing"], verdicts["hostile"]) == ("holds", "")
    with pytest.raises(ProbeError, match=r"hostile is 1\.5, expected 0 to 1"):
        ProbeLimits(hostile=1.5)
    with pytest.raises(ProbeError, match="sample is 0, expected at least 1"):
        ProbeSettings(sample=0)


def test_without_dialogues_there_is_no_probe(scorer: Scorer) -> None:
    with pytest.raises(ProbeError, match=r"my\.jsonl: holds no dialogue"):
        probe(scorer, [], data="my.jsonl")


def test_the_contexts_of_the_examples_are_those_of_good_replies() -> None:
    contexts = example_contexts()
    assert 30 <= len(contexts) < len(list(Corpus([str(examples_path())])))
    assert {one.id.partition("-")[0] for one in contexts} == {"warm", "plain"}
