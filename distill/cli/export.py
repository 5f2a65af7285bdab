"""`empathy export`: a checkpoint -> a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from distill.cli.train import dialogues_of

if TYPE_CHECKING:
    from scorer.bundle.bundle import Bundle


@click.command()
@click.argument("checkpoint", metavar="CHECKPOINT", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", metavar="BUNDLE", type=click.Path(path_type=Path), required=True, help="The folder to write."
)
@click.option(
    "--check",
    metavar="IN",
    multiple=True,
    help="Dialogues, not trained on, on which each precision is held against the checkpoint.",
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(["fp32", "bf16", "fp16", "int8"]),
    help="A precision to check for scoring; fp32 always is one.  [default: all]",
)
@click.option(
    "--weights",
    type=click.Choice(["int8", "fp32"]),
    default="int8",
    show_default=True,
    help="How to store weights; int8 a quarter of the size, if the check lets it pass.",
)
@click.option("--half", is_flag=True, help="Also store the model in half precision, for a GPU, if the gate allows it.")
@click.option(
    "--max-flips",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="Share of selection decisions that a precision may change.",
)
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
    from distill.exporting.export import ExportSettings
    from distill.exporting.export import export as export_core
    from distill.training.checkpoint import load_checkpoint
    from scorer.engines.names import PRECISIONS

    settings = ExportSettings(
        name=name or "",
        licence=licence,
        precisions=precisions or PRECISIONS,
        small=weights == "int8",
        half=half,
        max_flips=max_flips,
    )
    bundle = export_core(load_checkpoint(checkpoint), output, dialogues_of(check), settings)
    if not quiet:
        for line in _export_lines(bundle):
            click.echo(line, err=True)


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
