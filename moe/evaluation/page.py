"""Responses of several models side by side, as one HTML file that loads nothing and runs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from scorer.outputs import replacing

SHOWN = 200
"""Dialogues on the page; the files beside it have all."""

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Responses side by side</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem; color: #222; background: #fff; }
table { border-collapse: collapse; width: 100%; table-layout: fixed; }
th, td { border: 1px solid #ccc; padding: .5rem; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
th { position: sticky; top: 0; background: #f2f2f2; }
p { margin: 0 0 .35rem; } .role { color: #777; } .empty { color: #a00; }
</style></head><body>
"""


def write_page(path: Path, responses: Mapping[str, Sequence[Mapping[str, Any]]], info: Mapping[str, Any]) -> None:
    """Write the first ``SHOWN`` dialogues, a row each: context, the response they had, and each model's.

    Models may have answered different dialogues (one that is too long for a model is left out): rows go by place of
    the first model's, and a cell is empty where another has none.
    """
    with replacing(path) as file:
        file.writelines(_lines(responses, info))


def _lines(responses: Mapping[str, Sequence[Mapping[str, Any]]], info: Mapping[str, Any]) -> Iterator[str]:
    names = list(responses)
    first = responses[names[0]]
    by_id = {name: {record["id"]: record for record in records} for name, records in responses.items()}
    yield _HEAD
    yield f"<h1>Responses side by side</h1>\n<p>{min(SHOWN, len(first))} of {info['dialogues']} dialogues.</p>\n"
    yield "<table><thead><tr>" + "".join(f"<th>{escape(t)}</th>" for t in ("context", "reference", *names)) + "</tr>"
    yield "</thead><tbody>\n"
    for record in first[:SHOWN]:
        turns = "".join(
            f'<p><span class="role">{escape(turn["role"])}:</span> {escape(turn["content"])}</p>'
            for turn in record["messages"][:-1]
        )
        cells = [turns, escape(record["reference"]), *(_cell(by_id[name].get(record["id"])) for name in names)]
        yield "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>\n"
    yield "</tbody></table></body></html>\n"


def _cell(record: Mapping[str, Any] | None) -> str:
    text = "" if record is None else record["messages"][-1]["content"]
    return escape(text) if text else '<span class="empty">(none)</span>'
