"""`empathy run`: from a corpus to a measured mixture of experts, stage by stage.

    split -> score -> select -> experts -> compose -> train -> evaluate

Each stage writes into one folder. state.json there holds, for each finished stage, a hash of its settings and of what
the stages before it made, that of the first is of the corpus; and the hash of each of its own files. A stage is skipped
where nothing that it depends on changed and its files are what it made; an interrupted one is resumed.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from moe.errors import SetError, SettingError
from moe.evaluation.evaluate import RESULT, Evaluation, evaluate_models, read_held_out
from moe.evaluation.responses import FIX_AND_REPEAT, REPEAT
from moe.mixture.compose import compose_mixture
from moe.models import model_hash
from moe.provenance import Expert, TrainedMixture
from moe.settings import RunSettings
from moe.training.expert import train_expert
from moe.training.router import train_mixture
from scorer.dialogue import Dialogue
from scorer.finished import changed_file, file_hashes
from scorer.inputs.corpus import Corpus
from scorer.locks import locked
from scorer.model import Scorer
from scorer.outputs import Existing, check_folder, read_json, replacing_binary, write_json, writing
from scorer.progress import Progress, Silent
from scorer.run.score import score_files
from scorer.run.score_table import read_scores
from scorer.run.settings import ScoreSettings
from scorer.values import Amount
from selection.files.layouts import to_line, whole_line
from selection.files.manifest import read_selection_info
from selection.folds import fold_of
from selection.select import select_sets

RUN_STATE = "state.json"
_PARTS = 10_000
_SPLIT = ("corpus.jsonl", "held_out.jsonl")
_DATA = (".jsonl", ".parquet", ".safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageState:
    """A stage of a run: the hash with which it was begun and, once it is finished, done; and what it came to.

    ``files`` are the hashes of what it made, by output and the path in it.
    """

    begun: str
    done: str | UnsetType = UNSET
    seconds: Amount | UnsetType = UNSET
    found: str | UnsetType = UNSET
    files: dict[str, dict[str, str]] | UnsetType = UNSET


class Pipeline:
    """One run in a folder. ``run`` does what is not done yet."""

    def __init__(
        self,
        inputs: Sequence[str],
        output: Path,
        settings: RunSettings,
        scorer: Scorer,
        marker: Scorer,
        progress: Progress | None = None,
        *,
        fields: Mapping[str, str] | None = None,
    ) -> None:
        """Take a corpus, the scorer that selects, and the ``marker``, the scorer that marks what the models answer.

        ``fields`` says which column of the corpus holds what, as of ``Corpus``.
        """
        self._fields = dict(fields or {})
        self._inputs, self._output, self._settings = inputs, output, settings
        self._scorer, self._marker, self._progress = scorer, marker, progress or Silent()
        self._state: dict[str, StageState] = {}

    def run(self) -> Evaluation:
        """Go through all stages and return evaluation.json."""
        output, settings = self._output, self._settings
        result = output / "evaluation" / RESULT
        with locked(output), writing(output, then=FIX_AND_REPEAT):
            self._open()
            corpus = _hash(list(_source_hashes(self._inputs)))
            depends = [corpus, settings.held_out, *([self._fields] if self._fields else [])]
            split = self._stage("split", depends, _SPLIT, self._split)
            score = self._stage("score", [split, self._scorer.bundle.sha256], ["scores.parquet"], self._score)
            depends = [split, score, settings.select]
            chosen = self._stage("select", depends, ["selection"], self._select)
            known = tuple(read_selection_info(output / "selection").sets)
            names = settings.sets or known[:2]
            base = model_hash(settings.expert.base)
            experts = []
            for name in names:
                depends = [chosen, base, name, replace(settings.expert, base="")]
                made = [f"experts/{name}"]
                experts.append(self._stage(f"expert {name}", depends, made, partial(self._expert, name)))
            work = partial(self._compose, names)
            mixed = self._stage("compose", [chosen, base, experts, settings.compose], ["composed"], work)
            work = partial(self._train, names)
            trained = self._stage("train", [chosen, mixed, settings.router], ["moe"], work)
            depends = [
                trained,
                experts,
                base,
                split,
                self._marker.bundle.sha256,
                settings.generate,
                settings.evaluate_on,
            ]
            self._stage("evaluate", depends, ["evaluation"], partial(self._evaluate, names))
            return read_json(result, Evaluation, REPEAT)

    def _open(self) -> None:
        output, path = self._output, self._output / RUN_STATE
        check_folder(output, "overwrite", RUN_STATE, "`empathy run`")
        output.mkdir(exist_ok=True)
        if not path.exists():
            write_json(path, self._state)
        self._state = read_json(path, dict[str, StageState], REPEAT)

    def _stage(self, name: str, depends: Sequence[Any], outputs: Sequence[str], work: Callable[[Existing], str]) -> str:
        """Do a stage unless it is done, and return a hash of all that it depends on and of the data that it made.

        ``work`` is told to resume where the stage was begun with the same hash, else to replace what there is.
        """
        key = _hash([name, depends])
        known = self._state.get(name)
        if known and known.done == key and known.files:
            changed = (changed_file(self._output / output, files) for output, files in known.files.items())
            if (path := next(filter(None, changed), None)) is None:
                self._progress.say(f"{name}: unchanged, skipped")
                return _hash([key, _data(known.files)])
            self._progress.say(f"{name}: {path} is missing or was changed since it was made")
        self._progress.say(f"{name}: begins")
        resumes = known is not None and known.begun == key and known.done is UNSET
        self._keep(name, StageState(begun=key))
        start = time.monotonic()
        found = work("resume" if resumes else "overwrite")
        seconds = time.monotonic() - start
        files = {output: file_hashes(self._output / output) for output in outputs}
        self._keep(name, StageState(begun=key, done=key, seconds=round(seconds, 1), found=found, files=files))
        self._progress.say(f"{name}: {found} ({seconds:.0f} s)")
        return _hash([key, _data(files)])

    def _keep(self, name: str, state: StageState) -> None:
        self._state[name] = state
        write_json(self._output / RUN_STATE, self._state)

    def _split(self, _: Existing) -> str:
        """Assign conversations, by a hash, to those that are selected from and those that are held out."""
        names = (*_SPLIT, "rejects.jsonl")
        counts = [0, 0, 0]
        with ExitStack() as stack:
            files = [stack.enter_context(replacing_binary(self._output / name)) for name in names]
            for record in Corpus(self._inputs, fields=self._fields, keep_records=True):
                if isinstance(record, Dialogue):
                    apart = fold_of(record.conversation, _PARTS, 0) < self._settings.held_out * _PARTS
                    number = int(apart and not record.synthetic)  # which is no reference
                    line = whole_line(record, self._fields, Counter())
                else:
                    number, line = 2, to_line(asdict(record))
                files[number].write(line)
                counts[number] += 1
        kept, held_out, rejected = counts
        if not kept or not held_out:
            raise SetError(
                f"{', '.join(self._inputs)}: {kept} dialogues to select from and {held_out} held out ({rejected} "
                "rejected), expected some of each: bring more conversations, or another --held-out"
            )
        if not rejected:
            (self._output / names[2]).unlink()
        return f"{kept} dialogues to select from, {held_out} held out, {rejected} rejected"

    def _score(self, existing: Existing) -> str:
        settings, output = ScoreSettings(existing=existing), self._output / "scores.parquet"
        summary = score_files(self._scorer, self._corpus, output, settings, self._progress)
        return f"{summary.tally.scored} dialogues scored"

    def _select(self, _: Existing) -> str:
        table = read_scores(self._output / "scores.parquet")
        select_sets(self._corpus, self._output / "selection", self._settings.select, table=table, overwrite=True)
        sets = read_selection_info(self._output / "selection").sets
        return ", ".join(f"{name} {entry.count}" for name, entry in sets.items())

    def _expert(self, name: str, existing: Existing) -> str:
        output = self._output / "experts" / name
        output.parent.mkdir(exist_ok=True)
        made = train_expert(self._set(name), output, self._settings.expert, existing=existing, progress=self._progress)
        return _came_to(made)

    def _compose(self, names: Sequence[str], _: Existing) -> str:
        experts = [self._output / "experts" / name for name in names]
        settings = self._settings.compose
        sets = [self._set(name) for name in names] if settings.router == "informed" else []
        base, output = self._settings.expert.base, self._output / "composed"
        made = compose_mixture(experts, output, settings, base=base, sets=sets, overwrite=True, progress=self._progress)
        return f"{made.architecture} of {len(names)} experts"

    def _train(self, names: Sequence[str], existing: Existing) -> str:
        composed, output = str(self._output / "composed"), self._output / "moe"
        sets = [self._set(name) for name in names]
        made = train_mixture(composed, sets, output, self._settings.router, existing=existing, progress=self._progress)
        return _came_to(made)

    def _evaluate(self, names: Sequence[str], _: Existing) -> str:
        models = {
            "base": self._settings.expert.base,
            **{f"expert-{name}": str(self._output / "experts" / name) for name in names},
            "moe": str(self._output / "moe"),
        }
        data = read_held_out([str(self._output / "held_out.jsonl")], self._settings.evaluate_on)
        output, settings = self._output / "evaluation", self._settings.generate
        info = evaluate_models(models, data, output, settings, self._marker, self._progress)
        shown = (f"{name} {info.models[name].shown['perplexity']:.2f}" for name in models)
        return f"perplexity {', '.join(shown)}"

    @property
    def _corpus(self) -> Corpus:
        return Corpus([str(self._output / "corpus.jsonl")], keep_records=True)

    def _set(self, name: str) -> Path:
        path = self._output / "selection" / f"{name}.jsonl"
        if not path.exists():
            known = ", ".join(read_selection_info(path.parent).sets)
            raise SetError(f"the selection has no set {name!r}, expected some of {known}")
        return path


def _hash(value: Any) -> str:
    return sha256(json.dumps(msgspec.to_builtins(value), sort_keys=True).encode()).hexdigest()


def _data(files: Mapping[str, Mapping[str, str]]) -> list[Any]:
    """Return what later stages read of a stage's files; what only tells of them has the day in it."""
    return [
        [output, name, known]
        for output, made in files.items()
        for name, known in made.items()
        if Path(name or output).suffix in _DATA
    ]


def _came_to(made: Expert | TrainedMixture | None) -> str:
    if made is None:
        return "trained by another process"
    held_out = made.metrics.held_out_loss
    return f"{made.metrics.steps} steps, held-out loss {held_out[-1] if held_out else 'not read'}"


def _source_hashes(inputs: Sequence[str]) -> Iterator[str]:
    """Yield a hash of each input file's bytes."""
    if "-" in inputs:
        raise SettingError("a run reads its corpus more than once, which standard input does not allow; name files")
    for source in Corpus(inputs).sources:
        with source.open() as stream:
            yield file_digest(stream, "sha256").hexdigest()
