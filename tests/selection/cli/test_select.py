"""`empathy select` as a user runs it: real files, pipes, kills and full disks; one clear line for every mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from scorer.bundle.bundle import Bundle, load_bundle
from scorer.run.score_file import meta_path
from tests.conftest import Run, make_tokenizer, record, varied, write_lines
from tests.scorer.run.score_data import ABOUT, BY_HAND, OUTSIDE, SCORES, write_scores
from tests.selection.selection_data import FILES, Selected, fine, names, one_line, read_selection, records, refusal


def selected(place: Path, *arguments: str, out: str = "out", scores: str = "s.jsonl") -> Selected:
    """Select from in.jsonl and read what was written."""
    fine("in.jsonl", "--scores", scores, "-o", out, *arguments)
    return read_selection(place / out)


def refused(*arguments: str) -> str:
    """Return the one line that says why nothing is selected from in.jsonl."""
    return refusal("in.jsonl", "--scores", "s.jsonl", "-o", "out", *arguments)


def test_scores_of_the_scorer_become_sets(place: Path, bundle: Bundle, empathy: Run) -> None:
    items = [record(*(turn.content for turn in one.turns), id=f"d{k}") for k, one in enumerate(varied(60))]
    write_lines(place / "many.jsonl", items)
    assert empathy("score", "many.jsonl", "-o", "scores", "--scorer", bundle.path, "--window", "7").returncode == 0
    result = empathy("select", "many.jsonl", "--scores", "scores", "-o", "out", "--threshold-rationality", "6.5")
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
    found = read_selection(place / "out")
    parts = (place / "scores").glob("*.parquet")
    scored = {row["id"]: row for part in parts for row in pq.read_table(part).to_pylist()}
    assert [row["id"] for row in found.rows] == [f"d{k}" for k in range(60)]
    for row in found.rows:
        s, r = row["sensibility"], row["rationality"]
        assert (s, r) == (scored[row["id"]]["sensibility"], scored[row["id"]]["rationality"])
        first, last = s > 5.5 and r <= 6, s <= 4.5 and r > 7  # the tiny scorer's cuts are the judge's
        assert row["set"] == ("sensibility" if first else "discard" if last else "rationality")
    assert found.info["scorer"]["sha256"] == bundle.sha256
    assert found.info["corpus"]["inputs"] == ["many.jsonl"]
    count = found.info["sets"]["sensibility"]["count"]
    lines = result.stderr.splitlines()
    assert lines[0] == "selected from 60 dialogues by the rule paper, T = 5 (sensibility), 6.5 (rationality)"
    assert lines[1].split()[:3] == ["sensibility", str(count), f"{count / 60:.1%}"]
    assert lines[-2:] == ["rejected: 0", "wrote out"]
    assert names(place / "out") == FILES


def test_labels_in_the_input_select_as_they_are(place: Path) -> None:
    write_lines(place / "more.jsonl", [record("hi", "well", id="h", sensibility=5, rationality=1)])
    result = fine("labels.jsonl", "more.jsonl", "in.jsonl", "-o", "out", "--rule", "release")
    found = read_selection(place / "out")
    assert found.sets == {"b": "sensibility", "g": "sensibility", "h": "neutral"}
    assert found.info["judge"]["models"] == ["j"]
    assert found.info["rejected"] == {"count": 7, "reasons": {"no_label": 7}}
    assert f"rejected: 7 (no_label 7), see {Path('out') / 'rejects.jsonl'}" in result.stderr


def test_a_file_that_says_nothing_wants_its_scorer(place: Path, bundle: Bundle) -> None:
    meta_path(place / "s.jsonl").unlink()
    assert "--scorer, or say --raw-cuts" in refused()
    assert selected(place, "--scorer", str(bundle.path)).info["scorer"]["name"] == "tiny"
    found = selected(place, "--raw-cuts", "--overwrite")
    assert found.sets == {id_: by_judge for id_, (*_, by_judge) in BY_HAND.items()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("gone.jsonl --scores s.jsonl -o out", "gone.jsonl"),
        ("in.jsonl --scores gone.csv -o out", "gone.csv: no such file or folder"),
        ("in.jsonl --scores in.jsonl -o out", "and no sensibility, rationality"),
        ("in.jsonl --scores s.jsonl -o no/out", "the folder no does not exist"),
        ("in.jsonl --scores s.jsonl -o in.jsonl", "is an input as well"),
        ("in.jsonl --scores s.jsonl -o .", "holds the input"),
        ("in.jsonl -o out --raw-cuts", "are about SCORES"),
        ("--target-share 0.5 --match labels.jsonl", "both choose the threshold"),
        ("--target-share 0.5 --threshold 5", "leave one of them out"),
        ("--target-share nan", "target share nan"),
        ("--threshold 5 --threshold-sensibility 4", "--threshold is for both heads"),
        ("--threshold 0", "threshold 0, expected a number from 1 to 9"),
        ("--abstain nan", "abstain is nan, expected at least 0"),
        ("--abstain 2 --raw-cuts", "--abstain needs to know the scorer's error"),
        ("--rule top-k", "say how much: --count"),
        ("--rule release --both-low discard", "the rule release has no discard set"),
        ("--cap 2", "no dialogue has one; leave them out"),
        ("--threshold 9", "the sensibility set is empty"),
        ("--labels in.jsonl", "no labelled dialogue among 7 records"),
        ("--whole-conversations --labels labels.jsonl", "leave --labels out"),
        ("--tokens 5 --tokenizer gone.json", "cannot be read as a tokenizer.json"),
        ("--tokens 5 --tokenizer in.jsonl", "cannot be read as a tokenizer.json"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(place: Path, arguments: str, message: str) -> None:
    before = names(place)
    given = f"in.jsonl --scores s.jsonl -o out {arguments}" if arguments.startswith("--") else arguments
    assert message in refusal(*given.split())
    assert names(place) == before


def test_a_usage_error_is_one_line_and_this_folder_is_no_output(place: Path, empathy: Run) -> None:
    result = empathy("select", "in.jsonl")
    assert "--output" in one_line(result.returncode, result.stderr)
    (place / "new").mkdir()
    result = empathy("select", "../in.jsonl", "--scores", "../s.jsonl", "-o", ".", cwd=place / "new")
    assert result.returncode == 0 or "." in one_line(result.returncode, result.stderr)


def test_it_tells_what_scores_low_on_both(place: Path) -> None:
    scores = {"a": (9.0, 1.0), "b": (1.0, 1.0), "c": (2.0, 9.0), "d": (1.0, 2.0)}
    write_lines(place / "in.jsonl", records(list(scores)))
    write_scores(place / "s.csv", scores)
    given = ("in.jsonl", "--scores", "s.csv")
    result = fine(*given, "-o", "kept")
    assert "2 (50.0%) score low on both, which this rule puts into the rationality set" in result.stderr
    found = read_selection(place / "kept")
    assert (found.sets["b"], found.reasons["b"], found.info["both_low"]) == ("rationality", "S < 5, R < 5", 2)
    result = fine(*given, "-o", "discarded", "--both-low", "discard")
    assert "2 (50.0%) score low on both and were discarded" in result.stderr
    found = read_selection(place / "discarded")
    assert found.sets == {"a": "sensibility", "b": "discard", "c": "discard", "d": "discard"}
    assert (found.reasons["b"], found.reasons["c"]) == ("both_low", "S < 5, R > 5")
    assert found.info["settings"]["both_low"] == "discard"
    assert found.info["stability"]["jaccard"]["discard"] > 0.5


def test_strict_stops_at_a_reject(place: Path) -> None:
    write_lines(place / "in.jsonl", [*records(), *records(["new"])])
    line = refused("--strict")
    assert "in.jsonl:8: no_score: id 'new' is not in s.jsonl" in line
    assert "--strict" in line
    assert "out" not in names(place)
    assert selected(place).info["rejected"]["reasons"] == {"no_score": 1}


def test_a_share_or_labels_choose_the_threshold(place: Path) -> None:
    ids = [f"d{i}" for i in range(60)]
    write_lines(place / "many.jsonl", records(ids))
    write_scores(place / "many.csv", {id_: (i / 6, 0.0) for i, id_ in enumerate(ids)})
    given = ("many.jsonl", "--scores", "many.csv", "--raw-cuts")
    result = fine(*given, "-o", "x", "--target-share", "0.3")
    found = read_selection(place / "x")
    assert found.info["sets"]["sensibility"]["share"] == pytest.approx(0.3, abs=0.01)
    assert found.info["rule"]["how"] == {"by": "target share", "share": 0.3}
    assert set(found.info["settings"]["threshold"]) == set(found.info["rule"]["threshold"].values())
    assert "chosen for a share of 30.0%" in result.stderr
    # The judge takes the upper third, which the scores reach at S > 6.67: T + 0.5.
    judged = [
        item | {"sensibility": 10 if i >= 20 else 0, "rationality": 0} for i, item in enumerate(records(ids[::2]))
    ]
    write_lines(place / "judged.jsonl", judged)
    result = fine(*given, "-o", "y", "--match", "judged.jsonl")
    found = read_selection(place / "y")
    how = found.info["rule"]["how"]
    assert (how["by"], how["labels"], how["dialogues"], how["f1"]) == ("match", "judged.jsonl", 30, 1.0)
    assert 5.8 <= found.info["rule"]["threshold"]["sensibility"] <= 6.2
    assert [line["id"] for line in found.lines["sensibility"]] in (ids[39:], ids[40:])
    assert found.info["judged"] == 0
    assert "chosen to match judged.jsonl: F1 " in result.stderr
    # A threshold can only be matched where the scorer decides: labels that decide themselves say nothing of it.
    line = refusal(*given, "-o", "z", "--match", "judged.jsonl", "--labels", "judged.jsonl")
    assert "is of a dialogue that the scorer decides" in line
    write_lines(place / "half.jsonl", judged[::2])
    fine(*given, "-o", "z", "--match", "judged.jsonl", "--labels", "half.jsonl")
    assert read_selection(place / "z").info["rule"]["how"]["dialogues"] == 15


def test_labels_that_are_none_or_of_no_dialogue_are_told(place: Path) -> None:
    judged = records(["b", "g", "nobody"], sensibility=9, rationality=1)
    judged[1]["sensibility"] = 99
    write_lines(place / "labels.jsonl", judged)
    given = ("in.jsonl", "--scores", "s.jsonl", "--labels", "labels.jsonl")
    result = fine(*given, "-o", "out")
    assert "bad_label" in result.stderr
    assert "1 of 2 labels" in result.stderr
    assert "labels.jsonl:2: bad_label" in refusal(*given, "-o", "strict", "--strict")


def test_tokens_are_counted_by_the_tokenizer_that_is_named(place: Path) -> None:
    make_tokenizer().save(str(place / "plain.json"))
    short = make_tokenizer()
    short.enable_truncation(2)
    short.enable_padding(length=64)
    short.save(str(place / "short.json"))  # tokenizers that came with a model cut and pad as that model wants it
    # "i am e", "so sorry, e": 7 tokens, each of a and e alike.
    for name in ("plain", "short"):
        for tokens, count in (("13", 1), ("14", 2)):
            found = selected(place, "--tokens", tokens, "--tokenizer", f"{name}.json", out=f"{name}-{tokens}")
            assert found.info["sets"]["sensibility"]["count"] == count, (name, tokens)
    words = Tokenizer(models.WordLevel({"so": 0}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(place / "words.json"))  # it fails on every other word
    assert "--tokenizer" in refused("--tokens", "9", "--tokenizer", "words.json")
    assert ".out.unfinished" not in names(place)


def test_a_tokenizer_at_which_the_library_panics_is_one_line(place: Path) -> None:
    file = json.loads(make_tokenizer().to_str())
    file["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    (place / "panics.json").write_text(json.dumps(file))
    assert "cannot be read as a tokenizer.json" in refused("--tokens", "9", "--tokenizer", "panics.json")


@pytest.mark.parametrize("named", [True, False])
def test_left_out_the_tokenizer_is_the_scorers(place: Path, bundle: Bundle, *, named: bool) -> None:
    scorer = bundle if named else load_bundle()
    text = "!?" * 20 + " unfathomable"
    count = len(scorer.tokenizer.encode(f"{text}\n{text}", add_special_tokens=False).ids)
    write_lines(place / "in.jsonl", [record(text, text, id=id_) for id_ in "ab"])
    write_scores(place / "s.csv", {"a": (9.0, 1.0), "b": (8.0, 1.0)}, about=scorer.provenance())
    given = ["--raw-cuts", *(["--scorer", str(scorer.path)] if named else [])]
    for tokens, taken in ((2 * count - 1, 1), (2 * count, 2)):
        found = selected(place, "--tokens", str(tokens), *given, out=str(tokens), scores="s.csv")
        assert found.info["sets"]["sensibility"]["count"] == taken


@pytest.mark.usefixtures("place")
def test_tokens_are_never_counted_by_another_scorers_tokenizer() -> None:
    assert "--tokenizer" in refused("--tokens", "50")


def test_floors_caps_and_ranks(place: Path) -> None:
    items = [item | {"category": "sad" if item["id"] in "aef" else "glad"} for item in records()]
    write_lines(place / "in.jsonl", items)
    by = ("--by", "sensibility")
    found = selected(place, "--rule", "top-k", "--count", "4", "--cap", "2", *by, out="x")
    assert [line["id"] for line in found.lines["selected"]] == ["b", "d", "e", "f"]
    found = selected(place, "--floor", "1", *by, out="y")
    assert [line["id"] for line in found.lines["sensibility"]] == ["a", "b", "e"]
    assert found.reasons["b"] == "floor of 1 a category"
    assert list(found.info["sets"]) == ["sensibility", "rationality", "discard", "surplus"]


def test_the_provenance_is_in_the_selection(place: Path) -> None:
    info = selected(place, "--labels", "labels.jsonl", "--threshold-sensibility", "4").info
    assert (info["format"], info["format_version"]) == ("empathy-selection", 1)
    assert info["scorer"] == {**ABOUT, **OUTSIDE, "scores": "s.jsonl"}
    assert info["rule"]["threshold"] == {"sensibility": 4, "rationality": 5}
    assert info["rule"]["how"] == {"by": "given"}
    assert info["judge"] == {"models": ["j"], "rubrics": [], "judgements": 2, "usd_a_judgement": None}
    assert (info["judged"], info["dialogues"], len(info["corpus"]["sha256"])) == (2, len(SCORES), 64)
