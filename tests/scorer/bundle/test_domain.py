"""The training domain: what lies outside, and when that is worth a warning."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from scorer.bundle.domain import FEATURES, WARN_DIALOGUES, Domain, fit_domain
from scorer.bundle.encode import Encoder
from scorer.dialogue import Dialogue
from tests.conftest import make_dialogue, make_tokenizer, varied

LENGTH = 256
HUGE = pytest.param(10**400, id="huge")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(make_tokenizer(), LENGTH)


@pytest.fixture(scope="module")
def domain(encoder: Encoder) -> Domain:
    dialogues = varied(400)
    return fit_domain(dialogues, encoder.encode(dialogues), encoder.tokenizer.get_vocab_size())


def counts(domain: Domain, encoder: Encoder, dialogues: list[Dialogue]) -> dict[str, int]:
    found = domain.outside(dialogues, encoder.encode(dialogues))
    return {name: int(rows.sum()) for name, rows in found.items()}


def warning(domain: Domain, encoder: Encoder, dialogues: list[Dialogue]) -> str | None:
    return domain.warning(counts(domain, encoder, dialogues), len(dialogues))


FOREIGN = {
    "turns": make_dialogue(*["i am"] * 7, "i am so happy you won"),
    "tokens": make_dialogue("i am sad " * 70, "i am so happy you won"),
    "response characters": make_dialogue("i am sad you won the game today", "!"),
    "unseen tokens": make_dialogue("i am sad you won the game zzzz", "qqqqqq vvvvvv zzzzzz"),
}


def test_the_training_data_itself_is_not_warned_of(domain: Domain, encoder: Encoder) -> None:
    dialogues = varied(400)
    assert counts(domain, encoder, dialogues)["any"] <= 0.05 * len(dialogues)
    assert domain.outside_share <= 0.05
    assert warning(domain, encoder, dialogues) is None


@pytest.mark.parametrize("feature", list(FOREIGN))
def test_a_foreign_input_is_warned_of_with_its_share_and_feature(
    domain: Domain, encoder: Encoder, feature: str
) -> None:
    message = warning(domain, encoder, [FOREIGN[feature]] * 30 + varied(10))
    assert message is not None
    assert message.startswith("75% of the dialogues are unlike the scorer's training data (")
    assert f"{feature} 75%" in message
    assert f"{domain.outside_share:.0%} of the training data itself" in message
    assert message.isprintable()


def test_the_most_frequent_feature_is_named_first_and_ordinary_ones_not_at_all(
    domain: Domain, encoder: Encoder
) -> None:
    message = warning(domain, encoder, [FOREIGN["turns"]] * 20 + [FOREIGN["unseen tokens"]] * 10)
    assert message is not None
    assert message.index("turns 67%") < message.index("unseen tokens 33%")
    assert "response characters" not in message


def test_each_dialogue_is_judged_by_itself(domain: Domain, encoder: Encoder) -> None:
    dialogues = [FOREIGN["turns"], *varied(5), FOREIGN["unseen tokens"]]
    found = domain.outside(dialogues, encoder.encode(dialogues))
    assert set(found) == {*FEATURES, "any"}
    assert found["turns"].tolist() == [True, *[False] * 6]
    assert found["unseen_tokens"].tolist() == [*[False] * 6, True]
    assert (found["any"] == np.logical_or.reduce([found[name] for name in FEATURES])).all()


def test_tokens_are_counted_before_the_cut(domain: Domain) -> None:
    short = Encoder(make_tokenizer(), 16)
    dialogues = [FOREIGN["tokens"]]
    assert domain.outside(dialogues, short.encode(dialogues))["tokens"].tolist() == [True]


def test_fewer_than_ten_dialogues_are_never_warned_of(domain: Domain, encoder: Encoder) -> None:
    assert warning(domain, encoder, [FOREIGN["turns"]] * (WARN_DIALOGUES - 1)) is None
    assert warning(domain, encoder, [FOREIGN["turns"]] * WARN_DIALOGUES) is not None


@pytest.mark.parametrize(("outside", "warned"), [(0, False), (10, False), (11, True), (100, True)])
def test_a_tenth_of_the_input_may_lie_outside(domain: Domain, outside: int, warned: bool) -> None:
    assert (domain.warning({"any": outside, "turns": outside}, 100) is not None) == warned


@pytest.mark.parametrize(("outside", "warned"), [(30, False), (31, True)])
def test_three_times_the_training_share_may_lie_outside(domain: Domain, outside: int, warned: bool) -> None:
    wide = Domain(domain.ranges, domain.seen, 0.1)
    assert (wide.warning({"any": outside}, 100) is not None) == warned


def test_no_dialogues_lie_nowhere(domain: Domain, encoder: Encoder) -> None:
    assert counts(domain, encoder, []) == dict.fromkeys((*FEATURES, "any"), 0)
    assert domain.warning({}, 0) is None


def test_ids_beyond_the_vocabulary_are_unseen(domain: Domain, encoder: Encoder) -> None:
    small = Domain(domain.ranges, domain.seen[:5], 0.0)
    assert counts(small, encoder, varied(20))["unseen_tokens"] == 20


def test_a_domain_survives_json(domain: Domain) -> None:
    again = Domain.from_json(json.loads(json.dumps(domain.to_json())))
    assert again.ranges == domain.ranges
    assert again.seen.tolist() == domain.seen.tolist()
    assert again.seen.dtype == np.bool_
    assert again.outside_share == domain.outside_share
    assert again.to_json() == domain.to_json()


def test_a_domain_that_was_fitted_again_is_the_same(domain: Domain, encoder: Encoder) -> None:
    dialogues = varied(400)
    again = fit_domain(dialogues, encoder.encode(dialogues), encoder.tokenizer.get_vocab_size())
    assert again.to_json() == domain.to_json()


@pytest.mark.parametrize("key", ["ranges", "vocabulary", "seen_tokens", "outside_share"])
@pytest.mark.parametrize("value", [None, [], {}, "text", "a\nb", float("nan"), float("inf"), HUGE, True, [[]]])
def test_malformed_json_is_refused(domain: Domain, key: str, value: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Domain.from_json({**domain.to_json(), key: value})


@pytest.mark.parametrize("value", [None, 1, [], [1], [1, 2, 3], ["1", 2], "12", [None, 1], [0, float("nan")], {}])
def test_a_malformed_range_is_refused(domain: Domain, value: Any) -> None:
    ranges = {**domain.to_json()["ranges"], "turns": value}
    with pytest.raises((TypeError, ValueError)):
        Domain.from_json({**domain.to_json(), "ranges": ranges})


def test_an_unknown_or_missing_feature_is_refused(domain: Domain) -> None:
    whole = domain.to_json()
    ranges: Mapping[str, Any] = whole["ranges"]
    for wrong in ({**ranges, "mood": [0, 1]}, {name: ranges[name] for name in FEATURES[1:]}):
        with pytest.raises(ValueError, match=r"expected .*'response_characters'"):
            Domain.from_json({**whole, "ranges": wrong})


def test_more_tokens_than_bits_are_refused(domain: Domain) -> None:
    with pytest.raises(ValueError, match="vocabulary of 17 tokens and 16 bits"):
        Domain.from_json({**domain.to_json(), "vocabulary": 17, "seen_tokens": base64.b64encode(b"\xff\xff").decode()})


@pytest.mark.parametrize("key", ["ranges", "vocabulary", "seen_tokens", "outside_share"])
def test_a_missing_key_is_named(domain: Domain, key: str) -> None:
    whole = domain.to_json()
    del whole[key]
    with pytest.raises(KeyError, match=key):
        Domain.from_json(whole)
