"""Sources that are followed while something else runs: a thread for files, and one for standard input."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from scorer.errors import EmpathyError, reason_of
from selection.watching.sources.follow import Follower
from selection.watching.watch import Watch

_EVERY_SECONDS = 1.0
_BLOCK = 1 << 20


def stdin_blocks() -> Iterator[bytes]:
    """Yield whole lines of standard input as they come, those that are there together; the last may lack its end."""
    rest = b""
    while block := os.read(sys.stdin.fileno(), _BLOCK):
        whole, feed, rest = (rest + block).rpartition(b"\n")
        if feed:
            yield whole + feed
    if rest.strip():
        yield rest + b"\n"


@contextmanager
def following(follower: Follower, watch: Watch, *, stdin: bool) -> Iterator[None]:
    """Follow sources until the block ends."""
    ended = threading.Event()

    def follow() -> None:
        while not ended.is_set():
            _guarded(watch, follower.step)
            ended.wait(_EVERY_SECONDS)

    def read() -> None:
        for block in stdin_blocks():
            if ended.is_set():
                return
            _guarded(watch, partial(follower.add_line, block))

    follows = threading.Thread(target=follow, name="follow", daemon=True)
    if stdin:
        threading.Thread(target=read, name="stdin", daemon=True).start()  # it may wait for input for ever
    follows.start()
    try:
        yield
    finally:
        ended.set()
        follows.join()


def _guarded(watch: Watch, call: Callable[[], object]) -> None:
    """Call, and let the page say what went wrong: a thread that dies says nothing."""
    try:
        call()
    except (EmpathyError, OSError) as error:
        watch.problem("watch", str(error))
    except Exception as error:  # noqa: BLE001 - a fault of ours: the page must not stand still without a word
        watch.problem("watch", f"a fault of this program: {type(error).__name__}: {reason_of(error)}")
