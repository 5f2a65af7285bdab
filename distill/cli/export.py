"""`empathy export`: a checkpoint -> a bundle."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from distill.cli.train import read_dialogues
from distill.errors import require_checkpoint
from distill.exporting.settings import ExportSettings
from scorer.bundle.probed import probe_verdict
from scorer.cli import options as opt
from scorer.cli.streams import say
from scorer.engines.names import PRECISIONS

if TYPE_CHECKING:
    from scorer.bundle.bundle import Bundle


@opt.command(
    examples=(
        "empathy export checkpoint -o my-scorer --check dialogues.jsonl",
        "empathy export checkpoint -o my-scorer --weights fp32 --name ours --licence Apache-2.0",
    )
)
@opt.argument("checkpoint", metavar="CHECKPOINT", type=click.Path(path_type=Path))
@opt.option_group(
    "Output",
    opt.output_option("BUNDLE", "The folder to write."),
    *opt.settings_options(ExportSettings, "name", "licence", "weights", "half"),
    opt.quiet_option,
)
@opt.option_group(
    "Check",
    opt.option(
        "--check",
        metavar="IN",
        multiple=True,
        help="Dialogues, not trained on, on which each precision is compared with the checkpoint.",
    ),
    opt.map_option,
    opt.option(
        "--precision",
        "precisions",
        multiple=True,
        type=click.Choice(PRECISIONS),
        help="A precision to check for scoring; fp32 always is one.  [default: all]",
    ),
    *opt.settings_options(ExportSettings, "max_flips", "probe"),
)
def export(
    checkpoint: Path,
    output: Path,
    check: tuple[str, ...],
    precisions: tuple[str, ...],
    fields: dict[str, str],
    *,
    quiet: bool,
    **given: Any,
) -> None:
    """Export a trained checkpoint to a scorer's folder.

    `empathy score --scorer BUNDLE` runs it without torch. Each precision must pass a gate: on the --check dialogues its
    scores may change at most 1 % of the selection decisions against the checkpoint's, and it must be faster than fp32
    on this processor. One that does not is refused, and scorer.json says why. What this processor lacks is not
    measured; `empathy gate BUNDLE --check IN` does that on another one. Without --check only fp32 is allowed.

    Last, the scorer is tried with bad replies, as `empathy probe` does, on the contexts of --check or else on the
    examples that come with the package; its card and scorer.json say what came of it.

    Exit codes: 0 done, 2 usage or file error.
    """
    require_checkpoint(checkpoint)
    settings = ExportSettings(precisions=precisions or PRECISIONS, **opt.chosen(given))
    from distill.exporting.export import export_bundle
    from distill.pretrained import quiet_transformers
    from distill.training.checkpoint import load_checkpoint
    from scorer.cli.progress import Bar

    quiet_transformers()
    dialogues = read_dialogues(check, "--check", fields)
    with Bar(sys.stderr, quiet=quiet) as bar:
        bundle = export_bundle(load_checkpoint(checkpoint), output, dialogues, settings, bar)
    say(*(() if quiet else _closing_lines(bundle)), err=True)


def _closing_lines(bundle: Bundle) -> list[str]:
    from scorer.cli.lines import verdict_line

    size = sum(path.stat().st_size for path in bundle.path.iterdir()) / 1e6
    weights = {f"{name} weights": verdict for name, verdict in bundle.info.weights.items()}
    lines = []
    for name, verdict in {**bundle.info.precisions, **weights}.items():
        drift = "" if verdict.drift_max is None else f"; scores drift by {verdict.drift_max:.3f} at most"
        lines.append(f"  {name:12} {verdict_line(verdict)}{drift}")
    lines.append(f"  {'graph':12} {bundle.info.graph}")
    if bundle.info.probe is not None:
        lines.append(f"  {'probe':12} {probe_verdict(bundle.info.probe)}; `empathy inspect {bundle.path}` shows it")
    return [*lines, f"written to {bundle.path}, {size:.1f} MB, {bundle.info.precision}"]
