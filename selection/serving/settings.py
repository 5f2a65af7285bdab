"""How to serve: where to listen, what a request may hold, how long anything may take."""

from __future__ import annotations

from dataclasses import dataclass

from scorer.settings import check_settings, setting
from selection.errors import ServeError


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """How to serve. What is beyond a limit is refused with its reason, and nothing waits for ever."""

    host: str = setting("127.0.0.1", "The address to listen on.")
    port: int = setting(8080, "The port to listen on; 0 takes a free one.", 0, 65_535)
    wait_ms: float = setting(3, "Milliseconds that a request waits for company when the network is idle.", 0, 1000)
    queue_tokens: int = setting(262_144, "Tokens that may wait; what comes then is told to come again (429).", 1024)
    body_bytes: int = setting(
        4 << 20, "Bytes of a request, and of a line of NDJSON, at most.", 1024, 1 << 28, shown="4194304"
    )
    records: int = setting(1024, "Records of a request, at most; NDJSON may have any number.", 1)
    turns: int = setting(256, "Turns of a dialogue, at most.", 2)
    tokens: int = setting(16_384, "Tokens of a dialogue before it is shortened, at most.", 16)
    depth: int = setting(32, "Nesting of a record, at most.", 4, 200)
    connections: int = setting(512, "Connections at once; others are refused (503).", 1)
    header_seconds: float = setting(10, "Seconds for the head of a request.", above=0)
    body_seconds: float = setting(20, "Seconds for its body; for each part of an NDJSON body.", above=0)
    answer_seconds: float = setting(60, "Seconds until a request that was not scored is given up (503).", above=0)
    send_seconds: float = setting(20, "Seconds that a client may take no byte of its answer.", above=0)
    idle_seconds: float = setting(30, "Seconds that a connection may stay open between requests.", above=0)
    drain_seconds: float = setting(30, "Seconds for what is in hand when the server is asked to end.", above=0)

    def __post_init__(self) -> None:
        """Check every value; ServeError gives the value and what was expected."""
        check_settings(self, ServeError)
