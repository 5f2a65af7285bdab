"""What an audit leaves behind: its files, its lines in the terminal, and the commands that come next."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.auditing.audit import Audit
from distill.auditing.corpus import read_rows
from distill.judge.records import OPENAI_URL
from distill.settings import DEFAULT_KEY
from scorer.cli.table import table_lines
from scorer.dialogue import training_hash
from scorer.errors import OutputError, without_secrets
from scorer.inputs.parse import to_record
from scorer.outputs import check_folder, check_parent, replacing, write_json, writing

if TYPE_CHECKING:
    from distill.auditing.ppi import Interval
    from distill.auditing.rounds import Asked, Rounds

AUDIT_JSON = "audit.json"
LABELS = "labels.jsonl"
WORTH = "worth-a-label.jsonl"
_DEFAULT_STORE = Path("empathy-labels.sqlite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user named: score files and dialogues, the scorer, where things go, and how the judge is asked."""

    scores: Sequence[Path]
    inputs: Sequence[str]
    fields: Mapping[str, str]
    scorer: Path | None
    output: Path | None
    write_bundle: Path | None
    store: Path
    rubric: Path | None

    @property
    def mapped(self) -> list[str]:
        """The options that say which column holds what."""
        return [part for name, column in self.fields.items() for part in ("--map", f"{name}={column}")]


def check_outputs(output: Path | None, bundle: Path | None) -> None:
    """Raise OutputError before any money is spent, where an output could not be written."""
    if output is not None:
        check_folder(output, "overwrite", AUDIT_JSON, "`empathy audit`")
    if bundle is not None:
        check_parent(bundle)
        if bundle.exists():
            raise OutputError(f"{bundle}: exists already; name a new folder or remove it first")


def write_audit(found: Audit, asked: Asked, rounds: Rounds, request: Request) -> tuple[dict[str, Any], list[str]]:
    """Write labels, dialogues and bundle where they were asked for; return the report as JSON, and the next commands.

    The report is written last, as audit.json.
    """
    folder = request.output
    worth = found.verdict == "label and retrain"
    if folder is not None:
        with writing(folder):
            folder.mkdir(exist_ok=True)
            with replacing(folder / LABELS) as file:
                file.write(asked.lines)
            (folder / WORTH).unlink(missing_ok=True)
        if worth:
            _write_worth(folder / WORTH, asked, rounds, request)
    recut = found.verdict == "recalibrate" and request.write_bundle is not None
    if recut:
        _write_bundle(asked, rounds, request)
    steps = _next_steps(found, asked, rounds, request)
    report = {
        **found.to_json(),
        "scorer_name": rounds.scored.name,
        "judge_model": rounds.label.model,
        "usd": round(asked.usd, 6),
        "requests": asked.requests,
        "stopped": asked.stopped,
        "bundle": str(request.write_bundle) if recut else None,
        "next": steps,
    }
    if folder is not None:
        write_json(folder / AUDIT_JSON, report)
    return report, steps


def _write_worth(path: Path, asked: Asked, rounds: Rounds, request: Request) -> None:
    scored, settings = rounds.scored, rounds.settings
    rows = scored.worth(settings.worth, asked.sample.rows, settings.threshold, settings.seed)
    with writing(path), replacing(path) as file:
        for dialogue in read_rows(scored, rows, request.inputs, request.fields):
            file.write(json.dumps(to_record(dialogue, short=True), ensure_ascii=False) + "\n")


def _write_bundle(asked: Asked, rounds: Rounds, request: Request) -> None:
    """Write the scorer with cuts from the sample's labels; the scores are those of the score file."""
    from distill.auditing.adapt import recut_bundle

    assert asked.labelled is not None
    assert rounds.scored.bundle is not None
    assert request.write_bundle is not None
    sample = asked.sample
    row_of = {training_hash(rounds.dialogues[place]): int(sample.rows[place]) for place in sample.labelled}
    places = np.array([place for place, key in enumerate(asked.labelled.hashes) if key in row_of])
    labelled = asked.labelled.take(places)
    scores = rounds.scored.scores[[row_of[key] for key in labelled.hashes]]
    recut_bundle(rounds.scored.bundle, labelled, scores, f"an audit by {rounds.label.model}", request.write_bundle)


def _next_steps(found: Audit, asked: Asked, rounds: Rounds, request: Request) -> list[str]:
    """Return the commands that the verdict asks for, as a user types them, but for secrets in URLs."""
    return [without_secrets(step) for step in _steps(found, asked, rounds, request)]


def _steps(found: Audit, asked: Asked, rounds: Rounds, request: Request) -> list[str]:
    if found.verdict == "recalibrate":
        return _rescore(rounds, request)
    if found.verdict == "label and retrain":
        return _label_and_train(rounds, request)
    if found.verdict == "not sure":
        more = [] if asked.stopped is not None else ["--most", str(2 * rounds.settings.most)]
        return [_again(rounds, request, *more)]
    return []


def _rescore(rounds: Rounds, request: Request) -> list[str]:
    bundle = str(request.write_bundle or "recalibrated")
    score = shlex.join(
        ["empathy", "score", *request.inputs, *request.mapped, "-o", "rescored.parquet", "--scorer", bundle]
    )
    return [score] if request.write_bundle else [_again(rounds, request, "--write-bundle", bundle), score]


