"""`empathy run`: everything end to end on tiny models; what did not change is skipped, a killed run is resumed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moe.errors import SettingError
from moe.evaluation.evaluate import Evaluation, read_held_out
from moe.pipeline import Pipeline
from moe.settings import ComposeSettings, ExpertSettings, GenerateSettings, RouterSettings, RunSettings
from scorer.errors import OutputError
from scorer.inputs.parse import to_record
from scorer.model import Scorer
from scorer.progress import Silent
from tests.conftest import Run, varied, write_lines, write_tiny_bundle
from tests.moe.conftest import command, write_base
from tests.scorer.test_locks import another_thread

STAGES = ["split", "score", "select", "expert sensibility", "expert rationality", "compose", "train", "evaluate"]
TINY: dict[str, Any] = {"max_length": 160, "checkpointing": False, "held_out": 0}


class World:
    """A corpus, a base and a scorer on disk, and runs over them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.corpus = write_lines(folder / "corpus.jsonl", [to_record(dialogue) for dialogue in varied(120)])
        self.base = write_base(folder / "base")
        self.scorer = Scorer.load(write_tiny_bundle(folder / "bundle", seed=2).path, engine="onnxruntime", threads=1)
        self.settings = RunSettings(
            expert=ExpertSettings(base=str(self.base), **TINY),
            compose=ComposeSettings(router="informed", max_length=160),
            router=RouterSettings(**TINY),
            generate=GenerateSettings(max_new_tokens=4, max_length=160),
            held_out=0.2,
            evaluate_on=6,
        )

    def run(self, *, fail_in: str = "", **more: Any) -> tuple[dict[str, str], Evaluation]:
        """Return what became of each stage, and the evaluation."""
        stages = Stages(fail_in)
        settings = replace(self.settings, **more)
        run = Pipeline([str(self.corpus)], self.folder / "out", settings, self.scorer, self.scorer, stages)
        return stages.found, run.run()


class Stages(Silent):
    """Notes what is said of each stage; Ctrl-C in one of them."""

    def __init__(self, fail_in: str) -> None:
        self.fail_in = fail_in
        self.found: dict[str, str] = {}

    def say(self, text: str) -> None:
        stage, _, what = text.partition(": ")
        self.found[stage] = what
        if stage == self.fail_in:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Built once; its tests continue in each other's folder, as a user does."""
    return World(tmp_path_factory.mktemp("world"))


def cut_bytes(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def done(found: Mapping[str, str]) -> list[str]:
    return [stage for stage, what in found.items() if "skipped" not in what]


def test_one_call_goes_from_a_corpus_to_a_measured_mixture(world: World) -> None:
    with pytest.raises(KeyboardInterrupt):
        world.run(fail_in="compose")
    stages, found = world.run()
    assert list(stages) == STAGES
    assert done(stages) == ["compose", "train", "evaluate"]  # the rest was done before the interruption
    assert list(found.models) == ["base", "expert-sensibility", "expert-rationality", "moe", "reference"]
    assert found.dialogues == 6
    out = world.folder / "out"
    kept, held_out = (read_held_out([str(out / name)]).dialogues for name in ("corpus.jsonl", "held_out.jsonl"))
    assert len(kept) + len(held_out) == 120
    assert not {one.conversation for one in kept} & {one.conversation for one in held_out}
    made = json.loads((out / "moe" / "moe.json").read_text())
    selected_by = made["experts"][0]["set"]["selection"]["scorer"]
    assert list(selected_by) == ["name", "sha256", "judge", "rubric"]
    assert selected_by["sha256"] == world.scorer.bundle.sha256
    assert "marks its own choice" in found.notes[0]
    assert (out / "evaluation" / "responses.html").exists()


def cut(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-3]))


def raised(path: Path) -> None:
    table = pq.read_table(path)
    scores = pa.array(table["sensibility"].to_numpy() + np.float32(1), pa.float32())
    pq.write_table(table.set_column(1, "sensibility", scores), path)


