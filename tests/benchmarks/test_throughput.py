"""The benchmark of throughput: what it measures on is distinct, and its figures are what they say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from benchmarks.kills import Score, differences
from benchmarks.throughput.ceiling import flops_per_dialogue
from benchmarks.throughput.dialogues import check_distinct, varied, with_repeats, write
from benchmarks.throughput.models import checkpoint_of
from benchmarks.throughput.peers import read
from benchmarks.throughput.table import Result, finish
from distill.training.network import load_network, predict
from scorer.dialogue import render
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.run.score import score_files
from scorer.run.settings import ScoreSettings
from tests.conftest import make_dialogue, record, write_lines


def test_varied_dialogues_differ_in_text_and_are_the_same_in_every_run(tmp_path: Path) -> None:
    real = [make_dialogue(f"context {i}", f"response {i % 5}") for i in range(6)]  # two people say the same
    dialogues = list(varied(real, 30))
    check_distinct(write(dialogues, tmp_path / "in.jsonl"), 30)
    assert dialogues == list(varied(real, 30))
    assert [dialogue.turns for dialogue in dialogues[:6]] == [dialogue.turns for dialogue in real]
    with pytest.raises(click.ClickException, match="6 dialogues pair up to 30 texts, expected 31"):
        list(varied(real, 31))


def test_a_text_twice_is_noticed(tmp_path: Path) -> None:
    twice = [make_dialogue("context", "response"), make_dialogue("context", "Response")]
    path = write(twice, tmp_path / "in.jsonl")
    with pytest.raises(click.ClickException, match="1 texts, expected 2 of each"):
        check_distinct(path, 2)


def test_repeats_are_as_many_as_asked() -> None:
    rows = with_repeats([make_dialogue(f"context {i}", "response") for i in range(40)], 0.25)
    assert len({row.id for row in rows}) == 40
    assert len({render(row) for row in rows}) == 30


def test_peers_read_the_pairs_that_are_scored(tmp_path: Path) -> None:
    dialogues = [make_dialogue("I'm sad", "Oh no!", "My dog ran off", "I am sorry.")]
    assert read(write(dialogues, tmp_path / "in.jsonl")) == ([dialogues[0].id], [render(dialogues[0])])


def test_flops_are_those_counted_by_hand() -> None:
    config = {"num_hidden_layers": 1, "hidden_size": 2, "intermediate_size": 3}
    # A token: four 2 x 2 and two 2 x 3 matrices, 28 weights, 56 operations; with 3 tokens in the attention's two
    # products 2 * 2 * 2 * 3 = 24 more. Pooler and head: 2 * (2 * 2 + 2 * 2) = 16.
    assert flops_per_dialogue(config, np.array([3])) == 3 * (56 + 24) + 16
    base = {"num_hidden_layers": 12, "hidden_size": 768, "intermediate_size": 3072}
    assert flops_per_dialogue(base, np.array([69, 70])) == pytest.approx(12e9, rel=0.01)


def test_ratios_are_of_equal_precision() -> None:
    def result(name: str, kind: str, precision: str, *seconds: float) -> Result:
        return {"name": name, "kind": kind, "precision": precision, "seconds": list(seconds)}

    rows = [
        result("ours-auto", "ours", "bf16", 1, 9, 2),
        result("st-torch-fp32", "peer", "fp32", 10),
        result("st-torch-bf16", "peer", "bf16", 8),
        result("st-openvino-bf16", "peer", "bf16", 4),
        {"name": "st-onnx-fp32", "kind": "peer", "precision": "fp32", "reason": "not installed", "seconds": []},
    ]
    finish(rows, 100, 1e9, {"fp32": 1, "bf16": 2})
    ours = rows[0]
    assert (ours["rate"], ours["times_st_default"], ours["times_st_best"]) == (50, 5, 2)
    assert ours["share_of_ceiling"] == 50 * 1e9 / 2e12
    assert "rate" not in rows[-1]


def test_a_bundles_weights_give_its_scores_in_torch(tmp_path: Path) -> None:
    starter = Scorer.load(engine="onnxruntime", threads=1)
    dialogues = [make_dialogue("my dog died", "i am so sorry for you ."), make_dialogue("i won", "how much ?")]
    encoded = starter.encoder.encode(dialogues)
    model = load_network(checkpoint_of(starter.bundle, tmp_path / "checkpoint")).eval()
    assert isinstance(model, torch.nn.Module)
    np.testing.assert_allclose(predict(model, encoded).clip(0, 10), starter.run(encoded), atol=1e-4)


def test_what_a_kill_might_change_is_noticed(scorer: Scorer, tmp_path: Path) -> None:
    records = [record(f"i am sad {i}", "so sorry", id=str(i)) for i in range(20)]
    source = write_lines(tmp_path / "in.jsonl", [*records, {"messages": []}])
    score_files(scorer, Corpus([str(source)]), tmp_path / "whole", ScoreSettings(window=8))
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    whole, killed = (Score(source=source, output=tmp_path / name, options=()) for name in ("whole", "killed"))
    assert whole.kept() == 20
    assert differences(whole, killed) == []
    shard = tmp_path / "killed" / "part-000001.parquet"
    table = pq.read_table(shard)
    moved = np.nextafter(table["rationality"].to_numpy(), np.float32(0))
    pq.write_table(table.set_column(2, "rationality", pa.array(moved)), shard)
    (tmp_path / "killed" / "rejects.jsonl").write_text(json.dumps({}))
    assert differences(whole, killed) == ["the scores of rationality differ", "the rejects differ"]
