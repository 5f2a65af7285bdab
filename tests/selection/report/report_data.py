"""What the tests of reports share: a selection of hostile and plain dialogues, scored and partly judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.conftest import record, write_lines
from tests.scorer.run.score_data import ABOUT, write_scores
from tests.selection.selection_data import fine

COUNT = 400
EMOTIONS = ("afraid", "angry", "caring", "content", "proud", "sad", "</svg><script>window.hurt=1</script>")
HOSTILE = {
    "script": "<script>window.hurt = 1</script>",
    "closing": "</script></style></p></main><img src=x onerror='window.hurt=1'>",
    "link": "<a href='javascript:window.hurt=1'>here</a> {{ 7 * 7 }} {% raw %} &lt;b&gt; \" ' `",
    "emoji": "I am so sorry \U0001f97a\U0001f3f3\ufe0f\u200d\U0001f308",
    "rtl": "\u202eevil\u202c \u0634\u0643\u0631\u0627 \u05e9\u05dc\u05d5\u05dd",
    "long": "unbroken" * 1250,
    "lines": "one\n\n\ntwo\ttabbed \u2028 three",
}
RARE = "zyzzyva"
"""A word of one dialogue, which is among the examples whatever is drawn."""


def records(count: int = COUNT) -> list[dict[str, Any]]:
    """Return dialogues of several lengths; the first ones are hostile."""
    rng = np.random.default_rng(5)
    texts = [*HOSTILE.values(), f"the {RARE} is here"]
    found = []
    for number in range(count):
        words = texts[number] if number < len(texts) else " ".join(["so", "sorry"] * int(rng.integers(1, 20)))
        turns = [f"hello {number}", "i see", "it hurts"][: 1 + 2 * int(rng.integers(0, 2))]
        emotion = EMOTIONS[int(rng.integers(len(EMOTIONS)))]
        found.append(
            record(*turns, f"{words} {number}", id=f"d{number}", conversation=f"c{number // 2}", category=emotion)
        )
    return found


def scores(count: int = COUNT, seed: int = 5, shift: float = 0.0) -> dict[str, tuple[float, float]]:
    """Return scores; those of the hostile dialogues are the clearest of their set, so that they are shown."""
    rng = np.random.default_rng(seed)
    found = {}
    for number in range(count):
        sensibility = rng.uniform(2, 9) + shift
        rationality = 10 - sensibility + rng.normal(0, 1)
        found[f"d{number}"] = (float(np.clip(sensibility, 0, 10)), float(np.clip(rationality, 0, 10)))
    return found | {f"d{number}": (9.9 + number / 100, 0.1) for number in range(len(HOSTILE) + 1)}


def labels(count: int = 200, **judge: Any) -> list[dict[str, Any]]:
    """Return a judge's labels of the first dialogues, near to the scores."""
    rng = np.random.default_rng(7)
    given = scores()
    return [
        item
        | {
            "sensibility": int(np.clip(round(given[item["id"]][0] + rng.normal(0, 1)), 0, 10)),
            "rationality": int(np.clip(round(given[item["id"]][1] + rng.normal(0, 1)), 0, 10)),
            "judge": {"model": "judge <b>1</b>", "rubric": "r1", **judge},
        }
        for item in records()[:count]
    ]


def prepare(folder: Path) -> Path:
    """Write in.jsonl, s.parquet, labels.jsonl (with prices) and the selection ``sets`` into a folder."""
    write_lines(folder / "in.jsonl", [*records(), {"id": "bad"}])
    write_scores(folder / "s.parquet", scores(), ABOUT)
    write_lines(folder / "labels.jsonl", labels(cost_usd=0.002))
    fine(str(folder / "in.jsonl"), "--scores", str(folder / "s.parquet"), "-o", str(folder / "sets"))
    return folder
