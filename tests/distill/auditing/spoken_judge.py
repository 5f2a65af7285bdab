"""A judge on loopback that scores a dialogue as its own text says ("s7r3"), and counts how often each was asked.

with spoken_judge() as judge: ... judge.url, judge.asked
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class SpokenJudge:
    """``moved`` is added to what the text says, per head; ``latency`` are seconds before an answer.

    Texts with the word "refused" get no scores.
    """

    moved: tuple[int, int] = (0, 0)
    latency: float = 0.0
    url: str = ""
    asked: Counter[str] = field(default_factory=Counter)

    def answer(self, question: str) -> str:
        """Return what the judge says."""
        self.asked[question] += 1
        time.sleep(self.latency)
        (said,) = re.findall(r"s(\d+)r(\d+)", question)[-1:]
        if "refused" in question:
            return "I cannot say."
        scores = [min(10, max(0, int(part) + by)) for part, by in zip(said, self.moved, strict=True)]
        return json.dumps(dict(zip(("sensibility", "rationality"), scores, strict=True)))


@contextmanager
def spoken_judge(*, moved: tuple[int, int] = (0, 0), latency: float = 0.0) -> Iterator[SpokenJudge]:
    """Serve such a judge in a thread of this process."""
    judge = SpokenJudge(moved, latency)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            message = {"role": "assistant", "content": judge.answer(request["messages"][-1]["content"])}
            body = json.dumps(
                {
                    "id": "1",
                    "object": "chat.completion",
                    "created": 1,
                    "model": request["model"],
                    "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
                }
            ).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        judge.url = f"http://127.0.0.1:{server.server_port}/v1"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield judge
        finally:
            server.shutdown()
            thread.join()
