"""Does it help to train on selected sets and to mix the experts? On a real base, or a small Llama from scratch.

    python -m benchmarks.moe LABELS --base FOLDER --scorer starter -o WORK
    python -m benchmarks.moe LABELS --unlabelled IN... --checkpoint CHECKPOINT -o WORK

LABELS is the published release with the judge's scores. Each seed has conversations of its own, a fifth of which is
held out; the judge's labels assign the rest to sets by the paper's rule. With --base every variant is a LoRA of that
model; without, a Llama of about 5 M parameters is pretrained on the unlabelled dialogues first. Variants are fine-tuned
and composed with the functions behind `empathy moe`, and all of a seed are measured on the same held-out dialogues:
perplexity, and what their greedy responses are worth.

Responses are marked by a scorer that took no part in the selection. CHECKPOINT is one of `empathy train --folds K`: the
scorer of a seed's fold never saw its dialogues. A bundle, as the starter, may have: the output says of how many.

Each point is written to WORK/points.jsonl as soon as it is known, and the same command continues after the last one.
WORK/seedN/responses.html shows the responses of a seed side by side.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import click

from benchmarks.about import check_same, machine, versions
from benchmarks.moe.figures import lines, read_points, summary
from benchmarks.moe.marking import BundleScorer, FoldScorers, Marker
from benchmarks.moe.plan import Plan, lora_plan, scratch_plan, with_options
from benchmarks.moe.seed import Seed, respelt
from distill.labelled import LabelledSet, read_labelled
from distill.pretrained import quiet_transformers
from distill.training.network import has_bf16
from moe.models import model_hash
from scorer.dialogue import Dialogue
from scorer.inputs.corpus import Corpus


@click.command()
@click.argument("labels", nargs=-1, required=True)
@click.option("--base", type=click.Path(exists=True, path_type=Path), help="A causal model to train LoRAs of.")
@click.option("--unlabelled", multiple=True, help="Without --base: dialogues to pretrain the small model on.")
@click.option("--checkpoint", type=click.Path(exists=True, path_type=Path), help="From `empathy train --folds K`.")
@click.option("--scorer", help="Instead of --checkpoint: a bundle, or starter.")
@click.option("-o", "--work", type=click.Path(path_type=Path), required=True)
@click.option("--seeds", default="0,1,2", show_default=True, help="Each is a part of the conversations.")
@click.option("--variant", "variants", multiple=True, help="Only these, by their names in the table.  [default: all]")
@click.option("--limit", type=click.IntRange(1), help="Dialogues to train on per seed, at most.")
@click.option("--held-out", type=click.IntRange(1), help="Held-out dialogues per seed, at most.")
@click.option("--threshold", type=click.FloatRange(1, 9), default=5.0, show_default=True, help="T of the paper's rule.")
@click.option("--both-low", type=click.Choice(["keep", "discard"]), default="keep", show_default=True)
@click.option("--equal-steps", is_flag=True, help="Repeat each set until it has as many dialogues as all data.")
@click.option("--learning-rate", type=float, help="Of the experts.  [default: 3e-4, from scratch 2e-3]")
@click.option("--epochs", type=int, help="Of the experts.  [default: 1, from scratch 2]")
@click.option("--max-length", type=int, help="Tokens per dialogue.  [default: 128, from scratch 192]")
@click.option("--max-new-tokens", type=int, help="Tokens per response.  [default: 40]")
@click.option("--report-only", is_flag=True, help="Make nothing: show the points that exist.")
@click.option("--json", "json_path", type=click.Path(path_type=Path))
def main(
    labels: tuple[str, ...],
    base: Path | None,
    unlabelled: tuple[str, ...],
    checkpoint: Path | None,
    scorer: str | None,
    work: Path,
    seeds: str,
    variants: tuple[str, ...],
    json_path: Path | None,
    *,
    report_only: bool,
    **options: Any,
) -> None:
    """Measure every variant, print the tables, and write every figure with ``--json``."""
    if (base is None) == (not unlabelled):
        raise click.UsageError("expected either --base or --unlabelled")
    if (checkpoint is None) == (scorer is None):
        raise click.UsageError("expected either --checkpoint or --scorer")
    quiet_transformers()
    if not report_only:
        plan = plan_of(base, **options)
        if unknown := set(variants) - set(plan.variants):
            raise click.UsageError(f"no variant {min(unknown)!r}, expected of {', '.join(map(repr, plan.variants))}")
        marker: Marker = FoldScorers(checkpoint) if checkpoint else BundleScorer(scorer or "")
        labelled = read_labelled(labels)
        work.mkdir(parents=True, exist_ok=True)
        check_same(work, identity(plan, labelled, marker, base))
        texts = [respelt(record) for record in Corpus(unlabelled) if isinstance(record, Dialogue)] if unlabelled else []
        for seed in map(int, seeds.split(",")):
            Seed(seed, work / f"seed{seed}", labelled, marker, plan, texts).run(work / "points.jsonl", variants)
    report = summary(read_points(work / "points.jsonl"))
    report |= {"machine": machine() | {"bf16": has_bf16()}, "versions": versions("torch", "transformers", "peft")}
    report |= {"run": json.loads((work / "run.json").read_text())}
    for line in lines(report):
        print(line)
    if json_path:
        json_path.write_text(json.dumps(report, indent=1) + "\n")


def plan_of(
    base: Path | None,
    *,
    limit: int | None,
    held_out: int | None,
    threshold: float,
    both_low: Any,
    equal_steps: bool,
    **training: Any,
) -> Plan:
    """Return what the options ask for."""
    plan = replace(
        lora_plan(str(base)) if base else scratch_plan(),
        limit=limit,
        most_held_out=held_out,
        threshold=threshold,
        both_low=both_low,
        equal_steps=equal_steps,
    )
    return with_options(plan, **training)


def identity(plan: Plan, labelled: LabelledSet, marker: Marker, base: Path | None) -> dict[str, Any]:
    """Return what must be the same for points to be continued."""
    known = sha256(json.dumps([labelled.hashes, labelled.scores.tolist()]).encode()).hexdigest()
    asked = asdict(replace(plan, expert=replace(plan.expert, base="")))
    return {"labels": known, "scorer": marker.sha256, "base": model_hash(str(base)) if base else None, "plan": asked}


if __name__ == "__main__":
    main()
