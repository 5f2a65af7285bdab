"""Soft scores: pairs, the file, the folds that must not leak, and `empathy teach`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from distill.errors import TrainError
from distill.labelled import LabelledSet
from distill.training.checkpoint import Checkpoint
from distill.training.fits import assign
from distill.training.pairs import re_pair
from distill.training.settings import TeachSettings
from distill.training.soft import Lessons, SoftInfo, SoftSet, read_soft, read_soft_files, write_soft
from distill.training.teach import teach
from distill.training.train import train_fit, train_scorer
from scorer.bundle.encode import Encoder
from scorer.dialogue import Dialogue
from tests.conftest import make_dialogue, make_tokenizer, read, record, write_lines
from tests.distill.tiny import labelled_records, tiny_settings
from tests.selection.selection_data import invoke, one_line


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> LabelledSet:
    """A hundred and twenty labelled dialogues of sixty conversations."""
    return read(tmp_path_factory.mktemp("labels") / "labels.jsonl", labelled_records(120))


@pytest.fixture(scope="module")
def teacher(backbone: Path, labelled: LabelledSet, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A teacher of two folds."""
    settings = tiny_settings(backbone, folds=2, epochs=1)
    return train_scorer(labelled, settings, tmp_path_factory.mktemp("teacher") / "teacher")


def others(count: int) -> list[Dialogue]:
    """Return unlabelled dialogues, two neighbours about the same thing."""
    return [make_dialogue(f"my dog number {n // 2} died {n}", f"answer {n}") for n in range(count)]


def soft_of(dialogues: list[Dialogue], partners: list[str] | None = None, folds: int = 2) -> SoftSet:
    scores = np.arange(folds * len(dialogues) * 2, dtype=np.float32).reshape(folds, len(dialogues), 2)
    info = SoftInfo(folds=folds, split_seed=0, teachers=["t"], teacher_hashes=["h"])
    return SoftSet(dialogues, partners or [d.conversation for d in dialogues], scores, info)


def test_pairs_take_two_near_responses_and_one_from_anywhere_and_never_their_own() -> None:
    dialogues = others(120)
    paired, partners = re_pair(dialogues, 3, seed=1)
    assert len(paired) == len(partners) == 360
    responses = {d.response: d.conversation for d in dialogues}
    for dialogue, partner in zip(paired, partners, strict=True):
        assert responses[dialogue.response] == partner != dialogue.conversation
    assert {d.context for d in paired} == {d.context for d in dialogues}
    assert len({d.id for d in paired} & {d.id for d in dialogues}) == 0
    assert re_pair(dialogues, 3, seed=1) == (paired, partners)
    assert re_pair(dialogues, 3, seed=2)[1] != partners
    assert re_pair(dialogues, 0, seed=1) == re_pair(dialogues[:1], 3, seed=1) == ([], [])


def test_near_responses_answer_contexts_of_the_same_words() -> None:
    about = [make_dialogue(f"{word} {n}", f"{word} answer {n}") for word in ("dog", "exam", "money") for n in range(60)]
    paired, _ = re_pair(about, 2, seed=0)  # both are near
    same = np.mean([d.turns[0].content.split()[0] == d.response.split()[0] for d in paired])
    assert same > 0.9


def test_a_file_of_soft_scores_comes_back_whole(tmp_path: Path) -> None:
    dialogues = others(6)
    soft = soft_of(dialogues, ["elsewhere", *(d.conversation for d in dialogues[1:])])
    write_soft(tmp_path / "soft.parquet", soft, {})
    again = read_soft(tmp_path / "soft.parquet")
    assert list(again.dialogues) == dialogues
    assert (list(again.partners), again.info, again.sha256) == (soft.partners, soft.info, soft.sha256)
    np.testing.assert_array_equal(again.scores, soft.scores)
    assert again.re_paired == 1


