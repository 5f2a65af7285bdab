"""Does it help to train on selected sets and to mix the experts? A small Llama from scratch, on real dialogues.

    python -m benchmarks.moe LABELS --unlabelled IN... --checkpoint CHECKPOINT -o WORK

LABELS is the published release with the judge's scores, CHECKPOINT one of `empathy train --folds K` on it. For each of
the first folds ("seeds") a Llama of about 5 M parameters is pretrained on the unlabelled dialogues. A fifth of the
fold's own conversations is held out; the judge's labels assign the rest to sets (the paper's rule, T = 5), and each
variant is fine-tuned or composed. All are measured on the same held-out dialogues: perplexity, and the scores that the
fold's scorer gives their greedy responses. That scorer was trained on the other folds: it had no part in the selection
and never saw the dialogues.

Each point is written to WORK/points.jsonl as soon as it is known; the same command continues after the last one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

from benchmarks.about import machine, versions
from benchmarks.moe_figures import VARIANTS, lines, read_points, summary
from distill.labelled import LabelledSet, read_labelled
from distill.training.checkpoint import Checkpoint, load_checkpoint
from distill.training.fits import assign
from distill.training.network import predict
from moe.evaluation.generate import generate_responses
from moe.evaluation.measures import response_losses, text_figures
from moe.evaluation.responses import Response, read_responses
from moe.mixture.compose import compose_mixture
from moe.models import load_causal, load_tokenizer
from moe.sets.chat import Chat, Example
from moe.settings import ComposeSettings, ExpertSettings, GenerateSettings, RouterSettings, Schedule
from moe.training.expert import train_expert
from moe.training.router import train_mixture
from moe.training.trainer import fit_causal
from scorer.dialogue import Dialogue, Turn
from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import to_record
from scorer.text import normalise
from selection.files.layouts import to_line
from selection.folds import fold_of
from selection.rules import PAPER

VOCABULARY = 4096
SIZES = {
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}
LENGTH = 192
HELD_OUT_PARTS = 5
PRETRAINING = Schedule(learning_rate=2e-3, epochs=1, batch_size=16, max_length=LENGTH, held_out=0, checkpointing=False)
EXPERT = ExpertSettings(
    base="", learning_rate=2e-3, epochs=2, batch_size=16, max_length=LENGTH, held_out=0, checkpointing=False
)
ROUTER = RouterSettings(learning_rate=3e-3, batch_size=16, max_length=LENGTH, held_out=0, checkpointing=False)
COMPOSE = ComposeSettings(max_length=LENGTH)
GENERATE = GenerateSettings(max_new_tokens=40, max_length=LENGTH + 40, batch_size=64)


@click.command()
@click.argument("labels", nargs=-1, required=True)
@click.option("--unlabelled", multiple=True, required=True, help="Dialogues to pretrain the small model on.")
@click.option("--checkpoint", type=click.Path(path_type=Path), required=True, help="From `empathy train --folds K`.")
@click.option("-o", "--work", type=click.Path(path_type=Path), required=True)
@click.option("--seeds", default=3, show_default=True, help="The number of folds that are used.")
@click.option("--json", "json_path", type=click.Path(path_type=Path))
def main(
    labels: tuple[str, ...],
    unlabelled: tuple[str, ...],
    checkpoint: Path,
    work: Path,
    seeds: int,
    json_path: Path | None,
) -> None:
    """Measure every variant, print the table, and write every figure with ``--json``."""
    work.mkdir(exist_ok=True)
    scorers = load_checkpoint(checkpoint)
    labelled = read_labelled(labels)
    texts = [respelt(record) for record in Corpus(unlabelled) if isinstance(record, Dialogue)]
    for seed in range(seeds):
        folder = work / f"seed{seed}"
        folder.mkdir(exist_ok=True)
        Seed(seed, folder, labelled, texts, scorers).run(work / "points.jsonl")
    report = summary(read_points(work / "points.jsonl"))
    report |= {"machine": machine(), "versions": versions("torch", "transformers", "peft")}
    for line in lines(report):
        print(line)
    if json_path:
        json_path.write_text(json.dumps(report, indent=1) + "\n")


class Seed:
    """One pretrained model and all variants on one fold."""

    def __init__(
        self, seed: int, folder: Path, labelled: LabelledSet, texts: Sequence[Dialogue], scorers: Checkpoint
    ) -> None:
        """Divide the fold's conversations, and write the sets."""
        self.seed, self.folder, self.texts, self.scorers = seed, folder, texts, scorers
        fold = assign(labelled.conversations, scorers.info.settings).folds == seed
        mine = [respelt(dialogue) for dialogue, own in zip(labelled.dialogues, fold, strict=True) if own]
        sets = PAPER.apply(labelled.scores[fold])
        out = np.array([fold_of(f"benchmark:{one.conversation}", HELD_OUT_PARTS, seed) == 0 for one in mine])
        self.held_out = [one for one, held in zip(mine, out, strict=True) if held]
        self.held_out_sets = sets[out].tolist()
        train = np.flatnonzero(~out)
        chosen = {"all data": train, **{f"{PAPER.sets[k]} set": train[sets[train] == k] for k in (0, 1)}}
        rng = np.random.default_rng(seed)
        chosen["random subset"] = np.sort(rng.choice(train, len(chosen["sensibility set"]), replace=False))
        self.counts = {name: len(rows) for name, rows in chosen.items()}
        for name, rows in chosen.items():
            self.set_file(name).write_bytes(b"".join(to_line(to_record(mine[row])) for row in rows))

    def set_file(self, name: str) -> Path:
        """Return the file of a set."""
        return self.folder / f"{name.split(maxsplit=1)[0]}.jsonl"

    def run(self, points: Path) -> None:
        """Measure every variant that is not in ``points`` yet."""
        done = {(point["seed"], point["variant"]) for point in read_points(points)}
        for variant in VARIANTS:
            if (self.seed, variant) in done:
                continue
            start = time.monotonic()
            point = self.measure(variant, self.make(variant)) | {"seconds": time.monotonic() - start}
            with open(points, "a") as file:
                file.write(json.dumps(point) + "\n")
            print(f"seed {self.seed}, {variant}: {point['seconds']:.0f} s", flush=True)

    def make(self, variant: str) -> Path:
        """Return the checkpoint of a variant; make it if it does not exist."""
        output = self.folder / variant.replace(", ", "-").replace(" ", "-")
        if output.exists():
            return output
        if variant == "base":
            self.pretrain(output)
        elif variant == "experts averaged":
            average([self.make("sensibility set"), self.make("rationality set")], output)
        elif variant.endswith(", trained"):
            settings = replace(ROUTER, seed=self.seed)
            mixture = self.make(variant.removesuffix(", trained"))
            train_mixture(str(mixture), self.both_sets(), output, settings, existing="resume")
        elif variant.startswith("MoE"):
            informed = "informed" in variant
            settings_of = replace(COMPOSE, router="informed" if informed else "random", seed=self.seed)
            experts = [self.make("sensibility set"), self.make("rationality set")]
            compose_mixture(experts, output, settings_of, sets=self.both_sets() if informed else ())
        else:
            settings_of_expert = replace(EXPERT, base=str(self.make("base")), seed=self.seed)
            train_expert(self.set_file(variant), output, settings_of_expert, existing="resume")
        return output

    def both_sets(self) -> list[Path]:
        """Return the sets of the two experts."""
        return [self.set_file("sensibility set"), self.set_file("rationality set")]

    def pretrain(self, output: Path) -> None:
        """Train tokenizer and model from scratch on the unlabelled dialogues; the loss covers every token."""
        tokenizer = train_tokenizer(self.texts)
        chat = Chat(tokenizer, LENGTH)
        encoded = [chat.example(dialogue) for dialogue in self.texts]
        whole = [Example(one.ids, 1, one.conversation, 0) for one in encoded if isinstance(one, Example)]
        set_seed(self.seed)
        config = LlamaConfig(vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=1, pad_token_id=2, **SIZES)
        model = LlamaForCausalLM._from_config(config, attn_implementation="eager")
        print(f"pretraining {model.num_parameters() / 1e6:.1f} M parameters on {len(whole)} dialogues", flush=True)
        fit_causal(model, whole, [], replace(PRETRAINING, seed=self.seed), self.folder / "pretraining", chat.pad_id)
        extract_model_from_parallel(model, keep_fp32_wrapper=False)
        model.config.use_cache = True
        model.save_pretrained(output)
        tokenizer.save_pretrained(output)

    def measure(self, variant: str, path: Path) -> dict[str, Any]:
        """Return the point of a variant: losses per held-out dialogue, and the scores of its responses."""
        chat = Chat(load_tokenizer(path), LENGTH)
        encoded = [chat.example(dialogue) for dialogue in self.held_out]
        rows = [row for row, one in enumerate(encoded) if isinstance(one, Example)]
        examples = [one for one in encoded if isinstance(one, Example)]
        losses = response_losses(load_causal(path), examples, chat.pad_id)
        file = self.folder / f"{path.name}.responses.jsonl"
        generate_responses(str(path), self.held_out, file, GENERATE, overwrite=True)
        found = read_responses(file)
        return {
            "seed": self.seed,
            "variant": variant,
            "trained_on": self.counts.get(variant),
            "conversations": [one.conversation for one in examples],
            "sets": [self.held_out_sets[row] for row in rows],
            "losses": losses.round(4).tolist(),
            "tokens": [len(one) - one.prompt for one in examples],
            "marks": self.marks(found, reference=False),
            "reference_marks": self.marks(found, reference=True) if variant == "base" else [],
            "marked_conversations": [one.conversation for one in found],
            "texts": text_figures([one.text for one in found], [one.reference for one in found]),
        }

    def marks(self, found: Sequence[Response], *, reference: bool) -> list[list[float]]:
        """Return the scores of responses by the scorer of this fold, on the scale of its calibration."""
        fold = self.scorers.fold(self.seed)
        dialogues = [one for one in (each.dialogue(reference=reference) for each in found) if one.response.strip()]
        raw = predict(fold.load_model(), fold.encoder.encode(dialogues))
        fitted = self.scorers.info.calibration
        assert fitted  # of a whole checkpoint
        scores = np.asarray(fitted.slope) * raw + np.asarray(fitted.intercept)
        return [[round(float(value), 3) for value in row] for row in scores]


def respelt(dialogue: Dialogue) -> Dialogue:
    """Return a dialogue in normalised spelling: the release is lower-case and tokenised, the unlabelled text is not."""
    return replace(dialogue, turns=tuple(Turn(turn.role, normalise(turn.content)) for turn in dialogue.turns))


def train_tokenizer(texts: Sequence[Dialogue]) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer of these dialogues."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>", "<pad>"],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    spoken = (f"{turn.role.capitalize()}: {turn.content}\n" for dialogue in texts for turn in dialogue.turns)
    tokenizer.train_from_iterator(spoken, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        model_input_names=["input_ids", "attention_mask"],
    )


def average(experts: Sequence[Path], output: Path) -> None:
    """Write the dense model whose weights are the mean of the merged experts'."""
    models_ = [load_causal(path) for path in experts]
    mean = models_[0]
    with torch.no_grad():
        for parameters in zip(*(model.parameters() for model in models_), strict=True):
            parameters[0].copy_(torch.stack(parameters).mean(dim=0))
    mean.save_pretrained(output)
    load_tokenizer(experts[0]).save_pretrained(output)


if __name__ == "__main__":
    main()
