"""Scores and dialogues become a folder of sets: the right ones, whole, the same whatever the order."""

from __future__ import annotations

from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scorer.run.score_table import read_scores
from selection import select as module
from selection.cli.select import select_lines
from selection.errors import SelectionError
from selection.files.manifest import read_selection_info
from selection.select import Aim
from selection.settings import FORMATS, Limits
from tests.conftest import record
from tests.scorer.run.score_data import ABOUT, BY_HAND, CUTS, OUTSIDE, SCORES, write_scores
from tests.selection.selection_data import dialogues, labels_of, read_lines, records, select_from


def grid() -> list[dict[str, Any]]:
    """Return a dialogue for every pair of a judge's scores; its id says them."""
    return [
        record("i am sad", f"{s} and {r}", id=f"{s},{r}", sensibility=s, rationality=r)
        for s, r in product(range(11), repeat=2)
    ]


@pytest.mark.parametrize("threshold", [(5.0, 5.0), (1.0, 9.0), (7.0, 3.0)])
def test_labels_select_by_the_published_rules(threshold: tuple[float, float], tmp_path: Path) -> None:
    names = {"paper": ("discard", "rationality"), "release": ("rational", "neutral")}
    at_s, at_r = threshold
    for rule, (opposite, rest) in names.items():
        found = select_from(tmp_path / rule, grid(), None, rule=rule, threshold=threshold)
        for id_, name in found.sets.items():
            s, r = map(int, id_.split(","))
            first, second = s > at_s and r < at_r, s < at_s and r > at_r
            assert name == ("sensibility" if first else opposite if second else rest), id_
        assert list(found.info["sets"]) == (
            ["sensibility", rest, opposite] if rule == "paper" else ["sensibility", opposite, rest]
        )
        assert found.info["judged"] == 121
        assert found.info["scorer"] is None


def test_the_reason_says_where_both_scores_lie(tmp_path: Path) -> None:
    found = select_from(tmp_path / "x", grid(), None)
    assert found.reasons["6,4"] == "S > 5, R < 5"
    assert found.reasons["5,0"] == "S = 5, R < 5"
    assert found.reasons["4,6"] == "S < 5, R > 5"
    assert found.info["reasons"]["S > 5, R < 5"] == 25
    assert len(found.info["reasons"]) == 9


def test_scores_are_read_off_the_cuts_of_their_scorer(tmp_path: Path) -> None:
    found = select_from(tmp_path / "x", records())
    assert found.sets == {id_: by_cuts for id_, (_, by_cuts, _) in BY_HAND.items()}
    assert found.reasons["c"] == "S < 5, R > 5"
    assert found.reasons["d"] == "S = 5, R > 5"
    assert found.info["cuts"] == CUTS
    assert found.info["scorer"] == {**ABOUT, **OUTSIDE, "scores": "scores"}
    assert found.info["judge"] is None
    raw = select_from(tmp_path / "y", records(), raw_cuts=True)
    assert raw.sets == {id_: by_judge for id_, (*_, by_judge) in BY_HAND.items()}
    assert raw.info["cuts"]["sensibility"][5] == 5.5
    assert raw.info["stability"] is None


def test_the_table_has_the_columns_that_are_promised(tmp_path: Path) -> None:
    items = [*records([*"abcd"], category="sad"), record("one", "two", "i am e", "so, sorry  e", id="e")]
    found = select_from(tmp_path / "x", [*items, *records(["f", "g"])])
    schema = pq.read_schema(tmp_path / "x" / "out" / "selection.parquet")
    texts = pa.dictionary(pa.int8(), pa.string())
    kinds = {"id": pa.string(), "set": texts, "reason": texts, "borderline": pa.bool_()}
    kinds |= dict.fromkeys(("sensibility", "rationality", "chance"), pa.float32())
    kinds |= dict.fromkeys(("turns", "words"), pa.int32())
    assert {name: schema.field(name).type for name in kinds} == kinds
    assert [row["id"] for row in found.rows] == list(SCORES)
    assert [(row["sensibility"], row["rationality"]) for row in found.rows] == list(SCORES.values())
    assert [row["category"] for row in found.rows] == ["sad"] * 4 + [None] * 3
    assert [(row["turns"], row["words"]) for row in found.rows][3:5] == [(2, 3), (4, 3)]
    assert all(0 <= row["chance"] <= 1 for row in found.rows)
    by_label = select_from(tmp_path / "y", grid(), None)
    assert {row["chance"] for row in by_label.rows} == {None}
    assert by_label.rows[0]["judged"]


