"""`empathy select`: options in, one call of the core, closing lines out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorer.cli import options as opt
from scorer.cli.main import fail
from scorer.cli.streams import say
from selection.settings import Limits, PairSettings, SelectSettings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from scorer.inputs.parse import LabelUse
    from scorer.run.score_table import ScoreTable
    from selection.files.manifest import SelectionInfo, Thresholds
    from selection.select import Selection

_LIMITS = ("share", "count", "tokens", "floor", "cap")
_PAIRING = ("margin", "pairs", "file")


@opt.command(
    examples=(
        "empathy select dialogues.jsonl --scores scores.parquet -o sets",
        "empathy select dialogues.jsonl --scores scores.parquet -o best --rule top-k --count 1000",
        "empathy select candidates.jsonl --scores scores.parquet -o pairs --rule pairs --margin 1",
    )
)
@opt.inputs_argument()
@opt.option_group("Input", opt.map_option)
@opt.option_group(
    "Scores",
    opt.path_option("--scores", "SCORES", "`empathy score`'s output for IN.  [default: the labels in IN]"),
    opt.option(
        "--labels", metavar="LABELS", multiple=True, help="A judge's labels of some of IN; they replace scores."
    ),
    opt.option(
        "--scorer",
        metavar="BUNDLE",
        type=opt.SCORER,
        help="The scorer of SCORES, where the file does not say its cuts.",
    ),
    opt.option("--raw-cuts", is_flag=True, help="Read the scores as a judge's, without the scorer's cuts."),
)
@opt.option_group(
    "Rule",
    *opt.settings_options(SelectSettings, "rule"),
    opt.option("--threshold", type=float, help="T of both heads, 1 to 9 on the judge's scale.  [default: 5]"),
    opt.option("--threshold-sensibility", type=float, help="T of sensibility alone."),
    opt.option("--threshold-rationality", type=float, help="T of rationality alone."),
    opt.option("--target-share", metavar="SHARE", type=float, help="Choose T so that the first set has this share."),
    opt.option(
        "--match", metavar="LABELS", multiple=True, help="Choose T to match the first set of these labels (F1)."
    ),
    opt.option("--match-per-head", is_flag=True, help="With --match: one threshold per head."),
    *opt.settings_options(SelectSettings, "both_low", "whole_conversations"),
)
@opt.option_group(
    "Limits",
    *opt.settings_options(SelectSettings, "by"),
    *opt.settings_options(Limits, *_LIMITS),
    opt.path_option("--tokenizer", "FILE", "tokenizer.json that counts --tokens.  [default: the scorer's]"),
)
@opt.option_group("Pairs", *opt.settings_options(PairSettings, *_PAIRING, file="--pairs-file"))
@opt.option_group(
    "Output",
    opt.output_option("DIR", "The folder to write: one file per set, selection.parquet, selection.json."),
    *opt.settings_options(SelectSettings, "format", "doubt", "abstain", doubt="--borderline"),
    opt.option("--overwrite", is_flag=True, help="Replace an earlier selection."),
    opt.option("--strict", is_flag=True, help="Stop at the first record that is rejected, with exit code 2."),
    opt.quiet_option,
)
def select(
    inputs: tuple[str, ...],
    output: Path,
    scores: Path | None,
    labels: tuple[str, ...],
    match: tuple[str, ...],
    tokenizer: Path | None,
    scorer: Path | None,
    fields: dict[str, str],
    *,
    match_per_head: bool,
    target_share: float | None,
    raw_cuts: bool,
    overwrite: bool,
    strict: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Assign the dialogues of IN to training sets by their scores.

    DIR gets one file per set: by the paper's rule sensibility.jsonl (S > T and R < T), discard.jsonl (S < T and R > T)
    and rationality.jsonl (the rest). A dialogue that scores low on both therefore lands in the rationality set; with
    --both-low discard it is discarded.
    selection.parquet has each dialogue's set and the reason, selection.json the rule, its thresholds, all counts and
    where everything came from. Thresholds are on the judge's scale; the scorer's cuts lead to it. A dialogue without
    a score goes to rejects.jsonl.

    With --rule pairs DIR gets pairs.jsonl, of several responses to one context a chosen and a rejected one, as TRL's
    trainers read them. Each dialogue that is in no pair has a reason too.

    Exit codes: 0 done, 2 usage or file error, or nothing to select.
    """
    from scorer.cli.progress import Bar
    from scorer.inputs.corpus import Corpus
    from scorer.run.score_table import read_scores
    from selection.files.labels import read_labels
    from selection.files.manifest import check_selection_folder
    from selection.select import Aim, select_sets

    if scores is None and (scorer or raw_cuts or labels or match):
        fail("--scorer, --raw-cuts, --labels and --match are about SCORES; name a file with --scores")
    if target_share is not None and match:
        fail("--target-share and --match both choose the threshold; give one of them")
    both, *heads = (given.pop(name) for name in ("threshold", "threshold_sensibility", "threshold_rationality"))
    if target_share is not None and (both, *heads) != (None, None, None):
        fail("--target-share chooses the threshold and --threshold gives it; leave one of them out")
    if both is not None and heads != [None, None]:
        fail("--threshold is for both heads; leave it out where you give one per head")
    chosen_heads = [both if head is None else head for head in heads]
    at_s, at_r = (
        standard if at is None else at for at, standard in zip(chosen_heads, SelectSettings().threshold, strict=True)
    )
    limits = Limits(**{name: given.pop(name) for name in _LIMITS})
    pairing = PairSettings(**opt.chosen({name: given.pop(name) for name in _PAIRING}))
    settings = SelectSettings(threshold=(at_s, at_r), limits=limits, pairing=pairing, **opt.chosen(given))
    check_selection_folder(output, overwrite=overwrite)
    labelled = scores is None
    use: LabelUse = "required" if labelled else "ignore"
    corpus = Corpus(inputs, labels=use, unique_ids=not labelled, fields=fields, keep_records=True)
    table = None if scores is None else read_scores(scores, scorer=scorer, raw_cuts=raw_cuts)
    if settings.abstain and (table is None or table.error is None):
        fail("--abstain needs to know the scorer's error, and nothing says it; score with a scorer that has one")
    matched = read_labels(match, strict=strict) if match else None
    with Bar(sys.stderr, quiet=quiet) as progress:
        found = select_sets(
            corpus,
            output,
            settings,
            table=table,
            labels=read_labels(labels, strict=strict) if labels else None,
            aim=Aim(share=target_share, labels=matched, labels_name=", ".join(match), one=not match_per_head),
            tokenizer=_tokenizer(tokenizer, scorer, table) if limits.tokens is not None else None,
            overwrite=overwrite,
            strict=strict,
            progress=progress,
        )
    say(*([] if quiet else select_lines(found)), err=True)


