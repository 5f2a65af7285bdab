"""`empathy train`, `empathy export` and `empathy agree`: options in, one call of the core, closing lines out."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from distill.settings import DEFAULT_BACKBONE, TrainSettings
from scorer.cli import fail

if TYPE_CHECKING:
    from distill.agreement import Agreement
    from distill.checkpoint import Checkpoint
    from distill.labelled import LabelledSet
    from scorer.bundle import Bundle
    from scorer.dialogue import Dialogue

_DEFAULTS = TrainSettings()


def _setting(flag: str, kind: Any, text: str, default: str | None = None) -> Any:
    """Return an option of ``TrainSettings``; left out, the record's own default counts, which the help shows."""
    name = flag.removeprefix("--").replace("-", "_")
    shown = default or f"{getattr(_DEFAULTS, name):g}"
    return click.option(flag, name, type=kind, help=f"{text}  [default: {shown}]")


@click.command()
@click.argument("inputs", metavar="LABELS...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="CHECKPOINT", type=click.Path(path_type=Path), required=True,
              help="The folder to write; OUT.partial holds the work until it is whole.")  # fmt: skip
@click.option("--backbone", metavar="ID_OR_FOLDER", help=f"The encoder to fine-tune.  [default: {DEFAULT_BACKBONE}]")
@click.option("--teacher", "teachers", metavar="CHECKPOINT", multiple=True, type=click.Path(path_type=Path),
              help="Learn this checkpoint's scores too; several are averaged.")  # fmt: skip
