"""Fine-tuning: which of the Trainer's checkpoints it resumes, what it says, and what a weight does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from distill.training.network import load_backbone, predict
from distill.training.trainer import TrainingRows, fine_tune, last_whole
from tests.conftest import varied
from tests.distill.tiny import tiny_settings


def test_a_checkpoint_that_was_not_written_to_its_end_is_passed_over_and_removed(tmp_path: Path) -> None:
    assert last_whole(tmp_path / "nowhere") is None
    for step, state in ((9, "{}"), (10, "{}"), (11, None), (100, '{"torn": ')):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    assert last_whole(tmp_path) == str(tmp_path / "checkpoint-10")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-9"]


HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
LARGE_TENSOR = """
import distill.training.trainer, re, torch
tensor = torch.ones(64 * 2**20)
print(re.search(r"AnonHugePages: +([0-9]+)", open("/proc/self/smaps_rollup").read())[1])
"""


@pytest.mark.skipif(not HUGE_PAGES.exists() or "[madvise]" not in HUGE_PAGES.read_text(), reason="none on request here")
def test_large_tensors_lie_in_huge_pages() -> None:
    found = subprocess.run([sys.executable, "-c", LARGE_TENSOR], capture_output=True, text=True, check=True)
    assert int(found.stdout) > 0  # of 262,144 KiB, as many as are free in one piece


@pytest.mark.slow
def test_rows_of_more_weight_are_fitted_better(backbone: Path, tmp_path: Path) -> None:
    found = load_backbone(str(backbone))
    encoded = found.encoder(64).encode(varied(40)) * 2
    targets = np.repeat([[2.0, 8.0], [8.0, 2.0]], 40, axis=0).astype(np.float32)  # each dialogue is labelled both ways
    weights = np.repeat([1.9, 0.1], 40).astype(np.float32)
    settings = tiny_settings(backbone, epochs=10, learning_rate=3e-3)
    model = fine_tune(found, TrainingRows(encoded, targets, weights), None, settings, tmp_path / "trainer")
    scores = predict(model, encoded[:40])
    assert scores.mean(axis=0) == pytest.approx([2.3, 7.7], abs=0.5)


@pytest.mark.slow
def test_a_ceiling_pulls_down_and_never_up(backbone: Path, tmp_path: Path) -> None:
    found = load_backbone(str(backbone))
    encoded = found.encoder(64).encode(varied(80))
    real = TrainingRows(encoded[:40], np.tile([[4.0, 4.0], [6.0, 6.0]], (20, 1)), np.ones(40, dtype=np.float32))
    bad = np.tile([9.0, 1.0], (40, 1)).astype(np.float32)
    rows = real.joined(encoded[40:], bad, weight=0.5, ceiling=True)
    assert (rows.weights.tolist(), rows.are_ceilings.tolist()) == ([1.0] * 40 + [0.5] * 40, [False] * 40 + [True] * 40)
    model = fine_tune(found, rows, None, tiny_settings(backbone, epochs=20, learning_rate=3e-3), tmp_path / "trainer")
    high, low = predict(model, encoded[40:]).mean(axis=0)
    assert 3.5 < high < 6.5
    assert low < 4.3  # of like dialogues the real ones are 4 and 6
