"""Make the provisional starter scorer: a small encoder fine-tuned on the published labels, as a bundle.

    python -m distill.provisional val_results.json --backbone FOLDER_OR_HUB_ID -o scorer/starter

The recipe is plain (mean squared error on z-scored targets) and untuned; it exists so that scoring has a real
model to run. Its figures and cuts come from out-of-fold predictions, folds by conversation.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import cohen_kappa_score, f1_score
from sklearn.model_selection import GroupKFold
from tokenizers import Tokenizer
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from distill.export import store_int8, to_onnx
from scorer.bundle import write_bundle
from scorer.corpus import Corpus
from scorer.dialogue import HEADS, Dialogue, training_hash
from scorer.domain import fit_domain
from scorer.encode import Encoded, Encoder

Scores = npt.NDArray[np.float32]
log = logging.getLogger("distill")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Settings of the fine-tuning; lengths in tokens, ``warmup`` a share of all steps."""

    epochs: int = 3
    learning_rate: float = 1.5e-4
    batch_size: int = 32
    warmup: float = 0.1
    weight_decay: float = 0.01
    max_length: int = 256
    seed: int = 0
    folds: int = 3


def labels_of(dialogues: Sequence[Dialogue]) -> Scores:
    """Return the judge's scores, shape (N, 2), heads in the order of ``HEADS``."""
    rows = [(d.labels.sensibility, d.labels.rationality) for d in dialogues if d.labels is not None]
    return np.asarray(rows, dtype=np.float32)


def collate(batch: Sequence[Encoded], *, types: bool) -> dict[str, torch.Tensor]:
    """Return padded model inputs, each of shape (B, T) with T a multiple of 16."""
    length = -(-max(map(len, batch)) // 16) * 16
    ids = torch.zeros(len(batch), length, dtype=torch.long)
    mask = torch.zeros_like(ids)
    second = torch.zeros_like(ids)
    for row, item in enumerate(batch):
        ids[row, : len(item)] = torch.from_numpy(item.ids.astype(np.int64))
        mask[row, : len(item)] = 1
        second[row, item.first_segment : len(item)] = 1
    inputs = {"input_ids": ids, "attention_mask": mask}
    return inputs | {"token_type_ids": second} if types else inputs


def train(encoded: Sequence[Encoded], labels: Scores, backbone: str, recipe: Recipe) -> PreTrainedModel:
    """Fine-tune ``backbone`` on ``labels`` (N, 2); the returned model's logits are scores on the judge's scale."""
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    model = AutoModelForSequenceClassification.from_pretrained(
        backbone, num_labels=2, problem_type="regression", id2label=dict(enumerate(HEADS))
    )
    types = getattr(model.config, "type_vocab_size", 0) > 1
    mean, sd = labels.mean(axis=0), labels.std(axis=0)
    targets = torch.from_numpy((labels - mean) / sd)  # (N, 2)
    lengths = np.array([len(item) for item in encoded])
    steps = recipe.epochs * -(-len(encoded) // recipe.batch_size)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=recipe.learning_rate,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min(
            (step + 1) / max(1.0, recipe.warmup * steps), (steps - step) / max(1.0, (1 - recipe.warmup) * steps)
        ),
    )
    model.train()
    start = time.monotonic()
    for epoch in range(recipe.epochs):
        total = 0.0
        for rows in grouped_batches(lengths, recipe.batch_size, rng):
            logits = model(**collate([encoded[i] for i in rows], types=types)).logits  # (B, 2)
            loss = torch.nn.functional.mse_loss(logits, targets[rows])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            total += loss.item() * len(rows)
        log.info("epoch %d: loss %.4f, %.0f s", epoch + 1, total / len(encoded), time.monotonic() - start)
    last = last_linear(model)
    with torch.no_grad():  # score = sd * z + mean, folded into the last layer
        last.weight.mul_(torch.from_numpy(sd)[:, None])
        last.bias.mul_(torch.from_numpy(sd)).add_(torch.from_numpy(mean))
    return model.eval()


def last_linear(model: PreTrainedModel) -> torch.nn.Linear:
    """Return the layer that gives the two scores."""
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m.out_features == 2]
    if len(layers) != 1:
        raise ValueError(f"{type(model).__name__} has {len(layers)} linear layers with 2 outputs, expected 1")
    return layers[0]


