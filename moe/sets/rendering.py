"""Chat templates are programs that come with a tokenizer: they run in a process that can be killed, within bounds.

The process is `python -m moe.sets.rendering`: it reads one JSON object a line and answers with one. It loads no torch.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from threading import Timer
from typing import IO, Any

from scorer.errors import reason_of

SECONDS = 10.0
"""A dialogue that takes longer to render never ends."""

_START = 120.0
_MEMORY = 4 << 30
_CHARACTERS = 20_000_000


class RenderError(Exception):
    """A template cannot be run: it is damaged, has no end or fills the memory. Its text says why."""


class RefusedError(Exception):
    """A template refuses a dialogue, or fails at it. Its text is the template's own."""


class Renderer:
    """Renders dialogues by chat templates, in a process of its own that begins with the first."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._process: subprocess.Popen[str] | None = None

    def render(self, template: str, messages: Sequence[Mapping[str, Any]], words: Mapping[str, Any]) -> str:
        """Return a dialogue as a template has it; ``words`` are what else it may name, special tokens among them.

        RefusedError where the template refuses the dialogue, RenderError where it cannot be run.
        """
        if self._process is None:
            self._process = _start()
            self._ask(self._process, "", _START)
        question = json.dumps({"template": template, "messages": messages, "words": words})
        answer = self._ask(self._process, question, SECONDS)
        if "text" in answer:
            return str(answer["text"])
        raise (RefusedError if "refused" in answer else RenderError)(answer.get("refused") or answer["fault"])

    def _ask(self, process: subprocess.Popen[str], question: str, seconds: float) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        timer = Timer(seconds, process.kill)
        timer.daemon = True
        timer.start()
        try:
            process.stdin.write(question + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
        finally:
            timer.cancel()
        if line.endswith("\n"):
            return dict(json.loads(line))
        self.close()
        raise RenderError(f"does not end within {seconds:g} seconds, or takes the process down")

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()


@cache
def renderer() -> Renderer:
    """Return the one renderer of this process, which ends with it."""
    made = Renderer()
    atexit.register(made.close)
    return made


def _start() -> subprocess.Popen[str]:
    """Start the process: with this one's modules, and none of the folder in which a user happens to be (-P)."""
    path = os.pathsep.join(name for name in sys.path if name)
    quiet = {"USE_TORCH": "0", "USE_TF": "0", "USE_FLAX": "0", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-P", "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        env={**os.environ, **quiet, "PYTHONPATH": path},
        start_new_session=True,  # Ctrl-C is the parent's, and the end of its input ends this one
    )


def _serve(questions: IO[str], answers: IO[str]) -> None:
    """Answer each question until there are no more: the parent ended."""
    from jinja2 import TemplateError, TemplateSyntaxError
    from transformers.utils.chat_template_utils import render_jinja_template

    _bound_memory()
    for line in questions:
        if not line.strip():  # whether it has started
            answers.write("{}\n")
            answers.flush()
            continue
        asked = json.loads(line)
        _alarm(2 * SECONDS)  # should the parent have been killed meanwhile
        given = {"conversations": [asked["messages"]], "chat_template": asked["template"], **asked["words"]}
        try:
            rendered, _ = render_jinja_template(**given)
            text = rendered[0]
            text.encode()  # half of a surrogate pair is no text
            answer = {"text": text} if len(text) <= _CHARACTERS else {"fault": f"gives {len(text)} characters"}
        except TemplateSyntaxError as error:
            answer = {"fault": reason_of(error)}
        except TemplateError as error:
            answer = {"refused": reason_of(error)}
        except MemoryError:
            answer = {"fault": "fills the memory"}
        except Exception as error:  # noqa: BLE001 - a template may raise anything
            answer = {"refused": f"{type(error).__name__}: {reason_of(error)}"}
        _alarm(0)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _bound_memory() -> None:
    """Let this process take no more memory, on Linux: other systems don't say so, or count what is no memory."""
    if sys.platform != "linux":
        return
    import resource  # POSIX only

    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = _MEMORY if most == resource.RLIM_INFINITY else min(_MEMORY, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))


def _alarm(seconds: float) -> None:
    """Let the system end this process after so long, whatever it does then; 0 lets it live."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


if __name__ == "__main__":
    _serve(sys.stdin, sys.stdout)
