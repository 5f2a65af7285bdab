"""Re-paired dialogues: contexts with responses of other dialogues, which teachers score and a student learns.

They cost no judge, and show the student what real dialogues seldom hold: responses that fit more or less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from distill.sampling.embeddings import embed_dialogues
from scorer.arrays import Ints
from scorer.dialogue import Dialogue, content_hash

NEAREST = 40
"""A near response answers one of so many nearest contexts."""

_FAR_EVERY = 3  # of three responses two are near and one is from anywhere
_ROWS_AT_ONCE = 1024


def re_pair(
    dialogues: Sequence[Dialogue], count: int, *, seed: int, encoder: str | None = None
) -> tuple[list[Dialogue], list[str]]:
    """Return ``count`` re-paired dialogues per dialogue, and the conversation that each one's response is from.

    Two of three responses answer one of the ``NEAREST`` contexts, by the embeddings of ``encoder`` (None: TF-IDF; see
    ``embed_dialogues``), the third is from anywhere. No response is of the context's own conversation. The same
    dialogues, count and seed give the same pairs.
    """
    if not count or len(dialogues) < 2:
        return [], []
    rng = np.random.default_rng(seed)
    conversations = np.array([dialogue.conversation for dialogue in dialogues])
    near = _nearest(embed_dialogues([replace(d, turns=d.context) for d in dialogues], encoder))
    paired, partners = [], []
    for row, dialogue in enumerate(dialogues):
        for number in range(count):
            chosen = near[row] if number % _FAR_EVERY != _FAR_EVERY - 1 else rng.integers(len(dialogues), size=NEAREST)
            others = chosen[conversations[chosen] != dialogue.conversation]
            if len(others):
                partner = dialogues[int(rng.choice(others))]
                turns = (*dialogue.context, partner.turns[-1])
                paired.append(replace(dialogue, id=content_hash(turns), turns=turns, labels=None))
                partners.append(partner.conversation)
    return paired, partners


def _nearest(embeddings: npt.NDArray[np.float32]) -> Ints:
    """Return the rows of the nearest others by cosine similarity, (N, min(``NEAREST``, N - 1))."""
    count = min(NEAREST, len(embeddings) - 1)
    found = np.empty((len(embeddings), count), dtype=np.int64)
    every = torch.from_numpy(embeddings).to("cuda" if torch.cuda.is_available() else "cpu")
    for start in range(0, len(embeddings), _ROWS_AT_ONCE):
        similar = every[start : start + _ROWS_AT_ONCE] @ every.T  # (B, N)
        rows = torch.arange(len(similar), device=every.device)
        similar[rows, start + rows] = -torch.inf  # not itself
        found[start : start + _ROWS_AT_ONCE] = similar.topk(count).indices.cpu().numpy()
    return found
