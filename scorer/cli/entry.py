"""What `empathy` runs first, and light: signals and standard streams are settled before anything else is loaded."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

_EXITS = {signal.SIGINT: EXIT_INTERRUPTED, signal.SIGTERM: EXIT_TERMINATED}
_LOADING = "<frozen importlib._bootstrap>"


class Terminated(KeyboardInterrupt):
    """SIGTERM: as Ctrl-C, what runs is finished and what was finished is kept; only the exit code is another."""


def start() -> NoReturn:
    """Run `empathy`, and end at once and silently where a signal comes before a command is there to answer it."""
    answer_signals()
    from scorer.cli.main import run

    run()


def answer_signals() -> None:
    """Let SIGINT and SIGTERM end the process: by an exception in what runs, at once while modules are loaded.

    A module that is interrupted while it is loaded may say that it is not installed, or bring the process down. A
    signal that was ignored when the process began stays so.
    """
    owner = os.getpid()

    def answer(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner or _is_loading(frame):  # a forked worker is simply to end
            os._exit(_EXITS[signal.Signals(number)])
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    for number in _EXITS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, answer)


@contextmanager
def signals_to(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Let a handler answer SIGINT and SIGTERM meanwhile, where this is the thread that gets them.

    A handler that notes the signal loses none; an exception may be raised in code that cannot hand it on.
    """
    mine = _EXITS if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, handler) for number in mine}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def end_on_signals() -> None:
    """From here on a signal ends the process at once: what there was to say has been said."""
    for number in _EXITS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: os._exit(_EXITS[signal.Signals(number)]))


def _is_loading(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == _LOADING:
            return True
        frame = frame.f_back
    return "scorer.cli.main" not in sys.modules