@pytest.mark.parametrize("layout", FORMATS)
def test_every_layout_holds_the_same_texts(layout: str, tmp_path: Path) -> None:
    hostile = [
        record("a\u2028b", "c\u2029d\ne", id="a", category="sad"),
        record('say "x"', "\\n", "emoji 😢", "tab\tend", id="e", conversation="k"),
    ]
    select_from(tmp_path / "x", [*hostile, *records([*"bcdfg"])], format=layout)
    known = {item.id: item for item in dialogues(tmp_path / "x" / "in.jsonl")}
    for name in ("sensibility", "rationality", "discard"):
        found = dialogues(tmp_path / "x" / "out" / f"{name}.jsonl")
        assert found == [known[item.id] for item in found]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"rule": "release", "limits": Limits(floor=2, cap=5)},
        {"rule": "top-k", "limits": Limits(count=9)},
        {"rule": "quantile", "limits": Limits(share=0.3), "by": "difference", "format": "alpaca"},
        {"whole_conversations": True, "limits": Limits(count=11)},
        {"abstain": 6},
    ],
)
def test_the_order_of_lines_and_shards_changes_nothing(given: dict[str, Any], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    many = [f"d{i}" for i in range(40)]
    # Few values, so that many tie; and two dialogues without an id have the same text.
    scores = {id_: (float(s), float(r)) for id_, (s, r) in zip(many, rng.integers(2, 9, (40, 2)), strict=True)}
    items = [item | {"category": f"k{i % 3}", "conversation": f"c{i % 20}"} for i, item in enumerate(records(many))]
    first = select_from(tmp_path / "x", items, scores, **given)
    order = rng.permutation(40)
    second = select_from(tmp_path / "y", [items[k] for k in order], dict(sorted(scores.items(), reverse=True)), **given)
    assert second.sets == first.sets
    assert second.reasons == first.reasons
    for path in (tmp_path / "x" / "out").glob("*.jsonl"):
        mine, other = (Counter((tmp_path / side / "out" / path.name).read_bytes().split(b"\n")) for side in "xy")
        assert mine == other
    for key in ("sets", "reasons", "borderline", "dialogues", "rule"):
        assert first.info[key] == second.info[key]


def test_dialogues_without_scores_and_scores_without_dialogues_are_counted(tmp_path: Path) -> None:
    scores = {**SCORES, "x": (1.0, 1.0), "y": (1.0, 1.0)}
    found = select_from(tmp_path / "x", [*records(), *records(["new"]), {"messages": 3}], scores)
    assert found.info["scores_without_dialogue"] == 2
    assert found.info["rejected"] == {"count": 2, "reasons": {"no_score": 1, "wrong_type": 1}}
    assert "new" not in found.sets
    lines = list(select_lines(module.Selection(tmp_path, read_selection_info(tmp_path / "x" / "out"))))
    assert "2 scores belong to no dialogue of the input" in lines
    assert any(line.startswith("rejected: 2 (") and "no_score 1" in line for line in lines)


def test_whole_conversations_stay_together(tmp_path: Path) -> None:
    scores = {"a": (9.0, 1.0), "b": (4.0, 1.0), "c": (9.0, 1.0), "d": (1.0, 1.0), "e": (1.0, 9.0)}
    items = [item | {"conversation": key} for item, key in zip(records([*"abcde"]), "xxyyz", strict=True)]
    found = select_from(tmp_path / "x", items, scores, raw_cuts=True, whole_conversations=True)
    sets = dict.fromkeys("ab", "sensibility") | dict.fromkeys("cd", "rationality") | {"e": "discard"}
    assert found.sets == sets
    assert found.reasons["b"] == "conversation's mean S > 5, R < 5"
    assert select_from(tmp_path / "y", items, scores, raw_cuts=True).sets["b"] == "rationality"


def test_what_is_doubtful_goes_to_the_judge_and_the_judge_decides(tmp_path: Path) -> None:
    ids = [f"d{i}" for i in range(20)]
    scores = {id_: (i / 2, 2.0) for i, id_ in enumerate(ids)}
    first = select_from(tmp_path / "x", records(ids), scores, abstain=4)
    asked = dialogues(tmp_path / "x" / "out" / "abstain.jsonl")
    chances = sorted(first.rows, key=lambda row: abs(row["chance"] - 0.5))
    assert {item.id for item in asked} == {row["id"] for row in chances[:4]}
    known = {item.id: item for item in dialogues(tmp_path / "x" / "in.jsonl")}
    assert asked == [known[item.id] for item in asked]
    # The judge sees each of them otherwise.
    answers = [
        line | {"sensibility": 0 if first.sets[line["id"]] == "sensibility" else 10, "rationality": 0}
        for line in read_lines(tmp_path / "x" / "out" / "abstain.jsonl")
    ]
    labels = labels_of(tmp_path, answers)
    second = select_from(tmp_path / "y", records(ids), scores, labels=labels, abstain=4)
    moved = {id_ for id_, name in second.sets.items() if name != first.sets[id_]}
    assert moved == {item.id for item in asked}
    assert second.info["judged"] == 4
    assert all(second.reasons[id_].startswith("judged: ") for id_ in moved)
    # Money is not spent twice: the next to be asked are others.
    again = {item.id for item in dialogues(tmp_path / "y" / "out" / "abstain.jsonl")}
    assert not again & moved


@pytest.mark.parametrize(("abstain", "count"), [(0.25, 2), (7, 5), (1, 1)])
def test_only_what_was_not_judged_is_asked(abstain: float, count: int, tmp_path: Path) -> None:
    labels = labels_of(tmp_path, records(["a", "b"], sensibility=9, rationality=1))
    select_from(tmp_path / "x", records(), labels=labels, abstain=abstain)
    asked = {line["id"] for line in read_lines(tmp_path / "x" / "out" / "abstain.jsonl")}
    assert len(asked) == count
    assert not asked & {"a", "b"}


def test_labels_that_match_no_dialogue_say_so(tmp_path: Path) -> None:
    table = labels_of(tmp_path, records(["other"], sensibility=9, rationality=0))
    for given in ({"aim": Aim(labels=table, labels_name="labels.jsonl")}, {"labels": table}):
        with pytest.raises(SelectionError, match=r"none of .* labels.*(id|dialogue)"):
            select_from(tmp_path / "x", records(), **given)


def test_a_small_first_set_that_no_draw_holds_is_told_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAMPLE", 3)  # of a large corpus only a sample is drawn; here one without the set
    ids = [f"d{i}" for i in range(12)]
    hashes = read_scores(write_scores(tmp_path / "s", dict.fromkeys(ids, (0.0, 10.0)))).hashes
    last = ids[int(hashes.argmax())]
    scores = {id_: (9.0, 0.0) if id_ == last else (0.0, 10.0) for id_ in ids}
    found = select_from(tmp_path / "x", records(ids), scores)
    assert found.info["sets"]["sensibility"]["count"] == 1
    assert found.info["stability"]["jaccard"]["sensibility"] is None
    assert "wrote" in list(select_lines(module.Selection(tmp_path, read_selection_info(tmp_path / "x" / "out"))))[-1]