def _tokenizer(path: Path | None, scorer: Path | None, table: ScoreTable | None) -> Tokenizer:
    """Return what counts tokens: a tokenizer.json, or that of the scorer; it neither cuts nor pads."""
    from tokenizers import Tokenizer

    from scorer.bundle.tokenizer.faults import tokenizer_faults
    from scorer.bundle.trial import open_bundle
    from selection.errors import SelectionError

    if path is None:
        bundle = open_bundle(scorer)
        if table is not None and table.scorer.get("sha256", bundle.sha256) != bundle.sha256:
            what = f"--tokens would be counted by {bundle.info.name}, not by the scorer of SCORES"
            fail(f"{what}; name a file with --tokenizer")
        found = bundle.tokenizer
    else:
        with tokenizer_faults(lambda why: SelectionError(f"{path}: cannot be read as a tokenizer.json: {why}")):
            found = Tokenizer.from_file(str(path))
    found.no_truncation()
    found.no_padding()
    return found


def select_lines(selection: Selection) -> Iterator[str]:
    """Yield what a selection came to, one fact per line."""
    from selection.files.layouts import LOST

    info = selection.info
    (head_s, at_s), (head_r, at_r) = info.rule.threshold.items()
    at = f"T = {at_s:g}" if at_s == at_r else f"T = {at_s:g} ({head_s}), {at_r:g} ({head_r})"
    if info.pairs is None or info.settings.by == "margin":
        yield f"selected from {info.dialogues:,} dialogues by the rule {info.rule.name}, {at}"
    yield from _how(info.rule.how)
    yield from _pairs(info)
    for name, entry in info.sets.items():
        yield f"  {name:12} {entry.count:>10,}  {entry.share:6.1%}  {entry.borderline:,} borderline"
    if info.pairs is None:
        yield from _both_low(info)
    if info.synthetic:
        by_set = ", ".join(f"{name} {entry.synthetic:,}" for name, entry in info.sets.items())
        yield f"{info.synthetic:,} ({info.synthetic / info.dialogues:.1%}) are synthetic: {by_set}"
    if info.lost:
        what = ", ".join(f"{count:,} {LOST[name]}" for name, count in info.lost.items())
        keeps = "" if info.file_format == "openai" else "; --format openai keeps them"
        yield f"left out, as {info.file_format} has no place for them: {what}{keeps}"
    if info.stability:
        first = next(iter(info.sets))
        low, high = info.stability.jaccard_interval_90[first]
        index = "" if low is None else f" (Jaccard index of the {first} set {low:.2f} to {high:.2f})"
        moved = f"{info.stability.moved:.1%}"
        yield f"the judge would move some {moved} of them to another set, by the scorer's own error{index}"
    if info.labels:
        wrong = _counts(info.labels.rejected)
        yield (
            f"{info.labels.used:,} of {info.labels.count:,} labels decided, the others are of no dialogue of the input"
            + (f"; rejected labels: {wrong}" if wrong else "")
        )
    if info.scores_without_dialogue:
        yield f"{info.scores_without_dialogue:,} scores belong to no dialogue of the input"
    reasons = _counts(info.rejected.reasons)
    see = f" ({reasons}), see {selection.path / 'rejects.jsonl'}" if reasons else ""
    yield f"rejected: {info.rejected.count:,}{see}"
    yield f"wrote {selection.path}"


