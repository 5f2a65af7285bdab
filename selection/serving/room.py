"""Back-pressure: how many tokens may wait and how many bytes may be held; the event loop alone uses it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus

from selection.serving.messages.shapes import RefusedError

BYTES_PER_TOKEN = 5
"""About how many bytes of a request are a token, before anybody has counted."""

_BODIES = 16
"""Bodies of the largest size that may be held at once."""


class Room:
    """What waits: tokens of requests that are read or scored, and bytes of bodies that are held."""

    def __init__(self, tokens: int, seconds: float, body_bytes: int, rate: Callable[[], float]) -> None:
        """Let so many tokens wait, and no more than so many seconds take at ``rate`` tokens a second."""
        self._tokens, self._seconds, self.most_bytes = tokens, seconds, _BODIES * body_bytes
        self.tokens = self.bytes = 0
        self._rate = rate
        self._freed = asyncio.Event()

    @property
    def most(self) -> int:
        """Tokens that may wait now: on a slow machine fewer, since nobody waits for ever."""
        return min(self._tokens, int(self._rate() * self._seconds))

    @property
    def retry_after(self) -> int:
        """In how many seconds half of what waits will be scored, 1 to 60."""
        return max(1, min(60, math.ceil(self.tokens / 2 / max(1.0, self._rate()))))

    def check(self) -> None:
        """Raise RefusedError (429) where nothing fits in."""
        if self.tokens >= self.most or self.bytes >= self.most_bytes:
            raise self._busy()

    def add_bytes(self, count: int) -> None:
        """Hold so many bytes more; RefusedError (429) where that is too much."""
        if self.bytes + count > self.most_bytes:
            raise self._busy()
        self.bytes += count

    @contextmanager
    def held(self, tokens: int) -> Iterator[Held]:
        """Hold room for about so many tokens; RefusedError (429) where there is none. It is given back at the end."""
        if self.tokens and self.tokens + tokens > self.most:
            raise self._busy()
        held = Held(self)
        try:
            held.hold(tokens)
            yield held
        finally:
            held.hold(0)

    async def wait(self, tokens: int) -> Held:
        """Wait until there is room for so many tokens, and hold it."""
        while self.tokens and self.tokens + tokens > self.most:
            self._freed.clear()
            await self._freed.wait()
        held = Held(self)
        held.hold(tokens)
        return held

    def changed(self) -> None:
        """Wake those that wait for room."""
        self._freed.set()

    def _busy(self) -> RefusedError:
        text = f"{self.tokens} tokens wait already, expected at most {self.most}; come again after Retry-After seconds"
        return RefusedError(HTTPStatus.TOO_MANY_REQUESTS, "Overloaded", text, self.retry_after)


class Held:
    """Room that one request holds."""

    def __init__(self, room: Room) -> None:
        """Begin with none."""
        self._room, self._tokens = room, 0

    def hold(self, tokens: int) -> None:
        """Hold so many tokens from now on."""
        freed = tokens < self._tokens
        self._room.tokens += tokens - self._tokens
        self._tokens = tokens
        if freed:
            self._room.changed()
