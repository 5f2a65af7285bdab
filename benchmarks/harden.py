"""Teach a finished scorer what bad replies are worth, while it keeps its scores of real ones.

    python -m benchmarks.harden BUNDLE RELEASE UNLABELLED... -o WORK --check DIALOGUES

The scorer is its own teacher: it scores real dialogues, and the same weights are trained on these scores and on
counter-examples as `empathy train --counterexamples` makes them. No label and no teacher is needed, so a processor does
it in an hour. Cuts, calibration and figures stay those of the bundle; the card says so.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np
import onnx
import torch
from onnx import numpy_helper
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from benchmarks.learning_curve import read_dialogues, training
from distill.exporting.settings import ExportSettings
from distill.labelled import read_labelled
from distill.training.card import checkpoint_card
from distill.training.checkpoint import CheckpointInfo, LearntFrom, save_checkpoint
from distill.training.fits import Fit
from distill.training.network import fold_affine, load_backbone, predict
from distill.training.pairs import re_pair
from distill.training.settings import TrainSettings
from distill.training.soft import SoftInfo, SoftSet
from distill.training.train import run_fit
from scorer.bundle.bundle import Bundle, load_bundle, write_bundle
from scorer.bundle.cuts import Cuts
from scorer.bundle.encode import Encoded
from scorer.dialogue import Dialogue
from scorer.engines.base import Scores
from selection.gating.judge import judge_precision
from selection.rules import PAPER

RECIPE: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 16,
    "learning_rate": 1.5e-4,
    "layer_decay": 0.9,
    "dropout": 0,
    "judge_share": 0,
    "counterexamples": 0.2,
    "edits": 0.2,
    "folds": 0,
}

UNSEEN = 4000
"""Dialogues that tell how far the scores of real replies moved."""


def network_of(bundle: Bundle) -> PreTrainedModel:
    """Return a bundle's network with the weights of its graph, of which the int8 ones are made float again."""
    graph = onnx.load_from_string(bundle.model_for("fp32")).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights: dict[str, Any] = {}
    for node in graph.node:
        for key, kind in (name.rsplit(".", 1) for name in node.input if "." in name):
            if kind == "int8" and node.op_type == "Gather":
                weights[key] = stored[f"{key}.int8"] * stored[f"{key}.scale"]
            elif kind == "float" and node.op_type == "Gemm":
                weights[key] = stored[f"{key}.int8"] * stored[f"{key}.scale"][:, None]
            elif kind == "float" and node.op_type == "MatMul":
                # The exporter names a matrix by a number, and its place by the node; it stores it transposed.
                place = node.name.strip("/").removesuffix("/MatMul").replace("/", ".")
                weights[f"{place}.weight"] = (stored[f"{key}.int8"] * stored[f"{key}.scale"]).T
    weights |= {name: array for name, array in stored.items() if name.endswith(("weight", "bias"))}
    model = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(bundle.path))
    known = {name: torch.from_numpy(np.array(weights[name])) for name in model.state_dict() if name in weights}
    missing = model.load_state_dict(known, strict=False).missing_keys
    assert not missing, missing
    return model.eval()


def learnt_again(
    bundle: Bundle, labels: Path, unlabelled: Sequence[Dialogue], pairs: int, work: Path
) -> tuple[PreTrainedModel, SoftSet]:
    """Return the network that learnt bad replies beside its own scores of real dialogues, and these scores."""
    model = network_of(bundle)
    labelled = read_labelled([str(labels)])
    start = work / "start"
    settings = TrainSettings(backbone=str(start), max_length=bundle.max_length, **RECIPE)
    model.save_pretrained(start)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (start / name).write_bytes(bundle.files[name])
    encoder = load_backbone(str(start)).encoder(settings.max_length)
    real = [*labelled.dialogues, *unlabelled]
    paired, partners = re_pair(real[:pairs], 1, seed=settings.seed, encoder=None)
    dialogues = [*real, *paired]
    own = predict(model, encoder.encode(dialogues))
    owners = [*(dialogue.conversation for dialogue in real), *partners]
    soft = SoftSet(dialogues, owners, own[None], SoftInfo(folds=0, split_seed=0, teachers=[], teacher_hashes=[]))
    # The last layer begins on the scale that is learnt: z-scores of the targets.
    mean, sd = own.mean(axis=0), own.std(axis=0)
    fold_affine(model, 1 / sd, -mean / sd)
    model.save_pretrained(start)
    run = training(labelled, settings, work / "fit", soft)
    everything = np.ones(len(labelled), dtype=bool)
    _, model = run_fit(run, Fit("final", everything, ~everything))
    return model, soft


