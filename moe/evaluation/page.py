"""Responses of several models side by side, as one HTML file that loads nothing and runs the page's own script only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from moe.evaluation.responses import Response
from scorer.outputs import replacing
from selection.report.page import render_template

SHOWN = 200
"""Dialogues on the page; the files beside it have all."""


def write_page(path: Path, responses: Mapping[str, Sequence[Response]], dialogues: int) -> None:
    """Write the first ``SHOWN`` dialogues, one row each: context, the response they had, and each model's.

    Models may have answered different dialogues (one that is too long for a model is left out): rows go by place of
    the first model's, and a cell is empty where another has none.
    """
    answers = {name: {record.id: record for record in records} for name, records in responses.items()}
    first = next(iter(responses.values()))
    page = render_template(
        "responses.html.jinja",
        title="Responses side by side",
        created=datetime.now(UTC).date().isoformat(),
        version=version("empathy-scorer"),
        shown=first[:SHOWN],
        answers=answers,
        dialogues=dialogues,
    )
    with replacing(path) as file:
        file.write(page)
