"""`empathy moe evaluate`: checkpoints side by side on held-out dialogues.

Each model's figures are kept in their own file as soon as they are known, with the hash of what they depend on: the
same command resumes a killed run, and measures only what changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import UNSET, UnsetType

from moe.errors import SetError, SettingError
from moe.evaluation.generate import generate_responses
from moe.evaluation.measures import Figures, Perplexity, marks_of, perplexity, response_losses, text_figures
from moe.evaluation.page import write_page
from moe.evaluation.responses import FIX_AND_REPEAT, REPEAT, Response, read_responses
from moe.models import load_causal, load_tokenizer, model_hash
from moe.provenance import read_made
from moe.sets.chat import Chat, Dropped, Example
from moe.settings import GenerateSettings
from scorer.dialogue import Dialogue, training_hash
from scorer.finished import changed_file, seal, sealed_files
from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import Reject
from scorer.locks import locked
from scorer.model import Scorer
from scorer.outputs import check_folder, read_json, write_json, writing
from scorer.progress import Progress, Silent
from scorer.values import Count, Portion

RESULT, PAGE = "evaluation.json", "responses.html"
REFERENCE = "reference"
SYNTHETIC = "synthetic"
"""The reason of a reject that a model wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureIdentity:
    """What a model's figures depend on, each a hash."""

    data: str
    settings: GenerateSettings
    scorer: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFigures:
    """The figures of one model; of the references, which people or whoever wrote, only ``texts`` and ``marks``.

    ``made`` is the model's moe.json as it stands, None where it has none.
    """

    identity: MeasureIdentity | UnsetType = UNSET
    path: str | UnsetType = UNSET
    perplexity: Perplexity | UnsetType = UNSET
    responses: Count | UnsetType = UNSET
    finished: Portion | UnsetType = UNSET
    texts: Figures
    marks: Figures
    made: Mapping[str, Any] | UnsetType | None = UNSET

    @property
    def shown(self) -> Figures:
        """The figures of the table by name."""
        return {"perplexity": self.perplexity.perplexity if self.perplexity else None, **self.texts, **self.marks}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What evaluation.json holds; the last of ``models`` are the references."""

    format: str = "empathy-evaluation"
    format_version: int = 1
    dialogues: Count
    rejected: Count
    data: str
    settings: GenerateSettings
    scorer: Mapping[str, Any]
    models: dict[str, ModelFigures] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """The dialogues that models are measured on, and what was no dialogue."""

    dialogues: Sequence[Dialogue]
    rejects: Sequence[Reject]

    @property
    def sha256(self) -> str:
        """A hash of all contents, in order."""
        state = sha256()
        for dialogue in self.dialogues:
            state.update(json.dumps([dialogue.id, *((t.role, t.content) for t in dialogue.turns)]).encode())
        return state.hexdigest()


def read_held_out(inputs: Sequence[str], limit: int | None = None, fields: Mapping[str, str] | None = None) -> HeldOut:
    """Return the first ``limit`` dialogues of any inputs that are scored, all without a limit.

    What a model wrote is no reference: a synthetic dialogue is a reject.
    """
    dialogues: list[Dialogue] = []
    rejects: list[Reject] = []
    for record in Corpus(inputs, fields=fields):
        if isinstance(record, Reject):
            rejects.append(record)
        elif record.synthetic:
            rejects.append(Reject(record.source, record.line, SYNTHETIC, "a model wrote it, so it is no reference"))
        else:
            dialogues.append(record)
    return HeldOut(dialogues[:limit], rejects)


def evaluate_models(
    models: Mapping[str, str],
    data: HeldOut,
    output: Path,
    settings: GenerateSettings,
    scorer: Scorer,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure ``models``, a path or hub id by name, on ``data``; return what evaluation.json in ``output`` holds.

    The folder gets evaluation.json, each model's responses (``<name>.jsonl``) and figures (``<name>.json``), and
    responses.html, which shows them side by side. Perplexity is on the responses that the dialogues have, all else on
    what the models answer.
    """
    with locked(output), writing(output, then=FIX_AND_REPEAT):
        _check(models, data, output)
        output.mkdir(exist_ok=True)
        info = Evaluation(
            dialogues=len(data.dialogues),
            rejected=len(data.rejects),
            data=data.sha256,
            settings=settings,
            scorer=scorer.bundle.provenance(),
        )
        if not (output / RESULT).exists():
            write_json(output / RESULT, info)  # it tells later runs whose folder this is
        figures: dict[str, ModelFigures] = {}
        made = sealed_files(output)
        for name, path in models.items():
            identity = MeasureIdentity(
                data=info.data, settings=settings, scorer=scorer.bundle.sha256, model=model_hash(path)
            )
            file = output / f"{name}.json"
            mine = {file.name: made.get(file.name, ""), f"{name}.jsonl": made.get(f"{name}.jsonl", "")}
            known = None if changed_file(output, mine) else read_json(file, ModelFigures, REPEAT)
            if known is None or known.identity != identity:
                known = _measure(name, path, data, output, identity, scorer, progress or Silent())
                write_json(file, known)
                seal(output, {})
            figures[name] = known
        responses = {name: read_responses(output / f"{name}.jsonl") for name in models}
        figures[REFERENCE] = _reference(next(iter(responses.values())), scorer)
        info = replace(info, models=figures, notes=list(_notes(models, data, scorer)))
        write_json(output / RESULT, info)
        write_page(output / PAGE, responses, info.dialogues)
        seal(output, {})
    return info


