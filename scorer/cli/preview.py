"""Scores in the terminal: a table of dialogues and a histogram a head."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scorer.dialogue import HEADS, Dialogue
from scorer.engines.base import Scores
from scorer.errors import InputError
from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import Reject
from scorer.model import Scorer

_TABLE_ROWS = 24
_BAR = 40
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def examples_path() -> Path:
    """Return the example dialogues: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    for path in (package / "examples.jsonl", package.parent / "examples" / "dialogues.jsonl"):
        if path.is_file():
            return path
    raise InputError("the example dialogues are not installed; name a file of dialogues instead")


def demo_lines(scorer: Scorer, corpus: Corpus, path: Path) -> Iterator[str]:
    """Yield a table of the highest, middle and lowest dialogues by sensibility, and a histogram of each head.

    ``path`` is the score file that ``scorer`` made of ``corpus``. InputError if nothing could be scored.
    """
    import pyarrow.parquet as pq

    records = list(corpus)
    dialogues = [record for record in records if isinstance(record, Dialogue)]
    rejects = [record for record in records if isinstance(record, Reject)]
    if not dialogues:
        raise InputError(f"nothing to score; the first of {len(rejects)} rejected records: {rejects[0]}")
    columns = pq.read_table(path, columns=list(HEADS))
    scores = np.stack([columns[head].to_numpy() for head in HEADS], axis=1)
    width = shutil.get_terminal_size((100, 24)).columns
    yield f"{len(dialogues)} dialogues, scored by {scorer.bundle.name} ({scorer.bundle.info['backbone']})"
    yield ""
    yield from table(dialogues, scores, width)
    for index, head in enumerate(HEADS):
        yield ""
        yield from histogram(scores[:, index], f"{head} (mean {scores[:, index].mean():.2f})")
    outside = scorer.bundle.domain.outside(dialogues, scorer.encoder.encode(dialogues))
    counts = {name: int(rows.sum()) for name, rows in outside.items()}
    if warning := scorer.bundle.domain.warning(counts, len(dialogues)):
        yield ""
        yield f"warning: {warning}"
    if rejects:
        yield ""
        yield f"{len(rejects)} records rejected, the first: {rejects[0]}"


def table(dialogues: Sequence[Dialogue], scores: Scores, width: int) -> Iterator[str]:
    """Yield a line a dialogue, highest sensibility first, evenly chosen where there are more than fit."""
    order = np.argsort(-scores[:, 0], kind="stable")
    shown = order[np.unique(np.linspace(0, len(order) - 1, min(_TABLE_ROWS, len(order))).round().astype(int))]
    room = max(20, (width - 24) // 2)
    yield f"{'sens.':>5} {'rat.':>5}  {'last turn before':{room}}  response"
    for row in shown:
        dialogue = dialogues[row]
        before = _short(dialogue.context[-1].content, room)
        yield f"{scores[row, 0]:5.1f} {scores[row, 1]:5.1f}  {before:{room}}  {_short(dialogue.response, room)}"


def histogram(values: npt.NDArray[np.float32], title: str) -> Iterator[str]:
    """Yield a bar a whole score: how many values lie in [n, n + 1), 10 counted with 9."""
    counts, _ = np.histogram(values, bins=np.arange(11))
    longest = max(1, int(counts.max()))
    yield title
    for low, count in enumerate(counts):
        eighths = round(int(count) * _BAR * 8 / longest)
        bar = "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
        yield f"{low:3} - {low + 1:<2} {bar} {count}"


def _short(text: str, room: int) -> str:
    """Return text on one line, its end left out where it is longer than ``room``."""
    text = " ".join(text.split())
    return text if len(text) <= room else f"{text[: room - 1].rstrip()}…"
