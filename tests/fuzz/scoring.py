"""Files that scoring and selection read back: good ones, and how each is read."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from scorer.bundle.bundle import load_bundle, write_bundle
from scorer.bundle.probed import Probed, ProbedKind
from scorer.bundle.uncertainty import Uncertainty
from scorer.dialogue import HEADS
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.outputs import begin_work, json_text
from scorer.reading.windows import Share
from scorer.run.manifest import Identity, begun_with
from scorer.run.output import Run
from scorer.run.score import score_files
from scorer.run.score_table import describe_scorer, read_columns, read_scores, said_of_scorer
from scorer.run.settings import ScoreSettings
from selection.files.labels import read_labels
from selection.files.manifest import read_selection_info
from selection.golden import read_golden, write_golden
from selection.report.build import figures
from selection.report.sources.selection_folder import read_selection
from selection.select import select_sets
from selection.settings import ReportSettings, SelectSettings
from tests.conftest import bundle_info, labels, make_model, make_tokenizer, write_lines
from tests.fuzz.kinds import Found, Kind, need, numbers, table
from tests.fuzz.mutants import bytes_of, csv_of, json_lines_of, json_of, parquet_of

IDENTITY = Identity(scorer="", engine="", precision="", window=20, uncertainty=False, shards=1)
_SHARE = (0.0, 1.0)


def make(folder: Path) -> None:
    """Write good files of every kind."""
    source = str(write_lines(folder / "labels.jsonl", labels()))
    edges, widths = {head: [5.0] for head in HEADS}, {head: [1.0, 2.0] for head in HEADS}
    half = Uncertainty(coverage=0.9, edges=edges, widths=widths)
    kind = ProbedKind(
        kind="filler", measure="kept", contexts=9, sensibility=-1.0, rationality=0.5, share=0.1,
        interval_95=(0.0, 0.4), limit=0.5,
    )  # fmt: skip
    probe = Probed(
        data="d", contexts=9, seed=0, engine="e", precision="fp32", sensibility=5.0, rationality=5.0, kept=0.5,
        interval_95=(0.2, 0.8), kinds=[kind],
    )  # fmt: skip
    tokenizer = make_tokenizer()
    parts = {
        "model.onnx": make_model(tokenizer.get_vocab_size(), seed=2).SerializeToString(),
        "tokenizer.json": tokenizer.to_str().encode(),
    }
    gate = {
        "allowed": True,
        "reason": "r",
        "checked": 100,
        "drift_max": 0.1,
        "drift_99": 0.1,
        "correlation": 0.9,
        "flips": 0.0,
    }
    more = {"uncertainty": half, "probe": probe, "precisions": {"fp32": gate}, "weights": {"int8": gate}}
    write_bundle(folder / "bundle", {**bundle_info(tokenizer), **more}, parts)
    scorer = Scorer.load(folder / "bundle", engine="onnxruntime", threads=1)
    for name in ("scores.parquet", "scores.jsonl", "scores.csv", "shards"):
        keep = ("category",) if name.endswith(("jsonl", "csv")) else ()
        corpus = Corpus([source], keep_records=bool(keep))
        score_files(scorer, corpus, folder / name, ScoreSettings(window=20, readers=0, keep=keep))
    (folder / "twice.jsonl").write_bytes(Path(source).read_bytes() * 2)
    for index in range(2):
        settings = ScoreSettings(window=20, readers=0, share=Share(index, 2))
        score_files(scorer, Corpus([str(folder / "twice.jsonl")]), folder / "joined", settings)
    (folder / "begun").mkdir()
    with Run(folder / "begun" / "run", replace(IDENTITY, window=30), {"sha256": None}, ScoreSettings()):
        pass
    shutil.copytree(folder / "shards", folder / "resumed")
    begin_work(folder / "work", IDENTITY, "error")
    bad = {"id": "x", "messages": []}
    write_lines(folder / "in.jsonl", [*labels(), bad, {"a": 1}])
    select_sets(
        Corpus([str(folder / "in.jsonl")], keep_records=True),
        folder / "selection",
        SelectSettings(),
        table=read_scores(folder / "scores.parquet"),
    )
    write_golden(folder / "golden.jsonl", [source], scorer, tolerance=0.1)


def _scores(path: Path) -> Found:
    yield from table(read_scores(path))
    columns = read_columns(path)
    yield from need(len({len(values) for values in columns.values()}) == 1, "columns of several lengths")
    yield from need(isinstance(said_of_scorer(path), dict), "no record")


def _resume(folder: Path) -> Found:
    known = begun_with(folder)
    with Run(folder, known or IDENTITY, {"sha256": None}, ScoreSettings(existing="resume")) as run:
        for number, window in run.done.items():
            yield from need(number == window.number >= 0, f"window {window.number}")
            yield from numbers(window)
            yield from need(len(window.tally.sums) == len(HEADS), "sums of other heads")


def _selection(folder: Path) -> Found:
    info = read_selection_info(folder)
    yield from numbers(info)
    yield from need(sum(entry.count for entry in info.sets.values()) == info.dialogues, "sets do not add up")
    found = figures([folder], ReportSettings())
    json_text(found)
    rows = read_selection(folder)
    yield from need(rows.chance is None or bool((~(rows.chance < 0) & ~(rows.chance > 1)).all()), "chances")
    assert rows.facts
    yield from need(bool((rows.facts.turns >= 0).all() and (rows.facts.words >= 0).all()), "negative turns or words")


def _golden(path: Path) -> Found:
    golden = read_golden(path)
    yield from need(bool(((golden.scores >= 0) & (golden.scores <= 10)).all()), "scores")
    yield from numbers(golden.info)


def _bundle(folder: Path) -> Found:
    bundle = load_bundle(folder)
    yield from numbers(bundle.info)
    yield from numbers(describe_scorer(folder))
    _ = bundle.tokenizer, bundle.info.domain.seen, bundle.provenance()


def _rehashed(folder: Path) -> Found:
    """Read a bundle whose files were changed by someone who knows how to write their hashes."""
    info = json.loads((folder / "scorer.json").read_bytes())
    info["files"] = {name: sha256((folder / name).read_bytes()).hexdigest() for name in info["files"]}
    (folder / "scorer.json").write_text(json.dumps(info))
    yield from _bundle(folder)


def _labels(path: Path) -> Found:
    found = read_labels([str(path)])
    yield from need(bool(((found.scores >= 0) & (found.scores <= 10)).all()), "scores")


def _work(folder: Path) -> Found:
    begin_work(folder / "work", IDENTITY, "resume")
    yield from ()


KINDS = (
    Kind("scores.parquet", parquet_of, lambda folder: _scores(folder / "scores.parquet"), 3),
    Kind("scores.jsonl", json_lines_of, lambda folder: _scores(folder / "scores.jsonl"), 2),
    Kind("scores.jsonl.meta.json", json_of, lambda folder: _scores(folder / "scores.jsonl"), 2),
    Kind("scores.csv", csv_of, lambda folder: _scores(folder / "scores.csv"), 2),
    Kind("scores.csv.meta.json", json_of, lambda folder: _scores(folder / "scores.csv")),
    Kind("shards/part-000001.parquet", parquet_of, lambda folder: _scores(folder / "shards")),
    Kind("shards/_manifest.jsonl", json_lines_of, lambda folder: _scores(folder / "shards")),
    Kind("joined/_joined.json", json_of, lambda folder: _scores(folder / "joined"), 2),
    Kind("resumed/_manifest.jsonl", json_lines_of, lambda folder: _resume(folder / "resumed"), 3),
    Kind("begun/run/_manifest.jsonl", json_lines_of, lambda folder: _resume(folder / "begun" / "run")),
    Kind("work.partial/run.json", json_of, _work),
    Kind("selection/selection.json", json_of, lambda folder: _selection(folder / "selection"), 4),
    Kind("selection/selection.parquet", parquet_of, lambda folder: _selection(folder / "selection"), 4),
    Kind("selection/rejects.jsonl", json_lines_of, lambda folder: _selection(folder / "selection"), 2),
    Kind("selection/sensibility.jsonl", json_lines_of, lambda folder: _selection(folder / "selection")),
    Kind("golden.jsonl", json_lines_of, lambda folder: _golden(folder / "golden.jsonl")),
    Kind("golden.jsonl.meta.json", json_of, lambda folder: _golden(folder / "golden.jsonl")),
    Kind("bundle/scorer.json", json_of, lambda folder: _bundle(folder / "bundle"), 4),
    Kind("bundle/tokenizer.json", json_of, lambda folder: _rehashed(folder / "bundle"), 2),
    Kind("bundle/model.onnx", bytes_of, lambda folder: _rehashed(folder / "bundle")),
    Kind("labels.jsonl", json_lines_of, lambda folder: _labels(folder / "labels.jsonl")),
)
