"""One seed of ``benchmarks.moe``: its sets, its base, every variant of it, and their figures."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from benchmarks.moe.figures import read_points
from benchmarks.moe.marking import Marker
from benchmarks.moe.plan import ALL, AVERAGED, BASE, BOTH, RANDOM, RATIONALITY, SENSIBILITY, WEIGHTED, Plan
from benchmarks.moe.scratch import pretrain
from distill.labelled import LabelledSet
from moe.evaluation.generate import generate_responses
from moe.evaluation.measures import response_losses, text_figures
from moe.evaluation.page import write_page
from moe.evaluation.responses import Response, read_responses
from moe.mixture.compose import compose_mixture
from moe.models import load_causal, load_tokenizer
from moe.sets.chat import Chat, Example
from moe.training.expert import train_expert
from moe.training.router import train_mixture
from scorer.arrays import Ints
from scorer.dialogue import HEADS, Dialogue, Turn
from scorer.engines.base import Scores
from scorer.inputs.parse import to_record
from scorer.outputs import new_folder
from scorer.text import normalise
from selection.files.layouts import to_line
from selection.folds import fold_of
from selection.probing.recognise import RECOGNISED, kind_of
from selection.rules import PAPER

HELD_OUT_PARTS = 5
PAGE = "responses.html"


class Seed:
    """All variants on one fold of the labels; where the plan names no base, one is pretrained on ``texts``."""

    def __init__(
        self, seed: int, folder: Path, labelled: LabelledSet, marker: Marker, plan: Plan, texts: Sequence[Dialogue] = ()
    ) -> None:
        """Divide the fold's conversations, and write the sets."""
        self.seed, self.folder, self.marker, self.plan, self.texts = seed, folder, marker, plan, texts
        folder.mkdir(exist_ok=True)
        fold = marker.folds(labelled) == seed
        mine = [respelt(dialogue) for dialogue, own in zip(labelled.dialogues, fold, strict=True) if own]
        scores = labelled.scores[fold]
        sets = plan.rule.apply(scores, threshold=plan.threshold)
        out = np.array([fold_of(f"benchmark:{one.conversation}", HELD_OUT_PARTS, seed) == 0 for one in mine])
        held_out = self._some(np.flatnonzero(out), plan.most_held_out)
        self.held_out = [mine[row] for row in held_out]
        self.held_out_sets = sets[held_out].tolist()
        train = self._some(np.flatnonzero(~out), plan.limit)
        sensible, rational = (train[sets[train] == k] for k in (0, 1))
        rng = np.random.default_rng(seed)
        chosen = {
            ALL: train,
            RANDOM: np.sort(rng.choice(train, len(sensible), replace=False)),
            SENSIBILITY: sensible,
            RATIONALITY: rational,
            BOTH: train[sets[train] != 2],
            WEIGHTED: drawn_by_score(train, scores[train], plan.threshold, seed),
        }
        if empty := [name for name in (SENSIBILITY, RATIONALITY) if not len(chosen[name])]:
            raise click.ClickException(
                f"seed {seed}: none of {len(train)} dialogues is in the {empty[0]}; expected more of them, or another "
                "--threshold"
            )
        self.counts = {name: len(chosen[name]) for name in plan.trained}
        for name, rows in chosen.items():
            write_set(self.set_file(name), mine, rows)
            if plan.equal_steps:
                write_set(self.lesson_file(name), mine, np.resize(rows, len(train)))  # over and over

    def _some(self, rows: Ints, most: int | None) -> Ints:
        """Return at most so many of the rows, in their order."""
        if most is None or len(rows) <= most:
            return rows
        return np.sort(np.random.default_rng([self.seed, 1]).choice(rows, most, replace=False))

    def set_file(self, name: str) -> Path:
        """Return the file of a set."""
        return self.folder / f"{name.split(maxsplit=1)[0]}.jsonl"

    def lesson_file(self, name: str) -> Path:
        """Return the file that is learnt: the set, where steps are to be equal repeated."""
        file = self.set_file(name)
        return file.with_suffix(".repeated.jsonl") if self.plan.equal_steps else file

    def responses_file(self, variant: str) -> Path:
        """Return the file of a variant's responses."""
        return self.model_path(variant).with_suffix(".responses.jsonl")

    def model_path(self, variant: str) -> Path:
        """Return where a variant is made."""
        return self.folder / variant.replace(", ", "-").replace(" ", "-")

    def run(self, points: Path, only: Collection[str] = ()) -> None:
        """Measure every variant, or only some, that is not in ``points`` yet, and write the page of all responses."""
        done = {point["variant"] for point in read_points(points) if point["seed"] == self.seed}
        for variant in self.plan.variants:
            if variant in done or (only and variant not in only):
                continue
            start = time.monotonic()
            path = self.make(variant)
            made = time.monotonic()
            point = self.measure(variant, path)
            point |= {"seconds_making": made - start, "seconds_measuring": time.monotonic() - made}
            with open(points, "a") as file:
                file.write(json.dumps(point) + "\n")
            print(f"seed {self.seed}, {variant}: {time.monotonic() - start:.0f} s", flush=True)
            done.add(variant)
        found = {
            variant: read_responses(self.responses_file(variant)) for variant in self.plan.variants if variant in done
        }
        write_page(self.folder / PAGE, found, len(self.held_out))
        if done >= set(self.plan.variants):
            self.remove_large()

    def remove_large(self) -> None:
        """Remove the models of which each is as large as the base, or larger: three seeds of them may fill a disk."""
        for variant in self.plan.variants:
            if variant.startswith("MoE") or variant == AVERAGED:
                shutil.rmtree(self.model_path(variant), ignore_errors=True)

    def make(self, variant: str) -> Path:
        """Return the checkpoint of a variant; make it if it does not exist."""
        if variant == BASE and self.plan.expert.base:
            return Path(self.plan.expert.base)
        output = self.model_path(variant)
        if output.exists():
            return output
        if variant == BASE:
            with new_folder(output) as folder:
                pretrain(self.texts, folder, self.seed)
        elif variant == AVERAGED:
            with new_folder(output) as folder:
                average(self.experts(), folder)
        elif variant.endswith(", trained"):
            mixture = str(self.make(variant.removesuffix(", trained")))
            settings = replace(self.plan.router, seed=self.seed)
            train_mixture(mixture, self.both_sets(), output, settings, existing="resume")
        elif variant.startswith("MoE"):
            informed = "informed" in variant
            settings_of = replace(self.plan.compose, router="informed" if informed else "random", seed=self.seed)
            sets = self.both_sets() if informed else ()
            compose_mixture(self.experts(), output, settings_of, sets=sets)
        else:
            settings_of_expert = replace(self.plan.expert, base=str(self.make(BASE)), seed=self.seed)
            train_expert(self.lesson_file(variant), output, settings_of_expert, existing="resume")
        return output

    def experts(self) -> list[Path]:
        """Return the two experts of the mixtures."""
        return [self.make(SENSIBILITY), self.make(RATIONALITY)]

    def both_sets(self) -> list[Path]:
        """Return the sets of the two experts, each dialogue once."""
        return [self.set_file(SENSIBILITY), self.set_file(RATIONALITY)]

    def measure(self, variant: str, path: Path) -> dict[str, Any]:
        """Return the point of a variant: losses per held-out dialogue, and figures of its responses."""
        chat = Chat(load_tokenizer(path), self.plan.expert.max_length)
        encoded = [chat.example(dialogue) for dialogue in self.held_out]
        rows = [row for row, one in enumerate(encoded) if isinstance(one, Example)]
        examples = [one for one in encoded if isinstance(one, Example)]
        losses = response_losses(load_causal(path), examples, chat.pad_id)
        tokens = [len(one) - one.prompt for one in examples]
        file = self.responses_file(variant)
        generate_responses(str(path), self.held_out, file, self.plan.generate, overwrite=True)
        found = read_responses(file)
        loss = float(losses.sum()) / sum(tokens)
        figures = {"perplexity": math.exp(loss), "log_perplexity": loss, **self.figures(found)}
        figures["finished"] = float(np.mean([one.finished for one in found]))
        return {
            "seed": self.seed,
            "variant": variant,
            "trained_on": self.counts.get(variant),
            "steps": self.steps(variant),
            "conversations": [one.conversation for one in examples],
            "sets": [self.held_out_sets[row] for row in rows],
            "losses": losses.round(4).tolist(),
            "tokens": tokens,
            "figures": figures,
            "reference": self.figures(found, reference=True) if variant == BASE else None,
            "note": self.marker.note(self.held_out),
        }

    def steps(self, variant: str) -> int | None:
        """Return how many optimiser steps a variant that learns a set takes."""
        if variant not in self.counts:
            return None
        return self.plan.expert.steps(self.counts[ALL if self.plan.equal_steps else variant])

    def figures(self, found: Sequence[Response], *, reference: bool = False) -> dict[str, float | None]:
        """Return what is known of responses, or of those in the data, by name; None where there is nothing to score."""
        dialogues = [one.dialogue(reference=reference) for one in found]
        texts = [one.response for one in dialogues]
        kinds = [kind_of(one) for one in dialogues]
        figures: dict[str, float | None] = {kind: kinds.count(kind) / len(kinds) for kind in RECOGNISED}
        figures |= text_figures(texts, None if reference else [one.reference for one in found])
        if scored := [one for one in dialogues if one.response.strip()]:
            marks = self.marker.marks(self.seed, scored)
            figures |= dict(zip(HEADS, marks.mean(axis=0, dtype=float).tolist(), strict=True))
            figures["kept"] = float((PAPER.apply(marks, self.marker.cuts) == 0).mean())
        return figures


