"""Preference pairs of `empathy select --rule pairs`, learnt by TRL's DPOTrainer: do its rewards come to agree?

    python -m benchmarks.dpo PAIRS [--base FOLDER] [--steps 200] [--json dpo.json]

TRL is no dependency of this package: `pip install trl` into an environment of its own that has it too. Without --base
a random Llama of two layers and single bytes is made: it shows that the layout is learnt, and nothing that a person
would notice. A tenth of the conversations is held out, by a hash.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from datasets import Dataset, load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from benchmarks.about import machine, versions
from selection.folds import fold_of
from tests.moe.conftest import CHATML, write_base

_FIGURES = ("loss", "rewards/accuracies", "rewards/margins")


def read_pairs(path: Path) -> tuple[Dataset, Dataset]:
    """Return the pairs to learn from and those of held-out conversations."""
    kind = "parquet" if path.suffix == ".parquet" else "json"
    pairs = load_dataset(kind, data_files=str(path), split="train")
    held_out = [fold_of(conversation, 10, 0) == 0 for conversation in pairs["conversation"]]
    rows = range(len(pairs))
    return pairs.select([k for k in rows if not held_out[k]]), pairs.select([k for k in rows if held_out[k]])


def train(pairs: Path, base: Path, output: Path, steps: int, learning_rate: float) -> dict[str, Any]:
    """Train a copy of the base, and return its figures on held-out pairs before and after, and on those it learnt."""
    learnt, held_out = read_pairs(pairs)
    config = DPOConfig(
        output_dir=str(output),
        max_steps=steps,
        per_device_train_batch_size=8,
        per_device_eval_batch_size=8,
        learning_rate=learning_rate,
        beta=0.1,
        max_length=512,
        logging_steps=max(1, steps // 10),
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=0,
    )
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(base, trust_remote_code=False),
        args=config,
        train_dataset=learnt,
        eval_dataset={"learnt": learnt, "held_out": held_out},
        processing_class=AutoTokenizer.from_pretrained(base, trust_remote_code=False),
    )
    before = _evaluate(trainer)
    trainer.train()
    after = _evaluate(trainer)
    figures = {name: {figure: [before[name][figure], after[name][figure]] for figure in _FIGURES} for name in after}
    return {"pairs": {"learnt": len(learnt), "held_out": len(held_out)}, "figures": figures}


def _evaluate(trainer: DPOTrainer) -> dict[str, dict[str, float]]:
    """Return the figures of each data set; given both at once, TRL keeps only the last one's rewards."""
    found = {name: trainer.evaluate(data) for name, data in trainer.eval_dataset.items()}
    return {name: {figure: figures[f"eval_{figure}"] for figure in _FIGURES} for name, figures in found.items()}


def main() -> None:
    """Print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = given.base or write_base(Path(folder) / "base", template=CHATML, max_position_embeddings=512)
        found = train(given.pairs, base, Path(folder) / "out", given.steps, given.learning_rate)
    print(f"{found['pairs']['learnt']} pairs learnt from, {found['pairs']['held_out']} held out, {given.steps} steps")
    print(f"{'':16}" + "".join(f"{figure:>28}" for figure in _FIGURES))
    for name, figures in found["figures"].items():
        cells = (f"{before:.3f} -> {after:.3f}" for before, after in figures.values())
        print(f"{name:16}" + "".join(f"{cell:>28}" for cell in cells))
    about = {"machine": machine(), "versions": versions("trl", "transformers", "torch", "datasets")}
    print(json.dumps(about))
    if given.json:
        given.json.write_text(json.dumps({**found, **about, "steps": given.steps}, indent=1) + "\n")


if __name__ == "__main__":
    main()
