"""Outputs on an object store: a run writes to a folder here, as always, and what it wrote is copied to the store.

A store knows no renames, no appending and no locks. So the copy is brought up to date only when a run killed at that
moment could be resumed from what lies here, and in an order in which the store, too, can be resumed from whenever the
copying ends: new files before the manifests that name them, and what is gone here last. Whoever begins anew, on any
machine, fetches what is there and goes on.
"""

from __future__ import annotations

import errno
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from types import TracebackType
from typing import Any

from scorer.errors import EmpathyError, OutputError, reason_of, without_secrets
from scorer.inputs.corpus import Corpus
from scorer.outputs import JOINED, MANIFESTS, Existing
from scorer.progress import Progress, Silent
from scorer.reading.windows import Share
from scorer.run.backend import Backend
from scorer.run.manifest import IDS, finished_windows, manifests, unfinished
from scorer.run.output import EARLIER, work_folder
from scorer.run.parts import REJECTS
from scorer.run.score import Summary, score_on
from scorer.run.score_file import SUFFIXES
from scorer.run.settings import ScoreSettings

_SECONDS = 5.0
"""So often the store is brought up to date, and so much work a killed run repeats at most, beside a window."""
_AT_ONCE = 8
_FULL = {errno.ENOSPC, errno.EDQUOT}
_PART = re.compile(r"part-(\d{6,})\.")
_OF_RUN = re.compile(
    rf"({re.escape(EARLIER)}/)?"
    rf"(part-\d{{6,}}\.[^/]+|_manifest[^/]*\.jsonl|_joined[^/]+|_ids-\d+\.npy|(shard-[^/]+\.)?{re.escape(REJECTS)})"
)
"""The names of files in the folder of a run; anything else there is somebody else's."""

Stamp = tuple[int, int, int]
"""By which a file is known to be as it was: inode, size, time of its last change."""


