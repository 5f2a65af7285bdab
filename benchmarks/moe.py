"""Does training on selected sets, and mixing the experts, pay? A small Llama from scratch, on real dialogues.

    python -m benchmarks.moe LABELS --unlabelled IN... --checkpoint CHECKPOINT -o WORK

LABELS is the published release with the judge's scores, CHECKPOINT one of `empathy train --folds K` on it. For each of
the first folds ("seeds"): a Llama of some 5 M parameters is pretrained on the unlabelled dialogues; of the fold's own
conversations a fifth is held out, the rest is dealt into sets by the judge's labels (the paper's rule, T = 5), and each
variant is fine-tuned or composed. All are read on the same held-out dialogues: perplexity, and the marks that the
fold's scorer gives their greedy responses. That scorer was trained on the other folds: it took no part in the selection
and never saw the dialogues.

Each point is a line in WORK/points.jsonl as soon as it is known; the same command again goes on behind the last one.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

from distill.labelled import LabelledSet, read_labelled
from distill.training.checkpoint import Checkpoint, load_checkpoint
from distill.training.fits import assign
from distill.training.network import predict
from moe.evaluation.generate import generate, read_responses
from moe.evaluation.measures import answered, response_losses, text_measures
from moe.mixture.compose import compose
from moe.models import load_causal, load_tokenizer
from moe.sets.chat import Chat, Example
from moe.settings import ComposeSettings, ExpertSettings, GenerateSettings, RouterSettings, Schedule
from moe.training.expert import train_expert
from moe.training.router import train_mixture
from moe.training.trainer import fit
from scorer.dialogue import HEADS, Dialogue, Turn
from scorer.engines.base import available_cores
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
DRAWS = 2000

VARIANTS = (
    "base",
    "all data",
    "random subset",
    "sensibility set",
    "rationality set",
    "experts averaged",
    "MoE, random router",
    "MoE, informed router",
    "MoE, random router, trained",
    "MoE, informed router, trained",
)


@click.command()
@click.argument("labels", nargs=-1, required=True)
@click.option("--unlabelled", multiple=True, required=True, help="What the small model is pretrained on.")
@click.option("--checkpoint", type=click.Path(path_type=Path), required=True, help="Of `empathy train --folds K`.")
@click.option("-o", "--work", type=click.Path(path_type=Path), required=True)
@click.option("--seeds", default=3, show_default=True, help="As many folds are used.")
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
    report["machine"] = {"processor": platform.processor() or platform.machine(), "cores": available_cores()}
    report["versions"] = {name: version(name) for name in ("empathy-scorer", "torch", "transformers", "peft")}
    for line in lines(report):
        print(line)
    if json_path:
        json_path.write_text(json.dumps(report, indent=1) + "\n")


class Seed:
    """One pretrained model and all variants on one fold."""

    def __init__(
        self, seed: int, folder: Path, labelled: LabelledSet, texts: Sequence[Dialogue], scorers: Checkpoint
    ) -> None:
        """Deal the fold's conversations, and write the sets."""
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
        """Return where a set lies."""
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
        """Return the checkpoint of a variant, made if it is not there."""
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
            compose(experts, output, settings_of, sets=self.both_sets() if informed else ())
        else:
            settings_of_expert = replace(EXPERT, base=str(self.make("base")), seed=self.seed)
            train_expert(self.set_file(variant), output, settings_of_expert, existing="resume")
        return output

    def both_sets(self) -> list[Path]:
        """Return the sets of the two experts."""
        return [self.set_file("sensibility set"), self.set_file("rationality set")]

    def pretrain(self, output: Path) -> None:
        """Train tokenizer and model from nothing on the unlabelled dialogues, every token counting."""
        tokenizer = train_tokenizer(self.texts)
        chat = Chat(tokenizer, LENGTH)
        encoded = [chat.example(dialogue) for dialogue in self.texts]
        whole = [Example(one.ids, 1, one.conversation, 0) for one in encoded if isinstance(one, Example)]
        set_seed(self.seed)
        config = LlamaConfig(vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=1, pad_token_id=2, **SIZES)
        model = LlamaForCausalLM._from_config(config, attn_implementation="eager")
        print(f"pretraining {model.num_parameters() / 1e6:.1f} M parameters on {len(whole)} dialogues", flush=True)
        fit(model, whole, [], replace(PRETRAINING, seed=self.seed), self.folder / "pretraining", chat.pad_id)
        vars(model).pop("forward", None)
        model.config.use_cache = True
        model.save_pretrained(output)
        tokenizer.save_pretrained(output)

    def measure(self, variant: str, path: Path) -> dict[str, Any]:
        """Return the point of a variant: losses by held-out dialogue, and what its responses are worth."""
        chat = Chat(load_tokenizer(path), LENGTH)
        encoded = [chat.example(dialogue) for dialogue in self.held_out]
        rows = [row for row, one in enumerate(encoded) if isinstance(one, Example)]
        examples = [one for one in encoded if isinstance(one, Example)]
        losses = response_losses(load_causal(path), examples, chat.pad_id)
        file = self.folder / f"{path.name}.responses.jsonl"
        generate(str(path), self.held_out, file, GENERATE, overwrite=True)
        records = read_responses(file)
        texts = [record["messages"][-1]["content"] for record in records]
        return {
            "seed": self.seed,
            "variant": variant,
            "trained_on": self.counts.get(variant),
            "conversations": [one.conversation for one in examples],
            "sets": [self.held_out_sets[row] for row in rows],
            "losses": losses.round(4).tolist(),
            "tokens": [len(one) - one.prompt for one in examples],
            "marks": self.marks(records, reference=False),
            "reference_marks": self.marks(records, reference=True) if variant == "base" else [],
            "marked_conversations": [record["conversation"] for record in records],
            "texts": text_measures(texts, [record["reference"] for record in records]),
        }

    def marks(self, records: Sequence[dict[str, Any]], *, reference: bool) -> list[list[float]]:
        """Return the scores of responses by the scorer of this fold, on the scale of its calibration."""
        fold = self.scorers.fold(self.seed)
        dialogues = [one for one in answered(records, reference=reference) if one.response.strip()]
        raw = predict(fold.load_model(), fold.encoder.encode(dialogues))
        fitted = self.scorers.info.calibration
        assert fitted  # of a whole checkpoint
        scores = np.asarray(fitted.slope) * raw + np.asarray(fitted.intercept)
        return [[round(float(value), 3) for value in row] for row in scores]


