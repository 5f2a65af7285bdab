"""Log-probabilities become the expectation of what a judge would say."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from distill.panel.expectation import expected_scores
from tests.distill.judge.judge_replies import logprobs, opinion

TEXT = '{"sensibility": 8, "rationality": 3}'
SPREAD = math.sqrt(0.6 * 0.25 + 0.3 * 0.25 + 0.1 * 2.25)


def entry(token: str, **others: float) -> dict[str, Any]:
    """Return a token said, with the probabilities of the others and its own, under "own"."""
    chances = {token: others.pop("own", 0.9), **{name.strip("_"): chance for name, chance in others.items()}}
    listed = [{"token": name, "logprob": math.log(chance)} for name, chance in chances.items()]
    return {**listed[0], "top_logprobs": listed}


def around(*number: dict[str, Any], second: str = "3") -> dict[str, Any]:
    """Return the log-probabilities of a whole reply, with the first score's tokens as given."""
    rest = [entry(', "'), entry('rationality": '), entry(second), entry("}")]
    return {"content": [entry('{"sensibility": '), *number, *rest]}


def said(first: str, second: str = "3") -> str:
    return f'{{"sensibility": {first}, "rationality": {second}}}'


def mean(given: Any, text: str, *numbers: int) -> float:
    found = expected_scores(given, text, numbers)
    assert found is not None
    return found[0].mean


@pytest.mark.parametrize("shape", ["openai", "vllm", "llama.cpp", "completion"])
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("scores", [(8, 3), (10, 10), (1, 0), (9, 2)])
def test_every_servers_form_gives_the_judges_opinion(shape: str, scores: tuple[int, int], *, split: bool) -> None:
    text = json.dumps({"sensibility": scores[0], "rationality": scores[1]})
    given = logprobs(text, [opinion(score) for score in scores], shape, split=split, top=20)
    found = expected_scores(given, text, scores)
    assert found is not None
    assert [one.mean for one in found] == [pytest.approx(s - 0.5 if s >= 5 else s + 0.5, abs=1e-3) for s in scores]
    assert [one.spread for one in found] == [pytest.approx(SPREAD, abs=1e-3)] * 2


def test_what_is_no_score_does_not_count_and_the_rest_is_scaled_to_one() -> None:
    number = entry("7", own=0.3, **{"8": 0.1, "seven": 0.2, "11": 0.1, "-7": 0.1, "7.5": 0.1, "_": 0.05})
    assert mean(around(number), said("7"), 7, 3) == pytest.approx(7.25)


def test_a_score_counts_with_the_space_quote_or_comma_of_its_token() -> None:
    number = entry(" 7", own=0.4, **{"8": 0.2, " 9": 0.2, '"6': 0.1, "7,": 0.1, "10": 0.0001})
    assert mean(around(number), said(" 7"), 7, 3) == pytest.approx(7.5, abs=1e-2)


def test_a_ten_of_two_tokens_takes_its_share_from_the_next_token() -> None:
    first = entry("1", own=0.5, **{"9": 0.5})
    assert mean(around(first, entry("0", own=0.8, **{"}": 0.2})), said("10"), 10, 3) == pytest.approx(8.6)
    # The same judge, that says 1
    given = around(first, entry(", ", own=0.2, **{"0": 0.8}))
    given["content"].pop(3)
    text = '{"sensibility": 1, rationality": 3}'
    assert mean(given, text, 1, 3) == pytest.approx(8.6)


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ({"8": 0.1, "1": 0.3}, (9 * 0.6 + 0.8 + 3) / 1.0),  # beside 9 a lone 1 begins a 10
        ({"8": 0.1, "1": 0.3, "10": 0.0001}, (9 * 0.6 + 0.8 + 0.3) / 1.0),  # but where 10 is a token, it is a 1
    ],
)
def test_a_lone_one_is_a_ten_where_its_neighbours_are_high(others: dict[str, float], expected: float) -> None:
    assert mean(around(entry("9", own=0.6, **others)), said("9"), 9, 3) == pytest.approx(expected, abs=1e-2)


def test_beside_low_scores_a_lone_one_is_a_one() -> None:
    assert mean(around(entry("2", own=0.6, **{"1": 0.3, "3": 0.1})), said("2"), 2, 3) == pytest.approx(1.8)
    assert mean(around(entry("0", own=0.6, **{"1": 0.4})), said("0"), 0, 3) == pytest.approx(0.4)


def test_the_place_is_that_of_the_verdict_whatever_stands_before() -> None:
    given = around(entry("7", own=0.5, **{"8": 0.5}))
    given["content"][:0] = [entry("<think>sensibility: "), entry("7", own=1.0), entry("</think>")]
    given["content"].append(entry("<|im_end|>"))
    assert mean(given, said("7"), 7, 3) == pytest.approx(7.5)


@pytest.mark.parametrize(
    "given",
    [
        *(None, [], {}, {"content": None}, {"content": []}, {"content": [1, None]}, {"content": [{"token": 1}]}),
        {"content": [{"token": TEXT, "logprob": -0.1}]},
        {"tokens": ["8"], "token_logprobs": None},
        {"content": [{"token": f"token_id:{number}", "logprob": -0.1, "top_logprobs": []} for number in range(9)]},
        around(entry("7")),  # another reply's
    ],
)
def test_without_the_scores_tokens_there_is_no_expectation(given: Any) -> None:
    assert expected_scores(given, TEXT, (8, 3)) is None
