"""`empathy run`: from a corpus to a measured mixture of experts, stage by stage.

    split -> score -> select -> experts -> compose -> train -> evaluate

Each stage writes into one folder. state.json there holds, for each finished stage, a hash of its settings and of the
hashes of the stages before it, that of the first being of the corpus: a stage is skipped where nothing that it depends
on changed, and an interrupted one goes on where it was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from moe.errors import SetError, SettingError
from moe.evaluation.evaluate import RESULT, evaluate, read_held_out
from moe.evaluation.generate import model_hash
from moe.mixture.compose import compose
from moe.settings import ComposeSettings, ExpertSettings, GenerateSettings, RouterSettings
from moe.training.expert import train_expert
from moe.training.router import train_mixture
from scorer.dialogue import Dialogue
from scorer.errors import OutputError
from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import to_record
from scorer.model import Scorer
from scorer.outputs import Existing, replacing, replacing_binary, writing
from scorer.run.score import score_files
from scorer.run.score_table import read_scores
from scorer.run.settings import ScoreSettings
from selection.deciding.settings import SelectSettings
from selection.files.folder import MANIFEST
from selection.files.layouts import to_line
from selection.folds import fold_of
from selection.select import select

STATE = "state.json"
_PARTS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """Settings of all stages. ``held_out`` is the share of conversations that nothing but the evaluation sees.

    ``evaluate_on`` is how many of their dialogues the models answer. ``sets`` name those that become experts, the
    rule's first two if None.
    """

    expert: ExpertSettings
    select: SelectSettings = field(default_factory=SelectSettings)
    compose: ComposeSettings = field(default_factory=lambda: ComposeSettings(router="informed"))
    router: RouterSettings = field(default_factory=RouterSettings)
    generate: GenerateSettings = field(default_factory=GenerateSettings)
    held_out: float = 0.1
    evaluate_on: int = 500
    sets: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Check every value; SettingError gives the value and what was expected."""
        if not 0 < self.held_out <= 0.5:
            raise SettingError(f"held out is {self.held_out}, expected more than 0, at most 0.5")
        if self.evaluate_on < 1:
            raise SettingError(f"evaluate on is {self.evaluate_on}, expected at least 1")
        if self.sets is not None and len(set(self.sets)) < 2:
            raise SettingError(f"{len(set(self.sets))} set to become an expert, expected at least 2")


Report = Callable[[str, str], None]
"""Hears a stage and what became of it."""


