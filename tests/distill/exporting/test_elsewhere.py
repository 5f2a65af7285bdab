"""A scorer that other tools load scores a text as `empathy score` does, in natural and in published spelling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnxruntime import SessionOptions
from tokenizers import Tokenizer
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast, pipeline

from distill.exporting.export import export_bundle
from distill.labelled import read_labelled
from distill.pretrained import tokenizer_files
from distill.training.checkpoint import Checkpoint
from distill.training.train import train_scorer
from scorer.bundle.bundle import STARTER, Bundle, load_bundle
from scorer.dialogue import HEADS
from scorer.engines.onnxruntime import OnnxRuntimeEngine
from scorer.model import Scorer
from tests.conftest import make_tokenizer, write_lines
from tests.distill.tiny import KINDS, labelled_records, tiny_settings, write_backbone

NATURAL = [
    ("user: My dog died…  I can't sleep", "That’s so sad, I'm  SORRY!"),
    ("user: We won the game!\nassistant: What happened?\nuser: It's great", "You're great."),
    ("user: ?", "I am so sorry"),
]
PUBLISHED = [
    ("user: my dog died ... i can not sleep", "that is so sad , i am sorry !"),
    ("user: we won the game !\nassistant: what happened ?\nuser: it 's great", "you are great ."),
    ("user: ?", "i am so sorry"),
]


@pytest.fixture(scope="module", params=KINDS)
def scorers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Bundle]:
    """A tiny scorer of each kind of encoder: checkpoint and bundle."""
    folder = tmp_path_factory.mktemp(request.param)
    labelled = read_labelled([str(write_lines(folder / "labels.jsonl", labelled_records(200)))])
    settings = tiny_settings(write_backbone(folder / "backbone", kind=request.param), epochs=1)
    checkpoint = train_scorer(labelled, settings, folder / "checkpoint")
    assert checkpoint is not None
    return checkpoint, export_bundle(checkpoint, folder / "bundle")


def ours(bundle: Bundle, pairs: list[tuple[str, str]]) -> Any:
    def messages(context: str, response: str) -> list[dict[str, str]]:
        turns = [line.split(": ", 1) for line in [*context.splitlines(), f"assistant: {response}"]]
        return [{"role": role, "content": content} for role, content in turns]

    scorer = Scorer(bundle, OnnxRuntimeEngine(bundle, threads=1))
    return np.array(scorer.score([{"messages": messages(*pair)} for pair in pairs]))


def by_pipeline(folder: Path, pairs: list[tuple[str, str]]) -> Any:
    score = pipeline("text-classification", model=str(folder), device="cpu")
    found = score([{"text": first, "text_pair": second} for first, second in pairs], top_k=None)
    return np.array([[next(row["score"] for row in rows if row["label"] == head) for head in HEADS] for rows in found])


def by_cross_encoder(folder: Path, pairs: list[tuple[str, str]]) -> Any:
    cross = pytest.importorskip("sentence_transformers")
    return cross.CrossEncoder(str(folder), device="cpu").predict([list(pair) for pair in pairs])


def by_auto_classes(folder: Path, pairs: list[tuple[str, str]]) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(
            **tokenizer(*map(list, zip(*pairs, strict=True)), padding=True, return_tensors="pt")
        ).logits.numpy()


def by_raw_tokenizer(folder: Path, pairs: list[tuple[str, str]]) -> Any:
    """Score as text-embeddings-inference does: tokenizer.json as it is, cut at the configuration's length."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(128, strategy="longest_first")
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    scores = []
    for pair in pairs:
        found = tokenizer.encode(*pair)
        named = {"input_ids": found.ids, "attention_mask": found.attention_mask}
        if getattr(model.config, "type_vocab_size", 0) > 1:
            named["token_type_ids"] = found.type_ids
        with torch.no_grad():
            scores.append(model(**{name: torch.tensor([value]) for name, value in named.items()}).logits[0].numpy())
    return np.array(scores)


def by_optimum(folder: Path, pairs: list[tuple[str, str]]) -> Any:
    """Score with the bundle's model.onnx; it is in the environment of `make test-transformers4` alone."""
    found = pytest.importorskip("optimum.onnxruntime")
    options = SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # else int8 weights multiply int8 activations
    model = found.ORTModelForSequenceClassification.from_pretrained(
        folder, file_name="model.onnx", session_options=options
    )
    inputs = AutoTokenizer.from_pretrained(folder)(*map(list, zip(*pairs, strict=True)), padding=True)
    return model(**{name: torch.tensor(value) for name, value in inputs.items()}).logits.numpy()


@pytest.mark.filterwarnings("ignore")  # of modules that optimum and sentence-transformers moved
@pytest.mark.parametrize("tool", [by_pipeline, by_cross_encoder, by_auto_classes, by_raw_tokenizer, by_optimum])
def test_the_same_scores_in_every_tool_and_spelling(scorers: tuple[Checkpoint, Bundle], tool: Any) -> None:
    checkpoint, bundle = scorers
    expected = ours(bundle, NATURAL)
    assert np.ptp(expected, axis=0).min() > 0.01
    np.testing.assert_allclose(ours(bundle, PUBLISHED), expected, atol=1e-6)
    for pairs in (NATURAL, PUBLISHED):
        folder = bundle.path if tool is by_optimum else checkpoint.path
        np.testing.assert_allclose(tool(folder, pairs).clip(0, 10), expected, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_the_starter_scores_the_same_by_optimum() -> None:
    pytest.importorskip("optimum.onnxruntime")
    expected = ours(load_bundle(STARTER), NATURAL)
    for pairs in (NATURAL, PUBLISHED):
        np.testing.assert_allclose(by_optimum(STARTER, pairs).clip(0, 10), expected, atol=1e-4)


def test_the_bundle_has_the_files_that_they_read(scorers: tuple[Checkpoint, Bundle]) -> None:
    checkpoint, bundle = scorers
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        assert bundle.files[name] == (checkpoint.path / name).read_bytes()
    assert b"torch.nn.modules.linear.Identity" in bundle.files["config.json"]
    assert b"Replace" not in bundle.checked_tokenizer  # this package spells before it tokenises


def test_what_an_encoder_cuts_and_pads_is_not_the_scorers() -> None:
    """Sentence-transformers' tokenizers cut and pad each text to 128 tokens."""
    tokenizer = make_tokenizer()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=4)
    files = tokenizer_files(PreTrainedTokenizerFast(tokenizer_object=tokenizer), 64, token_types=False)
    again = Tokenizer.from_buffer(files["tokenizer.json"])
    assert (again.truncation, again.padding) == (None, None)
    assert len(again.encode("i am so sad today").ids) > 4