def grouped_batches(lengths: npt.NDArray[np.int64], size: int, rng: np.random.Generator) -> list[npt.NDArray[np.int64]]:
    """Return shuffled batches of rows of similar length: sorted within random blocks of 50 batches."""
    order = rng.permutation(len(lengths))
    blocks = [order[i : i + 50 * size] for i in range(0, len(order), 50 * size)]
    batches = []
    for block in blocks:
        ordered = block[np.argsort(lengths[block], kind="stable")]
        batches += [ordered[i : i + size] for i in range(0, len(ordered), size)]
    return [batches[i] for i in rng.permutation(len(batches))]


@torch.inference_mode()
def predict(model: PreTrainedModel, encoded: Sequence[Encoded]) -> Scores:
    """Return scores clipped to 0..10, shape (N, 2)."""
    types = getattr(model.config, "type_vocab_size", 0) > 1
    order = np.argsort([len(item) for item in encoded], kind="stable")
    scores = np.zeros((len(encoded), 2), dtype=np.float32)
    for i in range(0, len(order), 64):
        rows = order[i : i + 64]
        scores[rows] = model(**collate([encoded[j] for j in rows], types=types)).logits.numpy()
    return scores.clip(0, 10)


def cut_table(scores: Scores, labels: Scores) -> dict[str, list[float]]:
    """Return for each head the cuts at 0.5, 1.5 ... 9.5: as large a share of scores lies beyond as of labels.

    A level that no label (every label) lies beyond gets 10.5 (-0.5), which no score (every score) exceeds.
    """
    table = {}
    for head, name in enumerate(HEADS):
        ordered = np.sort(scores[:, head].astype(np.float64))
        below = [int((labels[:, head] < level + 0.5).sum()) for level in range(10)]
        table[name] = [
            -0.5 if k == 0 else 10.5 if k == len(ordered) else round(float(ordered[k - 1] + ordered[k]) / 2, 4)
            for k in below
        ]
    return table


def paper_sets(scores: Scores, cuts: dict[str, list[float]], threshold: int = 5) -> npt.NDArray[np.int64]:
    """Return 0 sensibility (S > T and R < T), 2 discard (S < T and R > T), 1 the rest (arXiv 2407.01937)."""
    (s_above, s_below), (r_above, r_below) = (
        (scores[:, i] > cuts[name][threshold], scores[:, i] < cuts[name][threshold - 1]) for i, name in enumerate(HEADS)
    )
    return np.where(s_above & r_below, 0, np.where(s_below & r_above, 2, 1))


def cross_validate(
    dialogues: Sequence[Dialogue], encoded: Sequence[Encoded], backbone: str, recipe: Recipe
) -> tuple[Scores, dict[str, float]]:
    """Return out-of-fold scores (N, 2), folds by conversation, and the agreement they show with the labels.

    The cuts behind the selection figures are fitted on the other folds' predictions, never on those they cut.
    """
    labels = labels_of(dialogues)
    folds = list(
        GroupKFold(recipe.folds, shuffle=True, random_state=recipe.seed).split(
            labels, groups=[d.conversation for d in dialogues]
        )
    )
    scores = np.zeros_like(labels)
    for number, (inside, outside) in enumerate(folds):
        model = train([encoded[i] for i in inside], labels[inside], backbone, recipe)
        scores[outside] = predict(model, [encoded[i] for i in outside])
        r = [np.corrcoef(scores[outside, h], labels[outside, h])[0, 1] for h in (0, 1)]
        log.info("fold %d of %d: r %.3f / %.3f", number + 1, recipe.folds, *r)
    chosen = np.zeros(len(labels), dtype=np.int64)
    for inside, outside in folds:
        chosen[outside] = paper_sets(scores[outside], cut_table(scores[inside], labels[inside]))
    plain = {name: [level + 0.5 for level in range(10)] for name in HEADS}
    judged = paper_sets(labels, plain)
    figures: dict[str, float] = {}
    for head, name in enumerate(HEADS):
        figures[f"pearson_{name}"] = float(np.corrcoef(scores[:, head], labels[:, head])[0, 1])
        figures[f"mae_{name}"] = float(np.abs(scores[:, head] - labels[:, head]).mean())
    figures["kappa_paper_rule"] = float(cohen_kappa_score(judged, chosen))
    figures["f1_sensibility_set"] = float(f1_score(judged == 0, chosen == 0))
    figures["kept_share"] = float((chosen == 0).mean())
    figures["kept_share_judge"] = float((judged == 0).mean())
    return scores, {name: round(value, 4) for name, value in figures.items()}


