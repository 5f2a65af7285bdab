"""Expectations of a real model on loopback: what the store holds against the model's own probabilities.

    python -m benchmarks.logprob_judge MODEL.gguf DIALOGUES [--count 20]

A small causal model is served in OpenAI's shape. The server writes the form of the answer itself and lets the model
choose each score's tokens, as structured output does; it gives the model's log-probabilities of 20 alternatives, as
vLLM does. It notes for each question the whole distribution over 0 to 10, which needs the model's second token for 10;
labels are then compared with the expectations of these.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.judge.labelling import Labelling
from distill.judge.rubric import Rubric
from distill.judge.store import Store
from distill.sampling.pick import read_unlabelled
from distill.settings import LabelSettings

TOP = 20


class Model:
    """The model, and for each user turn the exact expectation of both scores."""

    def __init__(self, path: Path) -> None:
        """Read a GGUF file, or a folder of transformers."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        where = {"gguf_file": path.name} if path.is_file() else {}
        folder = str(path.parent if path.is_file() else path)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **where)
        self.model = AutoModelForCausalLM.from_pretrained(
            folder, trust_remote_code=False, **where, dtype=torch.float32
        ).eval()
        self.exact: dict[str, list[float]] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return a completion with log-probabilities."""
        turns = [message["content"] for message in request["messages"]]
        tokens: list[dict[str, Any]] = []
        self.exact[turns[-1]] = []
        written = "\n\n".join(turns) + "\n"
        after = None  # what the model would write behind the last number, where that is a lone 1
        for form in ('{"sensibility": ', ', "rationality": '):
            tokens.append(self._fixed(form, after))
            written += form
            chances = self._next(written)
            number = max("0123456789", key=lambda digit: chances[self._id(digit)])
            tokens.append(self._entry(chances, number))
            behind = self._next(written + "1")
            zero, end = behind[self._id("0")], behind[self._id(",")] + behind[self._id("}")]
            ten = float(zero / (zero + end))
            levels = [float(chances[self._id(digit)]) for digit in "0123456789"]
            levels = [levels[0], levels[1] * (1 - ten), *levels[2:], levels[1] * ten]
            self.exact[turns[-1]].append(sum(k * level for k, level in enumerate(levels)) / sum(levels))
            after = behind if number == "1" and zero <= end else None
            if number == "1" and zero > end:
                tokens.append(self._entry(behind, "0"))
                number = "10"
            written += number
        tokens.append(self._fixed("}", after))
        content = "".join(entry["token"] for entry in tokens)
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": content},
            "logprobs": {"content": tokens},
        }
        size = len(self.tokenizer(written).input_ids)
        return {"choices": [choice], "usage": {"prompt_tokens": size, "completion_tokens": 12}, "model": "local"}

    def _fixed(self, form: str, after: Any) -> dict[str, Any]:
        """Return a part of the form as a token; behind a lone 1 with what else the model would write there."""
        return {"token": form, "logprob": 0.0, "top_logprobs": [] if after is None else self._ends(after)}

    def _ends(self, chances: Any) -> list[dict[str, Any]]:
        """Return the marks that end a number, and the 0 that continues it."""
        return [{"token": mark, "logprob": math.log(max(chances[self._id(mark)], 1e-300))} for mark in ",}0"]

    def _id(self, text: str) -> int:
        return int(self.tokenizer(text, add_special_tokens=False).input_ids[-1])

    def _next(self, text: str) -> Any:
        ids = self.tokenizer(text, return_tensors="pt").input_ids
        with torch.inference_mode():
            return self.model(ids, logits_to_keep=1).logits[0, -1].double().softmax(-1).numpy()

    def _top(self, chances: Any) -> list[dict[str, Any]]:
        best = np.argsort(-chances)[:TOP]
        return [{"token": self.tokenizer.decode([i]), "logprob": math.log(max(chances[i], 1e-300))} for i in best]

    def _entry(self, chances: Any, token: str) -> dict[str, Any]:
        own = {"token": token, "logprob": math.log(float(chances[self._id(token)]))}
        return {**own, "top_logprobs": self._top(chances)}


@contextmanager
def served(model: Model) -> Iterator[str]:
    """Serve a model on loopback; one call at a time."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            body = json.dumps(model.answer(request)).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("dialogues", type=Path)
    parser.add_argument("--count", type=int, default=20)
    given = parser.parse_args()
    dialogues = read_unlabelled([str(given.dialogues)])[0][: given.count]
    model, rubric = Model(given.model), Rubric()
    begun = time.monotonic()
    with served(model) as url, tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "s.sqlite") as store:
        settings = LabelSettings(model="local", base_url=url, concurrency=1, timeout=600)
        work = Labelling(dialogues, rubric, settings, store)
        outcome, _ = work.run()
        seconds = (time.monotonic() - begun) / max(1, len(work.to_ask))
        known = store.known([question.key for question in work.questions])
        found = [
            (entry.judged, model.exact[rubric.messages(question.dialogue)[1]["content"]])
            for question in work.questions
            if (entry := known.get(question.key)) and entry.judged
        ]
    expected = np.array([judged.means or (np.nan, np.nan) for judged, _ in found])
    exact = np.array([means for _, means in found])
    said = np.array([judged.said for judged, _ in found])
    print(f"{outcome.scored} of {len(dialogues)} labelled, {seconds:.1f} s a call")
    print(f"with an expectation: {int((~np.isnan(expected[:, 0])).sum())}")
    print(f"expectation against the model's own: at most {np.nanmax(np.abs(expected - exact)):.4f} off")
    print(f"different labels: {len(np.unique(said, axis=0))} as said, {len(np.unique(expected, axis=0))} as expected")
    for judged, means in found[:5]:
        print(judged.said, judged.means, judged.spreads, [round(mean, 4) for mean in means])


if __name__ == "__main__":
    main()