def _pairs(info: SelectionInfo) -> Iterator[str]:
    from selection.deciding.pairs import UNPAIRED
    from selection.files.layouts import LOST

    pairs = info.pairs
    if pairs is None:
        return
    contexts = ", ".join(f"{count:,} {name}" for name, count in pairs.contexts.items() if count)
    yield (
        f"{pairs.count:,} pairs by {pairs.by}, at least {info.settings.pairing.margin:g} apart (median "
        f"{pairs.median_gap:.2f}), from {info.dialogues:,} dialogues"
    )
    yield f"contexts: {sum(pairs.contexts.values()):,}, {contexts}"
    if pairs.agreed is not None:
        yield f"the judge would rank some {pairs.agreed:.0%} of the pairs the same, by the scorer's own error"
    if info.sets[UNPAIRED].count:
        yield "in no pair: " + "; ".join(f"{count:,} {reason}" for reason, count in pairs.unpaired.items())
    if pairs.lost:
        what = ", ".join(f"{count:,} {LOST[name]}" for name, count in pairs.lost.items())
        yield f"left out of pairs, which have no place for them: {what}"


def _both_low(info: SelectionInfo) -> Iterator[str]:
    if info.both_low:
        line = f"{info.both_low:,} ({info.both_low / info.dialogues:.1%}) score low on both"
        if info.settings.both_low == "discard":
            line += " and were discarded"
        elif info.rule.name == "paper":
            line += ", which this rule puts into the rationality set; --both-low discard does not"
        yield line


def _how(how: Thresholds) -> Iterator[str]:
    if how.by == "target share":
        yield f"  chosen for a share of {how.share:.1%}"
    elif isinstance(how.f1_interval_95, tuple):
        low, high = how.f1_interval_95
        yield (
            f"  chosen to match {how.labels}: F1 {how.f1_cross_validated:.3f} ({low:.3f} to {high:.3f}), "
            f"cross-validated on {how.dialogues:,} dialogues"
        )


def _counts(reasons: dict[str, int]) -> str:
    return ", ".join(f"{reason} {number:,}" for reason, number in reasons.items())
