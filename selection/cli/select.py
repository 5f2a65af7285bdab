"""`empathy select`: options in, one call of the core, closing lines out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scorer.cli.main import fail
from selection.deciding.ranking import BY
from selection.deciding.settings import FORMATS, NAMES, SelectSettings

if TYPE_CHECKING:
    from scorer.run.score_table import ScoreTable
    from selection.files.labels import LabelTable
    from selection.select import Selection


@click.command()
@click.argument("inputs", metavar="IN...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(path_type=Path),
    required=True,
    help="The folder to write: a file a set, selection.parquet, selection.json.",
)
@click.option(
    "--scores",
    metavar="SCORES",
    type=click.Path(path_type=Path),
    help="`empathy score`'s output for IN.  [default: the labels in IN]",
)
@click.option(
    "--rule",
    type=click.Choice(NAMES),
    default="paper",
    show_default=True,
    help="paper and release deal by the thresholds; the others take the best by rank.",
)
@click.option("--threshold", type=float, help="T of both heads, 1 to 9 on the judge's scale.  [default: 5]")
@click.option("--threshold-sensibility", type=float, help="T of sensibility alone.")
@click.option("--threshold-rationality", type=float, help="T of rationality alone.")
@click.option(
    "--target-share", type=float, metavar="SHARE", help="Choose T so that the sensibility set has this share."
)
@click.option(
    "--match",
    "match_labels",
    metavar="LABELS",
    multiple=True,
    help="Choose T so that the sensibility set is nearest to the judge's in these labels (F1).",
)
@click.option("--match-per-head", is_flag=True, help="With --match: a threshold a head.")
@click.option(
    "--by",
    type=click.Choice(BY),
    default="margin",
    show_default=True,
    help="What a rank goes by; margin is how deep inside the sensibility set.",
)
@click.option("--share", type=float, help="Take at most this share of the dialogues, the best.")
@click.option("--count", type=int, help="Take at most so many dialogues, the best.")
@click.option("--tokens", type=int, help="Take at most so many tokens, the best dialogues first.")
@click.option(
    "--tokenizer",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="tokenizer.json that counts --tokens.  [default: the scorer's]",
)
@click.option("--floor", type=int, help="Take at least so many dialogues a category.")
@click.option("--cap", type=int, help="Take at most so many dialogues a category.")
@click.option(
    "--whole-conversations",
    is_flag=True,
    help="Keep the dialogues of a conversation together; their mean scores decide.",
)
@click.option(
    "--labels",
    metavar="LABELS",
    multiple=True,
    help="A judge's labels of some of IN: they decide in place of the scores.",
)
@click.option(
    "--borderline",
    "doubt",
    type=float,
    help="Chance of another decision by the judge from which one is borderline.  [default: 0.4]",
)
@click.option(
    "--abstain",
    type=float,
    metavar="N",
    help="Write the N (below 1: that share) most doubtful to abstain.jsonl, for the judge.",
)
@click.option(
    "--format",
    "layout",
    type=click.Choice(FORMATS),
    default="openai",
    show_default=True,
    help="How dialogues are written.",
)
@click.option(
    "--scorer",
    metavar="BUNDLE",
    type=click.Path(path_type=Path),
    help="The scorer of SCORES, where the file does not say its cuts.",
)
@click.option("--raw-cuts", is_flag=True, help="Read the scores as a judge's, without the scorer's cuts.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier selection.")
@click.option("--strict", is_flag=True, help="Stop at the first record that is rejected, with exit code 2.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no closing lines.")
def select(
    inputs: tuple[str, ...],
    output: Path,
    scores: Path | None,
    labels: tuple[str, ...],
    match_labels: tuple[str, ...],
    tokenizer: Path | None,
    scorer: Path | None,
    *,
    match_per_head: bool,
    target_share: float | None,
    raw_cuts: bool,
    overwrite: bool,
    strict: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Deal the dialogues of IN into training sets by their scores.

    DIR gets a file a set (by the paper's rule sensibility.jsonl: S > T and R < T, discard.jsonl: S < T and R > T,
    rationality.jsonl: the rest), selection.parquet with each dialogue's set and the reason, and selection.json with
    the rule, its thresholds, all counts and where everything came from. Scores are read by their scorer's cuts, so
    that a threshold is one of the judge's scale. A dialogue without a score goes to rejects.jsonl.

    Exit codes: 0 done, 2 usage or file error, or nothing to select.
    """
    from scorer.inputs.corpus import Corpus
    from scorer.run.score_table import read_scores
    from selection.files.folder import check_output
    from selection.files.labels import read_labels
    from selection.select import Aim
    from selection.select import select as select_core

    if scores is None and (scorer or raw_cuts or labels or match_labels):
        fail("--scorer, --raw-cuts, --labels and --match are about SCORES; name a file with --scores")
    if target_share is not None and match_labels:
        fail("--target-share and --match both choose the threshold; give one of them")
    if target_share is not None and any(given[name] is not None for name in _THRESHOLDS):
        fail("--target-share chooses the threshold and --threshold gives it; leave one of them out")
    settings = _settings(**given)
    check_output(output, overwrite=overwrite)
    corpus = Corpus(inputs, labels="required", unique_ids=False) if scores is None else Corpus(inputs)
    table = None if scores is None else read_scores(scores, scorer=scorer, raw_cuts=raw_cuts)
    if settings.abstain and (table is None or table.error is None):
        fail("--abstain needs to know the scorer's error, and nothing says it; score with a scorer that has one")
    matched: LabelTable | None = read_labels(match_labels, strict=strict) if match_labels else None
    with _Bar(corpus, show=sys.stderr.isatty() and not quiet) as report:
        found = select_core(
            corpus,
            output,
            settings,
            table=table,
            labels=read_labels(labels, strict=strict) if labels else None,
            aim=Aim(share=target_share, labels=matched, labels_name=", ".join(match_labels), one=not match_per_head),
            tokenizer=_tokenizer(tokenizer, scorer, table) if settings.limits.tokens is not None else None,
            overwrite=overwrite,
            strict=strict,
            report=report,
        )
    for line in [] if quiet else select_lines(found):
        click.echo(line, err=True)