def _measure(
    name: str, path: str, data: HeldOut, output: Path, identity: MeasureIdentity, scorer: Scorer, progress: Progress
) -> ModelFigures:
    progress.stage(f"{name}: perplexity")
    chat = Chat(load_tokenizer(path), identity.settings.max_length)
    encoded = [chat.example(dialogue) for dialogue in data.dialogues]
    examples = [example for example in encoded if isinstance(example, Example)]
    if not examples:
        dropped = next(one for one in encoded if isinstance(one, Dropped))
        raise SetError(f"{path}: none of the {len(encoded)} dialogues can be read by it; the first: {dropped.detail}")
    losses = response_losses(load_causal(path), examples, chat.pad_id)
    tokens = np.array([len(example) - example.prompt for example in examples], dtype=np.float64)
    file = output / f"{name}.jsonl"
    progress.stage(f"{name}: responses", len(data.dialogues))
    generate_responses(path, data.dialogues, file, identity.settings, overwrite=True, progress=progress)
    found = read_responses(file)
    return ModelFigures(
        identity=identity,
        path=Path(path).name,
        perplexity=perplexity(losses, tokens, [example.conversation for example in examples]),
        responses=len(found),
        finished=float(np.mean([one.finished for one in found])),
        texts=text_figures([one.text for one in found], [one.reference for one in found]),
        marks=marks_of(scorer, [one.dialogue() for one in found]),
        made=read_made(Path(path), dict[str, Any]),
    )


def _reference(found: Sequence[Response], scorer: Scorer) -> ModelFigures:
    texts = text_figures([one.reference for one in found], None)
    return ModelFigures(texts=texts, marks=marks_of(scorer, [one.dialogue(reference=True) for one in found]))


def _notes(models: Mapping[str, str], data: HeldOut, scorer: Scorer) -> Iterator[str]:
    if synthetic := sum(reject.reason == SYNTHETIC for reject in data.rejects):
        yield f"{synthetic} synthetic dialogues were left out: what a model wrote is no reference"
    training = scorer.bundle.info.training
    trained = {*training.content_hashes, *training.unlabelled_hashes}
    seen = sum(training_hash(dialogue) in trained for dialogue in data.dialogues)
    if seen:
        yield f"the scorer was trained on {seen} of these {len(data.dialogues)} dialogues: it may know their responses"
    own = [
        name
        for name, path in models.items()
        if scorer.bundle.sha256 in json.dumps(read_made(Path(path), dict[str, Any]))
    ]
    if own:
        yield (
            f"the scorer selected what {', '.join(own)} learnt, so it marks its own choice: perplexity counts first, "
            "and marks of a scorer trained on other conversations (--scorer)"
        )


def _check(models: Mapping[str, str], data: HeldOut, output: Path) -> None:
    if not data.dialogues:
        first = f"; the first: {data.rejects[0]}" if data.rejects else ""
        raise SetError(f"no dialogue to evaluate on among {len(data.rejects)} records{first}")
    for name in models:
        if not name or Path(name).name != name or not name.isprintable() or name in (REFERENCE, "evaluation"):
            raise SettingError(f"model name {name!a}, expected a plain word other than {REFERENCE!r} and 'evaluation'")
    check_folder(output, "overwrite", RESULT, "`empathy moe evaluate`")
