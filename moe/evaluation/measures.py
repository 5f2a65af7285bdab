"""What a model's responses are worth: perplexity of given ones; diversity, overlap, length and marks of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from moe.sets.chat import Example
from moe.sets.examples import IGNORED, batches_of, pad_examples
from scorer.arrays import Floats
from scorer.dialogue import HEADS, Dialogue
from scorer.model import Scorer
from scorer.values import Count
from selection.rules import PAPER

Figures = dict[str, int | float | None]
"""Figures by name; None where there is nothing to measure."""

_TOKENS = 2048
_DRAWS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Perplexity:
    """Perplexity of ``tokens`` of the responses of ``examples``, and its 95 % interval."""

    perplexity: float
    interval_95: tuple[float, float]
    tokens: Count
    examples: Count


@torch.inference_mode()
def response_losses(model: Any, examples: Sequence[Example], pad_id: int) -> Floats:
    """Return for each example the summed loss of its response's tokens, in nats, (N,), computed in float32."""
    model.eval()
    totals = np.zeros(len(examples))
    for rows in batches_of(examples, _TOKENS):
        batch = pad_examples([examples[row] for row in rows], pad_id)
        inputs = {name: tensor.to(model.device) for name, tensor in batch.items()}
        labels = inputs.pop("labels")[:, 1:]  # (B, T - 1): each is predicted one place before
        logits = model(**inputs, use_cache=False).logits[:, :-1].float()
        losses = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
        )  # (B, T - 1), 0 where ignored
        totals[rows] = losses.sum(dim=1).double().cpu().numpy()
    return totals


def perplexity(losses: Floats, tokens: Floats, conversations: Sequence[str], seed: int = 0) -> Perplexity:
    """Return exp of the mean loss per token with its 95 % interval, a bootstrap over conversations."""
    _, group = np.unique(np.asarray(conversations), return_inverse=True)
    sums = np.stack([np.bincount(group, weights=values) for values in (losses, tokens)])  # (2, conversations)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(sums.shape[1], np.full(sums.shape[1], 1 / sums.shape[1]), size=_DRAWS) @ sums.T
    low, high = np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
    return Perplexity(
        perplexity=float(np.exp(losses.sum() / tokens.sum())),
        interval_95=(float(np.exp(low)), float(np.exp(high))),
        tokens=int(tokens.sum()),
        examples=len(losses),
    )


def distinct(texts: Sequence[str], n: int) -> float:
    """Return the number of different n-grams over that of all, words in lower case (Dist-n, arXiv 1510.03055)."""
    grams: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        words = text.lower().split()
        grams.update(zip(*(words[start:] for start in range(n)), strict=False))
    return len(grams) / max(1, grams.total())


def text_figures(texts: Sequence[str], references: Sequence[str] | None) -> Figures:
    """Return Dist-1, Dist-2, mean words and the share of empty texts; with references also BLEU and ROUGE-L.

    BLEU is sacrebleu's of the corpus, 0 to 100; ROUGE-L is rouge-score's F measure with stemming, the mean, 0 to 1.
    """
    found: Figures = {
        "dist_1": distinct(texts, 1),
        "dist_2": distinct(texts, 2),
        "words": float(np.mean([len(text.split()) for text in texts])),
        "empty": float(np.mean([not text.strip() for text in texts])),
    }
    if references is not None:
        from rouge_score.rouge_scorer import RougeScorer  # it loads nltk
        from sacrebleu import corpus_bleu

        rouge = RougeScorer(["rougeL"], use_stemmer=True)
        overlaps = [rouge.score(right, text)["rougeL"].fmeasure for text, right in zip(texts, references, strict=True)]
        found["bleu"] = float(corpus_bleu(list(texts), [list(references)]).score)
        found["rouge_l"] = float(np.mean(overlaps))
    return found


def marks_of(scorer: Scorer, dialogues: Sequence[Dialogue]) -> Figures:
    """Return what a scorer gives responses: mean scores, 0 to 10, and the share in the paper's sensibility set.

    ``scored`` is how many: an empty response has no score.
    """
    scored = [dialogue for dialogue in dialogues if dialogue.response.strip()]
    if not scored:
        return {"scored": 0, **dict.fromkeys((*HEADS, "share"))}
    scores = scorer.score(scored, progress=False)
    means = dict(zip(HEADS, scores.mean(axis=0, dtype=float).tolist(), strict=True))
    return {"scored": len(scored), **means, "share": float((PAPER.apply(scores, scorer.bundle.info.cuts) == 0).mean())}
