"""Score files of every kind become the same arrays; what is no score, or whose cuts nobody knows, is refused."""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scorer.bundle.bundle import Bundle
from scorer.bundle.cuts import JUDGE_CUTS
from scorer.dialogue import HEADS
from scorer.errors import EmpathyError, InputError
from scorer.inputs.corpus import id_hash
from scorer.run.score_file import METADATA_KEY, meta_path
from scorer.run.score_file import write_scores as write_columns
from scorer.run.score_table import describe_scorer, read_columns, read_scores, said_of_scorer
from tests.conftest import write_lines, write_tiny_bundle
from tests.scorer.run.score_data import ABOUT, CUTS, HALF_WIDTHS, KINDS, SCORES, Pair, write_scores

every_kind = pytest.mark.parametrize("kind", KINDS)


def hashes(ids: Iterable[str]) -> list[int]:
    return [id_hash(id_) for id_ in ids]


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


@every_kind
def test_every_kind_gives_the_same_rows_cuts_and_error(kind: str, tmp_path: Path) -> None:
    path = write_scores(tmp_path / kind, shards=3)
    table = read_scores(path)
    assert (len(table), table.name) == (len(SCORES), kind)
    assert table.hashes.dtype == np.uint64
    assert table.scores.dtype == np.float32
    assert table.hashes.tolist() == hashes(SCORES)
    assert [tuple(row) for row in table.scores.tolist()] == list(SCORES.values())
    assert table.cuts == CUTS
    assert table.error is not None
    assert msgspec.to_builtins(table.error) == HALF_WIDTHS
    assert table.scorer == said_of_scorer(path)
    outside = {"dialogues": len(SCORES), "counts": {"any": 3}, "of_training": 0.5}
    assert table.scorer == ABOUT | {"outside_share": 0.5, "outside": outside}
    columns = read_columns(path)
    assert list(columns) == ["id", *HEADS]
    assert columns["id"].tolist() == list(SCORES)
    assert list(zip(*(columns[head].tolist() for head in HEADS), strict=True)) == list(SCORES.values())


@every_kind
def test_float32_scores_come_back_to_the_last_bit(kind: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(0, 10, (500, 2)).astype(np.float32)
    rows = [(f"d{i}", (float(s), float(r))) for i, (s, r) in enumerate(values)]
    assert read_scores(write_scores(tmp_path / kind, rows)).scores.tobytes() == values.tobytes()


@every_kind
def test_ids_are_text_whatever_they_look_like(kind: str, tmp_path: Path) -> None:
    ids = ["007", "1e5", "2024-01-01", "true", "null", "NA", "NaN", "a,b", 'say "so"', "grüße 😢", "a\u2028b", "a\nb"]
    rows = [(id_, (float(k) / 2, 5.0)) for k, id_ in enumerate(ids)]
    table = read_scores(write_scores(tmp_path / kind, rows))
    assert table.hashes.tolist() == hashes(ids)
    assert table.scores[:, 0].tolist() == [k / 2 for k in range(len(ids))]


def test_only_a_finished_folder_is_read(tmp_path: Path) -> None:
    unfinished = write_scores(tmp_path / "scores", shards=2, finish=False)
    with pytest.raises(InputError, match=r"its run was interrupted \(it is not finished\); finish it with .*--resume"):
        read_scores(unfinished)
    finished = write_scores(tmp_path / "whole", shards=3)
    manifest = finished / "_manifest.jsonl"
    manifest.write_text(manifest.read_text() + '{"compl')
    with pytest.raises(InputError, match="interrupted"):
        read_scores(finished)
    manifest.unlink()  # shards may be copied without it
    assert read_scores(finished).hashes.tolist() == hashes(SCORES)


@every_kind
def test_without_cuts_a_file_needs_its_scorer_or_raw_cuts(kind: str, tmp_path: Path, bundle: Bundle) -> None:
    path = bare(write_scores(tmp_path / kind, shards=2))
    with pytest.raises(InputError, match=r"says nothing of its scorer's cuts.*--scorer.*--raw-cuts"):
        read_scores(path)
    raw = read_scores(path, raw_cuts=True)
    assert (raw.cuts, raw.error, raw.scorer) == (JUDGE_CUTS, None, {})
    named = read_scores(path, scorer=bundle.path)
    assert named.cuts == bundle.info.cuts
    assert named.scorer["sha256"] == bundle.sha256


def bare(path: Path) -> Path:
    """Take away what a score file or folder says of its scorer."""
    for file in path.glob("part-*.parquet") if path.is_dir() else [path]:
        if file.suffix == ".parquet":
            pq.write_table(pq.read_table(file).replace_schema_metadata(), file)
        else:
            meta_path(file).unlink()
    return path


def test_raw_cuts_win_over_those_of_the_file(tmp_path: Path) -> None:
    raw = read_scores(write_scores(tmp_path / "scores.jsonl"), raw_cuts=True)
    assert (raw.cuts, raw.error, raw.scorer["name"]) == (JUDGE_CUTS, None, ABOUT["name"])


@every_kind
def test_the_scores_of_another_scorer_are_refused(kind: str, tmp_path: Path, bundle: Bundle) -> None:
    path = write_scores(tmp_path / kind, about=bundle.provenance())
    assert read_scores(path, scorer=bundle.path).cuts == bundle.info.cuts
    other = write_tiny_bundle(tmp_path / "other", seed=1)
    expected = f"was scored by tiny {bundle.sha256[:12]}, and .*other is tiny {other.sha256[:12]}; leave --scorer out"
    with pytest.raises(InputError, match=expected):
        read_scores(path, scorer=other.path)


def test_a_checkpoint_says_its_cuts_as_a_bundle_does(tmp_path: Path, bundle: Bundle) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    text = json.dumps({"cuts": CUTS, "uncertainty": HALF_WIDTHS, "backbone": "none"})
    (folder / "empathy.json").write_text(text)
    about = {"name": "checkpoint", "sha256": sha256(text.encode()).hexdigest(), "cuts": CUTS}
    assert describe_scorer(folder) == about | {"half_widths": HALF_WIDTHS, "backbone": "none"}
    table = read_scores(bare(write_scores(tmp_path / "scores.csv")), scorer=folder)
    assert table.cuts == CUTS
    assert table.error is not None
    assert describe_scorer(bundle.path) == bundle.provenance()


@pytest.mark.parametrize("text", ["{", "[]", "{}", "7"])
def test_a_broken_checkpoint_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "empathy.json").write_text(text)
    with pytest.raises(InputError, match=r"empathy.json: is damaged .*; train again"):
        describe_scorer(tmp_path)


