"""Connect to a Ray cluster, or start one on this machine, without a word on the terminal or to the outside."""

from __future__ import annotations

import logging
import os
import re
import socket
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from scorer.errors import EngineError, MissingExtraError

LOCAL = "local"
AUTO = "auto"

_ADDRESS = re.compile(r"(.+):(\d+)")
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",  # what machines and their daemons say, which Ray would print to standard output
}
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # Ray's switch for a node that listens on 127.0.0.1 only


def check_address(text: str) -> str:
    """Return an address that may be one of a cluster, ``auto`` or ``local``; EngineError for anything else."""
    if text.startswith("ray://"):
        raise EngineError(
            f"{text}: Ray Client is not supported; run the command on a machine of the cluster and give HOST:PORT"
        )
    if text not in (AUTO, LOCAL) and not _ADDRESS.fullmatch(text):
        raise EngineError(
            f"{text!r} is no address of a Ray cluster, expected HOST:PORT, auto or local; an input after --ray is "
            "taken for one: write --ray=auto, or --ray last"
        )
    return text


def find_address(text: str) -> str:
    """Return HOST:PORT or ``local``: ``auto`` is RAY_ADDRESS, else what `ray start` began on this machine, else local.

    EngineError where nothing answers, at once instead of after Ray's minutes.
    """
    address = os.environ.get("RAY_ADDRESS") or _running_here() or LOCAL if text == AUTO else text
    if check_address(address) in (AUTO, LOCAL):
        return LOCAL
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError as error:
        why = error.strerror or error
        raise EngineError(
            f"{address}: no Ray cluster answers ({why}); start one with `ray start --head`, or take --ray=local"
        ) from None
    return address


def check_ready(text: str) -> None:
    """Raise EngineError or MissingExtraError where ``connect`` would, as far as that shows without connecting."""
    find_address(text)
    if find_spec("ray") is None:
        raise MissingExtraError("ray", "ray")


def connect(text: str) -> tuple[Any, str]:
    """Return the module `ray`, connected, and to what: HOST:PORT or ``local``.

    EngineError or MissingExtraError says why that cannot be.
    """
    address = find_address(text)
    for name, value in (_QUIET | (_LOOPBACK if address == LOCAL else {})).items():
        os.environ.setdefault(name, value)  # read when Ray is imported
    try:
        import ray  # an extra
    except ModuleNotFoundError as error:
        raise MissingExtraError("ray", error.name or "ray") from None
    more: dict[str, Any] = {"include_dashboard": False} if address == LOCAL else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **more)
    except (OSError, RuntimeError, ValueError) as error:
        raise EngineError(f"{address}: Ray does not start: {' '.join(str(error).split())[:300]}") from None
    return ray, address


def _running_here() -> str | None:
    """Return the address that `ray start` left on this machine."""
    file = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray" / "ray_current_cluster"
    return file.read_text().strip() if file.is_file() else None
