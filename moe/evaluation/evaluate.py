"""`empathy moe evaluate`: checkpoints beside each other on held-out dialogues.

Each model's figures are kept in a file of their own the moment they are known, with the hash of what they depend on:
the same command again goes on where it was killed, and measures only what changed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from moe.errors import SetError, SettingError
from moe.evaluation.generate import generate, model_hash, read_responses
from moe.evaluation.measures import answered, marks, perplexity, response_losses, text_measures
from moe.evaluation.page import write_page
from moe.models import load_causal, load_tokenizer
from moe.outputs import read_info
from moe.sets.chat import Chat, Dropped, Example
from moe.settings import GenerateSettings
from scorer.dialogue import Dialogue, training_hash
from scorer.errors import OutputError
from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import Reject
from scorer.model import Scorer
from scorer.outputs import replacing, writing

RESULT, PAGE = "evaluation.json", "responses.html"
REFERENCE = "reference"
_COLUMNS = (
    ("perplexity", "perplexity", 2),
    ("dist_1", "Dist-1", 3),
    ("dist_2", "Dist-2", 3),
    ("bleu", "BLEU", 2),
    ("rouge_l", "ROUGE-L", 3),
    ("words", "words", 1),
    ("empty", "empty", 3),
    ("sensibility", "S", 2),
    ("rationality", "R", 2),
    ("share", "S > T, R < T", 3),
)

OnModel = Callable[[str, str], None]
"""Hears which model is measured, and how far it is."""


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


def read_held_out(inputs: Sequence[str], limit: int | None = None) -> HeldOut:
    """Return the first ``limit`` dialogues of any inputs that are scored, all without a limit."""
    records = list(Corpus(inputs))
    dialogues = [record for record in records if isinstance(record, Dialogue)]
    return HeldOut(dialogues[:limit], [record for record in records if isinstance(record, Reject)])


def evaluate(
    models: Mapping[str, str],
    data: HeldOut,
    output: Path,
    settings: GenerateSettings,
    scorer: Scorer,
    *,
    report: OnModel = lambda _name, _what: None,
) -> dict[str, Any]:
    """Measure ``models``, a path or hub id by name, on ``data``; return what evaluation.json in ``output`` holds.

    The folder gets evaluation.json, each model's responses (``<name>.jsonl``) and figures (``<name>.json``), and
    responses.html, which shows them side by side. Perplexity is on the responses that the dialogues have, all else on
    what the models answer.
    """
    _check(models, data, output)
    with writing(output, then="; mend that and give the same command again"):
        output.mkdir(exist_ok=True)
        common = {"data": data.sha256, "settings": settings.to_json(), "scorer": scorer.bundle.sha256}
        info: dict[str, Any] = {
            "format": "empathy-evaluation",
            "format_version": 1,
            "dialogues": len(data.dialogues),
            "rejected": len(data.rejects),
            **common,
            "scorer": scorer.bundle.provenance(),
            "models": {},
            "notes": [],
        }
        if not (output / RESULT).exists():
            _write(output / RESULT, info)  # by this the folder is known again
        for name, path in models.items():
            identity = {**common, "model": model_hash(path)}
            entry = _read(output / f"{name}.json")
            if entry.get("identity") != identity or not (output / f"{name}.jsonl").exists():
                entry = {"identity": identity, **_measure(name, path, data, output, settings, scorer, report)}
                _write(output / f"{name}.json", entry)
            info["models"][name] = entry
        responses = {name: read_responses(output / f"{name}.jsonl") for name in models}
        info["models"][REFERENCE] = _reference(next(iter(responses.values())), scorer)
        info["notes"] = list(_notes(models, data, scorer))
        _write(output / RESULT, info)
        write_page(output / PAGE, responses, info)
    return info


def table_lines(info: Mapping[str, Any]) -> Iterator[str]:
    """Yield an evaluation as a table, and what to know about it."""
    columns = [column for column in _COLUMNS if any(column[0] in _flat(e) for e in info["models"].values())]
    rows = [["", *(title for _, title, _ in columns)]]
    for name, entry in info["models"].items():
        figures = _flat(entry)
        rows.append([name, *(_shown(figures.get(key), digits) for key, _, digits in columns)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
    yield ""
    for name, entry in info["models"].items():
        if "perplexity" in entry:
            low, high = entry["perplexity"]["interval_95"]
            yield f"{name}: perplexity {low:.2f} to {high:.2f} (95 %, bootstrap over conversations)"
    scorer = info["scorer"]
    yield f"S, R, share in the sensibility set (T = 5): marks of the scorer {scorer['name']} {scorer['sha256'][:12]}"
    for note in info["notes"]:
        yield f"note: {note}"


def _measure(
    name: str, path: str, data: HeldOut, output: Path, settings: GenerateSettings, scorer: Scorer, report: OnModel
) -> dict[str, Any]:
    report(name, "perplexity")
    chat = Chat(load_tokenizer(path), settings.max_length)
    encoded = [chat.example(dialogue) for dialogue in data.dialogues]
    examples = [example for example in encoded if isinstance(example, Example)]
    if not examples:
        dropped = next(one for one in encoded if isinstance(one, Dropped))
        raise SetError(f"{path}: none of the {len(encoded)} dialogues can be read by it; the first: {dropped.detail}")
    model = load_causal(path)
    losses = response_losses(model, examples, chat.pad_id)
    del model
    tokens = np.array([len(example) - example.prompt for example in examples], dtype=np.float64)
    found = perplexity(losses, tokens, [example.conversation for example in examples])
    file = output / f"{name}.jsonl"
    generate(
        path,
        data.dialogues,
        file,
        settings,
        overwrite=True,
        on_batch=lambda done: report(name, f"{done} of {len(data.dialogues)} responses"),
    )
    records = read_responses(file)
    texts = [record["messages"][-1]["content"] for record in records]
    return {
        "path": Path(path).name,
        "perplexity": {**found, "examples": len(examples)},
        "responses": len(records),
        "finished": float(np.mean([record["finished"] for record in records])),
        "texts": text_measures(texts, [record["reference"] for record in records]),
        "marks": marks(scorer, list(answered(records))),
        "made": read_info(Path(path)),
    }


def _reference(records: Sequence[dict[str, Any]], scorer: Scorer) -> dict[str, Any]:
    """Return the figures of the responses that the dialogues have, by people or whoever wrote them."""
    texts = [record["reference"] for record in records]
    return {"texts": text_measures(texts, None), "marks": marks(scorer, list(answered(records, reference=True)))}


def _notes(models: Mapping[str, str], data: HeldOut, scorer: Scorer) -> Iterator[str]:
    trained = set(scorer.bundle.info["training"]["content_hashes"])
    trained |= set(scorer.bundle.info["training"].get("unlabelled_hashes", ()))
    seen = sum(training_hash(dialogue) in trained for dialogue in data.dialogues)
    if seen:
        yield f"the scorer was trained on {seen} of these {len(data.dialogues)} dialogues: it may know their responses"
    own = [name for name, path in models.items() if scorer.bundle.sha256 in json.dumps(read_info(Path(path)))]
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
    if not output.parent.is_dir():
        raise OutputError(f"{output}: the folder {output.parent} does not exist; create it first")
    if output.exists() and (not output.is_dir() or (any(output.iterdir()) and not (output / RESULT).exists())):
        raise OutputError(f"{output}: holds no {RESULT}, so it is no evaluation to go on with; name a new folder")


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        raise OutputError(f"{path}: is damaged ({error}); remove it and give the same command again") from None


def _write(path: Path, info: Mapping[str, Any]) -> None:
    with replacing(path) as file:
        file.write(json.dumps(info, indent=1) + "\n")


def _flat(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a model by name."""
    return {"perplexity": entry.get("perplexity", {}).get("perplexity"), **entry["texts"], **entry["marks"]}


def _shown(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
