"""Preference pairs as files: TRL's conversational layout, whole, with a reason for every dialogue that is in none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scorer.errors import OutputError
from scorer.inputs.corpus import Corpus
from selection.errors import SelectionError
from selection.settings import PairSettings
from tests.conftest import record, write_lines
from tests.selection.selection_data import (
    dialogues,
    fine,
    invoke,
    labelled,
    names,
    read_lines,
    read_selection,
    refusal,
    select_from,
)

MESSAGES = ("prompt", "chosen", "rejected")
WARM, COLD, PLAIN = "Oh no, I am so sorry about your dog.", "Buy a new one, they are cheap.", "That happens to us all."


def said(context: str, response: str, sensibility: float, id_: str, **more: Any) -> dict[str, Any]:
    return record(context, response, id=id_, sensibility=sensibility, rationality=4, **more)


EVERY = [
    said("I lost my dog", WARM, 8, "best", category="sad"),
    said("i lost  my DOG", COLD, 3, "worst"),
    said("I lost my dog", PLAIN, 5, "middle"),
    said("I lost my dog", "Shut up, you idiot, nobody asked you.", 9, "hostile"),
    said("I lost my dog", "i'm not sure what that means?", 6, "text"),
    said("I lost my dog", "I am not sure: what that means", 6, "text again"),
    said("I won", "Great news, congratulations to you!", 8, "alone"),
    said("I fell", "That must hurt a whole lot.", 5, "tied"),
    said("I fell", "I hope that you are fine now.", 5, "tied too"),
    said("I ran", "How far did you run then?", 5, "near"),
    said("I ran", "Running makes everything much better.", 6.5, "nearer"),
    said("I sat", "lol", 8, "filler"),
    said("I sat", "So where did you sit down?", 3, "bad company"),
    said("I ate", "I hope that it was tasty and", 9, "cut off", finished=False),
    said("I ate", "What was it that you ate?", 4, "asks", finished=True),
    said("I ate", "That sounds very good to me.", 7, "enjoys", finished=True),
]


def pairs_from(folder: Path, items: list[dict[str, Any]], scores: Any = None, **more: Any) -> Any:
    pairing = PairSettings(**{name: more.pop(name) for name in ("margin", "pairs", "file") if name in more})
    return select_from(folder, items, scores, rule="pairs", pairing=pairing, **{"keep_records": True, **more})


def test_every_dialogue_is_in_a_pair_or_has_a_reason(tmp_path: Path) -> None:
    found = pairs_from(tmp_path / "x", EVERY, margin=2)
    one_text = sorted(id_ for id_ in ("text", "text again") if found.reasons[id_].startswith("the same text"))
    assert len(one_text) == 1
    assert {id_: why for id_, why in found.reasons.items() if not id_.startswith("text")} == {
        "best": "best of its context",
        "worst": "worst of its context",
        "middle": "neither best nor worst of its context",
        "hostile": "hostile, so never chosen",
        "alone": "the only response to its context",
        **dict.fromkeys(("tied", "tied too"), "all responses score the same"),
        **dict.fromkeys(("near", "nearer"), "no response to pair it with is 2 away"),
        "filler": "filler, so never chosen",
        "bad company": "no response to pair it with is 2 away",
        "cut off": "unfinished, so never chosen",
        "asks": "worst of its context",
        "enjoys": "best of its context",
    }
    assert found.info["pairs"]["contexts"] == {
        "with a pair": 2,
        "with one response": 1,
        "without a response that may be chosen": 0,
        "with equal scores only": 1,
        "within the margin": 2,
    }
    assert sum(found.info["pairs"]["unpaired"].values()) == found.info["sets"]["unpaired"]["count"] == 12
    made = read_lines(tmp_path / "x" / "out" / "pairs.jsonl")
    assert [(one["id_chosen"], one["id_rejected"]) for one in made] == [("best", "worst"), ("enjoys", "asks")]


def test_a_pair_has_the_layout_of_trl(tmp_path: Path) -> None:
    asked = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "I lost my dog"}]
    items = [
        {"id": id_, "messages": [*asked, {"role": "assistant", "content": text}], "sensibility": s, "rationality": r}
        for id_, text, s, r in (("a", WARM, 8, 2), ("b", COLD, 3, 6))
    ]
    found = pairs_from(tmp_path / "x", items)
    (pair,) = read_lines(tmp_path / "x" / "out" / "pairs.jsonl")
    assert {name: pair[name] for name in MESSAGES} == {
        "prompt": asked,
        "chosen": [{"role": "assistant", "content": WARM}],
        "rejected": [{"role": "assistant", "content": COLD}],
    }
    rest = {name: value for name, value in pair.items() if name not in (*MESSAGES, "id", "prompt_id")}
    assert rest == {
        "conversation": dialogues(tmp_path / "x" / "in.jsonl")[0].conversation,
        "category": None,
        "synthetic": False,
        "id_chosen": "a",
        "id_rejected": "b",
        "score_chosen": 8,
        "score_rejected": 3,
        "gap": 5,
        "chance": None,
        "sensibility_chosen": 8,
        "rationality_chosen": 2,
        "sensibility_rejected": 3,
        "rationality_rejected": 6,
    }
    # TRL's RewardTrainer would take a column of that name off the difference of its rewards.
    assert "margin" not in pair
    assert found.info["pairs"]["median_gap"] == 5
    assert found.info["rule"]["source"] == "pairs of responses to one context, by sensibility, at least 1 apart"


def test_what_is_written_is_read_again_as_the_same_two_dialogues(tmp_path: Path) -> None:
    known = {item.id: item for item in dialogues(write_lines(tmp_path / "in.jsonl", EVERY))}
    for file in ("jsonl", "parquet"):
        pairs_from(tmp_path / file, EVERY, file=file, pairs="all")
    lines = read_lines(tmp_path / "jsonl" / "out" / "pairs.jsonl")
    table = pq.read_table(tmp_path / "parquet" / "out" / "pairs.parquet")
    assert table.to_pylist() == lines
    messages = pa.list_(pa.struct({"role": pa.string(), "content": pa.string()}))
    assert [table.schema.field(name).type for name in MESSAGES] == [messages] * 3
    for path in ("jsonl/out/pairs.jsonl", "parquet/out/pairs.parquet"):
        again = dialogues(tmp_path / path)
        assert len(again) == 2 * len(lines)
        for first, second, line in zip(again[::2], again[1::2], lines, strict=True):
            assert (first.id, second.id) == (f"{line['id']}#chosen", f"{line['id']}#rejected")
            assert first.turns == known[line["id_chosen"]].turns
            assert second.response == known[line["id_rejected"]].response
            assert first.conversation == second.conversation == known[line["id_chosen"]].conversation
    assert len({line["id"] for line in lines}) == len(lines) > len({line["prompt_id"] for line in lines})


def test_scores_of_a_scorer_compare_on_the_judges_scale(tmp_path: Path) -> None:
    # By the scorer's cuts 5.375 is 5.5 and 4.625 is 4.5 on the judge's scale: a whole point.
    items = [record("i am sad", text, id=id_) for id_, text in (("a", WARM), ("b", COLD))]
    scores = {"a": (5.375, 3), "b": (4.625, 4)}
    pairs_from(tmp_path / "x", items, scores, margin=1)
    (pair,) = read_lines(tmp_path / "x" / "out" / "pairs.jsonl")
    assert (pair["score_chosen"], pair["score_rejected"], pair["gap"]) == (5.5, 4.5, 1)
    assert (pair["sensibility_chosen"], pair["rationality_rejected"]) == (5.375, 4)
    assert 0.5 < pair["chance"] < 1
    by = {"rationality": "b", "difference": "a", "both": "b", "margin": "a"}
    for rank, chosen in by.items():
        pairs_from(tmp_path / rank, items, scores, margin=0, by=rank)
        (pair,) = read_lines(tmp_path / rank / "out" / "pairs.jsonl")
        assert pair["id_chosen"] == chosen, rank
        assert (pair["chance"] is None) == (rank in ("both", "margin"))


def test_other_prompts_are_other_contexts(tmp_path: Path) -> None:
    items = [
        labelled("a", (8, 2), WARM),
        {
            **labelled("b", (3, 6), COLD),
            "messages": [{"role": "system", "content": "Be kind."}, *record("i am sad", COLD)["messages"]],
        },
        said("i am sad!", PLAIN, 2, "c"),
        labelled("d", (5, 5), "So tell me what has happened."),
    ]
    found = pairs_from(tmp_path / "x", items)
    assert found.sets == {"a": "chosen", "b": "unpaired", "c": "unpaired", "d": "rejected"}


def test_what_a_pair_has_no_place_for_is_counted_once(tmp_path: Path) -> None:
    calls = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f"}}]}
    items = []
    for text, s in ((WARM, 8), (PLAIN, 5), (COLD, 3)):
        asked, answer = record("I lost my dog", text)["messages"]
        later = record("thanks", "x")["messages"][0]
        items.append({"messages": [asked, calls, answer, later], "sensibility": s, "rationality": 3})
    found = pairs_from(tmp_path / "x", items, pairs="all")
    assert found.info["pairs"]["count"] == 3
    assert found.info["pairs"]["lost"] == {"tool_turns": 3, "later_turns": 3}
    for pair in read_lines(tmp_path / "x" / "out" / "pairs.jsonl"):
        assert [turn["role"] for turn in pair["prompt"]] == ["user"]


def test_the_two_of_a_preference_pair_are_paired_again(tmp_path: Path) -> None:
    items = [{"id": "p", "prompt": "I lost my dog", "chosen": COLD, "rejected": WARM}]
    pairs_from(tmp_path / "x", items, {"p#chosen": (3, 5), "p#rejected": (8, 5)})
    (pair,) = read_lines(tmp_path / "x" / "out" / "pairs.jsonl")
    assert (pair["id_chosen"], pair["chosen"][0]["content"]) == ("p#rejected", WARM)


def test_long_records_are_known_to_be_unfinished_and_found_in_the_spool(tmp_path: Path) -> None:
    items = [
        said("I ate", "I hope that it was tasty and", 9, "cut off", finished=False, note="x" * 20_000),
        said("I ate", "That sounds very good to me.", 7, "enjoys", note="y" * 20_000),
        said("I ate", "What was it that you ate?", 4, "asks", note="ü" * 20_000),
    ]
    found = pairs_from(tmp_path / "x", items)
    assert found.sets == {"cut off": "unpaired", "enjoys": "chosen", "asks": "rejected"}
    with pytest.raises(SelectionError, match="column finished is not kept"):
        pairs_from(tmp_path / "y", items, keep_records=False)


def test_the_command_says_what_became_of_each_context(place: Path) -> None:
    write_lines(place / "many.jsonl", EVERY)
    said_ = fine("many.jsonl", "-o", "out", "--rule", "pairs", "--margin", "2").stderr.splitlines()
    assert said_[0] == "2 pairs by sensibility, at least 2 apart (median 4.00), from 16 dialogues"
    assert said_[1] == "contexts: 6, 2 with a pair, 1 with one response, 1 with equal scores only, 2 within the margin"
    assert said_[2].startswith("in no pair: 3 no response to pair it with is 2 away; ")
    assert names(place / "out") == [
        *("chosen.jsonl", "pairs.jsonl", "rejected.jsonl", "selection.json", "selection.parquet", "unpaired.jsonl")
    ]
    fine("many.jsonl", "-o", "out", "--rule", "pairs", "--pairs-file", "parquet", "--overwrite")
    assert "pairs.jsonl" not in names(place / "out")
    report = invoke("out", "-o", "report.html", "--json", "report.json", command="report")
    assert report.exit_code == 0, report.output
    (source,) = json.loads((place / "report.json").read_text())["sources"]
    assert source["provenance"]["pairs"] == read_selection(place / "out").info["pairs"]
    assert '<dt>pairs</dt><dd class="big">3</dd>' in (place / "report.html").read_text()
    reasons = {entry["reason"]: entry["count"] for entry in source["reasons"]["rows"]}
    assert reasons == read_selection(place / "out").info["reasons"]


def test_a_file_of_ones_own_is_never_replaced_by_pairs(tmp_path: Path) -> None:
    pairs_from(tmp_path / "x", EVERY)
    (tmp_path / "x" / "out" / "pairs.parquet").write_text("mine")
    with pytest.raises(OutputError, match=r"pairs.parquet: was not written by the earlier run"):
        pairs_from(tmp_path / "x", EVERY, file="parquet", overwrite=True)
    select_from(tmp_path / "x", EVERY, None, overwrite=True, threshold=(7.0, 7.0))
    assert (tmp_path / "x" / "out" / "pairs.parquet").read_text() == "mine"
    assert not (tmp_path / "x" / "out" / "pairs.jsonl").exists()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (("--margin", "2"), "a margin, pairs and their file are given and the rule is paper; use the rule pairs"),
        (("--rule", "pairs", "--margin", "-1"), "margin is -1.0, expected 0 to 10"),
        (("--rule", "pairs", "--count", "5"), "limits do not go with the rule pairs; leave them out"),
        (("--rule", "pairs", "--whole-conversations"), "whole conversations do not go with the rule pairs"),
        (("--rule", "pairs", "--both-low", "discard"), "the rule pairs has no discard set"),
        (("--rule", "pairs", "--target-share", "0.5"), "choose the threshold of sets; pairs have none"),
        (("--rule", "pairs"), "no pair among 7 contexts (7 with one response); give several responses to a context"),
    ],
)
def test_what_does_not_go_with_pairs_is_refused(given: tuple[str, ...], why: str, place: Path) -> None:
    assert why in refusal("in.jsonl", "--scores", "s.jsonl", "-o", "out", *given)
    assert not (place / "out").exists()


def test_rejects_and_dialogues_without_a_score_are_told(tmp_path: Path) -> None:
    scores = {item["id"]: (item["sensibility"], 4) for item in EVERY if item["id"] != "worst"}
    found = pairs_from(tmp_path / "x", [*EVERY, {"no": 1}], scores, margin=1)
    assert found.info["rejected"]["reasons"]["no_score"] == 1
    assert found.info["rejected"]["count"] == 2
    assert "worst" not in found.sets
    assert (
        len(list(Corpus([str(tmp_path / "x" / "out" / "unpaired.jsonl")]))) == found.info["sets"]["unpaired"]["count"]
    )
