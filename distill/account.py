"""The loop's own account of money: on disk before anything is sent, so that no kill and no other store hides it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scorer.values import Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What was paid, USD, and what more may have been when this was written, at the worst."""

    paid: Amount = 0.0
    open: Amount = 0.0

    @property
    def most(self) -> float:
        """What was spent at the most."""
        return self.paid + self.open

    def without(self, batches: float) -> float:
        """Return what was spent at the most, but for batches of this worst case that are about to count as open."""
        return self.most - min(self.open, batches)


class Bookkeeper:
    """Keeps an account while questions are asked: ``write`` has put it on disk before what it allows is sent.

    It is written ahead by ``ahead``, the worst case of so many calls as are in flight at once, so that most calls need
    no writing; a process that is killed leaves so much counted as spent that may not have been.
    """

    def __init__(self, account: Account, before: float, ahead: float, write: Callable[[Account], None]) -> None:
        """Continue an account of which ``before`` is what the asking that begins does not count again."""
        self._before = before
        self._written = account
        self._now = Account(paid=before, open=account.most - before)
        self._ahead = ahead
        self._write = write

    def book(self, paid: float, may_be: float) -> None:
        """Take what the asking has paid, and what is on its way at the worst; the account on disk is never below."""
        settled = self._before + paid > self._now.paid  # then every batch that is open has been counted
        self._now = Account(paid=self._before + paid, open=may_be)
        too_high = settled and self._written.most > self._now.most + 4 * self._ahead
        if self._now.most > self._written.most or too_high:
            self._put(Account(paid=self._now.paid, open=may_be + self._ahead))

    def close(self) -> None:
        """Write what it came to."""
        self._put(self._now)

    def _put(self, account: Account) -> None:
        if account != self._written:
            self._write(account)
            self._written = account
