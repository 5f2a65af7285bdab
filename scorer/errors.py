"""The exceptions that a user can cause: one tree, one line each, turned into exit codes by the CLI only."""

from __future__ import annotations

import re

_USER = re.compile(r"(?<=://)(?:[^\s/?#]*@|[^\s/:]*:(?!\d+/|:)\S*?@)")
_END = r"""(?=['"),:;.>\]}]*(?:\s|$))"""
_QUERY = re.compile(rf"(?i)(\bhttps?://[^\s?#]*)[?#]\S*?{_END}|(\b[a-z][\w+.-]*://[^\s?#]*)\?(?=[\w.%-]+=)\S*?{_END}")


def without_secrets(text: str) -> str:
    """Return a text whose URLs have lost what may be a secret: user and password, query (a signature) and fragment.

    What was there is "***". A "?" of another kind of URL than http may be a pattern: it stays unless NAME= follows.
    """
    if "://" not in text:
        return text
    return _QUERY.sub(lambda found: f"{found[1] or found[2]}?***", _USER.sub("***@", text))


class EmpathyError(Exception):
    """Base of every error a user can cause. Its text is one line: the value, what was expected, the fix.

    No URL in it shows a password or a signature, whoever wrote the text.
    """

    def __init__(self, *parts: object) -> None:
        """Take the line."""
        super().__init__(*(without_secrets(part) if isinstance(part, str) else part for part in parts))


class InputError(EmpathyError):
    """An input cannot be found, opened or listed."""


class OutputError(EmpathyError):
    """An output cannot be written, exists already, or belongs to another run."""


class BundleError(EmpathyError):
    """A scorer bundle is missing, changed, foreign, or holds what a bundle must not hold."""


class EngineError(EmpathyError):
    """The model cannot run here, or gave something that is not a score."""


class RejectedError(EmpathyError):
    """A record was rejected where the caller asked for none (``--strict``, ``Scorer.score`` on mappings)."""


class MissingExtraError(EmpathyError):
    """A command needs packages that the base install leaves out."""

    def __init__(self, extra: str, module: str) -> None:
        """Name the extra and the module whose import failed."""
        super().__init__(extra, module)
        self.extra = extra
        self.module = module

    def __str__(self) -> str:
        """Return the line that says what to install."""
        install = f"pip install 'empathy-scorer[{self.extra}]'"
        return f"{self.module} is not installed; it comes with the extra '{self.extra}': {install}"


def reason_of(error: BaseException) -> str:
    """Return what an exception of a library says, as one line of at most 300 characters that all print."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return printable(without_secrets(" ".join(str(error).split()))[:300]) or type(error).__name__


def printable(text: str) -> str:
    """Return a text with escapes for what does not print, such as line feeds and what a terminal would obey."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
