"""The tree of errors that a user can cause, and the packages that an extra brings."""

from __future__ import annotations

import inspect
import pickle

import pytest

from scorer import EmpathyError, errors
from scorer.errors import MissingExtraError

CLASSES = [value for _, value in inspect.getmembers(errors, inspect.isclass) if value.__module__ == errors.__name__]


def test_there_are_the_errors_that_are_documented() -> None:
    assert {error.__name__ for error in CLASSES} == {
        "BundleError",
        "EmpathyError",
        "EngineError",
        "InputError",
        "MissingExtraError",
        "OutputError",
        "RejectedError",
    }


@pytest.mark.parametrize("error", [error for error in CLASSES if error is not MissingExtraError])
def test_every_error_is_an_empathy_error_with_its_message_as_text(error: type[Exception]) -> None:
    assert issubclass(error, EmpathyError)
    assert error.__doc__
    assert str(error("x: no such file")) == "x: no such file"


def test_a_missing_extra_gives_the_line_that_installs_it_also_in_another_process() -> None:
    there: MissingExtraError = pickle.loads(pickle.dumps(MissingExtraError("moe", "peft")))
    for error in (MissingExtraError("openvino", "openvino"), there):
        assert str(error) == (
            f"{error.module} is not installed; it comes with the extra '{error.extra}': "
            f"pip install 'empathy-scorer[{error.extra}]'"
        )
    assert (error.extra, error.module) == ("moe", "peft")
