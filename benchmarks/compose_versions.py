"""Mixtures that one version of transformers wrote, read by another: how far their logits lie from each expert's.

    python -m benchmarks.compose_versions make FOLDER     under one version
    python -m benchmarks.compose_versions check FOLDER    under the other

Tiny random models of every kind of base, each with an adapter and a whole fine-tuned model as its experts.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM

from moe.mixture.compose import compose_mixture
from moe.settings import ComposeSettings
from tests.moe.conftest import write_adapters, write_base, write_tuned
from tests.moe.mixture.test_compose import CASES, expert_model, logits_of, only, routed

LOGITS = "logits.pt"


def make(folder: Path) -> None:
    """Write a mixture of each case, and the logits of its experts."""
    for number, (kind, more) in enumerate(CASES):
        place = folder / f"{number:02d}-{kind}"
        base = write_base(place / "base", kind, **more)
        adapter, tuned = write_adapters(place, base)[0], write_tuned(place, base)[1]
        compose_mixture([adapter, tuned], place / "moe", ComposeSettings(), base=str(base))
        experts = (expert_model(base, adapter), AutoModelForCausalLM.from_pretrained(tuned, trust_remote_code=False))
        torch.save([logits_of(expert) for expert in experts], place / LOGITS)
    print(f"transformers {transformers.__version__} wrote {len(CASES)} mixtures")


def check(folder: Path) -> None:
    """Print for each mixture the largest distance from an expert, and of the experts from each other."""
    print(f"transformers {transformers.__version__} reads")
    for place in sorted(path.parent for path in folder.glob(f"*/{LOGITS}")):
        mixture, loading = AutoModelForCausalLM.from_pretrained(
            place / "moe", trust_remote_code=False, output_loading_info=True
        )
        expected = torch.load(place / LOGITS)
        worst = 0.0
        for number, logits in enumerate(expected):
            with routed(mixture, only(number)):
                worst = max(worst, float((logits_of(mixture) - logits).abs().max()))
        apart = float((expected[0] - expected[1]).abs().max())
        left = sum(len(names) for names in loading.values())
        name = type(mixture).__name__
        print(f"{place.name:12} {name:20} from its expert {worst:.1e}, experts apart {apart:.2f}, keys amiss {left}")


if __name__ == "__main__":
    {"make": make, "check": check}[sys.argv[1]](Path(sys.argv[2]))