def test_several_files_of_the_same_teachers_are_one_and_of_others_are_refused(tmp_path: Path) -> None:
    dialogues = others(8)
    first, second, foreign = (tmp_path / f"{name}.parquet" for name in ("first", "second", "foreign"))
    write_soft(first, soft_of(dialogues[:5]), {})
    write_soft(second, soft_of(dialogues[3:]), {})
    both = read_soft_files([first, second])
    assert list(both.dialogues) == dialogues
    assert list(both.partners) == [d.conversation for d in dialogues]
    np.testing.assert_array_equal(both.scores[:, :5], read_soft(first).scores)
    np.testing.assert_array_equal(both.scores[:, 5:], read_soft(second).scores[:, 2:])
    write_soft(foreign, soft_of(dialogues, folds=3), {})
    with pytest.raises(TrainError, match=r"foreign.parquet: holds the scores of t \(h\) with --folds 3.*same teachers"):
        read_soft_files([first, foreign])


def spoil(path: Path, how: str) -> None:
    table = pq.read_table(path)
    if how == "text":
        path.write_text("no parquet")
    elif how == "column":
        pq.write_table(table.drop_columns(["rationality_1"]), path)
    elif how == "metadata":
        pq.write_table(table.replace_schema_metadata(None), path)
    elif how == "dialogue":
        pq.write_table(table.set_column(0, "dialogue", [["{}"] * len(table)]), path)
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["text", "column", "metadata", "dialogue", "gone"])
def test_a_spoilt_file_is_one_line_with_its_name(how: str, tmp_path: Path) -> None:
    path = tmp_path / "soft.parquet"
    write_soft(path, soft_of(others(4)), {})
    spoil(path, how)
    labels = write_lines(tmp_path / "labels.jsonl", labelled_records(120))
    result = invoke(str(labels), "-o", str(tmp_path / "out"), "--soft", str(path), command="train")
    line = one_line(result.exit_code, result.stderr)
    assert str(path) in line
    assert "teach" in line


def test_no_text_of_a_held_out_conversation_reaches_a_fold(labelled: LabelledSet, backbone: Path) -> None:
    settings = tiny_settings(backbone, folds=2, judge_share=1.0)
    [first, second, final] = assign(labelled.conversations, settings).fits
    inside = labelled.dialogues[int(np.flatnonzero(first.held_out)[0])].conversation
    free, paired, own = others(3)
    own = Dialogue(id="own", turns=own.turns, conversation=inside)
    soft = soft_of([free, paired, own], [free.conversation, inside, inside])
    lessons = Lessons.of(soft, labelled, settings, Encoder(make_tokenizer(), 64))
    held = [[labelled.conversations[row] for row in np.flatnonzero(fit.held_out)] for fit in (first, second, final)]
    assert [lessons.without(conversations).tolist() for conversations in held] == [
        [True, False, False],
        [True, True, True],
        [True, True, True],
    ]
    np.testing.assert_array_equal(lessons.scores(1)[1], soft.scores[1])
    np.testing.assert_array_equal(lessons.scores(None)[1], soft.scores.mean(axis=0))


def test_labelled_dialogues_without_a_soft_score_are_refused_where_it_counts(
    labelled: LabelledSet, backbone: Path
) -> None:
    soft, encoder = soft_of([*labelled.dialogues[:100], *others(5)]), Encoder(make_tokenizer(), 64)
    with pytest.raises(TrainError, match="20 of 120 labelled dialogues have no soft score"):
        Lessons.of(soft, labelled, tiny_settings(backbone, folds=2), encoder)
    lessons = Lessons.of(soft, labelled, tiny_settings(backbone, folds=2, judge_share=1.0), encoder)
    assert len(lessons.extra) == 5
    for settings in (tiny_settings(backbone, folds=3), tiny_settings(backbone, folds=2, split_seed=5)):
        with pytest.raises(TrainError, match="--folds 2 --split-seed 0"):
            Lessons.of(soft, labelled, settings, encoder)


class _Stopped(Exception):
    pass


