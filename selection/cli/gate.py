"""`empathy gate`: which engines and precisions this machine may use, by measurement."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorer.cli import options as opt
from scorer.cli.main import fail
from scorer.cli.streams import say
from scorer.cli.table import table_lines
from selection.settings import GateSettings

if TYPE_CHECKING:
    from scorer.bundle.bundle import Bundle
    from scorer.dialogue import Dialogue
    from scorer.engines.verdicts import Verdict
    from scorer.progress import Progress

EXIT_NONE_PASSED = 1


@opt.command(
    examples=(
        "empathy gate my-scorer --check dialogues.jsonl",
        "empathy gate model.onnx --tokenizer folder --threshold 0.5 --check texts.jsonl",
    )
)
@opt.argument("target", metavar="[BUNDLE|MODEL.onnx]", required=False, type=opt.SCORER)
@opt.option_group(
    "Check",
    opt.option(
        "--check",
        metavar="IN",
        multiple=True,
        required=True,
        help="Dialogues that BUNDLE was not trained on, at least 100; for MODEL.onnx JSON lines of texts.",
    ),
    opt.map_option,
    *opt.settings_options(GateSettings, "max_flips", "threads"),
)
@opt.option_group(
    "Any other model",
    opt.path_option("--tokenizer", "FOLDER", "Of MODEL.onnx: where its tokenizer.json lies."),
    opt.option(
        "--threshold",
        type=float,
        help="Of MODEL.onnx: an output from here on is a yes.  [default: the largest output decides]",
    ),
    *opt.settings_options(GateSettings, "max_length"),
)
@opt.option_group("Output", opt.json_option("gate"), opt.quiet_option)
def gate(
    target: Path | None,
    check: tuple[str, ...],
    fields: dict[str, str],
    tokenizer: Path | None,
    threshold: float | None,
    json_path: Path | None,
    *,
    quiet: bool,
    **given: Any,
) -> None:
    """Measure which precisions a scorer may use on this machine.

    Each engine and precision that is there scores the dialogues of --check. One may be used if it changes at most 1 %
    of the decisions against ONNX Runtime in fp32 (of a scorer: the paper rule's, threshold 5) and, below fp32, is
    faster than fp32 here. The verdicts are added to BUNDLE, with the kind of processor that they hold for: from then on
    `--engine auto` takes the fastest there. The scorer's hash stays, so runs that were begun resume.

    BUNDLE left out is the starter that is included. MODEL.onnx is any sequence classifier that takes input_ids,
    attention_mask and token_type_ids, or some of them, and gives (batch, classes). Its verdicts are printed only. Its
    --check are lines {"text": ..., "text_pair": ...}; it runs in this process, so use files that you trust.

    Exit codes: 0 a precision below fp32 passed, 1 none did, 2 usage or file error.
    """
    from scorer.bundle.bundle import add_verdicts
    from scorer.cli.progress import Bar
    from scorer.outputs import write_json
    from selection.gating.gate import any_lower_passed

    settings = GateSettings(**opt.chosen(given))
    foreign = target is not None and target.suffix == ".onnx"
    faults = {
        f"{target} needs the folder of its tokenizer.json: --tokenizer FOLDER": foreign and tokenizer is None,
        "--tokenizer, --threshold and --max-length are about a MODEL.onnx; a scorer knows its own": not foreign
        and (tokenizer, threshold, given["max_length"]) != (None, None, None),
        f"--map is about dialogues; the lines of {target} are texts": foreign and fields,
    }
    for message in [message for message, found in faults.items() if found]:
        fail(message)
    with Bar(sys.stderr, quiet=quiet) as bar:
        if target is not None and tokenizer is not None:
            rows, bundle = _of_file(target, tokenizer, check, threshold, settings, bar), None
        else:
            rows, bundle = _of_scorer(target, check, fields, settings, bar)
    if json_path is not None:
        write_json(json_path, {"gate": [row.to_json() for row in rows]})
    say(*(() if quiet else _lines(rows)))
    if bundle is not None:
        add_verdicts(bundle, [row for row in rows if row.measured])
        say(*(() if quiet else (f"added to {bundle.path}; `empathy inspect` shows it",)), err=True)
    if not any_lower_passed(rows):
        sys.exit(EXIT_NONE_PASSED)


def _of_file(
    path: Path, tokenizer: Path, check: Sequence[str], threshold: float | None, settings: GateSettings, bar: Progress
) -> list[Verdict]:
    from selection.gating.measure import measure
    from selection.gating.onnx_file import read_subject

    subject = read_subject(path, tokenizer, check, threshold=threshold, max_length=settings.max_length)
    return measure(subject, max_flips=settings.max_flips, threads=settings.threads, progress=bar)


def _of_scorer(
    target: Path | None, check: Sequence[str], fields: dict[str, str], settings: GateSettings, bar: Progress
) -> tuple[list[Verdict], Bundle]:
    from scorer.bundle.trial import open_bundle
    from scorer.engines.auto import cuda_provider_installed
    from selection.gating.gate import scorer_subject
    from selection.gating.measure import measure

    bundle = open_bundle(target)
    if not os.access(bundle.path, os.W_OK):
        fail(f"{bundle.path}: cannot be written, and verdicts are added there; copy the folder and name the copy")
    subject, gpu = scorer_subject(bundle, _dialogues(check, fields)), cuda_provider_installed()
    return measure(subject, max_flips=settings.max_flips, threads=settings.threads, gpu=gpu, progress=bar), bundle


def _dialogues(check: Sequence[str], fields: dict[str, str]) -> list[Dialogue]:
    from scorer.dialogue import Dialogue
    from scorer.inputs.corpus import Corpus

    records = list(Corpus(check, fields=fields))
    found = [record for record in records if isinstance(record, Dialogue)]
    if rejects := [record for record in records if not isinstance(record, Dialogue)]:
        said = f"--check: {len(rejects)} records are no dialogues and were left out; the first: {rejects[0]}"
        say(said, err=True)
    return found


def _lines(rows: Sequence[Verdict]) -> Iterator[str]:
    heading = ("engine", "precision", "per second", "times", "changed", "largest difference", "verdict")
    yield from table_lines([heading, *map(_cells, rows)], left=(0, 1, 6))


def _cells(row: Verdict) -> tuple[str, ...]:
    if not row.measured:
        return row.engine, row.precision, "", "", "", "", row.reason
    figures = (
        "" if row.rate is None else f"{row.rate:,.1f}",
        "" if row.gain is None else f"{row.gain:.2f}",
        "" if row.flips is None else f"{row.flips:.2%}",
        "" if row.drift_max is None else f"{row.drift_max:.4f}",
    )
    return row.engine, row.precision, *figures, f"{'passed' if row.allowed else 'refused'}: {row.reason}"