@click.command()
@click.argument("bundle_path", metavar="BUNDLE")
@click.argument("labels", type=click.Path(exists=True, path_type=Path))
@click.argument("unlabelled", nargs=-1, required=True)
@click.option("-o", "--work", required=True, type=click.Path(path_type=Path), help="The folder of everything made.")
@click.option("--rows", default=5000, show_default=True, help="Unlabelled dialogues that are learnt, of all, at most.")
@click.option("--pairs", default=2000, show_default=True, help="Re-paired dialogues.")
@click.option("--check", required=True, help="Dialogues for the gate of the export and for what changed.")
def main(
    bundle_path: str, labels: Path, unlabelled: tuple[str, ...], work: Path, rows: int, pairs: int, check: str
) -> None:
    """Make a scorer that keeps its scores of real dialogues and rejects bad replies: WORK/starter."""
    work.mkdir(parents=True, exist_ok=True)
    bundle = load_bundle(bundle_path)
    dialogues = read_dialogues([*unlabelled, check])
    order = np.random.default_rng(0).permutation(len(dialogues))
    chosen, unseen = ([dialogues[row] for row in part] for part in (order[:rows], order[rows : rows + UNSEEN]))
    model, soft = learnt_again(bundle, labels, chosen, pairs, work)
    encoder = load_backbone(str(work / "start")).encoder(bundle.max_length)
    learnt = encoder.encode([soft.dialogues[row] for row in range(len(soft)) if soft.is_real(row)])
    before = soft.scores[0][[row for row in range(len(soft)) if soft.is_real(row)]]
    after = predict(model, learnt)
    slope, intercept = zip(*(np.polyfit(after[:, head], before[:, head], 1) for head in (0, 1)), strict=True)
    fold_affine(model, slope, intercept)
    encoded = encoder.encode(unseen)
    told = changed(predict(network_of(bundle), encoded), predict(model, encoded), bundle.info.cuts)
    print(told)
    info = described(bundle, soft, told)
    folder = work / "checkpoint"
    folder.mkdir()
    save_checkpoint(folder, model, load_backbone(str(work / "start")), info)
    (folder / "README.md").write_text(checkpoint_card(info))
    command = f"export {folder} -o {work / 'exported'} --check {check} --name starter"
    program = [sys.executable, "-c", "from scorer.cli.main import run; run()", *command.split()]
    subprocess.run([*program, "--licence", bundle.info.licence], check=True)
    with_bf16(load_bundle(work / "exported"), encoded, work / "starter")


def changed(before: Scores, after: Scores, cuts: Cuts) -> str:
    """Say in words how far scores (N, 2) of unseen dialogues moved, and how many are in another set."""
    r = [np.corrcoef(before[:, head], after[:, head])[0, 1] for head in (0, 1)]
    sets = [PAPER.apply(scores, cuts) for scores in (before, after)]
    share = float((sets[0] != sets[1]).mean())
    told = f"of {len(before):,} dialogues that this step did not learn, scores correlate at {r[0]:.3f} / {r[1]:.3f}"
    return f"{told} and {share:.1%} change sets"


def with_bf16(bundle: Bundle, encoded: Sequence[Encoded], output: Path) -> Bundle:
    """Write the bundle with a verdict on bf16 that holds on all processors, from torch's products in bf16.

    Where the processor has none in hardware, the export measures no bf16; torch computes the same roundings anyway.
    """
    model = network_of(bundle)
    exact, rounded = (predict(model, encoded, bf16=low) for low in (False, True))
    verdict = judge_precision(exact, rounded, bundle.info.cuts, ExportSettings().max_flips)
    told = replace(verdict, reason=f"{verdict.reason}, by torch's bf16 products")
    info = bundle.to_json()
    files = {name: bundle.files[name] for name in info.pop("files")}
    return write_bundle(output, {**info, "precisions": {**info["precisions"], "bf16": told.to_json()}}, files)


def described(bundle: Bundle, soft: SoftSet, told: str) -> CheckpointInfo:
    """Return what the new checkpoint says of itself: the bundle's figures, and since when they are not its own."""
    known = bundle.to_json()
    training = msgspec.convert(known["training"], LearntFrom)
    hashes = sorted({*training.unlabelled_hashes, *soft.hashes} - {*training.content_hashes})
    kept = ("cuts", "uncertainty", "calibration", "domain", "max_length", "backbone")
    measured = known["measured"]
    how = f"{measured['how']}, before it learnt bad replies; since then, {told}"
    own = {
        "settings": asdict(TrainSettings(backbone=known["backbone"], max_length=bundle.max_length, **RECIPE)),
        "training": asdict(replace(training, unlabelled=len(hashes), unlabelled_hashes=hashes)),
        "measured": {**measured, "how": how},
        "created": date.today().isoformat(),
        "versions": {},
        "bf16": False,
        "part": "all labels",
    }
    return msgspec.convert({**{name: known[name] for name in kept}, **own}, CheckpointInfo)


if __name__ == "__main__":
    main()
