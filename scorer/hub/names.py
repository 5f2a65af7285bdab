"""What names a scorer on the hub, and what names a folder here."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

DEFAULT_ENDPOINT = "https://huggingface.co"

_PART = r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?a:({_PART}/{_PART})(?:@([\w./-]+))?)")
_COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class HubName:
    """``user/repo``, and a branch, tag or commit of it; None is what its owner published last."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        """Return user/repo or user/repo@revision."""
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


def hub_name(given: Path | str) -> HubName | None:
    """Return what a text names on the hub, None where it names a place here: all that exists, ./a/b, /a/b, a/b/c."""
    text = given.as_posix() if isinstance(given, Path) else given
    return None if os.path.lexists(text) else repository_name(text)


def repository_name(text: str) -> HubName | None:
    """Return what a text names on the hub, whatever there is here; None where that is no name."""
    found = _NAME.fullmatch(text)
    return None if found is None or ".." in text else HubName(found[1], found[2])


def is_commit(text: str | None) -> bool:
    """Whether a text is the whole hash of a commit, which names the same files for ever."""
    return text is not None and _COMMIT.fullmatch(text) is not None


def endpoint() -> str:
    """Return the hub's address: HF_ENDPOINT, else the public one."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or DEFAULT_ENDPOINT
