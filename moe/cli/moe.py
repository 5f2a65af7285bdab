"""`empathy moe ...`: options in, one call of the core, closing lines out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moe.cli.lines import evaluation_lines, routing_lines, training_lines
from moe.cli.options import (
    PATH,
    SetsCommand,
    base_option,
    generation_options,
    is_complete,
    limit_option,
    note,
    parse_size,
    quiet_bar,
    say_complete,
    sets_option,
)
from moe.errors import ModelError
from moe.settings import CandidateSettings, ComposeSettings, ExpertSettings, GenerateSettings, RouterSettings, Schedule
from scorer.cli import options as opt
from scorer.cli.main import fail
from scorer.cli.streams import say

_WORK = "The folder to write; OUT.partial holds the work until it is whole."
_TRAINING = ("epochs", "learning_rate", "warmup", "batch_size", "accumulate", "checkpointing", "seed")
_DATA = opt.option_group("Data", *opt.settings_options(Schedule, "max_length", "held_out"))
_overwrite = opt.existing_options[1]


@opt.group(
    examples=(
        "empathy moe expert selection/sensibility.jsonl -o sensibility --base Qwen/Qwen3-0.6B",
        "empathy moe compose sensibility rationality -o mixture",
    )
)
def moe() -> None:
    """Train experts on selected sets, mix and measure them."""


@moe.command(
    examples=(
        "empathy moe expert selection/sensibility.jsonl -o sensibility --base Qwen/Qwen3-0.6B",
        "empathy moe expert selection/rationality.jsonl -o rationality --base ./llama --epochs 2 --resume",
    )
)
@opt.argument("set_path", metavar="SET", type=PATH, help="A file of `empathy select`, or any that is scored.")
@base_option()
@opt.option_group("Output", opt.output_option("OUT", _WORK), *opt.existing_options, opt.quiet_option)
@opt.option_group("Adapter", *opt.settings_options(ExpertSettings, "targets", "rank", "alpha", "dropout"))
@_DATA
@opt.option_group("Training", *opt.settings_options(ExpertSettings, *_TRAINING))
def expert(set_path: Path, output: Path, *, resume: bool, overwrite: bool, quiet: bool, **given: Any) -> None:
    """Fine-tune an expert on SET: a LoRA adapter of a base.

    The adapter is saved as peft saves it. The loss is on the responses only, dialogues rendered by the tokenizer's chat
    template. For several GPUs, run it under torchrun or accelerate launch (docs/experts.md).

    Exit codes: 0 done, 2 usage, set or model error.
    """
    existing = opt.existing_of(resume=resume, overwrite=overwrite)
    complete = resume and is_complete(output)
    settings = ExpertSettings(**opt.chosen(given))
    from distill.pretrained import hub_options

    hub_options(settings.base, ModelError)  # says at once what is not there: loading begins with seconds of imports
    from moe.training.expert import train_expert

    with quiet_bar(quiet=quiet) as bar:
        info = train_expert(set_path, output, settings, existing=existing, progress=bar)
    if complete:
        say_complete(output)
    elif info and not quiet:
        note(*training_lines(info.metrics, [info.set]), f"wrote {output}")


@moe.command(
    "compose",
    cls=SetsCommand,
    examples=(
        "empathy moe compose sensibility rationality -o mixture --sets selection/*ity.jsonl",
        "empathy moe compose tuned-warm tuned-cold -o mixture --base Qwen/Qwen2.5-0.5B-Instruct",
    ),
)
@opt.argument(
    "experts", metavar="EXPERT...", nargs=-1, required=True, type=PATH, help="Adapters, or whole fine-tuned models."
)
@opt.option_group("Input", base_option("The experts' base.  [default: the one that adapters name]", required=False))
@opt.option_group("Output", opt.output_option("MOE", "The folder to write."), _overwrite, opt.quiet_option)
@opt.option_group(
    "Mixture",
    *opt.settings_options(ComposeSettings, "router"),
    sets_option("The set of each expert, in order.", required=False),
    *opt.settings_options(ComposeSettings, "sample", "max_length", "top_k", "seed"),
    opt.option("--max-shard-size", metavar="SIZE", help="Of each output file, and the memory needed.  [default: 5GB]"),
)
def compose(
    experts: tuple[Path, ...],
    output: Path,
    base: str | None,
    sets: tuple[Path, ...],
    max_shard_size: str | None,
    *,
    overwrite: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Mix EXPERTs of one base into a standard checkpoint.

    transformers and vLLM load it without this package. Llama, Mistral and Phi-3 bases become MixtralForCausalLM, Qwen2
    and Qwen2.5 ones Qwen2MoeForCausalLM, Qwen3 ones Qwen3MoeForCausalLM. The experts' MLPs are the experts; all else is
    the base's, or, where experts changed it (--targets all, whole models), the mean of the experts'.

    Exit codes: 0 done, 2 usage or model error.
    """
    said = opt.chosen(given)
    if max_shard_size is not None:
        said["max_shard_bytes"] = parse_size(max_shard_size)
    settings = ComposeSettings(**{"router": "informed" if sets else "random", **said})
    from moe.mixture.compose import compose_mixture

    with quiet_bar(quiet=quiet) as bar:
        info = compose_mixture(experts, output, settings, base=base, sets=sets, overwrite=overwrite, progress=bar)
    for line in info.warnings:
        note(f"empathy: warning: {line}")
    if "router" not in said and not sets:
        note("the router is random (seeded): name the sets with --sets to have one that knows them")
    if not quiet:
        names = ", ".join(path.resolve().name for path in experts)
        note(
            f"mixed {names} on {info.base and info.base.name}: {info.architecture}, {settings.router} router",
            f"attention, norms and embeddings are {info.shared}",
            f"wrote {output}",
        )


