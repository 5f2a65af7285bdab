"""What the tests of watching share: streams of observations and score files that grow."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from selection.watching.observation import Observation, observations
from tests import forks
from tests.scorer.run.score_data import ABOUT, CUTS

START = 1.7e9


def stream(
    count: int, seed: int = 0, shift: float = 0.0, categories: Sequence[str | None] = (None,)
) -> list[Observation]:
    """Return dialogues a second apart; ``shift`` is added to rationality and taken off sensibility."""
    rng = np.random.default_rng(seed)
    scores = np.clip(rng.normal((6.5 - shift, 4.0 + shift), (1.5, 1.5), (count, 2)), 0, 10).astype(np.float32)
    return observations(
        [START + k for k in range(count)],
        [f"d{seed}-{k}" for k in range(count)],
        scores,
        CUTS,
        categories=[categories[k % len(categories)] for k in range(count)],
    )


def line(id_: object, s: object = 6.0, r: object = 3.0, **more: object) -> str:
    """Return a line of scores."""
    return json.dumps({"id": id_, "sensibility": s, "rationality": r, **more}) + "\n"


def growing(folder: Path, name: str = "s.jsonl") -> Path:
    """Return a score file that holds nothing yet, and says its scorer's cuts."""
    path = folder / name
    path.touch()
    (folder / f"{name}.meta.json").write_text(json.dumps(ABOUT))
    return path


@contextmanager
def live(*arguments: str | Path) -> Iterator[tuple[forks.Process, str]]:
    """Run `empathy watch` in a process of its own and yield it and the address of its page; it is ended behind."""
    process = forks.empathy("watch", *arguments, "--port", "0", stdin=True, stderr=True)
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert "watching at http://127.0.0.1:" in said, said + process.stderr.read()
        yield process, said.split()[2]
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        for pipe in (process.stderr, process.stdin):
            assert pipe is not None
            pipe.close()
