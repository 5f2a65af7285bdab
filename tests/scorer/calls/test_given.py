"""What `Scorer.score` takes: one dialogue or many, in every form that Python code has them in."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scorer.calls.given import OnBad
from scorer.dialogue import HEADS
from scorer.engines.base import Scores
from scorer.errors import RejectedError
from scorer.model import Scorer
from tests.conftest import make_dialogue, record

TEXTS = [("i am sad", "so sorry"), ("we won the game", "great"), ("my dog died", "what happened")]
RECORDS = [record(*texts) for texts in TEXTS]
BAD = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(scope="module")
def expected(scorer: Scorer) -> Scores:
    return scorer.score([make_dialogue(*texts) for texts in TEXTS])


# One dialogue.


@pytest.mark.parametrize(
    "one",
    [
        make_dialogue(*TEXTS[0]),
        RECORDS[0],
        RECORDS[0]["messages"],
        [{"from": "human", "value": "i am sad"}, {"from": "gpt", "value": "so sorry"}],
        TEXTS[0],
        ([{"role": "user", "content": "i am sad"}], "so sorry"),
        {"context": "i am sad", "response": "so sorry"},
    ],
    ids=["dialogue", "record", "messages", "sharegpt", "pair", "pair of messages", "columns"],
)
def test_one_dialogue_in_any_form_gives_its_two_scores(scorer: Scorer, expected: Scores, one: Any) -> None:
    found = scorer.score(one)
    assert found.shape == (2,)
    np.testing.assert_allclose(found, expected[0], atol=1e-5)
    np.testing.assert_allclose(scorer.score([one, one]), expected[[0, 0]], atol=1e-5)


def test_one_that_is_no_dialogue_says_so_or_is_nan(scorer: Scorer) -> None:
    with pytest.raises(RejectedError, match=r"^the dialogue: no_response: "):
        scorer.score(BAD)
    found = scorer.score(BAD, on_bad="nan")
    assert found.shape == (2,)
    assert np.isnan(found).all()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("i am sad", "files are scored by scorer.score_files"),
        (b"i am sad", "files are scored by"),
        (Path("in.jsonl"), "files are scored by"),
        (None, "NoneType None: expected a record"),
        (7, "int 7: expected a record"),
    ],
)
def test_what_can_hold_no_dialogue_is_refused_whatever_on_bad_says(scorer: Scorer, given: Any, said: str) -> None:
    for on_bad in get_args(OnBad):
        with pytest.raises(RejectedError) as caught:
            scorer.score(given, on_bad=on_bad)
        assert said in str(caught.value)


def test_two_texts_in_a_list_are_no_pair_that_was_guessed(scorer: Scorer) -> None:
    with pytest.raises(RejectedError, match=r"^dialogue 0: not_an_object: str 'i am sad'"):
        scorer.score(["i am sad", "so sorry"])
    assert scorer.score([["i am sad", "so sorry"]]).shape == (1, 2)  # one item of JSON, a pair


# Many.


def test_many_forms_may_be_mixed_and_come_from_a_generator(scorer: Scorer, expected: Scores) -> None:
    mixed = [TEXTS[0], RECORDS[1], RECORDS[2]["messages"]]
    for given in (mixed, tuple(mixed), iter(mixed), (item for item in mixed), dict(enumerate(mixed)).values()):
        np.testing.assert_allclose(scorer.score(given), expected, atol=1e-5)
    np.testing.assert_allclose(scorer.score(np.array(mixed, dtype=object)), expected, atol=1e-5)


def test_a_refusal_is_one_line_whatever_it_shows(scorer: Scorer) -> None:
    for given in (pd.DataFrame([{"a": 1}]).groupby("a"), [object(), {"response": "a\nb\x1b[31m", "context": 1}]):
        with pytest.raises(RejectedError) as caught:
            scorer.score(given)
        assert str(caught.value).isprintable()


def test_bad_records_are_nan_at_their_place_over_chunks(scorer: Scorer, expected: Scores) -> None:
    many: list[Any] = [RECORDS[0], BAD, None, "text", 3, ("a", None), {}, (1, 2), TEXTS[2]] * 600
    found = scorer.score(many, on_bad="nan").reshape(600, 9, 2)
    np.testing.assert_allclose(found[:, [0, 8]], np.tile(expected[[0, 2]], (600, 1, 1)), atol=1e-5)
    assert np.isnan(found[:, 1:8]).all()
    assert scorer.score([BAD, BAD], on_bad="nan").shape == (2, 2)
    with pytest.raises(RejectedError, match=r"^dialogue 1: no_response"):
        scorer.score(many)


def test_a_batch_of_columns_is_read_as_rows(scorer: Scorer, expected: Scores) -> None:
    columns = {"context": [context for context, _ in TEXTS], "response": [response for _, response in TEXTS]}
    np.testing.assert_allclose(scorer.score(columns), expected, atol=1e-5)
    messages = {"messages": [item["messages"] for item in RECORDS]}
    np.testing.assert_allclose(scorer.score(messages), expected, atol=1e-5)
    made = datasets.Dataset.from_list(RECORDS).map(
        lambda batch: dict(zip(HEADS, scorer.score(batch).T, strict=True)), batched=True, batch_size=2
    )
    np.testing.assert_allclose(np.stack([made[head] for head in HEADS], axis=1), expected, atol=1e-5)


@pytest.mark.parametrize("on_bad", ["skip", None, "NaN"])
def test_on_bad_knows_two_words(scorer: Scorer, on_bad: Any) -> None:
    with pytest.raises(RejectedError, match="expected 'raise' or 'nan'"):
        scorer.score(RECORDS, on_bad=on_bad)


# Tables.


def polars_frame(rows: list[dict[str, Any]]) -> Any:
    return pytest.importorskip("polars").DataFrame(rows)


def arrow_file(rows: list[dict[str, Any]]) -> Any:
    """Return pandas as Parquet gives it: lists are numpy arrays."""
    import io

    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return pd.read_parquet(file)


def duckdb_relation(rows: list[dict[str, Any]]) -> Any:
    duckdb = pytest.importorskip("duckdb")
    return duckdb.connect().from_arrow(pa.Table.from_pylist(rows))


MAKERS: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "pandas": pd.DataFrame,
    "pandas from Parquet": arrow_file,
    "polars": polars_frame,
    "pyarrow": pa.Table.from_pylist,
    "datasets": datasets.Dataset.from_list,
    "duckdb": duckdb_relation,
}
TAKES_COLUMNS = [name for name in MAKERS if name != "duckdb"]


def back(table: Any) -> list[dict[str, Any]]:
    """Return the rows of a table of any kind, as plain Python."""
    if isinstance(table, pd.DataFrame):
        return list(pa.Table.from_pandas(table, preserve_index=False).to_pylist())
    if hasattr(table, "to_dicts"):
        return list(table.to_dicts())
    return list(table.to_pylist() if hasattr(table, "to_pylist") else table)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("layout", ["messages", "pairs"])
def test_the_rows_of_a_table_score_as_the_records_that_they_hold(
    scorer: Scorer, expected: Scores, kind: str, layout: str
) -> None:
    rows = RECORDS if layout == "messages" else [{"context": a, "response": b} for a, b in TEXTS]
    rows = [{"id": number, **row, "note": {"deep": [number]}} for number, row in enumerate(rows)]
    np.testing.assert_allclose(scorer.score(MAKERS[kind](rows)), expected, atol=1e-5)


@pytest.mark.parametrize("kind", TAKES_COLUMNS)
def test_score_frame_returns_the_same_kind_with_two_columns_more(scorer: Scorer, kind: str) -> None:
    rows = [{"n": number, **row} for number, row in enumerate(RECORDS)]
    table = MAKERS[kind](rows)
    before = back(table)
    found = scorer.score_frame(table)
    assert type(found) is type(table)
    assert back(table) == before
    assert [{name: row[name] for name in row if name not in HEADS} for row in back(found)] == before
    assert list(back(found)[0]) == ["n", "messages", *HEADS]
    np.testing.assert_array_equal([[row[head] for head in HEADS] for row in back(found)], scorer.score(rows))
    named = scorer.score_frame(table, columns=("s", "r"))
    assert list(back(named)[0]) == ["n", "messages", "s", "r"]


@pytest.mark.parametrize("kind", TAKES_COLUMNS)
def test_a_table_with_gaps_keeps_its_rows(scorer: Scorer, expected: Scores, kind: str) -> None:
    rows: list[dict[str, Any]] = [{"context": "i am sad", "response": "so sorry"}, {"context": None, "response": "x"}]
    table = MAKERS[kind](rows)
    with pytest.raises(RejectedError, match=r"^dialogue 1: "):
        scorer.score_frame(table)
    found = back(scorer.score_frame(table, on_bad="nan"))
    assert found[0]["sensibility"] == pytest.approx(expected[0][0], abs=1e-5)
    # A gap of pandas is NaN, too, and so comes back as None from Arrow.
    assert found[1]["sensibility"] is None or math.isnan(found[1]["sensibility"])


@pytest.mark.parametrize("kind", TAKES_COLUMNS)
def test_an_empty_table_has_no_scores_and_gets_its_columns(scorer: Scorer, kind: str) -> None:
    table = MAKERS[kind](RECORDS)
    table = table.select([]) if kind == "datasets" else table[:0]
    assert scorer.score(table).shape == (0, 2)
    assert back(scorer.score_frame(table)) == []


def test_pandas_keeps_its_index_and_takes_columns_of_several_types(scorer: Scorer, expected: Scores) -> None:
    frame = pd.DataFrame(
        {
            "messages": [RECORDS[0]["messages"], json.dumps(RECORDS[1]["messages"]), math.nan, pd.NA],
            "id": [1, "two", None, 4.5],
            7: ["a", "b", "c", "d"],
        },
        index=["w", "x", "y", "y"],
    )
    found = scorer.score_frame(frame, on_bad="nan")
    assert list(found.index) == ["w", "x", "y", "y"]
    assert list(found.columns) == ["messages", "id", 7, *HEADS]
    np.testing.assert_allclose(found[list(HEADS)].to_numpy()[:2], expected[:2], atol=1e-5)
    assert found[list(HEADS)].isna().to_numpy()[2:].all()
    np.testing.assert_allclose(scorer.score(frame["messages"][:2].tolist()[:1]), expected[:1], atol=1e-5)
    np.testing.assert_allclose(scorer.score(arrow_file(RECORDS)["messages"]), expected, atol=1e-5)  # a column alone


def test_a_row_of_a_table_is_one_dialogue(scorer: Scorer, expected: Scores) -> None:
    frame = pd.DataFrame([{"id": i, "context": a, "response": b} for i, (a, b) in enumerate(TEXTS)])
    np.testing.assert_allclose(scorer.score(frame.iloc[1]), expected[1], atol=1e-5)
    np.testing.assert_allclose(frame.apply(lambda row: scorer.score(row)[1], axis=1), expected[:, 1], atol=1e-5)
    np.testing.assert_allclose(scorer.score(list(frame.itertuples())), expected, atol=1e-5)
    np.testing.assert_allclose(scorer.score(next(frame.itertuples())), expected[0], atol=1e-5)
    np.testing.assert_allclose(scorer.score(row for _, row in frame.iterrows()), expected, atol=1e-5)


def test_columns_of_odd_types_are_read(scorer: Scorer, expected: Scores) -> None:
    columns = {"context": [a for a, _ in TEXTS], "response": [b for _, b in TEXTS]}
    for kind in ("category", "string", "object"):
        np.testing.assert_allclose(scorer.score(pd.DataFrame(columns).astype(kind)), expected, atol=1e-5)
    twice = pd.DataFrame([[1, 2, 3]], columns=["context", "response", "response"])
    with pytest.raises(RejectedError, match="the table has two columns 'response'; rename one"):
        scorer.score(twice, on_bad="nan")
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(columns, schema=dict.fromkeys(columns, polars.Categorical))
    np.testing.assert_allclose(scorer.score(frame), expected, atol=1e-5)
    np.testing.assert_allclose(scorer.score(polars_frame(RECORDS)["messages"]), expected, atol=1e-5)


def test_a_dataset_that_was_shuffled_or_formatted_keeps_its_order(scorer: Scorer, expected: Scores) -> None:
    data = datasets.Dataset.from_list([{"text": "", **row} for row in RECORDS])
    np.testing.assert_allclose(scorer.score(data.select([2, 0])), expected[[2, 0]], atol=1e-5)
    found = scorer.score_frame(data.select([2, 0]).with_format("numpy"))
    np.testing.assert_allclose(found["rationality"], expected[[2, 0], 1], atol=1e-5)
    np.testing.assert_allclose(scorer.score(data.to_iterable_dataset()), expected, atol=1e-5)
    with pytest.raises(RejectedError, match="takes no columns, expected a pandas"):
        scorer.score_frame(data.to_iterable_dataset())


@pytest.mark.parametrize("kind", MAKERS)
def test_a_table_without_a_dialogue_is_refused_whole(scorer: Scorer, kind: str) -> None:
    table = MAKERS[kind]([{"ask": "i am sad", "say": "so sorry"}])
    with pytest.raises(RejectedError, match=r'^columns ask, say, expected .* or fields=\{"response"'):
        scorer.score(table, on_bad="nan")
    assert scorer.score(table, fields={"context": "ask", "response": "say"}).shape == (1, 2)
    with pytest.raises(RejectedError, match=r"^no column 'sy'; keys ask, say"):
        scorer.score(table, fields={"context": "ask", "response": "sy"}, on_bad="nan")
    with pytest.raises(RejectedError, match=r"^fields names 'answer', expected some of response"):
        scorer.score(table, fields={"answer": "say"})


@pytest.mark.parametrize("kind", TAKES_COLUMNS)
def test_a_judges_columns_are_never_replaced(scorer: Scorer, kind: str) -> None:
    table = MAKERS[kind]([{**RECORDS[0], "rationality": 3}])
    with pytest.raises(RejectedError, match="has a column 'rationality' already; say columns="):
        scorer.score_frame(table)
    assert "rationality_2" in back(scorer.score_frame(table, columns=("sensibility_2", "rationality_2")))[0]


@pytest.mark.parametrize("columns", [("a",), ("a", "a"), "ab", ("a", "b", "c"), (1, 2)])
def test_columns_are_two_names(scorer: Scorer, columns: Any) -> None:
    with pytest.raises(RejectedError, match="expected the names of two columns"):
        scorer.score_frame(pa.Table.from_pylist(RECORDS), columns=columns)


def test_what_is_no_table_gets_no_columns(scorer: Scorer) -> None:
    for given in (RECORDS, TEXTS[0], pa.Table.from_pylist(RECORDS).to_reader(), duckdb_relation(RECORDS)):
        with pytest.raises(RejectedError, match="takes no columns, expected a pandas or polars"):
            scorer.score_frame(given)
    lazy = polars_frame(RECORDS).lazy()
    with pytest.raises(RejectedError, match=r"a LazyFrame holds no rows yet; say \.collect\(\) first"):
        scorer.score(lazy)


def test_a_stream_of_batches_is_read_once_and_as_it_comes(scorer: Scorer, expected: Scores) -> None:
    table = pa.Table.from_pylist(RECORDS)
    np.testing.assert_allclose(scorer.score(table.to_reader(max_chunksize=1)), expected, atol=1e-5)
    np.testing.assert_allclose(scorer.score(table.to_batches()[0]), expected, atol=1e-5)
