"""`empathy run`: the whole road as one command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from scorer.cli.main import fail
from selection.rules import RULES

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("inputs", metavar="IN...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="DIR", type=_PATH, required=True, help="The folder of the run.")
@click.option("--base", metavar="ID_OR_FOLDER", required=True, help="A Llama, Mistral or Qwen3 causal model.")
@click.option("--scorer", metavar="BUNDLE", type=_PATH, help="Selects.  [default: the starter]")
@click.option(
    "--marker",
    metavar="BUNDLE",
    type=_PATH,
    help="Marks the responses; best one of other training.  [default: the one that selects]",
)
@click.option("--rule", type=click.Choice(list(RULES)), help="How sets are dealt.  [default: paper]")
@click.option("--threshold", type=float, help="T of both heads.  [default: 5]")
@click.option("--sets", metavar="NAME,NAME", help="The sets that become experts.  [default: the rule's first two]")
@click.option("--held-out", type=float, help="Share of conversations kept for the evaluation.  [default: 0.1]")
@click.option("--evaluate-on", type=int, help="Held-out dialogues that the models answer.  [default: 500]")
@click.option("--targets", type=click.Choice(["mlp", "all"]), help="What an expert's adapter changes.  [default: mlp]")
@click.option("--epochs", type=int, help="Of each expert.  [default: 1]")
@click.option("--learning-rate", type=float, help="Of each expert.  [default: 0.0001]")
@click.option("--batch-size", type=int, help="Of every training.  [default: 8]")
@click.option("--max-length", type=int, help="Tokens a dialogue, everywhere.  [default: 512]")
@click.option("--router", type=click.Choice(["informed", "random"]), help="How routing begins.  [default: informed]")
@click.option("--router-learning-rate", type=float, help="Of the router's training.  [default: 0.001]")
@click.option("--top-k", type=int, help="Experts a token.  [default: 2]")
@click.option("--max-new-tokens", type=int, help="Of a response.  [default: 128]")
@click.option("--seed", type=int, help="Of everything.  [default: 0]")
@click.option("-q", "--quiet", is_flag=True, help="No lines on the stages; the table only.")
def run(
    inputs: tuple[str, ...], output: Path, scorer: Path | None, marker: Path | None, *, quiet: bool, **given: Any
) -> None:
    """Go from the dialogues of IN to a measured mixture: score, select, train experts, compose, train, evaluate.

    DIR holds every stage's output and state.json. The same command again goes on where it was interrupted, and does
    anew only the stages whose inputs or settings changed.

    Exit codes: 0 done, 2 usage, input or model error.
    """
    settings = _settings(**given)
    from moe.cli.options import hush
    from moe.evaluation.evaluate import table_lines
    from moe.pipeline import Pipeline
    from scorer.model import Scorer

    hush()
    selecting = Scorer.load(scorer)

    def report(stage: str, what: str) -> None:
        if not quiet:
            click.echo(f"{stage}: {what}", err=True)

    found = Pipeline(
        inputs, output, settings, selecting, selecting if marker is None else Scorer.load(marker), report
    ).run()
    for line in table_lines(found):
        click.echo(line)
    if not quiet:
        click.echo(f"wrote {output}; side by side: {output / 'evaluation' / 'responses.html'}", err=True)


def _settings(**given: Any) -> Any:
    """Return the settings of all stages that the options say; the records' own defaults where they say nothing."""
    from moe.pipeline import RunSettings
    from moe.settings import ComposeSettings, ExpertSettings, GenerateSettings, RouterSettings
    from selection.deciding.settings import SelectSettings

    def some(*names: str, **renamed: str) -> dict[str, Any]:
        wanted = {**dict(zip(names, names, strict=True)), **renamed}
        return {field: given[option] for field, option in wanted.items() if given[option] is not None}

    threshold = given["threshold"]
    chosen = some("rule") | ({} if threshold is None else {"threshold": (threshold, threshold)})
    sets = None if given["sets"] is None else tuple(name.strip() for name in given["sets"].split(","))
    if sets is not None and not all(sets):
        fail(f"--sets is {given['sets']!r}, expected names with a comma between them")
    return RunSettings(
        expert=ExpertSettings(
            base=given["base"], **some("targets", "epochs", "learning_rate", "batch_size", "max_length", "seed")
        ),
        select=SelectSettings(**chosen),
        compose=ComposeSettings(**{"router": "informed", **some("router", "top_k", "max_length", "seed")}),
        router=RouterSettings(**some("batch_size", "max_length", "seed", learning_rate="router_learning_rate")),
        generate=GenerateSettings(**some("max_new_tokens", "max_length", "batch_size", "seed")),
        sets=sets,
        **some("held_out", "evaluate_on"),
    )
