"""How well audits hold: simulated ones on published labels, with scores made out of fold.

    python -m benchmarks.audit FOLDER [--audits 500] [--encoder FOLDER] [--foreign DIALOGUES] [--json OUT]

The judge is the published one; the scorer is a ridge, cross-fitted by conversation, on the embeddings of a sentence
encoder (--encoder; else on TF-IDF). Its cuts are from all labels, so its share of agreement flatters it a little; the
intervals do not depend on that. --foreign is a corpus of another domain, scored by the starter, whose judge is the
starter's own opinion with a judge's noise, moved and exchanged.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from distill.auditing.audit import Sample, audit_sample, is_enough, is_sure, judge_intervals
from distill.auditing.sequential import decide_share
from distill.auditing.settings import AuditSettings
from distill.labelled import read_labelled
from distill.training.calibrate import balanced_cuts
from scorer.arrays import Floats
from scorer.bundle.bundle import load_bundle
from scorer.bundle.cuts import Cuts
from scorer.dialogue import HEADS, Dialogue, render
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.run.score_table import read_columns
from selection.folds import folds_of
from selection.rules import PAPER, to_judge_scale

LABELS = 200
LIMIT = 0.676
"""What the starter was measured with, less the default tolerance."""

NOISE = (1.0, 1.3)
"""Standard deviations of a simulated judge around its opinion: a starter has about these errors."""


def word_counts(texts: list[tuple[str, ...]], train: Any, test: Any) -> tuple[Any, Any]:
    """Return what a ridge learns from and is asked about."""
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    joined = [" ".join(text) for text in texts]
    return words.fit_transform([joined[i] for i in train]), words.transform([joined[i] for i in test])


def out_of_fold(texts: list[tuple[str, ...]], labels: Floats, folds: Any, encoder: str | None) -> Floats:
    """Return a ridge's scores (N, 2), each fold's from the other folds."""
    scores = np.zeros(labels.shape)
    embedded = embed(texts, encoder) if encoder else None
    for fold in np.unique(folds):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        if embedded is None:
            seen, asked = word_counts(texts, train, test)
        else:
            seen, asked = embedded[train], embedded[test]
        scores[test] = Ridge(alpha=3.0 if embedded is None else 8.0).fit(seen, labels[train]).predict(asked)
    return scores.clip(0, 10)


def embed(texts: list[tuple[str, ...]], encoder: str) -> Floats:
    """Return the embeddings of whole dialogue, response and context side by side, (N, 3 D), each of length 1."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(encoder, trust_remote_code=False)
    model = AutoModel.from_pretrained(encoder, trust_remote_code=False, use_safetensors=True).eval()
    parts = []
    for kind in (" ".join(text) for text in texts), (text[-1] for text in texts), (text[0] for text in texts):
        flat = list(kind)
        order = np.argsort([len(text) for text in flat])
        found = np.zeros((len(flat), model.config.hidden_size))
        for start in range(0, len(order), 64):
            rows = order[start : start + 64]
            inputs = tokenizer([flat[i] for i in rows], padding=True, truncation=True, return_tensors="pt")
            with torch.inference_mode():
                hidden = model(**inputs).last_hidden_state
            mask = inputs["attention_mask"][..., None]
            pooled = (hidden * mask).sum(1) / mask.sum(1)
            found[rows] = torch.nn.functional.normalize(pooled, dim=1).numpy()
        parts.append(found)
    return np.concatenate(parts, axis=1)


