"""The Batch API of the judge's test server: files, batches, and rows that fail."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qsl

_BATCH = {"object": "batch", "completion_window": "24h", "status": "in_progress", "created_at": 1}


class Answers(Protocol):
    """What the desk needs of the server: the answer to one request, as (status, body)."""

    def answer_row(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]] | None: ...


@dataclass(slots=True)
class BatchDesk:
    """Takes files and batches.

    ``wanted``: "polls" until a batch ends, the "status" it ends with, "half" of the first batch's rows only,
    "lose_create" first answers that break off after the batch was made, "fail_polls" first looks that fail, newer
    batches of "others" in the list, files and batches that the server has no more ("gone", "forgotten"), answers that
    were billed and came back as broken lines ("lost"), the "answer" that every row gets.
    """

    answers: Answers
    wanted: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    polls: int = 0
    created: int = 0

    def handle(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any] | None:
        """Return status and content; None to break the connection off."""
        kind, _, rest = path.partition("?")[0].removeprefix("/v1/").partition("/")
        if kind == "files" and method == "POST":
            return 200, self._take_file(headers, body)
        if kind == "files":
            return (404, b"{}") if self.wanted.get("gone") else (200, self.files[rest.removesuffix("/content")])
        if method == "POST":
            made = self._create(json.loads(body))
            return None if self.created <= self.wanted.get("lose_create", 0) else (200, made)
        if not rest:
            return 200, self._list(dict(parse_qsl(path.partition("?")[2])))
        return self._poll(rest)

    def _poll(self, name: str) -> tuple[int, Any]:
        if self.wanted.get("forgotten"):
            return 404, {"error": {"message": "no such batch"}}
        self.polls += 1
        if self.polls <= self.wanted.get("fail_polls", 0):
            return 500, {"error": {"message": "later"}}
        return 200, self._look(name)

    def _list(self, query: dict[str, str]) -> dict[str, Any]:
        """Return a page of the batches, the newest first."""
        newer = [
            {**_BATCH, "id": f"other-{n}", "endpoint": "/v1/chat/completions", "input_file_id": "x", "metadata": None}
            for n in range(self.wanted.get("others", 0))
        ]
        found = newer + list(self.batches.values())[::-1]
        start = next((n + 1 for n, batch in enumerate(found) if batch["id"] == query.get("after")), 0)
        end = start + int(query.get("limit", 20))
        return {"object": "list", "data": found[start:end], "has_more": end < len(found)}

    def _take_file(self, headers: dict[str, str], body: bytes) -> dict[str, Any]:
        boundary = headers["content-type"].partition("boundary=")[2].strip('"').encode()
        part = next(part for part in body.split(b"--" + boundary) if b'filename="' in part)
        name = f"file-{len(self.files)}"
        self.files[name] = part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")
        return {"id": name, "object": "file", "bytes": 1, "created_at": 1, "filename": "x", "purpose": "batch"}

    def _create(self, request: dict[str, Any]) -> dict[str, Any]:
        self.created += 1
        name = f"batch-{len(self.batches)}"
        self.batches[name] = {
            **_BATCH,
            "id": name,
            "endpoint": request["endpoint"],
            "input_file_id": request["input_file_id"],
            "metadata": request["metadata"],
            "looks": 0,
        }
        return self.batches[name]

    def _look(self, name: str) -> dict[str, Any]:
        batch = self.batches[name]
        batch["looks"] += 1
        if batch["status"] == "in_progress" and batch["looks"] > self.wanted.get("polls", 1):
            self._finish(batch)
        return batch

    def _finish(self, batch: dict[str, Any]) -> None:
        batch["status"] = self.wanted.get("status", "completed")
        if batch["status"] == "failed":
            batch["errors"] = {"object": "list", "data": [{"code": "x", "message": "the model takes no batches"}]}
            return
        rows = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        if self.wanted.get("half") and len(self.batches) == 1:
            rows = rows[::2]
        lost = self.wanted.get("lost", 0) if len(self.batches) == 1 else 0
        files: dict[str, str] = {}
        for row in reversed(rows):  # a batch keeps no order
            answer = self.answers.answer_row(row["body"])
            answer = (200, self.wanted["answer"]) if "answer" in self.wanted else answer
            if answer is not None:
                status, body = answer
                response = {"status_code": status, "body": body}
                line = json.dumps({"id": "r", "custom_id": row["custom_id"], "response": response, "error": None})
                kind = "output_file_id" if status == 200 else "error_file_id"
                line, lost = (line, lost) if not lost else (line[:20], lost - 1)
                files[kind] = files.get(kind, "") + line + "\n"
        for kind, text in files.items():
            batch[kind] = f"{batch['id']}-{kind}"
            self.files[batch[kind]] = text.encode()
