"""Who may ask: bearer keys from the environment, and no page of a browser that was sent here by somebody else."""

from __future__ import annotations

import hmac
import ipaddress
import re
from base64 import b64decode
from collections.abc import Iterable
from hashlib import sha256

from selection.errors import ServeError

VARIABLE = "EMPATHY_SERVE_KEYS"
"""The environment variable that holds the keys, separated by commas or spaces."""

LEAST = 16
"""Characters of a key, at least."""

_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class Keys:
    """The keys that let in; with none, everybody on this machine is."""

    def __init__(self, given: str | None) -> None:
        """Take the value of the variable, None where it is not set; ServeError for keys that are none."""
        keys = [key for key in re.split(r"[,\s]+", given or "") if key]
        if given is not None and not keys:
            raise ServeError(f"{VARIABLE} is set and holds no key; unset it, or give keys separated by commas")
        for number, key in enumerate(keys, 1):
            if len(key) < LEAST or not key.isascii():
                raise ServeError(
                    f"{VARIABLE}: key {number} has {len(key)} characters, expected at least {LEAST} of ASCII, "
                    "such as `openssl rand -hex 24` prints"
                )
        self._digests = [sha256(key.encode()).digest() for key in keys]

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._digests)

    def let_in(self, authorization: bytes | None) -> bool:
        """Whether a header holds a key: ``Bearer KEY``, or, from a browser, ``Basic`` with the key as password.

        It takes the same time whatever is wrong with it.
        """
        scheme, _, value = (authorization or b"").partition(b" ")
        key = value.strip()
        if scheme.lower() == b"basic":
            try:
                key = b64decode(key, validate=True).partition(b":")[2]
            except ValueError:
                key = b""
        elif scheme.lower() != b"bearer":
            key = b""
        digest = sha256(key).digest()
        found = False
        for known in self._digests:
            found |= hmac.compare_digest(digest, known)
        return found


def is_local(addresses: Iterable[str]) -> bool:
    """Whether addresses are this machine's own, which no other reaches."""
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses)


def is_own_host(host: bytes | None) -> bool:
    """Whether a Host header names this machine's own address: a page that rebinds its name to it does not."""
    if host is None:
        return True  # no browser
    name = host.decode("latin-1").lower()
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    return name in _HOSTS or name.startswith("127.")


def is_same_origin(origin: bytes | None, host: bytes | None) -> bool:
    """Whether a request comes from no page, or from one of this server."""
    return origin is None or origin.partition(b"://")[2].lower() == (host or b"").lower()