_THRESHOLDS = ("threshold", "threshold_sensibility", "threshold_rationality")


def _settings(**given: Any) -> SelectSettings:
    """Return the settings that the options say; the records' own defaults where they say nothing."""
    from selection.deciding.ranking import Limits

    both, *heads = (given[name] for name in _THRESHOLDS)
    if both is not None and any(head is not None for head in heads):
        fail("--threshold is for both heads; leave it out where you give one a head")
    default = SelectSettings()
    sensibility, rationality = (
        head if head is not None else both if both is not None else standard
        for head, standard in zip(heads, default.threshold, strict=True)
    )
    names = ("share", "count", "tokens", "floor", "cap")
    return SelectSettings(
        rule=given["rule"],
        threshold=(sensibility, rationality),
        by=given["by"],
        limits=Limits(**{name: given[name] for name in names}),
        whole_conversations=given["whole_conversations"],
        doubt=default.doubt if given["doubt"] is None else given["doubt"],
        abstain=default.abstain if given["abstain"] is None else given["abstain"],
        format=given["layout"],
    )


def _tokenizer(path: Path | None, scorer: Path | None, table: ScoreTable | None) -> Any:
    """Return what counts tokens: a tokenizer.json, or that of the scorer; it neither cuts nor pads."""
    from tokenizers import Tokenizer

    from scorer.bundle.bundle import load_bundle

    if path is None:
        bundle = load_bundle(scorer)
        said = {} if table is None else table.scorer
        if said.get("sha256", bundle.sha256) != bundle.sha256:
            fail(
                f"--tokens would be counted by {bundle.name}, not by the scorer of SCORES; name a file with --tokenizer"
            )
        found = bundle.tokenizer
    else:
        try:
            found = Tokenizer.from_file(str(path))
        except Exception as error:
            if type(error) is not Exception:  # the library raises nothing more precise; this is another's
                raise
            fail(f"{path}: cannot be read as a tokenizer.json: {error}")
    found.no_truncation()
    found.no_padding()
    return found


class _Bar:
    """A progress bar over the bytes of the input; nothing where ``show`` is False."""

    def __init__(self, corpus: Any, *, show: bool) -> None:
        from tqdm import tqdm

        self._corpus = corpus
        self._bar = tqdm(
            desc="selecting",
            total=corpus.total_bytes,
            unit="B",
            unit_scale=True,
            file=sys.stderr,
            disable=not show,
            leave=False,
            mininterval=0.2,
        )

    def __call__(self, records: int) -> None:
        self._bar.update(self._corpus.bytes_read - self._bar.n)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def select_lines(selection: Selection) -> Iterator[str]:
    """Yield what a selection came to, a line a fact."""
    info = selection.info
    rule, count = info["rule"], info["dialogues"]
    (head_s, at_s), (head_r, at_r) = rule["threshold"].items()
    at = f"T = {at_s:g}" if at_s == at_r else f"T = {at_s:g} ({head_s}), {at_r:g} ({head_r})"
    yield f"selected from {count:,} dialogues by the rule {rule['name']}, {at}"
    how = rule["how"]
    if how["by"] == "match":
        low, high = how["f1_interval_95"]
        yield (
            f"  chosen to match {how['labels']}: F1 {how['f1_cross_validated']:.3f} ({low:.3f} to {high:.3f}), "
            f"cross-validated on {how['dialogues']:,} dialogues"
        )
    elif how["by"] == "target share":
        yield f"  chosen for a share of {how['share']:.1%}"
    for name, entry in info["sets"].items():
        yield f"  {name:12} {entry['count']:>10,}  {entry['share']:6.1%}  {entry['borderline']:,} borderline"
    if stability := info["stability"]:
        first = next(iter(info["sets"]))
        low, high = stability["jaccard_interval_90"][first]
        index = "" if low is None else f" (Jaccard index of the {first} set {low:.2f} to {high:.2f})"
        moved = f"{stability['moved']:.1%}"
        yield f"the judge would move some {moved} of them to another set, by the scorer's own error{index}"
    if given := info["labels"]:
        wrong = ", ".join(f"{reason} {number:,}" for reason, number in given["rejected"].items())
        yield (
            f"{given['used']:,} of {given['count']:,} labels decided, the others are of no dialogue of the input"
            + (f"; rejected labels: {wrong}" if wrong else "")
        )
    if info["scores_without_dialogue"]:
        yield f"{info['scores_without_dialogue']:,} scores belong to no dialogue of the input"
    rejected = info["rejected"]
    reasons = ", ".join(f"{reason} {number:,}" for reason, number in rejected["reasons"].items())
    yield f"rejected: {rejected['count']:,}" + (
        f" ({reasons}), see {selection.path / 'rejects.jsonl'}" if reasons else ""
    )
    yield f"wrote {selection.path}"
