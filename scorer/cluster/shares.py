"""Score on a cluster whose workers read the input and write the output themselves.

The driver hands out shares of the windows, as `--shard` divides them, and reads manifests when all have ended. A worker
finds the windows of its share by counting and does with them all that there is to do; who ends last joins the shares.
A share whose worker dies is resumed by another one. So input and output are on a file system or an object store that
all machines see.
"""

from __future__ import annotations

import time
from pathlib import Path

from scorer.apart import check_apart
from scorer.cluster.driver import Cluster
from scorer.cluster.worker import Part
from scorer.errors import InputError, OutputError
from scorer.inputs.corpus import Corpus
from scorer.progress import Progress
from scorer.reading.counted import is_counted
from scorer.reading.windows import Share, Tally
from scorer.run.manifest import finished_windows, manifests, missing_from
from scorer.run.mirror import Mirror, path_of
from scorer.run.parts import REJECTS
from scorer.run.score import Summary
from scorer.run.score_file import SUFFIXES
from scorer.run.settings import ScoreSettings


def score_shares(
    cluster: Cluster, corpus: Corpus, output: Path | Mirror, settings: ScoreSettings, progress: Progress, *, count: int
) -> Summary:
    """Score every dialogue of ``corpus`` into the folder ``output``, in so many shares.

    InputError for files whose records only parsing can count, OutputError for an output that cannot be shared.
    """
    if isinstance(output, Path):
        return _score_shares(cluster, corpus, output, settings, progress, count)
    output.check_apart(corpus)
    with output.naming():
        summary = _score_shares(cluster, corpus, output, settings, progress, count)
    return output.named(summary)


def _score_shares(
    cluster: Cluster, corpus: Corpus, place: Path | Mirror, settings: ScoreSettings, progress: Progress, count: int
) -> Summary:
    output = path_of(place)
    start = time.monotonic()
    check_apart(output, *corpus.inputs)
    if output.suffix in SUFFIXES:
        raise OutputError(f"{output}: is one file; workers that write themselves share a folder, so name one")
    if settings.existing == "overwrite":
        raise OutputError(f"{output}: may hold other processes' shards; remove the folder to start afresh")
    if settings.existing == "error" and manifests(output):
        raise OutputError(f"{output}: an earlier run's; continue with --resume or remove the folder")
    if not is_counted(corpus):
        raise InputError(
            "workers read JSON lines (compressed or not), CSV, Parquet and Arrow themselves, and not files of which "
            "only parsing tells where a record ends; leave out --ray-shards"
        )
    sent = place if isinstance(place, Path) else place.url
    parts = {
        f"share {index + 1} of {count}": Part(
            inputs=corpus.inputs, fields=corpus.fields, output=sent, share=Share(index, count), folder=Path.cwd()
        )
        for index in range(count)
    }
    progress.stage("scoring", count)
    resumed = scored = 0
    for done, summary in enumerate(cluster.each("share", parts), start=1):
        resumed += summary.tally.records if summary.complete_before else summary.resumed
        scored += summary.tally.scored
        progress.update(done, note=f"{scored:,} dialogues, {done} of {count} shares")
    if isinstance(place, Mirror):
        place.fetch()
    total = Tally()
    for window in finished_windows(output):
        total.add(window.tally)
    what = missing_from(output) if total.records else "nothing is there"
    if what:
        raise OutputError(f"{output}: is not whole ({what}); is it where all machines see it?")
    rejects = output / f"shard-*.{REJECTS}" if total.rejected else None
    return Summary(total, resumed, time.monotonic() - start, rejects)