def test_teaching_gives_each_fold_its_own_models_and_resumes(
    labelled: LabelledSet, teacher: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialogues, output = [*labelled.dialogues, *others(20)], tmp_path / "soft.parquet"
    scored: list[Path] = []
    from distill.training import teach as module

    real = module._uncalibrated

    def once(checkpoint: Checkpoint, *rest: Any) -> Any:
        if len(scored) == 1:
            raise _Stopped
        scored.append(checkpoint.path)
        return real(checkpoint, *rest)

    monkeypatch.setattr(module, "_uncalibrated", once)
    with pytest.raises(_Stopped):
        teach([teacher], dialogues, TeachSettings(pairs=2), output)

    def noted(checkpoint: Checkpoint, *rest: Any) -> Any:
        scored.append(checkpoint.path)
        return real(checkpoint, *rest)

    monkeypatch.setattr(module, "_uncalibrated", noted)
    soft = teach([teacher], dialogues, TeachSettings(pairs=2), output, existing="resume")
    assert scored == [teacher.path / "folds" / "0", teacher.path / "folds" / "1"]  # no model twice
    assert len(soft) > 2 * len(dialogues)
    assert soft.info.folds == 2
    assert not np.allclose(soft.scores[0], soft.scores[1])
    assert not output.with_name("soft.parquet.partial").exists()
    whole = teach([teacher], dialogues, TeachSettings(pairs=2), tmp_path / "again.parquet")
    assert whole.sha256 == soft.sha256 == read_soft(output).sha256


@pytest.mark.slow
def test_the_commands_teach_and_train_on_the_file_fit_by_fit(
    teacher: Checkpoint, backbone: Path, tmp_path: Path
) -> None:
    labels = write_lines(tmp_path / "labels.jsonl", labelled_records(120))
    more = write_lines(tmp_path / "more.jsonl", [record(f"i am sad {n}", f"so sorry {n}") for n in range(20)])
    file = tmp_path / "soft.parquet"
    result = invoke(*map(str, (teacher.path, labels, more, "-o", file, "--pairs", "1")), command="teach")
    assert result.exit_code == 0, result.stderr
    assert "scored by 1 teachers" in result.stderr
    assert "--folds 2 --split-seed 0" in result.stderr
    arguments = [*map(str, (teacher.path, labels, more, "-o", file, "--resume"))]
    assert "complete already" in invoke(*arguments, "--pairs", "1", command="teach").stderr
    for changed, message in ((arguments, "pairs 1 and this run has 0"), ([*arguments[:1], *arguments[2:]], "inputs")):
        again = invoke(*changed, *(["--pairs", "1"] if message == "inputs" else []), command="teach")
        assert (again.exit_code, len(again.stderr.splitlines())) == (2, 1)
        assert f"is finished and was made with {message}" in again.stderr
    given = [*map(str, (labels, "--backbone", backbone, "--soft", file, "--folds", "2", "--epochs", "1"))]
    given += ["--max-length", "64", "--judge-share", "0", "--dropout", "0", "-o"]
    for number in (2, 0, 1):
        done = invoke(*given, str(tmp_path / "parts"), "--fit", str(number), command="train")
        assert done.exit_code == 0, done.stderr
    assert not (tmp_path / "parts").exists()
    for output, flags in (("parts", ["--resume"]), ("whole", [])):
        done = invoke(*given, str(tmp_path / output), *flags, command="train")
        assert done.exit_code == 0, done.stderr
    parts, whole = (pq.read_table(tmp_path / name / "oof.parquet") for name in ("parts", "whole"))
    for head in ("sensibility", "rationality"):
        np.testing.assert_allclose(parts[f"{head}_raw"], whole[f"{head}_raw"], atol=1e-3)
    config = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert config["hidden_dropout_prob"] == config["attention_probs_dropout_prob"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--soft", "s.parquet", "--pairs", "2"], "leave out --teacher"),
        (["--pairs", "2"], "name some"),
        (["--fit", "0", "--teacher", "t"], "--soft"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    labels = write_lines(tmp_path / "labels.jsonl", labelled_records(120))
    result = invoke(str(labels), "-o", str(tmp_path / "out"), *arguments, command="train")
    assert result.exit_code == 2
    assert message in result.stderr


def test_teaching_without_a_teacher_or_without_dialogues_is_refused(teacher: Checkpoint, tmp_path: Path) -> None:
    more = write_lines(tmp_path / "more.jsonl", [record("i am sad", "so sorry")])
    for inputs, missing in (((more,), "a checkpoint"), ((teacher.path,), "dialogues to score")):
        result = invoke(*map(str, inputs), "-o", str(tmp_path / "soft.parquet"), command="teach")
        assert result.exit_code == 2
        assert f"{missing}" in result.stderr


def test_a_fit_that_is_not_there_is_refused(labelled: LabelledSet, backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="fit is 3, expected 0 to 2"):
        train_fit(labelled, tiny_settings(backbone, folds=2), tmp_path / "out", 3)