def card(name: str, figures: dict[str, float], dialogues: int, conversations: int, recipe: Recipe) -> str:
    """Return the model card of the starter, in Markdown."""
    rows = "\n".join(f"| {key.replace('_', ' ')} | {value:.3f} |" for key, value in figures.items())
    return f"""# {name}: the provisional starter scorer

Scores the last assistant turn of a dialogue for sensibility (emotional depth) and rationality (logical thought),
0 to 10, as ChatGPT scored it for *Efficient-Empathy* (arXiv 2407.01937).

- **Backbone**: all-MiniLM-L6-v2 (22.7 M parameters, Apache-2.0), fine-tuned for {recipe.epochs} epochs; weights
  stored as int8 with a scale a channel, computed with in fp32.
- **Training data**: {dialogues:,} (context, response) pairs of {conversations:,} conversations, the validation split
  that the authors of Efficient-Empathy published with ChatGPT's scores, over EmpatheticDialogues (CC BY-NC 4.0).
- **Use**: research only, as the data's licence says. English, short everyday conversations. A distilled scorer is only
  as good as its domain: on text of another kind its scores mean little, and `empathy score` warns of that.
- **Known limits**: untuned, one seed, not calibrated; it repeats the judge's taste and mistakes. It is a stopgap until
  the distillation pipeline replaces it.

## Agreement with ChatGPT's labels

{recipe.folds}-fold cross-validation by conversation; the cuts behind the last four rows are fitted on the other folds.

| figure | value |
|---|---|
{rows}
"""


def make_starter(labels: str, backbone: str, output: Path, recipe: Recipe) -> None:
    """Cross-validate, train on everything, export and write the bundle; ``labels`` is any labelled input."""
    dialogues = [record for record in Corpus([labels], labels="required") if isinstance(record, Dialogue)]
    tokenizer = Tokenizer.from_file(str(Path(backbone) / "tokenizer.json"))
    encoder = Encoder(tokenizer, recipe.max_length)
    encoded = encoder.encode(dialogues)
    scores, figures = cross_validate(dialogues, encoded, backbone, recipe)
    model = train(encoded, labels_of(dialogues), backbone, recipe)
    bundle_starter(dialogues, encoded, scores, figures, model, tokenizer, output, recipe)


def bundle_starter(
    dialogues: Sequence[Dialogue],
    encoded: Sequence[Encoded],
    out_of_fold: Scores,
    figures: dict[str, float],
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    output: Path,
    recipe: Recipe,
) -> None:
    """Export a trained model and write it as a bundle with its cuts, its card and its training data's hashes."""
    conversations = len({dialogue.conversation for dialogue in dialogues})
    how = f"out-of-fold, {recipe.folds} folds by conversation, {len(dialogues)} labels of ChatGPT"
    info: dict[str, Any] = {
        "name": "starter-provisional",
        "backbone": "all-MiniLM-L6-v2",
        "precision": "int8 weights, fp32 compute",
        "licence": "CC BY-NC 4.0 (research use)",
        "created": date.today().isoformat(),
        "max_length": recipe.max_length,
        "pad_id": int(model.config.pad_token_id),
        "cuts": cut_table(out_of_fold, labels_of(dialogues)),
        "measured": {"how": how, **figures},
        "training": {
            "data": "ChatGPT's labels published with Efficient-Empathy (validation split) over EmpatheticDialogues",
            "recipe": asdict(recipe),
            "conversations": conversations,
            "content_hashes": sorted(map(training_hash, dialogues)),
        },
        "domain": fit_domain(dialogues, encoded, tokenizer.get_vocab_size()).to_json(),
    }
    files = {
        "model.onnx": store_int8(to_onnx(model)).SerializeToString(),
        "tokenizer.json": tokenizer.to_str().encode(),
        "README.md": card(info["name"], figures, len(dialogues), conversations, recipe).encode(),
    }
    write_bundle(output, info, files)


@click.command()
@click.argument("labels")
@click.option("--backbone", required=True, help="A folder with a model and its tokenizer.json.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
def main(labels: str, backbone: str, output: Path) -> None:
    """Make the provisional starter from a labelled file."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    make_starter(labels, backbone, output, Recipe())


if __name__ == "__main__":
    main()
