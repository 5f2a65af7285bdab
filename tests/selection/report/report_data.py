"""What the tests of reports share: a selection of hostile and plain dialogues, scored and partly judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from scorer.run.score_table import read_scores
from selection.report.sources.rows import Rows, assign_sets
from selection.settings import SelectSettings
from tests.conftest import record, write_lines
from tests.scorer.run.score_data import ABOUT, Scores, write_scores
from tests.selection.selection_data import fine, invoke

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
        known = {"id": f"d{number}", "conversation": f"c{number // 2}", "category": rng.choice(EMOTIONS)}
        found.append(record(*turns, f"{words} {number}", **known))
    return found


def scores(count: int = COUNT, shift: float = 0.0) -> dict[str, tuple[float, float]]:
    """Return scores; those of the hostile dialogues are the clearest of their set, so that they are shown."""
    rng = np.random.default_rng(5)
    sensibility = rng.uniform(2, 9, count) + shift
    rationality = 10 - sensibility + rng.normal(0, 1, count)
    pairs = np.clip([sensibility, rationality], 0, 10).T.tolist()
    clearest = [(9.9 + number / 100, 0.1) for number in range(len(HOSTILE) + 1)]
    return {f"d{number}": (s, r) for number, (s, r) in enumerate([*clearest, *pairs[len(clearest) :]])}


def labels(count: int = 200, **judge: Any) -> list[dict[str, Any]]:
    """Return a judge's labels of the first dialogues, near to the scores."""
    near = np.array(list(scores().values()))[:count] + np.random.default_rng(7).normal(0, 1, (count, 2))
    about = {"model": "judge <b>1</b>", "rubric": "r1", **judge}
    return [
        item | {"sensibility": s, "rationality": r, "judge": about}
        for item, (s, r) in zip(records(count), np.clip(near.round(), 0, 10).astype(int).tolist(), strict=True)
    ]


def rows_of(path: Path, given: Scores, about: dict[str, Any] = ABOUT, *, raw: bool = False, **settings: Any) -> Rows:
    """Return rows as the report makes them of a score file."""
    table = read_scores(write_scores(path, given, about), raw_cuts=raw)
    return assign_sets(table, SelectSettings(**settings), raw=raw)


def prepare(folder: Path) -> Path:
    """Write in.jsonl, s.parquet, labels.jsonl (with prices) and the selection ``sets`` into a folder."""
    write_lines(folder / "in.jsonl", [*records(), {"id": "bad"}])
    write_scores(folder / "s.parquet", scores(), ABOUT)
    write_lines(folder / "labels.jsonl", labels(cost_usd=0.002))
    fine(str(folder / "in.jsonl"), "--scores", str(folder / "s.parquet"), "-o", str(folder / "sets"))
    return folder


def report(folder: Path, *arguments: str, page: str = "r.html") -> tuple[int, str]:
    """Run the command on files of a folder; return its exit code and what it says."""
    places = [str(folder / item) if (folder / item).exists() else item for item in arguments]
    result = invoke(*places, "-o", str(folder / page), command="report")
    assert result.stdout == ""
    return result.exit_code, result.stderr
