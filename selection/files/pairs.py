"""Preference pairs on disk, in the conversational layout of TRL: ``prompt``, ``chosen`` and ``rejected`` as messages.

https://huggingface.co/docs/trl/dataset_formats#preference
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import numpy as np

from scorer.dialogue import HEADS, Dialogue, render_context
from scorer.inputs.corpus import id_hash
from scorer.outputs import replacing_binary
from scorer.text import digest, fingerprint
from selection.deciding.decide import Decision, Evidence
from selection.deciding.pairs import UNPAIRED, Candidates, Pairs
from selection.errors import SelectionError
from selection.files.layouts import spoken_turns, to_line
from selection.files.manifest import PairsInfo
from selection.probing.recognise import RECOGNISED, kind_of
from selection.settings import SelectSettings

if TYPE_CHECKING:
    import pyarrow as pa

BARS = (*RECOGNISED, "unfinished")
"""Why a response may not be the chosen one: what kind of bad reply it is, or that its model was cut off."""

FINISHED = "finished"
"""The column that says whether a model ended its response by itself."""

_BATCH = 4096

_Record = dict[str, Any]


class CandidateColumns:
    """Grows by one response at a time; 17 bytes each."""

    def __init__(self) -> None:
        self._contexts, self._texts, self._barred = array("Q"), array("Q"), array("b")

    def add(self, dialogue: Dialogue, *, unfinished: bool) -> None:
        """Note what a response is to, its text, and whether it may be chosen.

        Contexts are the same where the scorer reads the same: who speaks, and the normalised text. Texts are the same
        where their letters and digits are.
        """
        kind = kind_of(dialogue) or ("unfinished" if unfinished else None)
        self._contexts.append(id_hash(render_context(dialogue.context)))
        self._texts.append(id_hash(fingerprint([dialogue.response])))
        self._barred.append(0 if kind is None else BARS.index(kind) + 1)

    def found(self) -> Candidates:
        """Return what was noted."""
        return Candidates(
            contexts=np.array(self._contexts, dtype=np.uint64),
            texts=np.array(self._texts, dtype=np.uint64),
            barred=np.array(self._barred, dtype=np.int8),
            bars=BARS,
        )


def is_unfinished(dialogue: Dialogue) -> bool:
    """Whether the record says that the model did not end its response by itself, as `empathy moe generate` does.

    SelectionError where the record may say it and was not kept.
    """
    if dialogue.record is None and FINISHED in dialogue.notes.aside:
        raise SelectionError("its column finished is not kept, and pairs ask for it: Corpus(..., keep_records=True)")
    return dialogue.record is not None and dialogue.record.get(FINISHED) is False


def write_pairs(
    work: Path, spool: Path, pairs: Pairs, decision: Decision, evidence: Evidence, settings: SelectSettings
) -> PairsInfo:
    """Write each pair into the folder ``work``, the texts from the ``spool``, and return what selection.json says."""
    file = f"pairs.{settings.pairing.file}"
    lost: Counter[str] = Counter()
    writer = _parquet if settings.pairing.file == "parquet" else _json_lines
    with open(spool, "rb") as lines, replacing_binary(work / file) as out, writer(out) as write:
        records = _records(lines, pairs, evidence, lost)
        while batch := list(islice(records, _BATCH)):
            write(batch)
    gaps = pairs.key - pairs.other_key
    return PairsInfo(
        count=len(pairs),
        file=file,
        by=settings.by,
        contexts=pairs.contexts,
        unpaired=decision.reason_counts(UNPAIRED),
        median_gap=float(np.median(gaps)),
        agreed=None if pairs.chance is None else float(pairs.chance.mean()),
        lost={name: count for name, count in lost.items() if count},
    )


def _records(lines: IO[bytes], pairs: Pairs, evidence: Evidence, lost: Counter[str]) -> Iterator[_Record]:
    ends = np.cumsum([len(line) for line in lines])
    told: set[int] = set()

    def read(row: int) -> tuple[_Record, list[dict[str, str]]]:
        lines.seek(0 if not row else int(ends[row - 1]))
        record = json.loads(lines.readline())
        turns = spoken_turns(record["messages"], Counter() if row in told else lost)
        told.add(row)
        return record, [{"role": turn.role, "content": turn.content} for turn in turns]

    sides = ((pairs.chosen, pairs.key), (pairs.rejected, pairs.other_key))
    rows = zip(*(column.tolist() for side in sides for column in side), strict=True)
    chances = [None] * len(pairs) if pairs.chance is None else pairs.chance.tolist()
    known: tuple[int, Any] = (-1, None)
    for (chosen, key, rejected, other_key), chance in zip(rows, chances, strict=True):
        if known[0] != chosen:  # of a context's pairs one after the other
            known = chosen, read(chosen)
        (better, turns), (worse, others) = known[1], read(rejected)
        ids = (better["id"], worse["id"])
        yield {
            "id": digest(ids),
            "prompt_id": digest(part for turn in turns[:-1] for part in turn.values()),
            "conversation": better["conversation"],
            "category": better.get("category"),
            "synthetic": any(record.get("synthetic") is True for record in (better, worse)),
            "prompt": turns[:-1],
            "chosen": turns[-1:],
            "rejected": others[-1:],
            "id_chosen": ids[0],
            "id_rejected": ids[1],
            "score_chosen": key,
            "score_rejected": other_key,
            "gap": round(key - other_key, 6),
            **{
                f"{head}_{side}": round(float(evidence.scores[row, i]), 6)
                for side, row in (("chosen", chosen), ("rejected", rejected))
                for i, head in enumerate(HEADS)
            },
            "chance": chance,
        }


_Write = Callable[[list[_Record]], object]


@contextmanager
def _json_lines(out: BinaryIO) -> Iterator[_Write]:
    yield lambda batch: out.writelines(map(to_line, batch))


@contextmanager
def _parquet(out: BinaryIO) -> Iterator[_Write]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema()
    with pq.ParquetWriter(out, schema) as writer:
        yield lambda batch: writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema))


def _schema() -> pa.Schema:
    import pyarrow as pa

    messages = pa.list_(pa.struct({"role": pa.string(), "content": pa.string()}))
    numbers = ("score_chosen", "score_rejected", "gap", *(f"{h}_{s}" for s in ("chosen", "rejected") for h in HEADS))
    return pa.schema(
        {
            **dict.fromkeys(("id", "prompt_id", "conversation", "category"), pa.string()),
            "synthetic": pa.bool_(),
            **dict.fromkeys(("prompt", "chosen", "rejected"), messages),
            **dict.fromkeys(("id_chosen", "id_rejected"), pa.string()),
            **dict.fromkeys((*numbers, "chance"), pa.float64()),
        }
    )
