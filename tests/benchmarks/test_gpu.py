"""The benchmark of engines on a GPU, on the processor: its variants give the same scores, and what fails says why."""

from __future__ import annotations

import copy
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner

from benchmarks.gpu import onnx_variants, torch_variants
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.rows import Batch, Floats, Work
from distill.exporting.first_token import to_onnx
from scorer.bundle.encode import Encoded
from tests.conftest import make_tokenizer, record, varied, write_lines
from tests.distill.tiny import write_backbone


def encoded(count: int) -> list[Encoded]:
    rng = np.random.default_rng(0)
    vocabulary = make_tokenizer().get_vocab_size()
    ids = [rng.integers(4, vocabulary, rng.integers(4, 30)).astype(np.int32) for _ in range(count)]
    return [Encoded(ids=one, first_segment=len(one) // 2) for one in ids]


@pytest.mark.parametrize("kind", ["bert", pytest.param("roberta", marks=pytest.mark.slow)])
def test_every_variant_scores_as_the_model_does(tmp_path: Path, kind: str) -> None:
    from transformers import AutoModelForSequenceClassification

    folder = write_backbone(tmp_path / kind, kind=kind)
    models = [
        AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=2, attn_implementation=how, trust_remote_code=False
        ).eval()
        for how in ("eager", "sdpa")
    ]
    eager, model = models
    model.load_state_dict(eager.state_dict())
    graph = to_onnx(eager)
    pad_id = int(eager.config.pad_token_id or 0)
    many = encoded(30)
    work = Work(
        encoded=many,
        reference=np.zeros((0, 2), np.float32),
        decide=lambda scores: scores[:, 0] > 0,
        batch_tokens=200,
        until=time.monotonic() + 60,
        pad_id=pad_id,
    )
    _, batches = work.batches()
    expected = onnx_variants.make(graph, "cpu", bound=False)(batches)
    runs = {
        "bound": onnx_variants.make(graph, "cpu"),
        "two under way": onnx_variants.make(graph, "cpu", at_once=2),
        "int32": onnx_variants.make(onnx_variants.int32_inputs(graph), "cpu", at_once=2),
        "padded": torch_variants.padded(copy.deepcopy(model), "cpu", torch.float32),
        "packed": torch_variants.packed(copy.deepcopy(model), "cpu", torch.float32)[0],
    }
    for name, run in runs.items():
        for found, wanted in zip(run(batches), expected, strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-4, err_msg=name)
    fused, note = onnx_variants.fused_half(
        graph, heads=eager.config.num_attention_heads, hidden=eager.config.hidden_size, gpu=False
    )
    assert note.endswith("attentions fused")
    assert isinstance(fused, onnx.ModelProto)
    run = onnx_variants.make(onnx_variants.int32_inputs(fused), "cpu", at_once=2)
    for found, wanted in zip(run(batches), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_a_variant_that_cannot_run_is_a_row_with_its_reason() -> None:
    def run(batches: list[Batch]) -> list[Floats]:
        return [np.zeros((len(one["input_ids"]), 2), np.float32) for one in batches]

    def broken() -> None:
        raise RuntimeError("out of memory")

    work = Work(
        encoded=encoded(20),
        reference=np.ones((20, 2), np.float32),
        decide=lambda scores: scores[:, 0] > 0.5,
        batch_tokens=100,
        until=time.monotonic() + 60,
    )
    work.measure("fine", lambda: (run, ""))  # type: ignore[arg-type,return-value]
    work.measure("broken", broken)  # type: ignore[arg-type]
    work.measure("tensorrt", lambda: (onnx_variants.make(onnx.ModelProto(), "tensorrt"), ""))
    work.until = 0
    work.measure("late", broken)  # type: ignore[arg-type]
    fine, *others = work.rows
    assert (fine.flips, fine.largest, fine.reason) == (1, 1, "")
    assert (fine.rate or 0) > 0
    assert [row.reason for row in others] == [
        "out of memory",
        "this ONNX Runtime has no TensorrtExecutionProvider",
        "no time was left",
    ]


@pytest.mark.slow
def test_the_whole_of_it_runs_on_the_processor(tmp_path: Path) -> None:
    lines = [record(*(turn.content for turn in one.turns), id=str(n)) for n, one in enumerate(varied(60))]
    source = write_lines(tmp_path / "in.jsonl", lines)
    done = CliRunner().invoke(main, [str(source), "--provider", "cpu", "--no-large"])
    assert done.exit_code == 0, done.output
    assert "onnxruntime-tensorrt fp16" in done.output
    assert "with start-up; scored 100 of 100 records" in done.output