@pytest.mark.parametrize(
    ("path", "change", "again"),
    [
        ("experts/sensibility/adapter_model.safetensors", Path.unlink, ["expert sensibility"]),
        pytest.param("experts/rationality/tokenizer.json", cut, ["expert rationality"], marks=pytest.mark.slow),
        ("corpus.jsonl", cut, ["split"]),
        pytest.param("held_out.jsonl", Path.unlink, ["split"], marks=pytest.mark.slow),
        pytest.param("scores.parquet", raised, ["score"], marks=pytest.mark.slow),
        pytest.param("scores.parquet", Path.unlink, ["score"], marks=pytest.mark.slow),
        pytest.param("selection/rationality.jsonl", cut, ["select"], marks=pytest.mark.slow),
        pytest.param("selection/selection.parquet", Path.unlink, ["select"], marks=pytest.mark.slow),
        pytest.param("composed/model.safetensors", Path.unlink, ["compose"], marks=pytest.mark.slow),
        pytest.param("moe/model.safetensors", cut_bytes, ["train"], marks=pytest.mark.slow),
        ("evaluation/base.jsonl", cut, ["evaluate"]),
        pytest.param("evaluation/base.json", Path.unlink, ["evaluate"], marks=pytest.mark.slow),
    ],
)
def test_a_stage_whose_files_were_changed_is_not_done(
    path: str, change: Callable[[Path], Any], again: list[str], world: World
) -> None:
    _, whole = world.run()
    changed = world.folder / "out" / path
    before = changed.read_bytes()
    change(changed)
    stages, found = world.run()
    assert done(stages) == again  # which makes the same, so that the others need nothing
    if changed.suffix not in (".json", ".parquet"):
        assert changed.read_bytes() == before
    assert found == whole
    assert done(world.run()[0]) == []


def test_two_runs_in_one_folder_are_refused(world: World) -> None:
    with another_thread(world.folder / "out"), pytest.raises(OutputError, match="another process is writing it"):
        world.run()


def test_what_did_not_change_is_skipped_and_what_did_is_done_again(world: World) -> None:
    world.run()
    assert done(world.run()[0]) == []
    assert done(world.run(evaluate_on=5)[0]) == ["evaluate"]
    router = replace(world.settings.router, epochs=2)
    assert done(world.run(router=router, evaluate_on=5)[0]) == ["train", "evaluate"]
    moe = world.folder / "out" / "moe"
    (moe / "moe.json").rename(moe / "thesis.txt")
    with pytest.raises(OutputError, match="will not replace it"):
        world.run(router=router, evaluate_on=5)


def test_another_corpus_begins_at_the_first_stage(tmp_path: Path) -> None:
    fresh = World(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fresh.run(fail_in="expert sensibility")
    write_lines(fresh.corpus, [to_record(dialogue) for dialogue in varied(110)])
    with pytest.raises(KeyboardInterrupt):
        fresh.run(fail_in="expert sensibility")
    state = json.loads((tmp_path / "out" / "state.json").read_text())
    lines = sum(len((tmp_path / "out" / name).read_text().splitlines()) for name in ("corpus.jsonl", "held_out.jsonl"))
    assert lines == 110
    assert list(state) == STAGES[:3]


def test_bad_runs_are_one_line(world: World, tmp_path: Path) -> None:
    out = ("-o", tmp_path / "out", "--base", world.base)
    assert "held out is 0.0" in command(2, "run", world.corpus, *out, "--held-out", "0")
    assert "expected at least 2" in command(2, "run", world.corpus, *out, "--sets", "sensibility")
    assert "standard input does not allow" in command(2, "run", "-", *out)
    assert "does not exist" in command(2, "run", world.corpus, "-o", tmp_path / "a/b", "--base", world.base)
    with pytest.raises(SettingError, match="evaluate on is 0"):
        replace(world.settings, evaluate_on=0)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    assert "holds no state.json" in command(2, "run", world.corpus, "-o", tmp_path / "mine", "--base", world.base)


@pytest.mark.slow
def test_the_command_runs_as_installed(world: World, tmp_path: Path, empathy: Run) -> None:
    arguments = ["run", world.corpus, "-o", tmp_path / "out", "--base", world.base]
    arguments += ["--scorer", world.scorer.bundle.path, "--max-length", 160, "--max-new-tokens", 4, "--evaluate-on", 4]
    result = empathy(*arguments)
    assert result.returncode == 0, result.stderr
    assert "perplexity" in result.stdout
    again = empathy(*arguments)
    assert again.stderr.count("unchanged, skipped") == len(STAGES)
    assert again.stdout == result.stdout