class Pipeline:
    """One run in a folder. ``run`` does what is not done yet."""

    def __init__(
        self,
        inputs: Sequence[str],
        output: Path,
        settings: RunSettings,
        scorer: Scorer,
        marker: Scorer,
        report: Report = lambda _stage, _what: None,
    ) -> None:
        """Take a corpus, the scorer that selects, and the ``marker``, the scorer that marks what the models answer."""
        self._inputs, self._output, self._settings = inputs, output, settings
        self._scorer, self._marker, self._report = scorer, marker, report
        self._state: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        """Go through all stages and return evaluation.json."""
        output, settings = self._output, self._settings
        with writing(output, then="; mend that and give the same command again"):
            self._open()
            corpus = self._hash(list(_source_hashes(self._inputs)))
            split = self._stage("split", [corpus, settings.held_out], "corpus.jsonl", self._split)
            score = self._stage("score", [split, self._scorer.bundle.sha256], "scores.parquet", self._score)
            chosen = self._stage("select", [score, settings.select.to_json()], f"selection/{MANIFEST}", self._select)
            names = settings.sets or self._first_sets()
            base = model_hash(settings.expert.base)
            experts = [
                self._stage(
                    f"expert {name}",
                    [chosen, base, name, {**settings.expert.to_json(), "base": ""}],
                    f"experts/{name}/moe.json",
                    self._expert(name),
                )
                for name in names
            ]
            mixed = self._stage(
                "compose", [experts, settings.compose.to_json()], "composed/moe.json", self._compose(names)
            )
            trained = self._stage("train", [mixed, settings.router.to_json()], "moe/moe.json", self._train(names))
            self._stage(
                "evaluate",
                [
                    trained,
                    experts,
                    split,
                    self._marker.bundle.sha256,
                    settings.generate.to_json(),
                    settings.evaluate_on,
                ],
                f"evaluation/{RESULT}",
                self._evaluate(names),
            )
        return dict(json.loads((output / "evaluation" / RESULT).read_bytes()))

    def _open(self) -> None:
        output = self._output
        if not output.parent.is_dir():
            raise OutputError(f"{output}: the folder {output.parent} does not exist; create it first")
        if output.exists() and (not output.is_dir() or (any(output.iterdir()) and not (output / STATE).exists())):
            raise OutputError(f"{output}: holds no {STATE}, so it is no run to go on with; name a new folder")
        output.mkdir(exist_ok=True)
        if not (output / STATE).exists():
            self._save()
        try:
            self._state = dict(json.loads((output / STATE).read_bytes()))
        except (ValueError, TypeError) as error:
            raise OutputError(f"{output / STATE}: is damaged ({error}); remove it to begin again") from None

    def _stage(self, name: str, depends: Any, marker: str, work: Callable[[Existing], str]) -> str:
        """Do a stage unless it is done, and return the hash of all that it depends on.

        ``work`` is told to resume where the stage was begun with the same hash, else to replace what there is.
        """
        key = self._hash([name, depends])
        known = self._state.get(name, {})
        if known.get("done") == key and (self._output / marker).exists():
            self._report(name, "unchanged, skipped")
            return key
        self._report(name, "begins")
        existing: Existing = "resume" if known.get("begun") == key and "done" not in known else "overwrite"
        self._state[name] = {"begun": key}
        self._save()
        start = time.monotonic()
        found = work(existing)
        seconds = time.monotonic() - start
        self._state[name] = {"begun": key, "done": key, "seconds": round(seconds, 1), "found": found}
        self._save()
        self._report(name, f"{found} ({seconds:.0f} s)")
        return key

    def _save(self) -> None:
        with replacing(self._output / STATE) as file:
            file.write(json.dumps(self._state, indent=1) + "\n")

    @staticmethod
    def _hash(value: Any) -> str:
        return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

    def _split(self, _: Existing) -> str:
        """Deal conversations, by a hash, into those that are selected from and those that are held out."""
        names = ("corpus.jsonl", "held_out.jsonl", "rejects.jsonl")
        counts = [0, 0, 0]
        with ExitStack() as stack:
            files = [stack.enter_context(replacing_binary(self._output / name)) for name in names]
            for record in Corpus(self._inputs):
                if isinstance(record, Dialogue):
                    number = int(fold_of(record.conversation, _PARTS, 0) < self._settings.held_out * _PARTS)
                    line = to_line(to_record(record))
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
        settings = ScoreSettings(existing=existing)
        summary = score_files(self._scorer, self._corpus(), self._output / "scores.parquet", settings)
        return f"{summary.tally.scored} dialogues scored"

    def _select(self, _: Existing) -> str:
        table = read_scores(self._output / "scores.parquet")
        found = select(self._corpus(), self._output / "selection", self._settings.select, table=table, overwrite=True)
        return ", ".join(f"{name} {entry['count']}" for name, entry in found.info["sets"].items())

    def _expert(self, name: str) -> Callable[[Existing], str]:
        def work(existing: Existing) -> str:
            (self._output / "experts").mkdir(exist_ok=True)
            output = self._output / "experts" / name
            info = train_expert(self._set(name), output, self._settings.expert, existing=_unless_done(existing, output))
            return _losses(info)

        return work

    def _compose(self, names: Sequence[str]) -> Callable[[Existing], str]:
        def work(_: Existing) -> str:
            experts = [self._output / "experts" / name for name in names]
            sets = [self._set(name) for name in names] if self._settings.compose.router == "informed" else []
            base = self._settings.expert.base
            info = compose(
                experts, self._output / "composed", self._settings.compose, base=base, sets=sets, overwrite=True
            )
            return f"{info['architecture']} of {len(names)} experts"

        return work

    def _train(self, names: Sequence[str]) -> Callable[[Existing], str]:
        def work(existing: Existing) -> str:
            composed, output = str(self._output / "composed"), self._output / "moe"
            sets = [self._set(name) for name in names]
            info = train_mixture(composed, sets, output, self._settings.router, existing=_unless_done(existing, output))
            return _losses(info)

        return work

    def _evaluate(self, names: Sequence[str]) -> Callable[[Existing], str]:
        def work(_: Existing) -> str:
            models = {
                "base": self._settings.expert.base,
                **{f"expert-{name}": str(self._output / "experts" / name) for name in names},
                "moe": str(self._output / "moe"),
            }
            data = read_held_out([str(self._output / "held_out.jsonl")], self._settings.evaluate_on)
            info = evaluate(models, data, self._output / "evaluation", self._settings.generate, self._marker)
            shown = (f"{name} {info['models'][name]['perplexity']['perplexity']:.2f}" for name in models)
            return f"perplexity {', '.join(shown)}"

        return work

    def _corpus(self) -> Corpus:
        return Corpus([str(self._output / "corpus.jsonl")])

    def _set(self, name: str) -> Path:
        path = self._output / "selection" / f"{name}.jsonl"
        if not path.exists():
            known = json.loads((self._output / "selection" / MANIFEST).read_bytes())["sets"]
            raise SetError(f"the selection has no set {name!r}, expected some of {', '.join(known)}")
        return path

    def _first_sets(self) -> tuple[str, ...]:
        info = json.loads((self._output / "selection" / MANIFEST).read_bytes())
        return tuple(info["sets"])[:2]


def _unless_done(existing: Existing, output: Path) -> Existing:
    """Return how to go on: a training that ended just before the run was killed is done anew."""
    return "overwrite" if output.exists() else existing


def _losses(info: Mapping[str, Any]) -> str:
    metrics = info["metrics"]
    held_out = metrics["held_out_loss"]
    return f"{metrics['steps']} steps, held-out loss {held_out[-1] if held_out else 'not read'}"


def _source_hashes(inputs: Sequence[str]) -> Iterator[str]:
    """Yield a hash of each input file's bytes."""
    if "-" in inputs:
        raise SettingError("a run reads its corpus more than once, which standard input does not allow; name files")
    for source in Corpus(inputs).sources:
        state = sha256()
        with source.open() as stream:
            while block := stream.read(1 << 20):
                state.update(block)
        yield state.hexdigest()
