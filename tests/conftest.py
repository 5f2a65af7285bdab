"""What the tests share: a tiny real tokenizer, a tiny real ONNX model, and a bundle of both."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from distill.labelled import LabelledSet, read_labelled
from scorer.bundle.bundle import Bundle, write_bundle
from scorer.bundle.domain import fit_domain
from scorer.bundle.encode import Encoder
from scorer.dialogue import HEADS, Dialogue, Turn, content_hash, conversation_key
from scorer.model import Scorer
from scorer.progress import Silent
from tests import forks

WORDS = (
    "user assistant i you am sad happy so sorry that is great what happened my dog died today we won the game".split()
)
MAX_LENGTH = 64
COUNT = 60
JUDGE = {"model": "judge-1", "temperature": 0}

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Parts = tuple[dict[str, Any], dict[str, bytes]]


def make_tokenizer() -> Tokenizer:
    """Return a WordPiece tokenizer that knows some words, and every ASCII letter and digit."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *"abcdefghijklmnopqrstuvwxyz0123456789.,!?:'"]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys([*pieces, *(f"##{c}" for c in letters)]))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return tokenizer


def make_model(vocabulary: int, *, seed: int = 0, scale: float = 8.0) -> onnx.ModelProto:
    """Return a network whose scores are the masked mean over tokens of a random pair of numbers a token and type."""
    rng = np.random.default_rng(seed)
    table = (5 + scale * rng.standard_normal((vocabulary, 2))).astype(np.float32)
    types = rng.standard_normal((2, 2)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),  # (B, T, 2)
        helper.make_node("Gather", ["types", "token_type_ids"], ["kinds"]),
        helper.make_node("Add", ["words", "kinds"], ["both"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),  # (B, T, 1)
        helper.make_node("Mul", ["both", "wide"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["wide", "middle"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["logits"]),  # (B, 2)
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    weights = {"table": table, "types": types, "last": np.array([-1]), "middle": np.array([1])}
    graph = helper.make_graph(
        nodes,
        "tiny",
        inputs,
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def make_dialogue(*texts: str, category: str | None = None) -> Dialogue:
    """Return a dialogue whose turns alternate and end with the assistant's."""
    last = len(texts) - 1
    turns = tuple(Turn("assistant" if (last - i) % 2 == 0 else "user", text) for i, text in enumerate(texts))
    return Dialogue(id=content_hash(turns), turns=turns, conversation=conversation_key(turns), category=category)


def record(*texts: str, **more: Any) -> dict[str, Any]:
    """Return a dialogue as it stands in a file, turns alternating and ending with the assistant's."""
    turns = make_dialogue(*texts).turns
    return {"messages": [{"role": turn.role, "content": turn.content} for turn in turns], **more}


def write_lines(path: Path, records: Sequence[object]) -> Path:
    """Write records as JSON lines."""
    path.write_text("".join(json.dumps(item) + "\n" for item in records))
    return path


def read_scores(output: Path) -> pa.Table:
    """Return the rows of a Parquet file or of a folder of shards."""
    files = sorted(output.glob("*.parquet")) if output.is_dir() else [output]
    return pa.concat_tables([pq.read_table(file) for file in files])


def varied(count: int) -> list[Dialogue]:
    """Return so many different dialogues of different lengths."""
    rng = np.random.default_rng(1)
    return [
        make_dialogue(*(" ".join(rng.choice(WORDS, rng.integers(2, 14))) for _ in range(rng.choice([2, 2, 4]))))
        for _ in range(count)
    ]


def bundle_info(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return what `write_bundle` wants to know of the tiny scorer."""
    dialogues = varied(200)
    encoded = Encoder(tokenizer, MAX_LENGTH).encode(dialogues)
    return {
        "name": "tiny",
        "backbone": "none",
        "precision": "fp32",
        "licence": "Apache-2.0",
        "created": "2026-01-01",
        "max_length": MAX_LENGTH,
        "pad_id": 0,
        "cuts": {head: [level + 0.5 for level in range(10)] for head in HEADS},
        "measured": {"how": "not at all"},
        "training": {"data": "random words", "content_hashes": []},
        "domain": fit_domain(dialogues, encoded, tokenizer.get_vocab_size()),
    }


def write_tiny_bundle(folder: Path, *, seed: int = 0) -> Bundle:
    """Write the tiny scorer into a new folder."""
    tokenizer = make_tokenizer()
    model = make_model(tokenizer.get_vocab_size(), seed=seed).SerializeToString()
    files = {"model.onnx": model, "tokenizer.json": tokenizer.to_str().encode()}
    return write_bundle(folder, bundle_info(tokenizer), files)


def labels(count: int = COUNT, seed: int = 0, **more: Any) -> list[dict[str, Any]]:
    """Return records of labelled dialogues, two a conversation."""
    numbers = np.random.default_rng(seed).integers(0, 11, (count, 2)).tolist()
    return [
        record(
            *(turn.content for turn in dialogue.turns[:-1]),
            f"number {i}",
            id=f"d{i}",
            conversation=f"c{i // 2}",
            judge=JUDGE,
            sensibility=s,
            rationality=r,
        )
        | more
        for i, (dialogue, (s, r)) in enumerate(zip(varied(count), numbers, strict=True))
    ]


def read(path: Path, records: Sequence[object]) -> LabelledSet:
    return read_labelled([str(write_lines(path, records))])


def same(first: dict[str, float], second: dict[str, float]) -> None:
    """Check that figures are the same up to rounding of scores."""
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert value == pytest.approx(second[name], abs=1e-4, nan_ok=True), name


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Which bundles were tried out is remembered for these tests only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        forks.FORKS.environment = dict(os.environ)
        yield


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny scorer on disk; tests that change it make their own."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def parts() -> Parts:
    """What a bundle with a card is written from: its description and its files."""
    tokenizer = make_tokenizer()
    model = make_model(tokenizer.get_vocab_size()).SerializeToString()
    files = {"model.onnx": model, "tokenizer.json": tokenizer.to_str().encode(), "README.md": b"A card.\n"}
    return bundle_info(tokenizer), files


@pytest.fixture(scope="session")
def written(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle of these parts on disk; tests that change it make a copy."""
    return write_bundle(tmp_path_factory.mktemp("written") / "tiny", *parts)


@pytest.fixture(scope="session")
def scorer(bundle: Bundle) -> Scorer:
    """The tiny scorer, loaded."""
    return Scorer.load(bundle.path, engine="onnxruntime", threads=1)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "labels.jsonl", labels())


@pytest.fixture
def labelled(source: Path) -> LabelledSet:
    return read_labelled([str(source)])


@pytest.fixture(scope="module")
def partly_trained(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    """A tiny scorer that was trained on the first 15 dialogues."""
    info, files = parts
    folder = tmp_path_factory.mktemp("trained")
    hashes = read(folder / "labels.jsonl", labels()).hashes
    write_bundle(folder / "tiny", {**info, "training": {"content_hashes": hashes[:15]}}, files)
    return Scorer.load(folder / "tiny", engine="onnxruntime", threads=1)


class Killed(Exception):
    """Stands for the end of the process."""


class AtEachBatch(Silent):
    """A progress of scoring that calls something after each batch; ``notes`` are what it was told."""

    def __init__(self, call: Callable[[], None] = lambda: None) -> None:
        self.call = call
        self.notes: list[str] = []

    def update(self, done: float, *, total: float | None = None, note: str = "") -> None:
        self.notes.append(note)
        if "dialogues" in note:
            self.call()


def kill_after(batches: int) -> AtEachBatch:
    """Return a progress that ends the run after so many batches."""
    left = iter(range(batches))

    def call() -> None:
        if next(left, None) is None:
            raise Killed

    return AtEachBatch(call)


@pytest.fixture(scope="session")
def empathy() -> Run:
    """Run the command in a process of its own, as a user does; it fails the test on any traceback."""

    def run(*arguments: str | Path, stdin: str | bytes | None = None, **more: Any) -> subprocess.CompletedProcess[str]:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        process = forks.empathy(*arguments, text=False, stdin=data is not None, stdout=True, stderr=True, **more)
        with process:
            out, err = (stream.decode(errors="replace") for stream in process.communicate(data, 120))
        assert "Traceback" not in err, err
        assert process.returncode is not None
        return subprocess.CompletedProcess(["empathy", *map(str, arguments)], process.returncode, out, err)

    return run
