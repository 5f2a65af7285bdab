"""The training domain: what lies outside, and when that is worth a warning."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from scorer.bundle.domain import FEATURES, WARN_DIALOGUES, Domain, fit_domain
from scorer.bundle.encode import Encoder
from scorer.dialogue import Dialogue
from tests.conftest import make_dialogue, make_tokenizer, varied

LENGTH = 256


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
    wide = replace(domain, outside_share=0.1)
    assert (wide.warning({"any": outside}, 100) is not None) == warned


def test_no_dialogues_lie_nowhere(domain: Domain, encoder: Encoder) -> None:
    assert counts(domain, encoder, []) == dict.fromkeys((*FEATURES, "any"), 0)
    assert domain.warning({}, 0) is None


def test_ids_beyond_the_vocabulary_are_unseen(domain: Domain, encoder: Encoder) -> None:
    small = replace(domain, vocabulary=5)
    assert counts(small, encoder, varied(20))["unseen_tokens"] == 20


# As JSON.


def changed(domain: Domain, **values: Any) -> dict[str, Any]:
    """Return the domain as JSON with other values; ``...`` leaves one out."""
    whole = {**msgspec.to_builtins(domain), **values}
    return {name: value for name, value in whole.items() if value is not ...}


def test_a_domain_survives_json(domain: Domain) -> None:
    again = msgspec.json.decode(msgspec.json.encode(domain), type=Domain)
    assert again == domain
    assert again.seen.dtype == np.bool_
    assert again.seen.shape == (domain.vocabulary,)
    assert 0 < again.seen.sum() < domain.vocabulary


def test_a_domain_that_was_fitted_again_is_the_same(domain: Domain, encoder: Encoder) -> None:
    dialogues = varied(400)
    assert fit_domain(dialogues, encoder.encode(dialogues), encoder.tokenizer.get_vocab_size()) == domain


@pytest.mark.parametrize("key", ["ranges", "vocabulary", "seen_tokens", "outside_share"])
@pytest.mark.parametrize("value", [..., None, [], {}, "text", "a\nb", 10**400, True, [[]]], ids=range(9))
def test_malformed_json_is_refused(domain: Domain, key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=key):
        msgspec.convert(changed(domain, **{key: value}), Domain)


@pytest.mark.parametrize(
    "value", [..., None, 1, [], [1], [1, 2, 3], ["1", 2], "12", [None, 1], [0, 10**400], {}], ids=range(11)
)
def test_a_malformed_range_is_refused(domain: Domain, value: Any) -> None:
    ranges = {name: pair for name, pair in {**domain.ranges, "turns": value}.items() if pair is not ...}
    with pytest.raises(ValueError, match="ranges"):
        msgspec.convert(changed(domain, ranges=ranges), Domain)


def test_an_unknown_feature_and_more_tokens_than_bits_are_refused(domain: Domain) -> None:
    with pytest.raises(ValueError, match=r"expected .*'response_characters'"):
        msgspec.convert(changed(domain, ranges={**domain.ranges, "mood": [0, 1]}), Domain)
    with pytest.raises(ValueError, match="vocabulary of 17 tokens, and seen_tokens of 16 bits"):
        replace(domain, vocabulary=17, seen_tokens=b"\xff\xff")
