"""Files that labelling, training, export and mixtures read back: good ones, and how each is read."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from msgspec import to_builtins
from transformers.utils import logging as transformers_logging

from distill.account import Account
from distill.agreement.compare import judge_against_scores
from distill.judge.records import SCORED, Asking, OpenBatch, Question, Reply, question_key
from distill.judge.rubric import Rubric, read_rubric
from distill.judge.store import Store
from distill.labelled import read_labelled
from distill.loop import LoopIdentity, LoopState, Round, Sampling
from distill.training.calibrate import Calibration, fit_uncertainty
from distill.training.checkpoint import CheckpointInfo, LearntFrom, load_checkpoint, save_checkpoint
from distill.training.network import load_backbone, load_network, predict
from distill.training.settings import TeachSettings, TrainSettings
from distill.training.soft import SoftInfo, SoftSet, read_soft, write_soft
from distill.training.teach import TeachIdentity
from moe.evaluation.evaluate import Evaluation, MeasureIdentity, ModelFigures
from moe.evaluation.measures import Perplexity
from moe.evaluation.responses import Journal, Response, RunIdentity, read_responses, write_lines
from moe.mixture.adapter import load_adapter
from moe.mixture.compose import compose_mixture
from moe.mixture.experts import check_adapters
from moe.models import base_info, load_causal, load_config, load_tokenizer, model_hash, open_weights
from moe.pipeline import StageState
from moe.provenance import BaseInfo, CutTurns, Expert, LearntSet, Losses, Made, Mixture, read_made
from moe.sets import rendering
from moe.sets.chat import Chat, Example
from moe.settings import ComposeSettings, ExpertSettings, GenerateSettings
from scorer.bundle.cuts import read_cuts
from scorer.bundle.domain import fit_domain
from scorer.dialogue import HEADS, Turn
from scorer.outputs import read_json, write_json
from scorer.run.score_table import describe_scorer
from tests.conftest import labels, make_dialogue, varied
from tests.conftest import write_lines as write_records
from tests.distill.tiny import write_backbone
from tests.fuzz.kinds import Found, Kind, need, numbers
from tests.fuzz.mutants import json_lines_of, json_of, parquet_of, safetensors_of, sqlite_of, template_of, text_of
from tests.moe.conftest import CHATML, write_adapters, write_base

ASKING = Asking(rubric="r", base_url="http://localhost/v1", model="judge-1", temperature=0.0, max_tokens=128)
GENERATE = GenerateSettings(max_new_tokens=4, max_length=64)
TEACHING = TeachIdentity(settings=TeachSettings(), inputs="ab", teachers=["ab"])
IDENTITY = RunIdentity(model="m", settings=GENERATE)
DIALOGUES = varied(40)


def make(folder: Path) -> None:
    """Write good files of every kind."""
    transformers_logging.disable_progress_bar()
    source = write_records(folder / "labels.jsonl", labels())
    (folder / "rubric.txt").write_text(Rubric().text)
    _make_checkpoint(folder, source)
    _make_store(folder / "store.sqlite")
    info = SoftInfo(folds=2, split_seed=0, teachers=["t"], teacher_hashes=["ab"])
    scores = np.random.default_rng(0).random((2, 40, 2)).astype(np.float32)
    write_soft(folder / "soft.parquet", SoftSet(DIALOGUES, [d.conversation for d in DIALOGUES], scores, info), TEACHING)
    done = Round(number=1, labels=20, agreement=0.5, pearson=dict.fromkeys(HEADS, 0.5), kappa=0.1, usd=0.1)
    sampling = Sampling(check=10, step=5, strategy="random", seed=0)
    known = LoopIdentity(asking=ASKING, draws=1, training=TrainSettings(), sampling=sampling)
    write_json(
        folder / "distill.json", LoopState(identity=known, account=Account(), rounds=(done, replace(done, number=2)))
    )
    write_json(folder / "sample.json", [one.id for one in DIALOGUES])
    _make_mixture(folder)


def _make_checkpoint(folder: Path, source: Path) -> None:
    write_backbone(folder / "bert")
    backbone = load_backbone(str(folder / "bert"))
    labelled = read_labelled([str(source)])
    encoded = backbone.encoder(64).encode(labelled.dialogues)
    raw = np.random.default_rng(0).random((len(labelled), 2)).astype(np.float32) * 10
    part = CheckpointInfo(
        settings=TrainSettings(), max_length=64, backbone="bert", created="2026-01-01", versions={"torch": "2"},
        bf16=False, part="whole", calibration=Calibration((1.0, 1.0), (0.0, 0.0)),
        cuts={head: [level + 0.5 for level in range(10)] for head in HEADS},
        uncertainty=fit_uncertainty(raw, labelled.scores), measured={"how": "not"},
        training=LearntFrom(
            data="d", dialogues=60, judgements=60, judge=["j"], conversations=30, unlabelled=0, teachers=[],
            content_hashes=["ab"], unlabelled_hashes=[],
        ),
        domain=fit_domain(labelled.dialogues, encoded, backbone.vocabulary), seconds=3,
    )  # fmt: skip
    (folder / "checkpoint").mkdir()
    save_checkpoint(folder / "checkpoint", load_network(folder / "bert"), backbone, part)
    columns = {head: pa.array(raw[:, i]) for i, head in enumerate(HEADS)}
    ids = {"id": [d.id for d in labelled.dialogues], "content": labelled.hashes}
    folds = {"fold": pa.array(np.arange(len(labelled)) % 3)}
    pq.write_table(pa.table({**ids, **folds, **columns}), folder / "oof.parquet")


def _make_store(path: Path) -> None:
    questions = [Question(question_key(d, ASKING, 0), d, 0) for d in DIALOGUES]
    with Store(path) as store:
        store.add_questions(questions, ASKING, "text")
        for number, question in enumerate(questions):
            more: dict[str, Any] = {"sensibility": number % 11, "rationality": 3} if number % 4 else {}
            if number % 4 == 2:
                more |= dict.fromkeys(("sensibility_mean", "rationality_mean"), 3.5)
                more |= dict.fromkeys(("sensibility_spread", "rationality_spread"), 0.5)
            status = SCORED if more else "no_scores"
            store.add(question.key, Reply(status=status, raw="{}", cost_usd=0.01, seconds=0.5, prompt_tokens=9, **more))
        batch = OpenBatch(name="b", sizes={questions[0].key: (5, 6)}, worst_usd=0.1, prices=(1.0, 2.0))
        store.add_batch(batch, ASKING.base_url)


def _make_mixture(folder: Path) -> None:
    base = write_base(folder / "base", template=CHATML)
    for adapter in write_adapters(folder, base):
        tokens = LearntSet(
            file="a.jsonl", sha256="ab", selection=None, examples=3, tokens=9, response_tokens=5,
            cut=CutTurns(dialogues=0, turns=0), dropped={}, trained_on=2, held_out=1,
        )  # fmt: skip
        losses = Losses(steps=3, training_loss=[1.0], held_out_loss=[1.0])
        expert = Expert(
            base=BaseInfo(name="base", fingerprint="ab"), tokenizer_sha256="cd", set=tokens,
            settings=ExpertSettings(base="base"), metrics=losses,
        )  # fmt: skip
        write_json(adapter / "moe.json", expert)
    (folder / "adapter1" / "moe.json").unlink()
    compose_mixture(
        [folder / "adapter1", folder / "adapter1"],
        folder / "mixed",
        ComposeSettings(max_shard_bytes=9000),
        base=str(base),
    )
    answer = Response(
        id="a", conversation="c", messages=(Turn("user", "i"), Turn("assistant", "so")), reference="so", finished=True
    )
    write_lines(folder / "base.jsonl", [answer] * 3)
    journal = Journal(folder / "answers.jsonl", IDENTITY)
    for number in range(3):
        journal.add(f"batch{number}", [(number, answer)])
    identity = MeasureIdentity(data="d", settings=GENERATE, scorer="s", model="m")
    figures = ModelFigures(
        identity=identity, path="p",
        perplexity=Perplexity(perplexity=3.0, interval_95=(2.0, 4.0), tokens=9, examples=3),
        responses=3, finished=0.5, texts={"words": 3}, marks={"kept": None}, made=None,
    )  # fmt: skip
    write_json(folder / "figures.json", figures)
    models = {"base": figures}
    write_json(
        folder / "evaluation.json",
        Evaluation(dialogues=3, rejected=0, data="d", settings=GENERATE, scorer={}, models=models),
    )
    write_json(folder / "state.json", {"split": StageState(begun="a", done="a", seconds=1.0, found="x")})


def _checkpoint(folder: Path) -> Found:
    checkpoint = load_checkpoint(folder / "checkpoint")
    yield from numbers(checkpoint.info)
    encoded = checkpoint.encoder.encode(DIALOGUES[:3])
    found = predict(checkpoint.load_model(), encoded)
    yield from need(bool(np.isfinite(found).all()) and found.shape == (3, 2), "a network whose scores are no numbers")
    _ = checkpoint.sha256
    yield from need(bool(read_cuts(describe_scorer(folder / "checkpoint")["cuts"])), "cuts")


def _store(folder: Path) -> Found:
    with Store(folder / "store.sqlite") as store:
        keys = [question_key(d, ASKING, 0) for d in DIALOGUES]
        known = store.known(keys)
        yield from need(np.isfinite(store.spent()) and store.spent() >= 0, f"spent {store.spent()}")
        for one in known.values():
            yield from numbers(asdict(one))
            yield from need(one.cost_usd is None or one.cost_usd >= 0, "negative cost")
            if one.judged is not None:
                values = (*one.judged.said, *one.judged.label())
                yield from need(all(0 <= value <= 10 for value in values), f"judged {values}")
        for line in store.labels({"model": ["judge-1"]}):
            json.dumps(line, allow_nan=False)
            yield from need(all(0 <= line[head] <= 10 for head in HEADS), f"label {line}")
        for batch in store.open_batches(ASKING.base_url):
            yield from numbers(to_builtins(batch))
            yield from need(batch.worst_usd >= 0, "negative worst case")
            yield from need(all(low >= 0 <= high for low, high in batch.sizes.values()), "negative sizes")


def _soft(folder: Path) -> Found:
    soft = read_soft(folder / "soft.parquet")
    yield from numbers(soft.info)
    yield from need(soft.scores.shape == (max(soft.info.folds, 1), len(soft), 2), "shape")
    yield from need(len(soft.partners) == len(soft), "partners")
    yield from need(all(isinstance(one, str) for one in soft.partners), "a partner that is no text")
    yield from need(bool((np.abs(soft.scores) <= 100).all()), "scores far beyond 0 to 10")
    _ = soft.sha256, soft.re_paired


def _oof(folder: Path) -> Found:
    found = judge_against_scores(read_labelled([str(folder / "labels.jsonl")]), folder / "oof.parquet")
    yield from need(
        bool(np.isfinite(found.pair.other).all() and found.pair.other.max() <= 10 and found.pair.other.min() >= 0),
        "scores that are no numbers",
    )


def _loop(folder: Path) -> Found:
    state = read_json(folder / "distill.json", LoopState, "name another folder")
    yield from numbers(state)
    yield from need(
        [one.number for one in state.rounds] == list(range(1, len(state.rounds) + 1)), "rounds out of order"
    )
    yield from need(all(one.usd >= 0 for one in state.rounds) and state.account.most >= 0, "negative money")
    yield from need(all(-1 <= (one.agreement or 0) <= 1 for one in state.rounds), "agreement")


def _adapter(folder: Path) -> Found:
    adapter = load_adapter(folder / "adapter0")
    weights = open_weights(folder / "base")
    check_adapters([replace(adapter, info=None)], weights, base_info("base", folder / "base"))
    for name in adapter.targets:
        merged = adapter.merged(name, weights.get(name))
        yield from need(bool(torch.isfinite(merged).all()), f"{name} is merged to what is no number")
    if adapter.info is not None:
        yield from numbers(adapter.info)


def _model(folder: Path, name: str) -> Found:
    path = folder / name
    _ = read_made(path, Made if name == "base" else Mixture), model_hash(str(path)), open_weights(path).fingerprint()
    load_config(path)
    chat = Chat(load_tokenizer(path), 64)
    model = load_causal(path).eval()
    found = chat.prompt(DIALOGUES[0], 60)
    if isinstance(found, Example):
        logits = model(input_ids=torch.from_numpy(found.ids.astype(np.int64))[None]).logits
        yield from need(bool(torch.isfinite(logits).all()), "a network whose logits are no numbers")


def _chat(folder: Path) -> Found:
    rendering.SECONDS = 2.0
    chat = Chat(load_tokenizer(folder / "base"), 256)
    for dialogue in (DIALOGUES[0], make_dialogue("i am sad", "so sorry")):
        for found in (chat.prompt(dialogue, 250), chat.example(dialogue)):
            if isinstance(found, Example):
                yield from need(0 <= found.prompt <= len(found) <= 256, "more than fits")


def _responses(path: Path) -> Found:
    for one in read_responses(path):
        turns = one.dialogue().turns
        yield from need(len(one.messages) > 1 and turns[-1].role == "assistant", "a response to nothing")
        yield from need(all(turn.role in ("system", "user", "assistant", "tool") for turn in turns), "a role")


def _journal(folder: Path) -> Found:
    journal = Journal(folder / "answers.jsonl", IDENTITY)
    places = []
    for number in range(9):
        found = journal.responses(number, f"batch{number}")
        places += [place for place, _ in found or []]
    yield from need(all(place >= 0 for place in places) and len(set(places)) == len(places), f"places {places}")


def _record(name: str, kind: Any) -> Any:
    def read(folder: Path) -> Found:
        found = read_json(folder / name, kind, "fix")
        yield from numbers(to_builtins(found))

    return read


def _sample(folder: Path) -> Found:
    yield from need(all(read_json(folder / "sample.json", list[str], "fix")), "an empty id")


def _labels(folder: Path) -> Found:
    found = read_labelled([str(folder / "labels.jsonl")])
    yield from need(bool(((found.scores >= 0) & (found.scores <= 10)).all()), "scores")


def _rubric(folder: Path) -> Found:
    yield from need(bool(read_rubric(folder / "rubric.txt").text.strip()), "empty")


KINDS = (
    Kind("store.sqlite", sqlite_of, _store, 6),
    Kind("soft.parquet", parquet_of, _soft, 4),
    Kind("oof.parquet", parquet_of, _oof, 3, ("labels",)),
    Kind("distill.json", json_of, _loop, 3),
    Kind("sample.json", json_of, _sample),
    Kind("rubric.txt", text_of, _rubric),
    Kind("labels.jsonl", json_lines_of, _labels),
    Kind("checkpoint/empathy.json", json_of, _checkpoint, 3),
    Kind("checkpoint/config.json", json_of, _checkpoint, 2),
    Kind("checkpoint/model.safetensors", safetensors_of, _checkpoint, 2),
    Kind("checkpoint/tokenizer.json", json_of, _checkpoint, 2),
    Kind("checkpoint/tokenizer_config.json", json_of, _checkpoint, 1),
    Kind("checkpoint/special_tokens_map.json", json_of, _checkpoint, 1),
    Kind("adapter0/adapter_config.json", json_of, _adapter, 2, ("base",)),
    Kind("adapter0/adapter_model.safetensors", safetensors_of, _adapter, 2, ("base",)),
    Kind("adapter0/moe.json", json_of, _adapter, 2, ("base",)),
    Kind("mixed/model.safetensors.index.json", json_of, lambda folder: _model(folder, "mixed")),
    Kind("mixed/moe.json", json_of, lambda folder: _model(folder, "mixed")),
    Kind("mixed/config.json", json_of, lambda folder: _model(folder, "mixed")),
    Kind("base/config.json", json_of, lambda folder: _model(folder, "base"), 2),
    Kind("base/generation_config.json", json_of, lambda folder: _model(folder, "base")),
    Kind("base/model.safetensors", safetensors_of, lambda folder: _model(folder, "base"), 2),
    Kind("base/tokenizer_config.json", json_of, lambda folder: _model(folder, "base")),
    Kind("base/tokenizer.json", json_of, lambda folder: _model(folder, "base")),
    Kind("base/chat_template.jinja", template_of, _chat, 3),
    Kind("base.jsonl", json_lines_of, lambda folder: _responses(folder / "base.jsonl"), 2),
    Kind("answers.jsonl.partial", json_lines_of, _journal, 2),
    Kind("figures.json", json_of, _record("figures.json", ModelFigures)),
    Kind("evaluation.json", json_of, _record("evaluation.json", Evaluation)),
    Kind("state.json", json_of, _record("state.json", dict[str, StageState])),
)
