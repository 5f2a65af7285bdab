"""What the tokenizers library raises, told in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from scorer.errors import EmpathyError, reason_of


def is_of_tokenizers(error: BaseException) -> bool:
    """Whether the tokenizers library raised it: Exception itself, or a panic in Rust, which is not even one."""
    return type(error) is Exception or type(error).__name__ == "PanicException"


@contextmanager
def tokenizer_faults(told: Callable[[str], EmpathyError]) -> Iterator[None]:
    """Turn what the library raises into the error that ``told`` makes of the reason; what others raise stays.

    ValueError is its own too, of bytes that are no tokenizer.
    """
    try:
        yield
    except BaseException as error:
        if not (is_of_tokenizers(error) or isinstance(error, ValueError)):
            raise
        raise told(reason_of(error)) from None