def respelt(dialogue: Dialogue) -> Dialogue:
    """Return a dialogue in the one spelling: the release is lower-case and tokenised, the unlabelled text is not."""
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


def read_points(path: Path) -> list[dict[str, Any]]:
    """Return the points that were written to their end."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def summary(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return each variant's figures over all seeds, and what they differ by from the random subset's.

    Intervals are 95 %, from a bootstrap over the conversations of all seeds; a difference is drawn with the same
    conversations on both sides.
    """
    seeds = sorted({point["seed"] for point in points})
    by_variant = {
        name: [next(p for p in points if (p["seed"], p["variant"]) == (seed, name)) for seed in seeds]
        for name in VARIANTS
    }
    against = Pool(by_variant["random subset"])
    rows = {}
    for name, mine in by_variant.items():
        pool = Pool(mine)
        rows[name] = {
            "trained_on": [point["trained_on"] for point in mine],
            "perplexity": pool.perplexity(),
            "by_seed": [Pool([point]).perplexity()["value"] for point in mine],
            "log_perplexity_less_random_subset": pool.difference(against),
            "by_set": {PAPER.sets[k]: pool.perplexity(only=k)["value"] for k in (0, 1)},
            "marks": {head: pool.mark(k) for k, head in enumerate(HEADS)},
            "marks_less_random_subset": {head: pool.mark_difference(against, k) for k, head in enumerate(HEADS)},
            **{
                key: float(np.mean([point["texts"][key] for point in mine]))
                for key in ("dist_1", "dist_2", "bleu", "rouge_l", "words", "empty")
            },
        }
    reference = np.concatenate([np.array(point["reference_marks"]) for point in by_variant["base"]])
    return {
        "seeds": seeds,
        "held_out": len(against.losses),
        "rows": rows,
        "reference_marks": dict(zip(HEADS, reference.mean(axis=0).tolist(), strict=True)),
    }


