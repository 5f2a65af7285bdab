"""A set of 64-bit hashes in 16 to 32 bytes each; measured, Python's own set takes 70, and every dialogue has an id."""

from __future__ import annotations

from array import array
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

_FIRST_SLOTS = 1 << 10


class HashSet:
    """Evenly spread numbers from 0 to 2^64 - 1, with open addressing, at most half full."""

    def __init__(self) -> None:
        """Begin empty."""
        self._slots = array("Q", bytes(8 * _FIRST_SLOTS))  # 0 is an empty slot
        self._count = 0

    def __len__(self) -> int:
        """Return how many numbers it holds."""
        return self._count

    def __contains__(self, number: int) -> bool:
        """Whether it holds a number."""
        return self._slots[self._find(number or 1)] != 0

    def add(self, number: int) -> bool:
        """Add a number; 0 counts as 1. Return whether it is new."""
        slot = self._find(number or 1)
        if self._slots[slot]:
            return False
        self._slots[slot] = number or 1
        self._count += 1
        if 2 * self._count > len(self._slots):
            self._grow()
        return True

    def add_if_new(self, numbers: npt.NDArray[np.uint64]) -> bool:
        """Add numbers (N,) if none of them is there and none among them twice; else add none. Return whether it did."""
        numbers = np.where(numbers == 0, np.uint64(1), numbers)
        while 2 * (self._count + len(numbers)) > len(self._slots):
            self._grow()
        slots = np.frombuffer(self._slots, dtype=np.uint64)  # a view: what is set here is set there
        if len(np.unique(numbers)) < len(numbers) or _any_in(slots, numbers):
            return False
        _settle(slots, numbers)
        self._count += len(numbers)
        return True

    def _find(self, number: int) -> int:
        """Return the slot that holds a number, or the empty one that it would get."""
        slots, last = self._slots, len(self._slots) - 1
        slot = number & last
        while (found := slots[slot]) != 0 and found != number:
            slot = (slot + 1) & last
        return slot

    def _grow(self) -> None:
        old = np.frombuffer(self._slots, dtype=np.uint64)
        self._slots = array("Q", bytes(2 * old.nbytes))
        _settle(np.frombuffer(self._slots, dtype=np.uint64), old[old != 0])


def _settle(slots: npt.NDArray[np.uint64], numbers: npt.NDArray[np.uint64]) -> None:
    """Put distinct numbers, which are not there, into free slots."""
    last = np.uint64(len(slots) - 1)
    place = numbers & last
    while len(numbers):
        # The first number for each slot that is free takes it, the others try the next one.
        _, first = np.unique(place, return_index=True)
        settled = np.zeros(len(numbers), dtype=bool)
        settled[first] = slots[place[first]] == 0
        slots[place[settled]] = numbers[settled]
        numbers, place = numbers[~settled], (place[~settled] + np.uint64(1)) & last


def _any_in(slots: npt.NDArray[np.uint64], numbers: npt.NDArray[np.uint64]) -> bool:
    last = np.uint64(len(slots) - 1)
    place = numbers & last
    while len(numbers):
        found = slots[place]
        if (found == numbers).any():
            return True
        taken = found != 0
        numbers, place = numbers[taken], (place[taken] + np.uint64(1)) & last
    return False


def hash64(text: str) -> int:
    """Return 64 bits that stand for a text."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())