class Mirror:
    """A folder here in which ``output`` stands for the output at a URL. It is a context manager.

    Entering it fetches what is there, of shards only those of ``share``, none for None; leaving it brings the store up
    to date. OutputError where the store does not answer or takes no files.
    """

    def __init__(
        self, url: str, share: Share | None, existing: Existing = "resume", progress: Progress | None = None
    ) -> None:
        """Mirror ``url``; nothing is asked of the store yet."""
        self.url = url.rstrip("/")
        self._share, self._existing = share, existing
        self._progress = progress or Silent()
        self._there: dict[str, Stamp | None] = {}
        """What the store holds by its name, and what it was here then: None for what was not fetched."""
        self._pushed: float | None = None
        self._failed = False

    def __enter__(self) -> Mirror:
        """Fetch what is there."""
        import fsspec  # most runs write local files

        with self._talking("reached"):
            self._fs, path = fsspec.core.url_to_fs(self.url)
            self._root, slash, name = path.rstrip("/").rpartition("/")
        if not slash or not name:
            raise OutputError(f"{self.url}: is no place in a bucket; name a file or folder in it")
        self._folder = tempfile.TemporaryDirectory(prefix="empathy-")
        self._base = Path(self._folder.name)
        self.output = self._base / name
        try:
            self.fetch()
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Bring the store up to date, whatever ended the run, unless it is the store that failed."""
        try:
            if self._pushed is not None and not self._failed:
                self.push()
        finally:
            self._folder.cleanup()

    def due(self) -> None:
        """Bring the store up to date, if it was not for some seconds: call it when a run could be resumed from here."""
        if self._pushed is None or time.monotonic() - self._pushed >= _SECONDS:
            self.push()

    def push(self) -> None:
        """Bring the store up to date."""
        here = dict(self._files())
        new = sorted(name for name, stamp in here.items() if self._there.get(name) != stamp)
        gone = {name for name, stamp in self._there.items() if stamp is not None and name not in here}
        first = {name for name in gone if _is_list(name) or fnmatch(Path(name).name, IDS)}  # as ending and joining do
        with self._talking("written"):
            self._each(self._put, [name for name in new if not _is_list(name)])
            for name in filter(_is_list, new):  # that of the joined windows last
                self._put(name)
            self._each(self._remove, list(first))
            self._each(self._remove, list(gone - first))
        self._there = {name: stamp for name, stamp in self._there.items() if stamp is None} | here
        self._pushed = time.monotonic()

    def fetch(self) -> None:
        """Fetch again what this share needs."""
        self._pull(self._is_mine)

    def all_ended(self) -> bool:
        """Whether every share has ended and they are not joined yet; then all of it is here."""
        self._pull(_is_list)
        if unfinished(work_folder(self.output)) or not any(fnmatch(Path(name).name, IDS) for name in self._there):
            return False
        self._pull(lambda _: True)
        return True

    def shown(self, text: Path | str) -> str:
        """Return a name or a text with the URL for the folder here."""
        return str(text).replace(str(self.output), without_secrets(self.url))

    def named(self, summary: Summary) -> Summary:
        """Return a summary that names the URL and not the folder here."""
        return replace(summary, rejects=self.shown(summary.rejects) if summary.rejects else None)

    def check_apart(self, corpus: Corpus) -> None:
        """Raise OutputError if the output is, holds or lies in an input."""
        for name in corpus.inputs:
            first, second = f"{name.rstrip('/')}/", f"{self.url}/"
            if first.startswith(second) or second.startswith(first):
                raise OutputError(f"{self.url}: is, holds or lies in the input {name}; name another output")

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Let errors name the URL and not the folder here, unless it is this disk that is full."""
        try:
            yield
        except EmpathyError as error:
            self._check_full(error.__cause__)
            error.args = tuple(self.shown(part) if isinstance(part, str) else part for part in error.args)
            raise

    def _files(self) -> Iterator[tuple[str, Stamp]]:
        """Yield the files of the output here and what they are now; what has a dot before it is not for the store."""
        for path in sorted(self._base.rglob("*")):
            name = path.relative_to(self._base)
            if path.is_file() and not any(part.startswith(".") and part != EARLIER for part in name.parts):
                found = path.stat()
                yield name.as_posix(), (found.st_ino, found.st_size, found.st_mtime_ns)

    def _pull(self, wanted: Callable[[str], bool]) -> None:
        """Make what is here what is there, as far as it is ``wanted`` by its name."""
        with self._talking("read"):
            self._fs.invalidate_cache()
            found = {path.removeprefix(self._root).lstrip("/") for path in self._find()}
        known = set(filter(self._is_of_run, found))
        self._refuse(found, known)
        names = sorted(filter(wanted, known))
        if names:
            self._progress.stage(f"fetching {len(names):,} files that are there", len(names))
        with self._talking("read"):
            self._each(self._get, names, self._progress.update)
        for name in [name for name, stamp in self._there.items() if stamp is not None and name not in known]:
            (self._base / name).unlink(missing_ok=True)
        here = dict(self._files())
        before, fetched = self._there, set(names)
        self._there = {name: here[name] if name in fetched else before.get(name) for name in known}
        folder = work_folder(self.output)
        if self._existing == "resume" and (manifests(folder) or folder != self.output):
            # What no manifest names was to be removed by a run that was killed.
            done = {window.number for window in finished_windows(folder)}
            for path in folder.glob("part-*"):
                if (part := _PART.match(path.name)) and int(part[1]) not in done:
                    path.unlink()

    def _find(self) -> Iterator[str]:
        names = [self.output.name]
        if self.output.suffix in SUFFIXES:
            names += [f"{self.output.name}.{what}" for what in ("partial", "meta.json", REJECTS)]
        for name in names:
            yield from self._fs.find(f"{self._root}/{name}")

    def _is_of_run(self, name: str) -> bool:
        """Whether a file at the store is one that a run writes."""
        folder, beside = work_folder(self.output).name, f"{self.output.name}."
        if name.startswith(f"{folder}/"):
            return _OF_RUN.fullmatch(name.removeprefix(f"{folder}/")) is not None
        return name in (self.output.name, f"{beside}meta.json", f"{beside}{REJECTS}")

    def _refuse(self, found: set[str], known: set[str]) -> None:
        """Raise OutputError for what a run would refuse, before all of it is fetched."""
        if any(map(_is_list, known)):
            return
        if found - known:
            raise OutputError(f"{self.url}: holds other files and no manifest of a run; name a new or empty folder")
        if self._existing == "error" and self.output.name in known:
            raise OutputError(f"{self.url}: exists already; name another output or say --overwrite")

    def _is_mine(self, name: str) -> bool:
        found = _PART.match(Path(name).name)
        return found is None or (self._share is not None and self._share.has(int(found[1])))

    def _get(self, name: str) -> None:
        path = self._base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fs.get_file(f"{self._root}/{name}", str(path))

    def _put(self, name: str) -> None:
        self._fs.put_file(str(self._base / name), f"{self._root}/{name}")

    def _remove(self, name: str) -> None:
        with suppress(FileNotFoundError):  # whoever joined the shares at the same time was first
            self._fs.rm_file(f"{self._root}/{name}")

    @staticmethod
    def _each(call: Callable[[Any], None], given: Sequence[Any], tell: Callable[[int], None] | None = None) -> None:
        """Call something for each of some things, several at once; the first error ends it."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for done, _ in enumerate(pool.map(call, given), start=1):
                if tell is not None:
                    tell(done)

    def _check_full(self, error: BaseException | None) -> None:
        """Raise OutputError if it is the disk here that was full."""
        if isinstance(error, OSError) and error.errno in _FULL:
            raise OutputError(
                f"{self._base.parent}: {error.strerror}, and the scores lie there on their way to {self.url}; set "
                "TMPDIR to a folder with room for them and continue with --resume"
            ) from error

    @contextmanager
    def _talking(self, done: str) -> Iterator[None]:
        """Turn what a store says while something is ``done`` to it into one line."""
        try:
            yield
        except ImportError as error:
            raise OutputError(f"{self.url}: {reason_of(error)}; pip install that package") from None
        except Exception as error:  # every fsspec driver raises exceptions of its own
            self._check_full(error)
            self._failed = True
            what = "takes no files" if isinstance(error, NotImplementedError) else reason_of(error)
            raise OutputError(f"{self.url}: cannot be {done}: {what}; fix that and continue with --resume") from error


@contextmanager
def opened(
    output: Path | str, share: Share | None, existing: Existing = "resume", progress: Progress | None = None
) -> Iterator[Path | Mirror]:
    """Give a path as it is, and a mirror of what is at a URL."""
    if isinstance(output, Path):
        yield output
    else:
        with Mirror(output, share, existing, progress) as mirror:
            yield mirror


def path_of(output: Path | Mirror) -> Path:
    """Return where an output is, or what stands for it here."""
    return output if isinstance(output, Path) else output.output


def score_into(
    backend: Backend, corpus: Corpus, output: Path | Mirror, settings: ScoreSettings, progress: Progress | None = None
) -> Summary:
    """Do what ``score_on`` does, for an output here or on a store."""
    if isinstance(output, Path):
        return score_on(backend, corpus, output, settings, progress)
    output.check_apart(corpus)
    with output.naming():
        summary = score_on(backend, corpus, output.output, settings, progress, output.due, join=False)
        output.push()
        if settings.share.count > 1 and output.all_ended():
            again = replace(settings, existing="resume")
            joined = score_on(backend, corpus, output.output, again, progress, output.push)
            output.push()
            summary = replace(summary, tally=joined.tally, rejects=joined.rejects)
    return output.named(summary)


def _is_list(name: str) -> bool:
    """Whether a file is one that names others."""
    return Path(name).name == JOINED or fnmatch(Path(name).name, MANIFESTS)
