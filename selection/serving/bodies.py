"""Bodies as they come in: within their bytes and seconds, and lines of NDJSON in groups."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus

from starlette.requests import Request

from selection.serving.messages.shapes import RefusedError, invalid
from selection.serving.room import Room
from selection.serving.settings import ServeSettings

NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
"""Content types of lines; others are JSON."""

GROUP_LINES = 64
"""Lines that are read and scored together, at most."""


class GoneError(Exception):
    """The client is gone: nobody is to be answered."""


def is_lines(request: Request) -> bool:
    """Whether a request's body is NDJSON; RefusedError (415) where it is neither that nor JSON."""
    coding = request.headers.get("content-encoding", "identity").lower()
    if coding != "identity":
        raise invalid(f"content-encoding {coding[:40]!a}, expected none", HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    given = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if given in NDJSON:
        return True
    if given != "application/json":
        text = f"content-type {given[:40]!a}, expected application/json or {NDJSON[0]}"
        raise invalid(text, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    return False


async def read_body(request: Request, settings: ServeSettings, room: Room) -> bytes:
    """Return a whole body; RefusedError where it is too long (413) or too slow (408). ``room`` holds its bytes.

    The caller gives them back.
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > settings.body_bytes:
        raise _too_long(settings)
    parts = bytearray()
    try:
        async with asyncio.timeout(settings.body_seconds):
            async for part in _parts(request):
                room.add_bytes(len(part))
                parts += part
                if len(parts) > settings.body_bytes:
                    raise _too_long(settings)
    except TimeoutError:
        room.bytes -= len(parts)
        raise _slow(settings) from None
    except BaseException:
        room.bytes -= len(parts)
        raise
    return bytes(parts)


async def read_lines(request: Request, settings: ServeSettings) -> AsyncIterator[tuple[int, bytes | None]]:
    """Yield whole lines in groups, as they come: the number of the first, from 0, and their bytes.

    The bytes are None for a line that is too long, which is left out. RefusedError (408) where nothing comes.
    """
    rest, number, skipping = bytearray(), 0, False
    parts = _parts(request)
    while True:
        try:
            async with asyncio.timeout(settings.body_seconds):
                part = await anext(parts, None)
        except TimeoutError:
            raise _slow(settings) from None
        rest += part if part is not None else b"\n" if rest or skipping else b""
        lines = rest.split(b"\n")
        rest = lines.pop()
        if skipping and lines:
            yield number, None
            number, skipping = number + 1, False
            del lines[0]
        for start in range(0, len(lines), GROUP_LINES):
            group = lines[start : start + GROUP_LINES]
            for place, data in _apart(group, settings.body_bytes):
                yield number + place, data
            number += len(group)
        if len(rest) > settings.body_bytes:
            skipping = True
        if skipping:
            rest.clear()
        if part is None:
            return


def _apart(group: list[bytearray], most: int) -> list[tuple[int, bytes | None]]:
    """Return the lines of a group as runs of those that are short enough, and each other one by itself."""
    found: list[tuple[int, bytes | None]] = []
    run: list[bytes] = []
    for place, line in enumerate(group):
        if len(line) > most:
            if run:
                found.append((place - len(run), b"\n".join(run) + b"\n"))
            found.append((place, None))
            run = []
        else:
            run.append(bytes(line))
    if run:
        found.append((len(group) - len(run), b"\n".join(run) + b"\n"))
    return found


async def _parts(request: Request) -> AsyncIterator[bytes]:
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise GoneError
        if body := message.get("body", b""):
            yield body
        if not message.get("more_body", False):
            return


async def until_gone(request: Request) -> None:
    """Return when the client is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _too_long(settings: ServeSettings) -> RefusedError:
    text = f"the body has more than {settings.body_bytes} bytes; send several requests, or NDJSON"
    return invalid(text, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def _slow(settings: ServeSettings) -> RefusedError:
    return invalid(f"the body did not come within {settings.body_seconds:g} seconds", HTTPStatus.REQUEST_TIMEOUT)