@click.option("--unlabelled", metavar="IN", multiple=True, help="Dialogues that the teacher scores for the student.")
@_setting("--folds", int, "Cross-validation folds by conversation; 0 holds out a tenth.")
@_setting("--epochs", int, "Passes over the data.")
@_setting("--learning-rate", float, "The last layer's.", default="5e-5 x (768 / hidden size)^2")
@_setting("--batch-size", int, "Dialogues a step and device.")
@_setting("--layers", int, "Keep the backbone's lowest layers only: smaller, faster, less faithful.", default="all")
@_setting("--layer-decay", float, "Factor on the learning rate from a layer to the one below.")
@_setting("--frozen-layers", int, "Lowest layers that are not trained, with the embeddings.")
@_setting("--weight-decay", float, "AdamW's.")
@_setting("--warmup", float, "Share of the steps in which the learning rate rises.")
@_setting("--max-length", int, "Tokens a dialogue, at most.")
@_setting("--judge-share", float, "Weight of the judge's label against the teacher's score of the same dialogue.")
@_setting("--patience", int, "Stop after so many epochs without a lower error.", default="train all epochs")
@_setting("--seed", int, "Of the new head, the order and the dropout.")
@_setting("--split-seed", int, "Of the deal of conversations into folds.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted training (or begin, if there is none).")
@click.option("--overwrite", is_flag=True, help="Replace a checkpoint that exists.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no closing lines.")
def train(
    inputs: tuple[str, ...],
    output: Path,
    teachers: tuple[Path, ...],
    unlabelled: tuple[str, ...],
    *,
    resume: bool,
    overwrite: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Train a scorer on a judge's labels: an encoder with two regression outputs, sensibility and rationality.

    LABELS is any labelled input: `empathy label`'s, the Efficient-Empathy release, or any form that is read with
    sensibility and rationality. Several judgements of a dialogue are averaged. CHECKPOINT is a plain Hugging Face
    folder whose logits are scores from 0 to 10; what it is worth, from held-out conversations, is in its README.md.

    Exit codes: 0 done, 2 usage, label or file error.
    """
    from distill.checkpoint import load_checkpoint  # noqa: PLC0415 - keeps `empathy --help` fast
    from distill.labelled import read_labelled  # noqa: PLC0415
    from distill.progress import TrainBar  # noqa: PLC0415
    from distill.train import train as train_core  # noqa: PLC0415

    if resume and overwrite:
        fail("--resume goes on with a training and --overwrite replaces it; give one of them")
    if resume and (output / "empathy.json").exists():
        click.echo(f"{output} is complete already; nothing was trained", err=True)
        return
    settings = TrainSettings(**{name: value for name, value in given.items() if value is not None})
    labelled = read_labelled(inputs)
    teaching = [load_checkpoint(path) for path in teachers]
    quiet = quiet or os.environ.get("RANK", "0") != "0"  # under torchrun the first process speaks
    with TrainBar(sys.stderr, show=sys.stderr.isatty() and not quiet, log=not quiet) as bar:
        checkpoint = train_core(
            labelled, settings, output, teachers=teaching, unlabelled=_dialogues(unlabelled),
            existing="resume" if resume else "overwrite" if overwrite else "error", progress=bar,
        )  # fmt: skip
    for line in [] if quiet else _train_lines(checkpoint, labelled.rejects):
        click.echo(line, err=True)


@click.command()
@click.argument("checkpoint", metavar="CHECKPOINT", type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="BUNDLE", type=click.Path(path_type=Path), required=True,
              help="The folder to write.")  # fmt: skip
@click.option("--check", metavar="IN", multiple=True,
              help="Dialogues, not trained on, on which each precision is held against the checkpoint.")  # fmt: skip
@click.option("--precision", "precisions", multiple=True, type=click.Choice(["fp32", "bf16", "fp16", "int8"]),
              help="A precision to check for scoring; fp32 always is one.  [default: all]")  # fmt: skip
@click.option("--weights", type=click.Choice(["int8", "fp32"]), default="int8", show_default=True,
              help="How to store weights; int8 a quarter of the size, if the check lets it pass.")  # fmt: skip
@click.option("--half", is_flag=True,
              help="Also store the model in half precision, for a GPU, if the gate allows it.")  # fmt: skip
@click.option("--max-flips", type=click.FloatRange(0, 1), default=0.01, show_default=True,
              help="Share of selection decisions that a precision may change.")  # fmt: skip
@click.option("--name", help="What the scorer is called.  [default: the checkpoint's folder]")
@click.option("--licence", default="not stated", show_default=True, help="Under which its users may use it.")
@click.option("-q", "--quiet", is_flag=True, help="No closing lines.")
def export(
    checkpoint: Path,
    output: Path,
    check: tuple[str, ...],
    precisions: tuple[str, ...],
    weights: str,
    max_flips: float,
    name: str | None,
    licence: str,
    *,
    half: bool,
    quiet: bool,
) -> None:
    """Export a trained CHECKPOINT to a BUNDLE that `empathy score --scorer BUNDLE` runs without torch.

    Each precision must pass a gate: on half of the --check dialogues its scores may change at most 1 % of the
    selection decisions against the checkpoint's. One that does not is refused, and scorer.json says why. Without
    --check only fp32 is allowed.

    Exit codes: 0 done, 2 usage or file error.
    """
    from distill.checkpoint import load_checkpoint  # noqa: PLC0415
    from distill.export import ExportSettings  # noqa: PLC0415
    from distill.export import export as export_core  # noqa: PLC0415
    from scorer.engine import PRECISIONS  # noqa: PLC0415

    settings = ExportSettings(
        name=name or "", licence=licence, precisions=precisions or PRECISIONS, small=weights == "int8",
        half=half, max_flips=max_flips,
    )  # fmt: skip
    bundle = export_core(load_checkpoint(checkpoint), output, _dialogues(check), settings)
    if not quiet:
        for line in _export_lines(bundle):
            click.echo(line, err=True)


@click.command()
@click.argument("inputs", metavar="LABELS...", nargs=-1, required=True)
@click.option("--scorer", "bundle", metavar="BUNDLE", type=click.Path(path_type=Path),
              help="Compare with this scorer.  [default: the starter]")  # fmt: skip
@click.option("--scores", metavar="FILE", type=click.Path(path_type=Path, exists=True),
              help="Compare with these scores: `empathy score`'s output or a checkpoint's oof.parquet.")  # fmt: skip
@click.option("--against", metavar="LABELS", multiple=True, help="Compare with these labels of the same dialogues.")
@click.option("--unseen", is_flag=True, help="Leave out the dialogues that the scorer was trained on.")
@click.option("--baselines", is_flag=True, help="Beside it: a constant and TF-IDF + ridge, cross-validated on LABELS.")
@click.option("--embeddings", metavar="ID_OR_FOLDER", help="With --baselines: ridge on this encoder's embeddings too.")
@click.option("--threshold", type=click.IntRange(1, 9), default=5, show_default=True, help="T of the selection rules.")
@click.option("--bootstrap", "draws", type=click.IntRange(min=0), default=1000, show_default=True,
              help="Replicates for the intervals; 0 leaves them out.")  # fmt: skip
@click.option("--json", "json_path", metavar="FILE", type=click.Path(path_type=Path), help="Write every figure here.")
@click.option("--pictures", metavar="DIR", type=click.Path(path_type=Path), help="Draw scatter and confusion here.")
def agree(
    inputs: tuple[str, ...],
    bundle: Path | None,
    scores: Path | None,
    against: tuple[str, ...],
    embeddings: str | None,
    threshold: int,
    draws: int,
    json_path: Path | None,
    pictures: Path | None,
    *,
    unseen: bool,
    baselines: bool,
) -> None:
    """Compare a judge's LABELS with a scorer, with a file of scores, or with other labels.

    Per head and selection rule, with 95 % intervals over conversations; beside the judge's own self-agreement where
    LABELS has dialogues that were judged twice.

    Exit codes: 0 done, 2 usage, label or file error.
    """
    from distill.labelled import read_labelled  # noqa: PLC0415
    from distill.table import table_lines  # noqa: PLC0415

    if sum(map(bool, (bundle, scores, against))) > 1:
        fail("--scorer, --scores and --against are three things to compare with; give one of them")
    labelled = read_labelled(inputs)
    if against:
        from distill.agreement import judge_against_judge  # noqa: PLC0415

        names = (", ".join(inputs), ", ".join(against))
        found = judge_against_judge(labelled, read_labelled(against), names, threshold)
    elif scores:
        from distill.agreement import judge_against_scores  # noqa: PLC0415

        found = judge_against_scores(labelled, scores, threshold)
    else:
        from distill.agreement import judge_against_scorer  # noqa: PLC0415
        from scorer.model import Scorer  # noqa: PLC0415

        found = judge_against_scorer(labelled, Scorer.load(bundle), threshold, unseen=unseen)
    found.measure(draws)
    _add_beside(found, labelled, embeddings, baselines=baselines)
    for line in table_lines(found):
        click.echo(line)
    for line in found.warnings:
        click.echo(f"empathy: warning: {line}", err=True)
    _write_agreement(found, json_path, pictures)


def _add_beside(found: Agreement, labelled: LabelledSet, embeddings: str | None, *, baselines: bool) -> None:
    """Put the judge's self-agreement and the baselines beside an agreement, and say what was left out."""
    from distill.agreement import self_agreement  # noqa: PLC0415

    if labelled.rejects:
        count = len(labelled.rejects)
        found.notes.append(f"{count} records had no dialogue or label; the first: {labelled.rejects[0]}")
    if repeated := self_agreement(labelled, found.threshold):
        found.rows[repeated[0]] = repeated[1]
    if baselines:
        from distill.baselines import baseline_figures  # noqa: PLC0415

        found.rows |= baseline_figures(labelled, embeddings, found.threshold)


def _write_agreement(found: Agreement, json_path: Path | None, pictures: Path | None) -> None:
    import json  # noqa: PLC0415

    from scorer.files import replacing, writing  # noqa: PLC0415

    if json_path:
        with writing(json_path), replacing(json_path) as file:
            file.write(json.dumps(found.to_json(), indent=1) + "\n")
    if pictures:
        from distill.pictures import draw  # noqa: PLC0415

        for path in draw(found, pictures):
            click.echo(f"drew {path}", err=True)


def _export_lines(bundle: Bundle) -> list[str]:
    size = sum(path.stat().st_size for path in bundle.path.iterdir()) / 1e6
    verdicts = dict(bundle.info["precisions"])
    if "weights" in bundle.info:
        verdicts["int8 weights"] = bundle.info["weights"]["int8"]
    lines = []
    for name, verdict in verdicts.items():
        drift = f"; scores drift by {verdict['drift_max']:.3f} at most" if "drift_max" in verdict else ""
        lines.append(f"  {name:12} {'allowed' if verdict['allowed'] else 'refused'}: {verdict['reason']}{drift}")
    lines.append(f"  {'graph':12} {bundle.info['graph']}")
    return [*lines, f"written to {bundle.path}, {size:.1f} MB, {bundle.info['precision']}"]


def _dialogues(inputs: tuple[str, ...]) -> list[Dialogue]:
    from scorer.corpus import Corpus  # noqa: PLC0415
    from scorer.dialogue import Dialogue  # noqa: PLC0415

    return [record for record in Corpus(inputs) if isinstance(record, Dialogue)] if inputs else []


def _train_lines(checkpoint: Checkpoint, rejects: Any) -> list[str]:
    from distill.card import agreement_rows  # noqa: PLC0415

    training, measured = checkpoint.info["training"], checkpoint.info["measured"]
    return [
        f"trained on {training['dialogues']} dialogues of {training['conversations']} conversations"
        + (f" and {training['unlabelled']} unlabelled ones" if training["unlabelled"] else "")
        + (f"; {len(rejects)} records had no dialogue or label (rejects.jsonl)" if rejects else ""),
        f"measured by {measured['how']}:",
        *(f"  {name:32} {value}" for name, value in agreement_rows(measured)),
        f"written to {checkpoint.path}; next: empathy export {checkpoint.path} -o BUNDLE --check IN",
    ]
