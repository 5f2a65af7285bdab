"""The OpenAPI document, made from the records that are read and answered, and a page of it that loads nothing."""

from __future__ import annotations

from functools import lru_cache
from html import escape
from importlib.metadata import version
from typing import Any

import msgspec

from selection.serving.bodies import NDJSON
from selection.serving.messages.shapes import (
    Fault,
    Prediction,
    PredictRequest,
    Rank,
    Record,
    Refused,
    RerankRequest,
    ScoreAnswer,
    Scored,
)

_REF = "#/components/schemas/{name}"
_FAULTS = {
    "400": "The body is no JSON.",
    "401": "A key is needed.",
    "408": "The body did not come in time.",
    "413": "The request is larger than a limit.",
    "415": "The content type is neither JSON nor NDJSON.",
    "422": "Nothing in it can be scored.",
    "429": "Too much waits; come again after Retry-After seconds.",
    "503": "The server is ending, or could not score it in time.",
}
_EXAMPLE = {
    "messages": [
        {"role": "user", "content": "I lost my job today."},
        {"role": "assistant", "content": "I'm so sorry. That must be a shock. Do you want to talk about it?"},
    ]
}
_PAIR = ["I lost my job today.", "I'm so sorry. That must be a shock."]


@lru_cache(maxsize=1)
def document() -> dict[str, Any]:
    """Return the document."""
    kinds = (Record, Scored, Refused, ScoreAnswer, Fault, PredictRequest, Prediction, RerankRequest, Rank)
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    known = {kind.__name__: schema for kind, schema in zip(kinds, schemas, strict=True)}
    components["PredictRequest"]["properties"]["inputs"] = {
        "description": "A pair [context, response], or a list of pairs.",
        "anyOf": [_pair(), {"type": "array", "items": _pair()}],
    }
    components["ScoreAnswer"]["properties"]["results"]["items"] = {"anyOf": [known["Scored"], known["Refused"]]}
    record = {"anyOf": [known["Record"], {"type": "object", "description": "Any layout that `empathy score` reads."}]}
    records = {"anyOf": [record, {"type": "array", "items": record}]}
    ranked = {"type": "array", "items": known["Prediction"]}
    line = {"anyOf": [known["Scored"], known["Refused"], known["Fault"]]}
    score = _post(
        "Score dialogues: one record, a list, or lines",
        {"application/json": {"schema": records, "example": _EXAMPLE}, NDJSON[0]: {"schema": record}},
        {"application/json": {"schema": known["ScoreAnswer"]}, NDJSON[0]: {"schema": line}},
    )
    predict = _post(
        "Both scores of pairs, in the shape of text-embeddings-inference",
        {"application/json": {"schema": known["PredictRequest"], "example": {"inputs": _PAIR}}},
        {"application/json": {"schema": {"anyOf": [ranked, {"type": "array", "items": ranked}]}}},
    )
    rerank = _post(
        "Rank responses by a score, in the shape of text-embeddings-inference",
        {
            "application/json": {
                "schema": known["RerankRequest"],
                "example": {"query": _PAIR[0], "texts": [_PAIR[1], "Get over it."]},
            }
        },
        {"application/json": {"schema": {"type": "array", "items": known["Rank"]}}},
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "empathy serve",
            "version": version("empathy-scorer"),
            "description": "Sensibility and rationality (0 to 10) of the last assistant turn of a dialogue.",
        },
        "security": [{}, {"bearer": []}],
        "paths": {
            "/v1/score": {"post": score},
            "/predict": {"post": predict},
            "/rerank": {"post": rerank},
            "/health": _get("Whether requests are taken (200) or the server is ending (503)", "application/json"),
            "/info": _get("The scorer, its cuts and the limits of requests", "application/json"),
            "/metrics": _get("Figures for Prometheus", "text/plain"),
            "/dashboard": _get("The live page of what was scored", "text/html"),
        },
        "components": {"schemas": components, "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
    }


def page(found: dict[str, Any]) -> str:
    """Return the document as one HTML page without scripts."""
    parts = []
    for path, methods in found["paths"].items():
        for method, about in methods.items():
            example = about.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
            shown = "" if example is None else f"<pre>{_shown(_curl(path, example))}</pre>"
            codes = "".join(
                f"<tr><td>{_shown(code)}<td>{_shown(said['description'])}" for code, said in about["responses"].items()
            )
            parts.append(
                f"<h2><small>{method.upper()}</small> {_shown(path)}</h2><p>{_shown(about['summary'])}.</p>{shown}"
                f"<details><summary>Answers</summary><table>{codes}</table></details>"
            )
    for name, schema in found["components"]["schemas"].items():
        rows = "".join(
            f"<tr><td><code>{_shown(key)}</code>{'' if key in schema.get('required', ()) else ' (optional)'}"
            f"<td>{_shown(_kind(value))}<td>{_shown(value.get('description', ''))}"
            for key, value in schema.get("properties", {}).items()
        )
        about = _shown(schema.get("description", ""))
        parts.append(f'<h3 id="{_shown(name)}">{_shown(name)}</h3><p>{about}</p><table>{rows}</table>')
    info = found["info"]
    return _PAGE.format(
        title=_shown(info["title"]),
        version=_shown(info["version"]),
        about=_shown(info["description"]),
        body="".join(parts),
    )


def _pair() -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}


def _post(summary: str, takes: dict[str, Any], gives: dict[str, Any]) -> dict[str, Any]:
    faults = {
        code: {"description": text, "content": {"application/json": {"schema": {"$ref": _REF.format(name="Fault")}}}}
        for code, text in _FAULTS.items()
    }
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": takes},
        "responses": {"200": {"description": "Scored.", "content": gives}, **faults},
    }


def _get(summary: str, content_type: str) -> dict[str, Any]:
    return {"get": {"summary": summary, "responses": {"200": {"description": "Fine.", "content": {content_type: {}}}}}}


def _curl(path: str, example: Any) -> str:
    body = msgspec.json.encode(example).decode().replace("'", "\\u0027")
    return f"curl http://127.0.0.1:8080{path} -H 'content-type: application/json' -d '{body}'"


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return str(schema.get("type", "anything"))


def _shown(text: Any) -> str:
    return escape(str(text))


_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }}
body {{ max-width: 52rem; margin: 2rem auto; padding: 0 1rem }}
pre {{ overflow-x: auto; padding: .7rem; border: 1px solid #8886; border-radius: .4rem }}
table {{ border-collapse: collapse; display: block; overflow-x: auto }}
td {{ padding: .2rem .8rem .2rem 0; vertical-align: top }}
h2 {{ margin-top: 2.2rem; border-top: 1px solid #8886; padding-top: 1rem }} h2 small {{ font-size: .7em; opacity: .7 }}
</style><h1>{title} <small>{version}</small></h1><p>{about} The same as JSON: <a href="/openapi.json">/openapi.json</a>;
the live page: <a href="/dashboard">/dashboard</a>.</p>{body}</html>
"""