@moe.command(
    "train",
    cls=SetsCommand,
    examples=(
        "empathy moe train mixture --sets selection/sensibility.jsonl selection/rationality.jsonl -o trained",
        "empathy moe train mixture --sets selection/*ity.jsonl -o trained --also-experts --learning-rate 1e-5",
    ),
)
@opt.argument("mixture", metavar="MOE", help="A folder of `empathy moe compose`, or another Mixtral or Qwen mixture.")
@opt.option_group("Input", sets_option("The sets to learn from.", required=True))
@opt.option_group("Output", opt.output_option("OUT", _WORK), *opt.existing_options, opt.quiet_option)
@_DATA
@opt.option_group("Training", *opt.settings_options(RouterSettings, "also_experts", "balance", *_TRAINING))
def train_router(
    mixture: str, output: Path, sets: tuple[Path, ...], *, resume: bool, overwrite: bool, quiet: bool, **given: Any
) -> None:
    """Train the router of a MOE on the union of the sets.

    OUT is the mixture with its new router; routing.png and moe.json say which expert each set's tokens go to, by layer,
    before and after.

    Exit codes: 0 done, 2 usage, set or model error.
    """
    existing = opt.existing_of(resume=resume, overwrite=overwrite)
    complete = resume and is_complete(output)
    settings = RouterSettings(**opt.chosen(given))
    from moe.training.router import PICTURE, train_mixture

    with quiet_bar(quiet=quiet) as bar:
        info = train_mixture(mixture, sets, output, settings, existing=existing, progress=bar)
    if complete:
        say_complete(output)
    elif info and not quiet:
        routing = info.metrics.routing
        note(
            *training_lines(info.metrics, info.sets),
            "routing weights before, mean over layers:",
            *(f"  {line}" for line in routing_lines(routing.before, info.expert_names)),
            "after:",
            *(f"  {line}" for line in routing_lines(routing.after, info.expert_names)),
            f"drawn by layer in {output / PICTURE}",
            f"wrote {output}",
        )


