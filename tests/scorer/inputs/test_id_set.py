"""The set of hashes: what Python's set says, in a quarter of its memory."""

from __future__ import annotations

import random

from scorer.inputs.id_set import HashSet


def test_it_says_what_a_set_says() -> None:
    rng = random.Random(0)
    numbers = [rng.getrandbits(64) for _ in range(50_000)]
    found, expected = HashSet(), set[int]()
    for number in numbers + numbers[:1000]:
        assert (number in found) == (number in expected)
        found.add(number)
        expected.add(number)
    assert len(found) == len(expected)
    assert all(number in found for number in numbers)
    assert not any(rng.getrandbits(64) in found for _ in range(50_000))


def test_numbers_that_want_the_same_slot_find_others() -> None:
    found = HashSet()
    numbers = [(number << 40) | 7 for number in range(3000)]  # the low bits alone choose the slot
    for number in numbers:
        found.add(number)
    assert all(number in found for number in numbers)
    assert (3000 << 40) | 7 not in found
    assert 8 not in found


def test_zero_is_a_number_too() -> None:
    found = HashSet()
    assert 0 not in found
    found.add(0)
    assert 0 in found
    assert len(found) == 1