def test_a_folder_that_is_no_scorer_is_named(tmp_path: Path) -> None:
    path = write_scores(tmp_path / "scores.csv")
    for folder, message in ((tmp_path, r"holds no scorer\.json"), (tmp_path / "gone", "no such folder")):
        with pytest.raises(EmpathyError, match=message):
            read_scores(path, scorer=folder)


@pytest.mark.parametrize(
    "damage",
    [
        {"cuts": None},
        {"cuts": {}},
        {"cuts": {"sensibility": CUTS["sensibility"]}},
        {"cuts": {head: [1.0] for head in HEADS}},
        {"cuts": {head: ["a"] * 10 for head in HEADS}},
        {"cuts": {head: [float("nan")] * 10 for head in HEADS}},
        {"cuts": {head: CUTS[head][::-1] for head in HEADS}},
        {"half_widths": {"a": 1}},
        {"half_widths": 3},
        {"half_widths": HALF_WIDTHS | {"coverage": 2}},
    ],
)
def test_damaged_metadata_are_one_line(damage: dict[str, Any], tmp_path: Path) -> None:
    path = write_scores(tmp_path / "scores.jsonl", about=ABOUT | damage)
    with pytest.raises(EmpathyError, match=r"scores\.jsonl(: what it says of its scorer|\.meta\.json:) is damaged"):
        read_scores(path)


@pytest.mark.parametrize("text", ["{", "[1]", '"x"', ""])
def test_metadata_that_are_none_are_refused_or_say_nothing(text: str, tmp_path: Path) -> None:
    path = write_scores(tmp_path / "scores.jsonl")
    meta_path(path).write_text(text)
    with pytest.raises(EmpathyError, match=r"scores\.jsonl\.meta\.json: is damaged"):
        read_scores(path)