@moe.command(
    "generate",
    examples=(
        "empathy moe generate trained dialogues.jsonl -o responses.jsonl",
        "empathy moe generate Qwen/Qwen3-0.6B dialogues.jsonl -o candidates.jsonl --n 4 --sample",
    ),
)
@opt.argument("model", metavar="MODEL", help="Any causal checkpoint, an expert or a mixture: a folder or a hub id.")
@opt.inputs_argument()
@opt.option_group("Input", opt.map_option, limit_option)
@opt.option_group("Output", opt.output_option("OUT", "The JSON lines to write."), _overwrite, opt.quiet_option)
@opt.option_group("Candidates", *opt.settings_options(CandidateSettings))
@generation_options
def generate(
    model: str,
    inputs: tuple[str, ...],
    output: Path,
    limit: int | None,
    fields: dict[str, str],
    *,
    overwrite: bool,
    quiet: bool,
    n: int | None,
    **given: Any,
) -> None:
    """Let MODEL answer the dialogues of IN.

    Each line of OUT has the context and the response as messages, and as reference the response that IN had. With --n
    each dialogue gets several, ID#1, ID#2 ..., to score and to pair (`empathy select --rule pairs`). The same command
    resumes a killed run.

    Exit codes: 0 done, 2 usage, input or model error.
    """
    settings, candidates = GenerateSettings(**opt.chosen(given)), CandidateSettings(**opt.chosen({"n": n}))
    from itertools import islice

    from moe.evaluation.generate import generate_responses
    from scorer.inputs.corpus import Corpus

    with quiet_bar(quiet=quiet) as bar:
        bar.stage("answering", limit)
        records = islice(Corpus(inputs, fields=fields), limit)
        more: dict[str, Any] = {"candidates": candidates, "overwrite": overwrite, "progress": bar}
        found = generate_responses(model, records, output, settings, **more)
    if not quiet:
        rejected = f", rejected {found.rejected} (see {output}.rejects.jsonl)" if found.rejected else ""
        several = "" if candidates.n == 1 else f" with {candidates.n} candidates each"
        copies = f", {found.copies} repeat another one word for word" if found.copies else ""
        note(f"answered {found.responses // candidates.n}{several}{copies}{rejected}", f"wrote {output}")


@moe.command(
    "evaluate",
    examples=(
        "empathy moe evaluate base sensibility trained --data held_out.jsonl -o evaluation",
        "empathy moe evaluate plain=Qwen/Qwen3-0.6B ours=trained --data held_out.jsonl -o evaluation --limit 500",
    ),
)
@opt.argument("models", metavar="MODEL...", nargs=-1, required=True, help="A folder or hub id, or NAME=MODEL.")
@opt.option_group(
    "Input",
    opt.option("--data", metavar="IN", multiple=True, required=True, help="Held-out dialogues."),
    opt.map_option,
    limit_option,
    opt.option(
        "--scorer",
        metavar="BUNDLE",
        type=opt.SCORER,
        help="Marks the responses; use one that did not select the sets.  [default: the starter]",
    ),
)
@opt.option_group(
    "Output",
    opt.output_option("DIR", "The folder to write: evaluation.json, responses.html, each model's responses."),
    opt.json_option("models"),
    opt.quiet_option,
)
@generation_options
def evaluate(
    models: tuple[str, ...],
    data: tuple[str, ...],
    output: Path,
    scorer: Path | None,
    limit: int | None,
    fields: dict[str, str],
    json_path: Path | None,
    *,
    quiet: bool,
    **given: Any,
) -> None:
    """Measure MODELs side by side on held-out dialogues.

    Perplexity is that of the held-out responses; Dist-1/2, BLEU, ROUGE-L, length and the scorer's marks are of what the
    models answer. NAME=MODEL calls a model NAME. The same command resumes a killed run.

    Exit codes: 0 done, 2 usage, input or model error.
    """
    settings = GenerateSettings(**opt.chosen(given))
    from moe.evaluation.evaluate import evaluate_models, read_held_out
    from scorer.model import Scorer
    from scorer.outputs import write_json

    found = read_held_out(data, limit, fields)
    named = dict(_named(model) for model in models)
    if len(named) < len(models):
        fail(f"two of the models are called the same ({', '.join(named)}); say NAME=MODEL")
    with quiet_bar(quiet=quiet) as bar:
        info = evaluate_models(named, found, output, settings, Scorer.load(scorer), bar)
    say(*([] if quiet else evaluation_lines(info)))
    if json_path:
        write_json(json_path, info)
    if not quiet:
        note(f"wrote {output}")


def _named(model: str) -> tuple[str, str]:
    name, equals, path = model.partition("=")
    return (name, path) if equals else (Path(model).name, model)