def coverage(scores: Floats, cuts: Cuts, labels: Floats, audits: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return per figure how often the interval held the corpus' truth, and its width beside the labels' alone."""
    everything = np.arange(len(scores))
    truth = judge_intervals(scores, cuts, everything, labels, 5)
    held = dict.fromkeys(truth, 0)
    widths = {name: [0.0, 0.0] for name in truth}
    for _ in range(audits):
        rows = rng.permutation(len(scores))[:LABELS]
        powered, alone = (judge_intervals(scores, cuts, rows, labels[rows], 5, powered=use) for use in (True, False))
        for name in truth:
            held[name] += powered[name].holds(truth[name].estimate)
            widths[name][0] += powered[name].width / audits
            widths[name][1] += alone[name].width / audits
    return {
        name: {
            "truth": truth[name].estimate,
            "held": held[name] / audits,
            "width": widths[name][0],
            "narrower": 1 - widths[name][0] / widths[name][1],
        }
        for name in truth
    }


def bounds(scores: Floats, labels: Floats) -> dict[str, float]:
    """Return by how much no tuning of a linear prediction from both scores could exceed: 1 - sqrt(1 - R^2)."""
    corpus = np.column_stack([np.ones(len(scores)), scores])
    left = labels - corpus @ np.linalg.lstsq(corpus, labels, rcond=None)[0]
    return {name: float(1 - left[:, i].std() / labels[:, i].std()) for i, name in enumerate(("S", "R"))}


def peeking(same: Floats, limit: float, audits: int, most: int, rng: np.random.Generator) -> dict[str, float]:
    """Return how often each answer came when looking after every label."""
    answers = [decide_share(same[rng.permutation(len(same))[:most]], len(same), limit) for _ in range(audits)]
    return {name: answers.count(name) / audits for name in ("above", "below", "open")}


def verdicts(
    scores: Floats, cuts: Cuts, labels: Floats, conversations: list[str], audits: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Return how often each verdict came, and after how many labels, looking every 50 of at most 1,000."""
    found, spent = [], []
    settings = AuditSettings(limit=LIMIT)
    for _ in range(audits):
        rows = rng.permutation(len(scores))[:1000]
        for count in range(100, 1001, 50):
            some = rows[:count]
            draws = [label[None] for label in labels[some]]
            named = [conversations[row] for row in some]
            sample = Sample(scores=scores, cuts=cuts, rows=some, labels=labels[some], draws=draws, conversations=named)
            answer, near = is_sure(sample, LIMIT, settings)
            if is_enough(answer, near, count) or count == 1000:
                break
        found.append(audit_sample(sample, LIMIT, settings).verdict)
        spent.append(count)
    return {"labels": float(np.mean(spent)), **{name: found.count(name) for name in sorted(set(found))}}


def foreign(path: Path, scored: Path | None, audits: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return the verdicts on a foreign corpus by judges that share the starter's opinion or do not."""
    dialogues = [record for record in Corpus([str(path)]) if isinstance(record, Dialogue)]
    cuts = load_bundle().info.cuts
    if scored is None:
        scores = Scorer.load().score(dialogues).astype(float)
    else:
        columns = read_columns(scored)
        scores = np.stack([columns[head] for head in HEADS], axis=1).astype(float)
    opinion = to_judge_scale(scores, cuts) + rng.normal(0, NOISE, scores.shape)
    judges = {
        "the starter's opinion, with noise": opinion,
        "two points less sensibility": opinion - [2, 0],
        "one less sensibility, one more rationality": opinion - [1, -1],
        "the two exchanged": opinion[:, ::-1],
        "another dialogue's scores": rng.permutation(opinion),
    }
    conversations = [dialogue.conversation for dialogue in dialogues]
    found = {}
    for name, said in judges.items():
        labels = said.round().clip(0, 10)
        same = PAPER.apply(labels) == PAPER.apply(scores, cuts)
        found[name] = {
            "accuracy": float(same.mean()),
            "kept": [float((sets == 0).mean()) for sets in (PAPER.apply(scores, cuts), PAPER.apply(labels))],
            **verdicts(scores, cuts, labels, conversations, audits, rng),
        }
    return found


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--audits", type=int, default=500)
    parser.add_argument("--encoder", help="A sentence encoder's folder.")
    parser.add_argument("--foreign", type=Path)
    parser.add_argument("--foreign-scores", type=Path, help="The starter's scores of these, where they are there.")
    parser.add_argument("--verdicts", type=int, default=20, help="Audits per judge that are run to their verdict.")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    labelled = read_labelled([str(given.folder / "val_results.json")])
    labels = labelled.scores.astype(float)
    folds = folds_of(labelled.conversations, 3, 0)
    scores = out_of_fold([render(dialogue) for dialogue in labelled.dialogues], labels, folds, given.encoder)
    cuts = balanced_cuts(scores, labels)
    rng = np.random.default_rng(0)
    same = (PAPER.apply(scores, cuts) == PAPER.apply(labels)).astype(float)
    found: dict[str, Any] = {
        "dialogues": len(labels),
        "pearson": [float(np.corrcoef(scores[:, i], labels[:, i])[0, 1]) for i in range(2)],
        "accuracy": float(same.mean()),
        "intervals": coverage(scores, cuts, labels, given.audits, rng),
        "bound": bounds(scores, labels),
        # At a limit that is the truth itself, either answer is an error.
        "peeking_at_truth": peeking(same, float(same.mean()), given.audits, 1000, rng),
    }
    print(json.dumps(found, indent=1), flush=True)
    if given.foreign:
        found["foreign"] = foreign(given.foreign, given.foreign_scores, given.verdicts, rng)
        print(json.dumps(found["foreign"], indent=1))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
