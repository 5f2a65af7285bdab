"""Read ahead: prepare the next windows while the network runs on this one.

Reading and tokenising are Python's work, and in threads beside those that feed the network each would wait for the
other's turn. So a large input is read by processes of their own, each of which hands over its windows through a pipe;
that is also what holds them back, so that memory stays bounded. A reader that dies takes nothing with it.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from queue import Queue
from threading import Event, Thread
from typing import Any, BinaryIO, TypeVar

from scorer.bundle.domain import Domain
from scorer.bundle.encode import Encoder
from scorer.child import own_python
from scorer.engines.base import Engine
from scorer.engines.names import ON_GPU
from scorer.errors import EmpathyError, InputError
from scorer.inputs.corpus import Corpus
from scorer.progress import Progress
from scorer.reading.chunks import EndOfFile, SplitJob, chunks_of
from scorer.reading.counted import ReadWindow, counted_windows, found_windows, read_window
from scorer.reading.cut import Prepared
from scorer.reading.join import Begun, Item, Joiner
from scorer.reading.prepare import prepare_windows
from scorer.reading.splits import splits_of
from scorer.reading.windows import Share, WindowPlace

T = TypeVar("T")

_POSIX = os.name == "posix"

_TOKENIZER_THREADS = "RAYON_NUM_THREADS"

_LARGE_BYTES = 1 << 22
"""A smaller input is read before a process for it has started."""

_PATIENCE_SECONDS = 10.0
"""A window is read in one or two; a thread that waits on for a silent pipe is left behind, and does no harm there."""


@dataclass(frozen=True, slots=True)
class ReadJob:
    """What to read: the windows of a share of a corpus, those ``done`` for their hash only; columns to ``keep``.

    With ``begun`` what an earlier run finished is not read at all. ``counted`` is for files whose windows are found by
    counting: a reader parses its own windows and no others, those of the share ``after`` one that was finished, whose
    dialogues had ``known`` ids. Who has a share of the windows cannot know which ids are there before.
    """

    corpus: Corpus
    encoder: Encoder
    domain: Domain
    size: int
    done: Collection[int]
    share: Share
    keep: Sequence[str] = ()
    begun: Begun | None = None
    counted: bool = False
    after: tuple[int, WindowPlace] | None = None
    known: Sequence[str] = ()

    @property
    def by_splits(self) -> bool:
        """Whether readers need not read what others read.

        Who has a share of the windows has to know which these are, and so does who skips some by their hash.
        """
        return self.share.count == 1 and (not self.done or self.begun is not None)


@dataclass(frozen=True, slots=True)
class _Windows:
    """A part of a job for one reader: windows of a share."""

    job: ReadJob
    share: Share

    def items(self) -> Iterator[Prepared]:
        job = self.job
        return prepare_windows(job.corpus, job.encoder, job.domain, job.size, job.done, self.share, job.keep)


@dataclass(frozen=True, slots=True)
class _Splits:
    """A part of a job for one reader: some of the splits."""

    job: SplitJob
    part: int
    parts: int

    def items(self) -> Iterator[Item]:
        return chunks_of(self.job, self.part, self.parts)


@dataclass(frozen=True, slots=True)
class _Counted:
    """A part of a job for one reader: windows of a share that are found by counting."""

    job: ReadJob
    share: Share

    def items(self) -> Iterator[ReadWindow]:
        job = self.job
        for found in found_windows(job.corpus, job.size, self.share.has, job.after):
            if self.share.has(found.number):
                yield read_window(found, job.encoder, job.domain, job.keep)


_Part = _Windows | _Splits | _Counted


def readers_for(corpus: Corpus, engine: Engine) -> int:
    """Return how many processes should read a corpus to keep an engine busy; 0 is a thread of this process."""
    if not _POSIX or (corpus.total_bytes is not None and corpus.total_bytes < _LARGE_BYTES):
        return 0
    # Only one can read a pipe.
    if corpus.total_bytes is None:
        return 1
    # One process reads as fast as some 8 cores score with the starter; a GPU scores faster than all cores here read.
    return max(1, min(8, engine.threads // 2) if engine.name in ON_GPU else engine.threads // 8)


def possible_readers(asked: int, progress: Progress) -> int:
    """Return how many of the processes that are asked for this system can start; fewer are said in one line."""
    if asked and not _POSIX:
        progress.say(f"--readers {asked}: this system hands no pipes to other processes; a thread reads instead")
        return 0
    return asked


@contextmanager
def reading(job: ReadJob, processes: int) -> Iterator[Iterator[Prepared]]:
    """Give the windows of a job in order, each prepared while the one before it is scored."""
    with ExitStack() as readers:

        def read(parts: Sequence[_Part]) -> list[Iterator[Any]]:
            return [readers.enter_context(_process(part, processes)) if processes else part.items() for part in parts]

        count = processes or 1
        if job.counted:
            shares = job.share.split(count)
            windows_read = _in_turn(read([_Counted(job, share) for share in _from(shares, job.after)]))
            found = counted_windows(windows_read, job.known, unique=job.share.count == 1)
        elif job.by_splits:
            splits = splits_of(job.corpus)
            mine = splits[job.begun.mark.split if job.begun else 0 :]
            split_job = SplitJob(job.corpus, mine, job.encoder, job.domain, job.keep)
            parts = read([_Splits(split_job, part, count) for part in range(count)])
            found = Joiner(splits, job.size, job.begun).windows(parts)
        else:
            found = _in_turn(read([_Windows(job, share) for share in job.share.split(count)]))
        with _one_ahead(found, readers.close) as windows:
            yield windows


def _from(shares: Sequence[Share], after: tuple[int, WindowPlace] | None) -> Sequence[Share]:
    """Return the parts of a share in the order of their windows after one."""
    if after is None:
        return shares
    last = next(turn for turn, share in enumerate(shares) if share.has(after[0]))
    return [*shares[last + 1 :], *shares[: last + 1]]


def _in_turn(parts: Sequence[Iterator[T]]) -> Iterator[T]:
    """Yield one window of each part in turn, until one has no more: then the input is at its end."""
    for part in cycle(parts):
        window = next(part, None)
        if window is None:
            return
        yield window


@contextmanager
def _one_ahead(windows: Iterator[Prepared], stop: Callable[[], None]) -> Iterator[Iterator[Prepared]]:
    """Give the same windows, the next one being fetched by a thread. Leaving early calls ``stop`` and ends the thread.

    A thread that is inside a library when Python ends would abort the process.
    """
    fetched: Queue[Prepared | BaseException | None] = Queue(maxsize=1)
    enough = Event()

    def fetch() -> None:
        try:
            for window in windows:
                fetched.put(window)
                if enough.is_set():
                    return
            fetched.put(None)
        except BaseException as error:  # noqa: BLE001 - handed on: the thread that scores raises it
            if not enough.is_set():
                fetched.put(error)

    def give() -> Iterator[Prepared]:
        while (item := fetched.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    thread = Thread(target=fetch, name="read ahead", daemon=True)
    thread.start()
    try:
        yield give()
    finally:
        enough.set()
        stop()
        while not fetched.empty():  # so that a thread that waits for room finds it
            fetched.get()
        thread.join(_PATIENCE_SECONDS)


@contextmanager
def _process(part: _Part, processes: int) -> Iterator[Iterator[Any]]:
    """Give what one of several processes makes of its part of a job. Leaving early ends it."""
    job_end, job_begin = os.pipe()
    windows_end, windows_begin = os.pipe()
    command, environment = own_python("scorer.reading.read_ahead", str(job_end), str(windows_begin))
    if processes > 1:  # else the tokenizer of each takes all cores
        environment = {_TOKENIZER_THREADS: str(max(1, (os.cpu_count() or 1) // processes)), **environment}
    try:
        process = subprocess.Popen(command, pass_fds=(job_end, windows_begin), env=environment)  # noqa: S603 - this Python
    except OSError as error:  # no memory, or no more processes
        for end in (job_begin, windows_end):
            os.close(end)
        why = error.strerror or error
        raise InputError(
            f"no process could be started to read the input ({why}); read in a thread: --readers 0"
        ) from None
    finally:
        os.close(job_end)
        os.close(windows_begin)
    with open(windows_end, "rb") as file:
        try:
            # Where it died already, what it left unsaid is told when the first window does not come.
            with suppress(BrokenPipeError), open(job_begin, "wb") as job_file:
                pickle.dump(part, job_file, protocol=pickle.HIGHEST_PROTOCOL)
            yield _received(file, process)
        finally:
            process.kill()  # before the pipe is closed, which would wait for whoever reads from it
            process.wait()


def _received(file: BinaryIO, process: subprocess.Popen[bytes]) -> Iterator[Any]:
    last = "at its beginning"
    while True:
        try:
            item = pickle.load(file)  # noqa: S301 - of a process that this one started
        except (EOFError, pickle.UnpicklingError, ValueError):
            status = process.wait()
            how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
            raise InputError(
                f"the process that reads the input died ({how}) {last}; what was finished is kept: use --resume"
            ) from None
        if item is None:
            return
        if isinstance(item, EmpathyError):
            raise item
        if not isinstance(item, EndOfFile):
            last = f"{item.position:,} bytes into the input"
        yield item


def _serve(job_end: int, windows_begin: int) -> None:
    """Do the part of a job that comes through one pipe, into the other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the one that scores ends this one
    with open(job_end, "rb") as job_file:
        try:
            part: _Part = pickle.load(job_file)  # noqa: S301 - of the process that started this one
        except (EOFError, pickle.UnpicklingError):  # which has ended before it had said all
            return
    with open(windows_begin, "wb") as file:

        def send(item: Prepared | Item | ReadWindow | EmpathyError | None) -> None:
            pickle.dump(item, file, protocol=pickle.HIGHEST_PROTOCOL)
            file.flush()

        try:
            for item in part.items():
                send(item)
            send(None)
        except EmpathyError as error:
            send(error)


if __name__ == "__main__":
    try:
        _serve(int(sys.argv[1]), int(sys.argv[2]))
    except BrokenPipeError:  # the process that scores has ended
        os._exit(0)
