"""A run of scoring on disk: shards that are whole or absent, and a manifest that says which are done.

A run works in a folder: the output itself if that is a folder, ``OUT.partial`` beside an output that is one file.
Window after window of the input becomes one Parquet shard and one file of rejects, each written to a temporary
name, flushed to disk and renamed; then the manifest gets one line, so that what it names is whole. A killed run
is resumed behind the windows that the manifest names, after checking by a hash that the input is the same.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from scorer.engines.base import Scores
from scorer.errors import OutputError
from scorer.finished import AFRESH, check_made_from, file_hash
from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import Reject
from scorer.locks import locked
from scorer.outputs import JOINED, check_parent, partial, writing
from scorer.reading.counted import found_windows, is_counted
from scorer.reading.ids import RawIds
from scorer.reading.prepare import records_hash, windows
from scorer.reading.windows import FinishedInput, Window, input_of, outside_of
from scorer.run.joined import put_in_place
from scorer.run.manifest import IDS, Identity, Manifest, begun_with, is_unjoined, manifest_of, manifests, unfinished
from scorer.run.parts import AHEAD, REJECTS, join_rejects, part_of, rejects_of, write_ids, write_window
from scorer.run.score_file import SUFFIXES, is_as_written, join_shards, metadata_text, read_metadata
from scorer.run.settings import ScoreSettings

EARLIER = ".earlier"
"""Where the scores that a folder held lie until those that replace them are whole."""

_COMPARED: Mapping[str, Any] = {"engine": None, "precision": None, "uncertainty": False, "keep": []}
"""What of a finished file's metadata must be as this run's, and what it is where they do not say."""

_THEN = "; fix that and continue with --resume"


def _compared(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {name: metadata.get(name, left_out) for name, left_out in _COMPARED.items()}


def work_folder(output: Path) -> Path:
    """Return where the shards of an output are written: itself, or a folder beside it if it is one file."""
    return partial(output) if output.suffix in SUFFIXES else output


def engine_of(output: Path) -> tuple[str, str] | None:
    """Return the engine and precision of the run that an output is of, begun or finished; None where there is none."""
    if begun := begun_with(work_folder(output)):
        return begun.engine, begun.precision
    if output.suffix not in SUFFIXES or not output.is_file():
        return None
    known = read_metadata(output)
    return (str(known["engine"]), str(known["precision"])) if {"engine", "precision"} <= known.keys() else None


class Run:
    """The output of one run. ``done`` are its finished windows by their number, those of an earlier process included.

    Until it is closed (it is a context manager, too) no other process may write there, unless it has another share.
    """

    def __init__(self, output: Path, identity: Identity, metadata: Mapping[str, Any], settings: ScoreSettings) -> None:
        """Open ``output`` for a run of this ``identity`` (scorer and settings); OutputError if that may not be.

        ``metadata`` is written into the scores. With ``resume``, an output that does not exist is begun.
        """
        self.output = output
        self.is_file = output.suffix in SUFFIXES
        self.folder = work_folder(output)
        self.complete = False
        self.done: dict[int, Window] = {}
        self._share = share = settings.share
        self._identity = identity
        self._about, self.metadata = metadata, metadata_text(metadata)
        self._manifest: Manifest | None = None
        self._locks = ExitStack()
        if share.count > 1 and self.is_file:
            raise OutputError(f"{output}: is one file; several processes share a folder, so name one for --shard")
        if self.is_file:
            self.rejects = output.with_name(f"{output.name}.{REJECTS}")
        else:
            self.rejects = output / (REJECTS if share.count == 1 else f"shard-{share}.{REJECTS}")
        try:
            with writing(output):
                self._locks.enter_context(locked(output, shared=share.count > 1))
                self._open(settings)
        except OutputError:
            self.close()
            raise

    def add(
        self,
        window: Window,
        ids: Sequence[str],
        scores: Scores,
        rejects: Sequence[Reject],
        kept: Mapping[str, Sequence[str | None]] | None = None,
        raw_ids: RawIds | None = None,
    ) -> None:
        """Write a finished window, in any order: after this it survives anything.

        ``kept`` are columns of the input, each value as JSON. ``raw_ids`` are kept for whoever joins the shares.
        """
        with writing(self.output, then=_THEN):
            window = write_window(
                self.folder, window, ids, scores, rejects, kept or {}, self.metadata, final=not self.is_file
            )
            if raw_ids is not None:
                window = write_ids(self.folder, window, raw_ids)
            self._begun.add(window)
        self.done[window.number] = window

    @property
    def shards(self) -> list[Path]:
        """The files of finished windows that have scores, in order."""
        return [part_of(self.folder, number) for number in sorted(self.done) if self.done[number].tally.scored]

    def check_same(self, window: Window, records: str) -> None:
        """Raise OutputError unless a finished window's records are those that the input holds now."""
        if window.records != records:
            raise OutputError(
                f"{self.folder}: window {window.number} of the input is not what was scored before, so the input was "
                "changed or reordered; start afresh with --overwrite"
            )

    def finish(self) -> None:
        """Make the output from the shards: whole at its own name, or not there.

        OutputError for a shard that is not what was written.
        """
        with writing(self.output, then=_THEN):
            self._check_shards()
            join_rejects(self.rejects, [rejects_of(self.folder, number) for number in sorted(self.done)])
            if self.is_file:
                self._join()
            else:
                self._begun.end(len(self.done))
                self._tidy()
        self.complete = True

    def close(self) -> None:
        """Let others write."""
        if self._manifest is not None:
            self._manifest.close()
        self._locks.close()

    def __enter__(self) -> Run:
        """Return the run."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _tidy(self) -> None:
        """Remove what a complete folder needs no more, if it is not to be joined with other shares."""
        if is_unjoined(self.folder):
            return
        shutil.rmtree(self.folder / EARLIER, ignore_errors=True)
        for number in self.done:
            rejects_of(self.folder, number).unlink(missing_ok=True)
        if not unfinished(self.folder):  # whoever joined the shares may have been killed before it was here
            for left in self.folder.glob(f"part-*.{REJECTS}"):
                left.unlink(missing_ok=True)

    def _join(self) -> None:
        if shards := self.shards:
            outside = outside_of(self.done.values(), self._about.get("outside_share", 0.0))
            about = {**self._about, "input": asdict(self._input()), "outside": asdict(outside)}
            join_shards(self.output, shards, about, self._identity.keep)
        # Without its manifest the folder is no run any more, should this be interrupted.
        self._begun.close()
        self._begun.path.unlink()
        shutil.rmtree(self.folder)

    def _open(self, settings: ScoreSettings) -> None:
        existing = settings.existing
        check_parent(self.output)
        self._check_kind()
        foreign = not self.is_file and self.folder.is_dir() and not manifests(self.folder)
        if foreign and any(path.name != EARLIER for path in self.folder.iterdir()):
            raise OutputError(f"{self.output}: holds other files and no manifest of a run; name a new or empty folder")
        if existing == "error":
            self._refuse()
        if existing == "resume" and self.is_file and self.output.exists() and not manifests(self.folder):
            self._check_finished_file()
            self.complete = True
            return
        self.folder.mkdir(exist_ok=True)
        self._manifest = Manifest(self.folder, self._share, self._identity)
        if existing == "overwrite":
            self._clear()
        put_in_place(self.folder)
        for begun in self.folder.glob(".*.tmp"):
            if self._is_mine(begun.name):
                begun.unlink()
        self.done, self.complete = self._manifest.read()
        self._check_shards()
        if self.complete and not self.is_file:  # a kill may have come between the two
            self._tidy()

    def _is_mine(self, temporary: str) -> bool:
        """Whether a temporary file is of this process's share: the others may be writing theirs at this moment."""
        number = temporary.removeprefix(".part-").removeprefix("._ids-")[:6]
        return self._share.count == 1 or (number.isdigit() and self._share.has(int(number)))

    def _check_kind(self) -> None:
        if self.is_file and self.output.is_dir():
            raise OutputError(f"{self.output}: is a folder, expected a file; name another output")
        if not self.is_file and self.output.exists() and not self.output.is_dir():
            raise OutputError(
                f"{self.output}: is a file without {', '.join(SUFFIXES)} and so no folder for shards; rename it"
            )

    def _refuse(self) -> None:
        if manifest_of(self.folder, self._share).exists() or (self._share.count == 1 and manifests(self.folder)):
            raise OutputError(
                f"{self.folder}: an earlier run's; continue with --resume or start afresh with --overwrite"
            )
        if self.is_file and self.output.exists():
            raise OutputError(f"{self.output}: exists already; name another output or say --overwrite")

    def _clear(self) -> None:
        """Put an earlier run's shards aside and nothing else; like an earlier file they stay until the new ones are."""
        if self._share.count > 1:
            raise OutputError(f"{self.folder}: may hold other processes' shards; remove the folder to start afresh")
        joining = [*self.folder.glob(IDS), *self.folder.glob(f"{AHEAD}*"), *self.folder.glob(JOINED)]
        earlier = [*self.folder.glob("part-*"), *self.folder.glob("shard-*"), *manifests(self.folder), *joining]
        aside = self.folder / EARLIER
        # Where there is such a folder, these are unfinished, and what was whole lies there.
        keep = not self.is_file and not aside.exists() and any(self.folder.glob("part-*"))
        if keep:
            aside.mkdir()
        for path in [*earlier, *([] if self.is_file else [self.rejects])]:
            if keep and path.exists():
                path.rename(aside / path.name)
            else:
                path.unlink(missing_ok=True)
        self._begun.close()
        self._manifest = Manifest(self.folder, self._share, self._identity)

    def _check_shards(self) -> None:
        """Raise OutputError for the first file of a finished window that is missing or not what was written."""
        for number, window in sorted(self.done.items()):
            files = {part_of(self.folder, number): (window.tally.scored, window.shard)}
            if not self.complete:  # what is complete has them in one file
                files[rejects_of(self.folder, number)] = (window.tally.rejections, window.rejected)
            for path, (count, known) in files.items():
                if not count:
                    continue
                if not path.exists():
                    raise OutputError(f"{path}: is missing; start afresh with --overwrite")
                if known is None:
                    said = "was written by an earlier release, whose manifest does not say what it holds"
                    raise OutputError(f"{path}: {said}; start afresh with --overwrite")
                if file_hash(path) != known:
                    raise OutputError(f"{path}: is not what was written here; start afresh with --overwrite")

    def _input(self) -> FinishedInput:
        """Return what the input was, from the windows of all of it."""
        return input_of([self.done[number].records for number in sorted(self.done)], self._identity.window)

    def check_input(self, corpus: Corpus) -> None:
        """Raise OutputError unless a complete output was made from the records that ``corpus`` holds now."""
        if not self.is_file and is_counted(corpus) and self._holds_bytes_of(corpus):
            return
        known = self._known if self.is_file else self._input()
        hashes = [records_hash(records) for records in windows(corpus, known.window, self._identity.keep)]
        if input_of(hashes[self._share.index :: self._share.count], known.window) != known:
            raise OutputError(f"{self.output}: is finished and was made from another input; {AFRESH}")

    def _holds_bytes_of(self, corpus: Corpus) -> bool:
        """Whether the windows of a corpus are those that are finished, byte for byte; nothing is parsed."""
        left = dict(self.done)
        for found in found_windows(corpus, self._identity.window, self._share.has):
            if self._share.has(found.number):
                window = left.pop(found.number, None)
                if window is None or (window.place, window.bytes) != (found.place, found.sha256()):
                    return False
        return not left

    def _check_finished_file(self) -> None:
        known, mine = read_metadata(self.output), self._about
        if known.get("sha256") != mine["sha256"]:
            raise OutputError(
                f"{self.output}: is finished, by another scorer ({known.get('name')} {str(known.get('sha256'))[:12]}); "
                f"{AFRESH}"
            )
        before, now = (
            {name: made.get(name, left_out) for name, left_out in _COMPARED.items()} for made in (known, mine)
        )
        check_made_from(self.output, before, now)
        try:
            self._known = msgspec.convert(known.get("input"), FinishedInput)
        except msgspec.ValidationError:
            raise OutputError(f"{self.output}: is finished and does not say of which input; {AFRESH}") from None
        if not is_as_written(self.output):
            raise OutputError(f"{self.output}: was changed since it was made; {AFRESH}")

    @property
    def _begun(self) -> Manifest:
        assert self._manifest is not None
        return self._manifest