class Pool:
    """The points of one variant over several seeds, as arrays by held-out dialogue."""

    def __init__(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Join them; conversations of different folds never are the same."""
        self.losses = np.concatenate([np.array(point["losses"]) for point in points])
        self.tokens = np.concatenate([np.array(point["tokens"], dtype=float) for point in points])
        self.sets = np.concatenate([np.array(point["sets"]) for point in points])
        self.groups = groups([name for point in points for name in point["conversations"]])
        self.marks = np.concatenate([np.array(point["marks"]) for point in points])
        self.marked = groups([name for point in points for name in point["marked_conversations"]])

    def perplexity(self, only: int | None = None) -> dict[str, Any]:
        """Return perplexity and its interval, on the dialogues of one set if asked."""
        rows = np.ones(len(self.sets), dtype=bool) if only is None else self.sets == only
        drawn = ratios(self.groups[rows], self.losses[rows], self.tokens[rows])
        value = self.losses[rows].sum() / self.tokens[rows].sum()
        return {"value": float(np.exp(value)), "interval_95": np.exp(np.percentile(drawn, [2.5, 97.5])).tolist()}

    def difference(self, other: Pool) -> dict[str, Any]:
        """Return the difference of mean losses a token, and its interval."""
        less = self.losses - other.losses
        drawn = ratios(self.groups, less, self.tokens)
        return {
            "value": float(less.sum() / self.tokens.sum()),
            "interval_95": np.percentile(drawn, [2.5, 97.5]).tolist(),
        }

    def mark(self, head: int) -> float:
        """Return the mean score of a head."""
        return float(self.marks[:, head].mean())

    def mark_difference(self, other: Pool, head: int) -> dict[str, Any] | None:
        """Return the difference of mean scores, null where an empty response has no score to compare."""
        if len(self.marks) != len(other.marks) or len(self.marks) != len(self.marked):
            return None
        less = self.marks[:, head] - other.marks[:, head]
        drawn = ratios(self.marked, less, np.ones(len(less)))
        return {"value": float(less.mean()), "interval_95": np.percentile(drawn, [2.5, 97.5]).tolist()}


def groups(names: Sequence[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the number of each row's conversation."""
    return np.unique(np.asarray(names), return_inverse=True)[1].astype(np.int64)


def ratios(group: Any, above: Any, below: Any) -> Any:
    """Return sum(above) / sum(below) for each draw of the conversations."""
    count = int(group.max()) + 1
    sums = np.stack([np.bincount(group, weights=values, minlength=count) for values in (above, below)])
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=DRAWS) @ sums.T
    return drawn[:, 0] / np.maximum(drawn[:, 1], 1e-12)


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table as Markdown."""
    yield f"{len(report['seeds'])} seeds, {report['held_out']} held-out dialogues in all"
    yield ""
    yield (
        "| variant | dialogues | perplexity | by seed | log perplexity less the random subset's | on the sensibility "
        "set | on the rationality set | S | R | S less the random subset's | Dist-2 | words |"
    )
    yield "|---|" + "---|" * 11
    for name, row in report["rows"].items():
        marks, less = row["marks"], row["marks_less_random_subset"]["sensibility"]
        cells = [
            name,
            ", ".join(str(count) for count in row["trained_on"] if count) or "-",
            between(row["perplexity"], 2),
            ", ".join(f"{value:.2f}" for value in row["by_seed"]),
            between(row["log_perplexity_less_random_subset"], 4),
            *(f"{row['by_set'][key]:.2f}" for key in ("sensibility", "rationality")),
            *(f"{marks[head]:.2f}" for head in HEADS),
            "-" if less is None else between(less, 2),
            f"{row['dist_2']:.3f}",
            f"{row['words']:.1f}",
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield "marks of the responses that the dialogues have: " + ", ".join(
        f"{head} {value:.2f}" for head, value in report["reference_marks"].items()
    )


def between(figure: Mapping[str, Any], digits: int) -> str:
    """Return a figure with its interval."""
    low, high = figure["interval_95"]
    return f"{figure['value']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


if __name__ == "__main__":
    main()