@pytest.mark.parametrize("kind", ["scores.parquet", "scores.jsonl", "scores.csv"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.001, 10.001, None])
@pytest.mark.parametrize("head", HEADS)
def test_a_score_that_is_no_number_from_0_to_10_is_named_with_its_row(
    kind: str, value: float | None, head: str, tmp_path: Path
) -> None:
    rows: list[dict[str, Any]] = [{"id": id_, "sensibility": 5.0, "rationality": 5.0} for id_ in "xyz"]
    rows[1][head] = value
    path = tmp_path / kind
    if kind == "scores.parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "scores.jsonl":
        write_lines(path, rows)
    else:
        lines = [",".join("" if item is None else str(item) for item in row.values()) for row in rows]
        path.write_text("\n".join([",".join(rows[0]), *lines, ""]))
    expected = rf"{kind}: row 2 \(id 'y'\) has {head} .*, expected a number from 0 to 10"
    with pytest.raises(InputError, match=expected):
        read_scores(path, raw_cuts=True)


def test_the_ends_of_the_scale_are_scores(tmp_path: Path) -> None:
    table = read_scores(write_scores(tmp_path / "s.csv", {"a": (0.0, 10.0), "b": (-0.0, 10.0)}))
    assert table.scores.tolist() == [[0, 10], [0, 10]]


@every_kind
def test_ids_that_repeat_are_counted_across_shards(kind: str, tmp_path: Path) -> None:
    rows: list[tuple[str, Pair]] = [(id_, (5.0, 5.0)) for id_ in ("a", "b", "c", "a", "d", "b")]
    with pytest.raises(InputError, match="2 of its 6 ids occur more than once"):
        read_scores(write_scores(tmp_path / kind, rows, shards=2))


HEADER = "id,sensibility,rationality\n"
NOTHING = {"id": pa.array([], pa.string()), **{head: pa.array([], pa.float32()) for head in HEADS}}
TEXTS = {"id": ["a", "b"], "sensibility": ["high", "low"], "rationality": ["1", "2"]}
NO_ID = {"id": ["a", None], "sensibility": [5.0, 5.0], "rationality": [5.0, 5.0]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.parquet", None, "no such file or folder"),
        ("scores.txt", "a 1 2\n", r"expected scores as .parquet, .jsonl, .csv or a folder"),
        *((f"scores{kind}", "\0not this", "cannot be read|has columns") for kind in (".parquet", ".jsonl", ".csv")),
        ("none.csv", "", "cannot be read"),
        ("none.jsonl", "", "cannot be read"),
        ("scores.csv", HEADER, "holds no scores, expected the output of `empathy score`"),
        ("scores.parquet", NOTHING, "holds no scores, expected the output of `empathy score`"),
        ("scores.csv", "id,rationality\na,5\n", "has columns id, rationality, and no sensibility"),
        ("scores.jsonl", '{"id": "a", "messages": []}\n', "and no sensibility, rationality"),
        ("scores.csv", HEADER + "a,high,1\n", "cannot be read as scores"),
        ("scores.parquet", TEXTS, "its column sensibility holds string, expected numbers"),
        ("scores.parquet", NO_ID, "row 2 has no id"),
    ],
)
def test_what_is_no_score_file_is_named(name: str, content: Any, message: str, tmp_path: Path) -> None:
    if isinstance(content, str):
        (tmp_path / name).write_text(content)
    elif content is not None:
        parquet(tmp_path / name, **content)
    with pytest.raises(InputError, match=f"{name}: .*({message})"):
        read_scores(tmp_path / name, raw_cuts=True)


def test_an_empty_folder_holds_no_scores(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected scores as"):
        read_scores(tmp_path, raw_cuts=True)
    with pytest.raises(InputError, match="gone"):
        read_columns(tmp_path / "gone.csv")


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.int64()])
def test_parquet_of_other_tools_may_hold_ids_their_way(kind: pa.DataType, tmp_path: Path) -> None:
    ids = pa.array(["10", "11", "12"]).cast(kind)
    path = parquet(tmp_path / "scores.parquet", id=ids, sensibility=[1, 2, 3], rationality=[1.5, 2.0, 3.0])
    found = read_scores(path, raw_cuts=True)
    assert found.hashes.tolist() == hashes(["10", "11", "12"])
    assert found.scores.tolist() == [[1, 1.5], [2, 2], [3, 3]]


def test_columns_keep_what_else_there_is(tmp_path: Path) -> None:
    columns = {"id": ["a"], "sensibility": [5.0], "rationality": [4.0], "sensibility_uncertainty": [1.5]}
    write_columns(tmp_path / "scores.parquet", columns, json.dumps(ABOUT))
    assert pq.read_schema(tmp_path / "scores.parquet").metadata[METADATA_KEY] == json.dumps(ABOUT).encode()
    found = read_columns(tmp_path / "scores.parquet")
    assert {name: values.tolist() for name, values in found.items()} == columns
