"""A judge against a scorer, a file of scores, another judge and itself; as JSON and as a table."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distill.agreement import (
    MIN_PAIRS,
    Agreement,
    judge_against_judge,
    judge_against_scorer,
    judge_against_scores,
    judge_name,
    self_agreement,
)
from distill.errors import AgreementError
from distill.labelled import LabelledSet, read_labelled
from distill.measure import cross_levels
from distill.metrics import Pair, all_figures
from distill.table import table_lines
from scorer.batch import ScoreSettings, score_files
from scorer.bundle import write_bundle
from scorer.corpus import Corpus
from scorer.dialogue import HEADS
from scorer.errors import OutputError
from scorer.model import Scorer
from selection.rules import RULES, to_levels
from tests.conftest import Parts, Run, record, varied, write_lines

COUNT = 60
JUDGE = {"model": "judge-1", "temperature": 0}


def labels(count: int = COUNT, seed: int = 0, **more: Any) -> list[dict[str, Any]]:
    """Return records of labelled dialogues, two a conversation."""
    numbers = np.random.default_rng(seed).integers(0, 11, (count, 2)).tolist()
    return [
        record(
            *(turn.content for turn in dialogue.turns[:-1]), f"number {i}",
            id=f"d{i}", conversation=f"c{i // 2}", judge=JUDGE, sensibility=s, rationality=r,
        ) | more
        for i, (dialogue, (s, r)) in enumerate(zip(varied(count), numbers, strict=True))
    ]  # fmt: skip


def read(path: Path, records: Sequence[object]) -> LabelledSet:
    return read_labelled([str(write_lines(path, records))])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "labels.jsonl", labels())


@pytest.fixture
def labelled(source: Path) -> LabelledSet:
    return read_labelled([str(source)])


def same(first: dict[str, float], second: dict[str, float]) -> None:
    """Check that figures are the same up to rounding of scores."""
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert value == pytest.approx(second[name], abs=1e-4, nan_ok=True), name


# Against a scorer


def test_a_judge_is_compared_with_a_scorer_by_the_scorers_cuts(labelled: LabelledSet, scorer: Scorer) -> None:
    found = judge_against_scorer(labelled, scorer, 4).measure(0)
    scores = scorer.score(labelled.dialogues)
    pair = Pair.of(labelled.scores, scores, to_levels(scores, scorer.bundle.cuts))
    same(found.figures, all_figures(pair, threshold=4))
    assert (found.reference, found.other, found.threshold) == ("judge-1", "tiny", 4)
    assert found.conversations == [f"c{i // 2}" for i in range(COUNT)]
    assert (found.intervals, found.warnings, found.notes) == ({}, [], [])


@pytest.fixture(scope="module")
def partly_trained(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    """A tiny scorer that was trained on the first 15 dialogues."""
    info, files = parts
    folder = tmp_path_factory.mktemp("trained")
    hashes = read(folder / "labels.jsonl", labels()).hashes
    write_bundle(folder / "tiny", {**info, "training": {"content_hashes": hashes[:15]}}, files)
    return Scorer.load(folder / "tiny", threads=1)


def test_dialogues_that_were_trained_on_are_warned_of(labelled: LabelledSet, partly_trained: Scorer) -> None:
    found = judge_against_scorer(labelled, partly_trained)
    assert len(found.pair) == COUNT
    (warning,) = found.warnings
    assert warning.startswith("15 of 60 dialogues were trained on, so these figures flatter tiny: ")
    assert "--unseen" in warning


def test_unseen_leaves_them_out(labelled: LabelledSet, partly_trained: Scorer) -> None:
    found = judge_against_scorer(labelled, partly_trained, unseen=True).measure(0)
    assert found.warnings == []
    assert found.pair.reference.tolist() == labelled.scores[15:].tolist()
    assert found.conversations == labelled.conversations[15:]
    same(found.figures, judge_against_scorer(labelled.take(np.arange(15, COUNT)), partly_trained).measure(0).figures)


def test_a_scorer_that_saw_everything_leaves_nothing_to_compare(labelled: LabelledSet, partly_trained: Scorer) -> None:
    found = judge_against_scorer(labelled.take(np.arange(15)), partly_trained, unseen=True)
    with pytest.raises(AgreementError, match=r"^0 dialogues are in both, expected at least 10$"):
        found.measure()


# Against scores on disk


def score(scorer: Scorer, source: Path, output: Path, **settings: Any) -> Path:
    score_files(scorer, Corpus([str(source)]), output, ScoreSettings(window=16, **settings))
    return output


@pytest.mark.parametrize("name", ["out.parquet", "out.jsonl", "out.csv", "out"])
def test_every_kind_of_score_file_gives_the_scorers_own_figures(
    scorer: Scorer, labelled: LabelledSet, source: Path, tmp_path: Path, name: str
) -> None:
    output = score(scorer, source, tmp_path / name)
    found = judge_against_scores(labelled, output, 6).measure(0)
    same(found.figures, judge_against_scorer(labelled, scorer, 6).measure(0).figures)
    assert (found.reference, found.other, found.notes) == ("judge-1", name, [])


@pytest.mark.parametrize("name", ["out.parquet", "out.jsonl", "out.csv", "out"])
@pytest.mark.parametrize("id_", ["{}", "00{}", "2024-01-{:02}", "2024-01-01 00:00:{:02}", "{}e5"])
def test_ids_that_look_like_something_else_are_text(scorer: Scorer, tmp_path: Path, name: str, id_: str) -> None:
    source = write_lines(tmp_path / "in.jsonl", [{**entry, "id": id_.format(i)} for i, entry in enumerate(labels(20))])
    labelled = read_labelled([str(source)])
    found = judge_against_scores(labelled, score(scorer, source, tmp_path / name))
    assert (len(found.pair), found.notes) == (20, [])


def test_a_folder_with_rejects_is_read(scorer: Scorer, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", [{"messages": []}, *labels(30)])
    labelled = read_labelled([str(source)])
    assert len(judge_against_scores(labelled, score(scorer, source, tmp_path / "out")).pair) == 30


def test_the_order_of_scores_does_not_matter(
    scorer: Scorer, labelled: LabelledSet, source: Path, tmp_path: Path
) -> None:
    table = pq.read_table(score(scorer, source, tmp_path / "out.parquet"))
    pq.write_table(table.take(list(reversed(range(COUNT)))), tmp_path / "reversed.parquet")
    first, second = (judge_against_scores(labelled, tmp_path / f"{name}.parquet") for name in ("out", "reversed"))
    assert first.pair.other.tolist() == second.pair.other.tolist()


def test_labels_without_a_score_are_noted(scorer: Scorer, labelled: LabelledSet, tmp_path: Path) -> None:
    part = write_lines(tmp_path / "part.jsonl", labels()[10:55])
    found = judge_against_scores(labelled, score(scorer, part, tmp_path / "out.parquet"))
    assert found.notes == ["15 labelled dialogues have no score"]
    assert found.pair.reference.tolist() == labelled.scores[10:55].tolist()
    assert found.conversations == labelled.conversations[10:55]


def test_scores_of_other_dialogues_are_refused(scorer: Scorer, labelled: LabelledSet, tmp_path: Path) -> None:
    few = [{**entry, "id": f"other {i}"} if i >= MIN_PAIRS - 1 else entry for i, entry in enumerate(labels())]
    output = score(scorer, write_lines(tmp_path / "few.jsonl", few), tmp_path / "out.parquet")
    with pytest.raises(AgreementError, match=r"out\.parquet: 9 of its 60 ids are among the 60 labelled dialogues"):
        judge_against_scores(labelled, output)


def test_scores_that_name_no_cuts_are_refused(
    scorer: Scorer, labelled: LabelledSet, source: Path, tmp_path: Path
) -> None:
    output = score(scorer, source, tmp_path / "out.csv")
    (tmp_path / "out.csv.meta.json").unlink()
    with pytest.raises(AgreementError, match=r"out\.csv: says nothing of its scorer's cuts; .* --scorer"):
        judge_against_scores(labelled, output)


BAD_FILES: dict[str, tuple[str, str]] = {
    "out.txt": ("id\n", r"expected scores as \.parquet, \.jsonl, \.csv or a folder"),
    "out": ("id\n", r"expected scores as \.parquet, \.jsonl, \.csv or a folder"),
    "out.csv": ("id,sensibility\nd0,1\n", "has columns id, sensibility, and no rationality"),
    "out.jsonl": ('{"id": "d0", "rationality": 3}\n', "has columns id, rationality, and no sensibility"),
    "out.parquet": ("no parquet", "cannot be read as scores"),
    "broken.jsonl": ('{"id"', "cannot be read as scores"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_holds_no_scores_is_one_line(labelled: LabelledSet, tmp_path: Path, name: str) -> None:
    text, message = BAD_FILES[name]
    (tmp_path / name).write_text(text)
    with pytest.raises((AgreementError, OutputError), match=message):
        judge_against_scores(labelled, tmp_path / name)


def test_a_folder_without_scores_is_refused(labelled: LabelledSet, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(AgreementError, match="expected scores as"):
        judge_against_scores(labelled, tmp_path / "folder")


# Against out-of-fold predictions


def write_oof(path: Path, labelled: LabelledSet, folds: Sequence[int]) -> Path:
    """Write held-out predictions as `empathy train` does: shrunk, with ids of their own."""
    rng = np.random.default_rng(5)
    scores = (5 + 0.3 * (labelled.scores - 5) + rng.normal(0, 0.3, labelled.scores.shape)).astype(np.float32)
    columns: dict[str, Any] = {
        "id": [f"row {i}" for i in range(len(labelled))],
        "conversation": labelled.conversations,
        "fold": np.asarray(folds),
        **{head: scores[:, i] for i, head in enumerate(HEADS)},
        "content": labelled.hashes,
    }
    pq.write_table(pa.table(columns), path)
    return path


FOLDS = [(i // 2) % 3 for i in range(COUNT)]


def test_out_of_fold_scores_are_read_off_the_cuts_of_the_other_folds(labelled: LabelledSet, tmp_path: Path) -> None:
    oof = write_oof(tmp_path / "oof.parquet", labelled, FOLDS)
    found = judge_against_scores(labelled, oof).measure(0)
    expected = cross_levels(found.pair.other.astype(np.float32), labelled.scores, np.array(FOLDS))
    assert found.pair.other_levels.tolist() == expected.tolist()
    assert found.notes == ["out-of-fold scores; the cuts of each fold come from the other folds"]
    assert found.figures["sensibility.pearson"] > 0.8


def test_labels_of_a_fold_do_not_move_its_own_cuts(labelled: LabelledSet, tmp_path: Path) -> None:
    oof = write_oof(tmp_path / "oof.parquet", labelled, FOLDS)
    mine = np.array(FOLDS) == 1
    changed = labelled.take(np.arange(COUNT))
    changed.scores[mine] = 10 - changed.scores[mine]
    before, after = (judge_against_scores(entry, oof).pair.other_levels for entry in (labelled, changed))
    assert after[mine].tolist() == before[mine].tolist()
    assert after[~mine].tolist() != before[~mine].tolist()


def test_out_of_fold_scores_are_matched_by_content(labelled: LabelledSet, tmp_path: Path) -> None:
    oof = write_oof(tmp_path / "oof.parquet", labelled, FOLDS)
    rows = np.arange(COUNT)[::-3]
    found = judge_against_scores(labelled.take(rows), oof)
    assert found.pair.other[:, 0].tolist() == pq.read_table(oof)["sensibility"].to_numpy()[rows].tolist()
    others = read(tmp_path / "others.jsonl", labels(12, **record("another", "text")))
    with pytest.raises(AgreementError, match="0 of its 60 contents are among the 1 labelled dialogues"):
        judge_against_scores(others, oof)


def test_one_fold_has_no_others_to_take_cuts_from(labelled: LabelledSet, tmp_path: Path) -> None:
    oof = write_oof(tmp_path / "oof.parquet", labelled, FOLDS)
    with pytest.raises(AgreementError, match="the 20 dialogues in both are of one fold, expected two at least"):
        judge_against_scores(labelled.take(np.flatnonzero(np.array(FOLDS) == 2)), oof)


# Against another judge


def test_two_judges_are_matched_by_text(tmp_path: Path) -> None:
    first = read(tmp_path / "a.jsonl", labels(40))
    others = [{**entry, "id": f"other {i}"} for i, entry in enumerate(labels(45, seed=1))]
    for entry in others:
        entry["messages"] = [{**turn, "content": turn["content"].upper() + " "} for turn in entry["messages"]]
    second = read(tmp_path / "b.jsonl", list(reversed(others[5:])))
    found = judge_against_judge(first, second, ("a", "b"), 7).measure(0)
    pair = Pair.of(first.scores[5:], second.scores[::-1][:35], to_levels(second.scores[::-1][:35]))
    same(found.figures, all_figures(pair, threshold=7))
    assert (found.reference, found.other) == ("a", "b")
    assert found.notes == ["5 and 5 dialogues are in one set only"]
    assert found.conversations == first.conversations[5:]


def test_a_judge_agrees_with_its_own_labels(labelled: LabelledSet) -> None:
    found = judge_against_judge(labelled, labelled, ("a", "b")).measure(20)
    assert found.notes == []
    assert found.figures["paper.kappa"] == found.figures["sensibility.quadratic_kappa"] == 1
    assert found.figures["rationality.mae"] == 0
    assert found.intervals["paper.accuracy"] == (1, 1)


@pytest.mark.parametrize("common", [0, MIN_PAIRS - 1])
def test_judges_of_too_few_common_dialogues_are_refused(labelled: LabelledSet, common: int) -> None:
    found = judge_against_judge(labelled.take(np.arange(20)), labelled.take(np.arange(20 - common, 60)), ("a", "b"))
    with pytest.raises(AgreementError, match=f"^{common} dialogues are in both, expected at least 10$"):
        found.measure()


# Against itself


def judged(folder: Path, count: int, *judges: dict[str, Any] | None) -> LabelledSet:
    """Return dialogues that each of these judges scored, with other random scores each time."""
    records = [entry for i, judge in enumerate(judges) for entry in labels(count, seed=i, judge=judge)]
    return read(folder / "judged.jsonl", records)


def test_a_judge_is_compared_with_its_second_judgement(tmp_path: Path) -> None:
    hot = {**JUDGE, "temperature": 0.7}
    found = self_agreement(judged(tmp_path, 30, JUDGE, {"model": "judge-2"}, hot, JUDGE), 4)
    assert found is not None
    name, figures = found
    assert name == "judge with itself (30 dialogues, temperature 0, 0.7)"
    first, second = (
        np.array([[entry[head] for head in HEADS] for entry in labels(30, seed=seed)], dtype=float) for seed in (0, 2)
    )
    same(figures, all_figures(Pair.of(first, second, to_levels(second)), threshold=4))


def test_a_temperature_that_is_not_stated_is_said_to_be_so(tmp_path: Path) -> None:
    found = self_agreement(judged(tmp_path, 12, None, None))
    assert found is not None
    assert found[0] == "judge with itself (12 dialogues, temperature not stated)"


def test_two_models_are_not_one_judge(tmp_path: Path) -> None:
    assert self_agreement(judged(tmp_path, 30, JUDGE, {"model": "judge-2"})) is None


def test_dialogues_that_were_judged_once_say_nothing_of_it(labelled: LabelledSet) -> None:
    assert self_agreement(labelled) is None


@pytest.mark.parametrize(("count", "known"), [(MIN_PAIRS - 1, False), (MIN_PAIRS, True)])
def test_fewer_than_ten_second_judgements_say_nothing(tmp_path: Path, count: int, known: bool) -> None:
    assert (self_agreement(judged(tmp_path, count, JUDGE, JUDGE)) is not None) == known


@pytest.mark.parametrize(("judges", "name"), [
    ([None], "judge"),
    ([{"model": "b"}, {"model": "a"}], "a + b"),
    ([{"model": "b", "temperature": 1}, {"model": "b"}], "b"),
    ([{"model": name} for name in "abcd"], "4 judges"),
])  # fmt: skip
def test_a_judge_is_called_what_its_labels_say(tmp_path: Path, judges: list[dict[str, Any] | None], name: str) -> None:
    assert judge_name(judged(tmp_path, 2, *judges)) == name


# As JSON and as a table


@pytest.fixture
def measured(tmp_path: Path) -> Agreement:
    """Two judges of whom one never varies in sensibility: some figures are not defined."""
    first, second = labels(30), labels(30, seed=1, sensibility=7)
    sets = [read(tmp_path / f"{i}.jsonl", records) for i, records in enumerate((first, second))]
    found = judge_against_judge(sets[0], sets[1], ("first", "second"))
    found.notes.append("a note")
    found.warnings.append("a warning")
    found.measure(20)
    found.rows["beside"] = {**found.figures, "paper.kappa": math.nan}
    return found


def test_the_json_is_valid_and_has_null_for_what_is_not_defined(measured: Agreement) -> None:
    found = json.loads(json.dumps(measured.to_json(), allow_nan=False))
    assert found["figures"].keys() == measured.figures.keys()
    assert found["figures"]["sensibility.pearson"] is None
    assert found["intervals_95"]["sensibility.pearson"] == [None, None]
    assert found["beside"]["beside"]["paper.kappa"] is None
    assert found["figures"]["rationality.mae"] == pytest.approx(measured.figures["rationality.mae"], abs=1e-5)
    low, high = found["intervals_95"]["rationality.mae"]
    assert low < found["figures"]["rationality.mae"] < high
    assert (found["reference"], found["other"], found["dialogues"], found["conversations"]) == (
        "first",
        "second",
        30,
        15,
    )
    assert (found["threshold"], found["notes"], found["warnings"]) == (5, ["a note"], ["a warning"])


def test_no_replicates_give_no_intervals(labelled: LabelledSet) -> None:
    found = judge_against_judge(labelled, labelled, ("a", "b")).measure(0)
    assert found.to_json()["intervals_95"] == {}
    assert "95 %" not in "\n".join(table_lines(found))


def test_the_table_has_a_line_a_figure_and_a_column_a_rater(measured: Agreement) -> None:
    lines = list(table_lines(measured))
    assert lines[0] == "first against second: 30 dialogues of 15 conversations, threshold 5"
    assert lines[2].split() == ["second", "beside"]
    rows = {line[: line.index("  ")]: line for line in lines if "  " in line.strip() and not line.startswith(" ")}
    low, high = measured.intervals["rationality.mae"]
    mae = f"{measured.figures['rationality.mae']:.3f}"
    assert rows["MAE, rationality"].split(maxsplit=2)[2].split() == [mae, f"[{low:.3f},", f"{high:.3f}]", mae]
    assert rows["Pearson, sensibility"].split()[-2:] == ["-", "-"]
    kappas = [line.split() for line in lines if line.startswith("three-way kappa")]
    assert [kappa[2] for kappa in kappas] == [f"{measured.figures[f'{name}.kappa']:.3f}" for name in RULES]
    assert [kappa[-1] == "-" for kappa in kappas] == [name == "paper" for name in RULES]
    assert {f"rule {rule.name} ({rule.source})" for rule in RULES.values()} < {*lines}
    assert "note: a note" in lines
    assert all(line.isprintable() for line in lines)


def test_the_table_tells_how_often_each_score_of_the_judge_was_found(measured: Agreement) -> None:
    lines = list(table_lines(measured))
    start = next(i for i, line in enumerate(lines) if line.startswith("recall of each score"))
    head, *rows = (line.split() for line in lines[start + 1 : start + 4])
    assert head == ["score", *map(str, range(11))]
    for row in rows:
        values = [measured.figures[f"{row[0]}.recall.{level}"] for level in range(11)]
        assert row[1:] == ["-" if math.isnan(value) else f"{value:.2f}" for value in values]
    assert rows[0][8] == "1.00"  # the other judge always says 7
    assert len({len(line) for line in lines[start + 1 : start + 4]}) == 1


# As a command


def test_the_command_prints_the_table_and_writes_the_json(
    empathy: Run, scorer: Scorer, source: Path, tmp_path: Path
) -> None:
    scores = score(scorer, source, tmp_path / "out.parquet")
    found = empathy("agree", source, "--scores", scores, "--bootstrap", "20", "--json", tmp_path / "out.json")
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("judge-1 against out.parquet: 60 dialogues of 30 conversations, threshold 5\n")
    written = json.loads((tmp_path / "out.json").read_text(), parse_constant=pytest.fail)
    assert written["dialogues"] == 60
    assert written["intervals_95"]


def test_the_command_warns_of_what_was_trained_on(empathy: Run, partly_trained: Scorer, source: Path) -> None:
    arguments = ("agree", source, "--scorer", partly_trained.bundle.path, "--bootstrap", "0")
    warned, unseen = empathy(*arguments), empathy(*arguments, "--unseen")
    assert (warned.returncode, unseen.returncode) == (0, 0)
    assert "empathy: warning: 15 of 60 dialogues were trained on" in warned.stderr
    assert "warning: 15" not in unseen.stderr
    assert "45 dialogues" in unseen.stdout.splitlines()[0]


def test_the_command_compares_with_one_thing(empathy: Run, source: Path, tmp_path: Path) -> None:
    found = empathy("agree", source, "--scores", source, "--against", source)
    assert found.returncode == 2
    assert "give one of them" in found.stderr
    few = write_lines(tmp_path / "few.jsonl", labels(5))
    refused = empathy("agree", few, "--against", source)
    assert refused.returncode == 2
    assert refused.stderr == "empathy: error: 5 dialogues are in both, expected at least 10\n"