def drawn_by_score(rows: Ints, scores: Scores, threshold: float, seed: int) -> Ints:
    """Return as many of the rows, some several times: the softer form of the rule "sensibility > T, rationality < T".

    The chance of a row with scores s, r is proportional to sigmoid(s - T) * sigmoid(T - r).
    """
    sensibility, rationality = (scores - threshold).T
    weights = 1 / (1 + np.exp(-sensibility)) / (1 + np.exp(rationality))
    return np.sort(np.random.default_rng([seed, 2]).choice(rows, len(rows), p=weights / weights.sum()))


def respelt(dialogue: Dialogue) -> Dialogue:
    """Return a dialogue in normalised spelling: the release is lower-case and tokenised, the unlabelled text is not."""
    return replace(dialogue, turns=tuple(Turn(turn.role, normalise(turn.content)) for turn in dialogue.turns))


def write_set(path: Path, dialogues: Sequence[Dialogue], rows: Ints) -> None:
    """Write some of the dialogues as a set; one that comes again is told apart by its id."""
    records = (to_record(replace(dialogues[row], id=f"{dialogues[row].id}#{place}")) for place, row in enumerate(rows))
    path.write_bytes(b"".join(map(to_line, records)))


def average(experts: Sequence[Path], output: Path) -> None:
    """Write the dense model whose weights are the mean of the merged experts'."""
    models = [load_causal(path) for path in experts]
    mean = models[0]
    with torch.no_grad():
        for parameters in zip(*(model.parameters() for model in models), strict=True):
            parameters[0].copy_(torch.stack(parameters).mean(dim=0))
    mean.save_pretrained(output)
    load_tokenizer(experts[0]).save_pretrained(output)
