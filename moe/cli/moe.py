"""`empathy moe ...` and `empathy run`: options in, one call of the core, closing lines out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from moe.cli.options import (
    PATH,
    SetsCommand,
    complete_already,
    existing_of,
    generation,
    given_only,
    hush,
    output_option,
    parse_size,
    say,
    schedule,
    setting,
    training_bar,
)
from moe.settings import ComposeSettings, ExpertSettings, GenerateSettings, RouterSettings
from scorer.cli.main import fail

_EXPERT = ExpertSettings(base="")
_ROUTER = RouterSettings()
_COMPOSE = ComposeSettings()


@click.group()
def moe() -> None:
    """Train experts on selected sets, mix them, let them answer and measure them."""


@moe.command()
@click.argument("set_path", metavar="SET", type=PATH)
@output_option("The folder to write; OUT.partial holds the work until it is whole.", "EXPERT")
@click.option("--base", metavar="ID_OR_FOLDER", required=True, help="A Llama, Mistral or Qwen3 causal model.")
@click.option(
    "--targets",
    type=click.Choice(["mlp", "all"]),
    default="mlp",
    show_default=True,
    help="What the adapter changes; with mlp a mixture holds each expert exactly.",
)
@setting(_EXPERT, "--rank", int, "r of LoRA.")
@setting(_EXPERT, "--alpha", int, "The adapter is scaled by alpha / r.")
@setting(_EXPERT, "--dropout", float, "Before the adapter, in training.")
@schedule(_EXPERT)
def expert(set_path: Path, output: Path, *, resume: bool, overwrite: bool, quiet: bool, **given: Any) -> None:
    """Fine-tune an expert on SET, a file of `empathy select`: a LoRA adapter of a base, as peft saves it.

    The loss is on the responses only, dialogues rendered by the tokenizer's chat template. Several GPUs: run it under
    torchrun or accelerate launch (docs/experts.md).

    Exit codes: 0 done, 2 usage, set or model error.
    """
    existing = existing_of(resume=resume, overwrite=overwrite)
    if resume and complete_already(output):
        return
    settings = ExpertSettings(**given_only(given))
    from moe.training.expert import train_expert

    with training_bar(quiet=quiet) as bar:
        info = train_expert(set_path, output, settings, existing=existing, progress=bar)
    if info and not quiet:
        say(*_training_lines(info, [info["set"]]), f"wrote {output}")


_sets = click.option("--sets", metavar="SET...", multiple=True, type=PATH, help="The set of each expert, in order.")


@moe.command(cls=SetsCommand)
@click.argument("experts", metavar="EXPERT...", nargs=-1, required=True, type=PATH)
@output_option("The folder to write.", "MOE")
@click.option("--base", metavar="ID_OR_FOLDER", help="The experts' base.  [default: the one they name]")
@click.option(
    "--router",
    type=click.Choice(["informed", "random"]),
    help="How routing begins.  [default: informed with --sets, else random]",
)
@_sets
@setting(_COMPOSE, "--top-k", int, "Experts a token.")
@click.option(
    "--max-shard-size",
    metavar="SIZE",
    default="5GB",
    show_default=True,
    help="Of each output file, and so of the memory needed.",
)
@setting(_COMPOSE, "--sample", int, "Dialogues of each set that an informed router is made from.")
@setting(_COMPOSE, "--max-length", int, "Tokens of these, at most.")
@setting(_COMPOSE, "--seed", int, "Of a random router, and of the sample.")
@click.option("--overwrite", is_flag=True, help="Replace an output that exists.")
@click.option("-q", "--quiet", is_flag=True, help="No closing lines; warnings and errors only.")
def compose(
    experts: tuple[Path, ...],
    output: Path,
    base: str | None,
    router: str | None,
    sets: tuple[Path, ...],
    max_shard_size: str,
    *,
    overwrite: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Mix EXPERTs of one base: a standard checkpoint that transformers and vLLM load without this package.

    Llama and Mistral bases become MixtralForCausalLM, Qwen3 ones Qwen3MoeForCausalLM. The experts' MLPs are the
    experts; all else is the base's, or with --targets all the mean of the experts'.

    Exit codes: 0 done, 2 usage or model error.
    """
    settings = ComposeSettings(
        router=router or ("informed" if sets else "random"),  # type: ignore[arg-type]
        max_shard_bytes=parse_size(max_shard_size),
        **given_only(given),
    )
    from moe.mixture.compose import compose as compose_core

    hush()
    info = compose_core(experts, output, settings, base=base, sets=sets, overwrite=overwrite)
    for line in info["warnings"]:
        click.echo(f"empathy: warning: {line}", err=True)
    if router is None and not sets:
        say("the router is random (seeded): name the sets with --sets to have one that knows them")
    if not quiet:
        names = ", ".join(entry["name"] for entry in info["experts"])
        say(
            f"mixed {names} on {info['base']['name']}: {info['architecture']}, {settings.router} router",
            f"attention, norms and embeddings are {info['shared']}",
            f"wrote {output}",
        )