def _label_and_train(rounds: Rounds, request: Request) -> list[str]:
    label, judge = ["empathy", "label"], _judge_options(rounds, request)
    if request.output is None:
        sample = ["--sample", str(min(rounds.settings.worth, len(rounds.scored))), "--strategy", "uncertain"]
        sample += ["--scorer", str(request.scorer)] if request.scorer else []
        more, labels = [*label, *request.inputs, *request.mapped, *sample], ["labels.jsonl"]
    else:
        more = [*label, str(request.output / WORTH)]
        labels = [str(request.output / "more-labels.jsonl"), str(request.output / LABELS)]
    train = ["empathy", "train", *labels, "-o", "checkpoint"]
    return [shlex.join([*more, "-o", labels[0], *judge]), shlex.join(train)]


def _judge_options(rounds: Rounds, request: Request) -> list[str]:
    label = rounds.label
    options = ["--model", label.model]
    if label.base_url is not None and label.base_url.rstrip("/") != OPENAI_URL:
        options += ["--base-url", label.base_url]
    if label.key_name != DEFAULT_KEY:
        options += ["--key-env", label.key_name]
    if request.rubric is not None:
        options += ["--rubric", str(request.rubric)]
    if request.store != _DEFAULT_STORE:
        options += ["--store", str(request.store)]
    fields = ("temperature", "draws", "max_tokens", "price_in", "price_out")
    for name in fields:
        value = getattr(label, name)
        if value is not None and value != type(label).__dataclass_fields__[name].default:
            options += [f"--{name.replace('_', '-')}", f"{value:g}"]
    return options if label.logprobs else [*options, "--no-logprobs"]


def _again(rounds: Rounds, request: Request, *more: str) -> str:
    """Return this audit's own command, with what is given in addition; what was answered is not asked again."""
    options = [*(["--scorer", str(request.scorer)] if request.scorer else [])]
    options += ["-o", str(request.output)] if request.output else []
    settings = rounds.settings
    for name, entry in type(settings).__dataclass_fields__.items():
        value, option = getattr(settings, name), f"--{name}"
        if value != entry.default and option not in more:
            options += [option, f"{value:g}"]
    inputs = [part for name in request.inputs for part in ("--dialogues", name)]
    return shlex.join(
        [
            "empathy",
            "audit",
            *map(str, request.scores),
            *inputs,
            *request.mapped,
            *options,
            *_judge_options(rounds, request),
            *more,
        ]
    )


def audit_lines(found: Audit, asked: Asked, rounds: Rounds) -> Iterator[str]:
    """Yield what was found, as lines of a terminal."""
    rejected = f", {found.rejected} that it did not judge" if found.rejected else ""
    yield f"{found.labels:,} labels of {found.dialogues:,} dialogues by {rounds.label.model}{rejected}"
    spent = f"${asked.usd:.4f} in " if asked.usd else ""
    yield f"asked in this run: {spent}{asked.requests:,} requests"
    if asked.stopped:
        yield f"stopped by {asked.stopped}"
    yield ""
    yield from table_lines([("the whole corpus", "judge, 95 %", "scorer"), *_corpus_rows(found)])
    yield ""
    yield from table_lines([("agreement there", "95 %"), *_agreement_rows(found)])
    yield ""
    if found.noise is not None:
        noise = found.noise
        yield f"the judge puts {noise.same_set:.1%} of {noise.dialogues:,} dialogues into the same set twice"
        if noise.same_set <= found.limit:
            yield f"that is no more than the limit of {found.limit:.1%}, which no scorer can exceed: give more --draws"
    trained = _trained(asked, rounds)
    if trained:
        yield f"{trained:,} of the sample were trained on, which flatters the scorer"
    yield f"verdict: {found.verdict} ({_because(found)})"


def _corpus_rows(found: Audit) -> Iterator[tuple[str, str, str]]:
    for name, interval in found.judge.items():
        kind, _, what = name.partition(".")
        show = _share if kind == "share" else _plain
        title = f"{what} set" if kind == "share" else f"mean {what}"
        yield title, show(interval), f"{found.scorer[name]:.1%}" if kind == "share" else f"{found.scorer[name]:.2f}"


def _agreement_rows(found: Audit) -> Iterator[tuple[str, str]]:
    yield "in the judge's set", _share(found.accuracy)
    for name, interval in found.agreement.items():
        yield _TITLES[name], _plain(interval)
    if found.recalibrated is not None:
        yield "in the judge's set, with new cuts", f"{found.recalibrated:.1%}"


_TITLES = {
    "sensibility.pearson": "r sensibility",
    "rationality.pearson": "r rationality",
    "sensibility.pearson.corrected": "r sensibility without the judge's noise",
    "rationality.pearson.corrected": "r rationality without the judge's noise",
    "paper.kappa": "kappa of the sets",
    "paper.f1.sensibility": "F1 of the sensibility set",
}


def _because(found: Audit) -> str:
    where = {"above": "more than", "below": "less than", "open": "more or less than"}[found.answer]
    text = f"{'it is open whether ' if found.answer == 'open' else ''}{where} {found.limit:.1%} in the judge's set"
    text += {
        "within": "; the kept shares are near each other",
        "beyond": "; the kept share is off",
        "open": "; it is open how near the kept shares are",
    }[found.near]
    if not found.agreement["paper.kappa"].low > 0:
        text += "; the sets may agree by chance alone"
    return text


def _trained(asked: Asked, rounds: Rounds) -> int:
    bundle = rounds.scored.bundle
    if bundle is None:
        return 0
    known = set(bundle.info.training.content_hashes)
    return sum(training_hash(dialogue) in known for dialogue in rounds.dialogues[: len(asked.sample.rows)])


def _share(interval: Interval) -> str:
    return f"{interval.estimate:.1%} ({interval.low:.1%} to {interval.high:.1%})"


def _plain(interval: Interval) -> str:
    return f"{interval.estimate:.2f} ({interval.low:.2f} to {interval.high:.2f})"