@moe.command(cls=SetsCommand)
@click.argument("mixture", metavar="MOE")
@output_option("The folder to write; OUT.partial holds the work until it is whole.", "OUT")
@click.option("--sets", metavar="SET...", multiple=True, required=True, type=PATH, help="The sets to learn from.")
@setting(_ROUTER, "--balance", float, "Coefficient of the load-balancing loss.")
@click.option("--also-experts", is_flag=True, help="Train the experts too, not the router alone.")
@schedule(_ROUTER)
def train(
    mixture: str, output: Path, sets: tuple[Path, ...], *, resume: bool, overwrite: bool, quiet: bool, **given: Any
) -> None:
    """Train the router of a MOE on the union of the sets.

    OUT is the mixture anew; routing.png and moe.json say which expert each set's tokens go to, by layer, before and
    after.

    Exit codes: 0 done, 2 usage, set or model error.
    """
    existing = existing_of(resume=resume, overwrite=overwrite)
    if resume and complete_already(output):
        return
    settings = RouterSettings(**given_only(given))
    from moe.training.router import routing_lines, train_mixture

    with training_bar(quiet=quiet) as bar:
        info = train_mixture(mixture, sets, output, settings, existing=existing, progress=bar)
    if info and not quiet:
        routing = info["metrics"]["routing"]
        say(
            *_training_lines(info, info["sets"]),
            "routing weights before, mean over layers:",
            *(f"  {line}" for line in routing_lines(routing["before"], info["expert_names"])),
            "after:",
            *(f"  {line}" for line in routing_lines(routing["after"], info["expert_names"])),
            f"drawn by layer in {output / 'routing.png'}",
            f"wrote {output}",
        )


@moe.command()
@click.argument("model", metavar="MODEL")
@click.argument("inputs", metavar="IN...", nargs=-1, required=True)
@output_option("The JSON lines to write.", "OUT")
@generation
@click.option("--overwrite", is_flag=True, help="Replace an output that exists.")
@click.option("-q", "--quiet", is_flag=True, help="No closing lines.")
def generate(
    model: str, inputs: tuple[str, ...], output: Path, limit: int | None, *, overwrite: bool, quiet: bool, **given: Any
) -> None:
    """Let MODEL answer the dialogues of IN: any causal checkpoint, an expert, a mixture.

    Each line of OUT has the context and the response as messages, and as reference the response that IN had. A killed
    run goes on where it was when the same command is given again.

    Exit codes: 0 done, 2 usage, input or model error.
    """
    settings = GenerateSettings(**given_only(given))
    from itertools import islice

    from moe.evaluation.generate import generate as generate_core
    from scorer.inputs.corpus import Corpus

    hush()
    counts = generate_core(model, islice(Corpus(inputs), limit), output, settings, overwrite=overwrite)
    if not quiet:
        rejected = f", rejected {counts['rejected']} (see {output}.rejects.jsonl)" if counts["rejected"] else ""
        say(f"answered {counts['responses']}{rejected}", f"wrote {output}")


@moe.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--data", metavar="IN", multiple=True, required=True, help="Held-out dialogues.")
@output_option("The folder to write: evaluation.json, responses.html, each model's responses.", "DIR")
@click.option(
    "--scorer",
    metavar="BUNDLE",
    type=PATH,
    help="Marks the responses; best one that did not select.  [default: the starter]",
)
@generation
@click.option("--json", "json_path", metavar="FILE", type=PATH, help="Write every figure here too.")
@click.option("-q", "--quiet", is_flag=True, help="No table.")
def evaluate(
    models: tuple[str, ...],
    data: tuple[str, ...],
    output: Path,
    scorer: Path | None,
    limit: int | None,
    json_path: Path | None,
    *,
    quiet: bool,
    **given: Any,
) -> None:
    """Measure MODELs beside each other: perplexity, Dist-1/2, BLEU, ROUGE-L, length, and the scorer's marks.

    MODEL is a folder or hub id, or NAME=MODEL to call it NAME. Perplexity is that of the held-out responses; the rest
    is of what the models answer. A killed run goes on where it was when the same command is given again.

    Exit codes: 0 done, 2 usage, input or model error.
    """
    settings = GenerateSettings(**given_only(given))
    from moe.evaluation.evaluate import evaluate as evaluate_core
    from moe.evaluation.evaluate import read_held_out, table_lines
    from scorer.model import Scorer
    from scorer.outputs import replacing, writing

    hush()
    found = read_held_out(data, limit)
    named = dict(_named(model) for model in models)
    if len(named) < len(models):
        fail(f"two of the models are called the same ({', '.join(named)}); say NAME=MODEL")
    info = evaluate_core(named, found, output, settings, Scorer.load(scorer))
    for line in [] if quiet else table_lines(info):
        click.echo(line)
    if json_path:
        with writing(json_path), replacing(json_path) as file:
            file.write(json.dumps(info, indent=1) + "\n")
    if not quiet:
        say(f"wrote {output}")


def _named(model: str) -> tuple[str, str]:
    name, equals, path = model.partition("=")
    return (name, path) if equals else (Path(model).name, model)


def _training_lines(info: dict[str, Any], sets: Sequence[dict[str, Any]]) -> list[str]:
    lines = []
    for entry in sets:
        dropped = ", ".join(f"{reason} {count}" for reason, count in entry["dropped"].items())
        lines.append(
            f"{entry['file']}: {entry['examples']} dialogues"
            + (f", dropped {dropped}" if dropped else "")
            + (
                f", {entry['cut']['turns']} oldest turns cut from {entry['cut']['dialogues']}"
                if entry["cut"]["turns"]
                else ""
            )
        )
    metrics = info["metrics"]
    held_out = metrics["held_out_loss"]
    return [
        *lines,
        f"{metrics['steps']} steps, training loss {metrics['training_loss'][-1]}"
        + (f", held-out loss {held_out[-1]}" if held_out else ""),
    ]
