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


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_is_an_empathy_error_and_none_a_system_exit(error: type[Exception]) -> None:
    assert issubclass(error, EmpathyError)
    assert issubclass(error, Exception)
    assert error.__doc__


@pytest.mark.parametrize("error", [error for error in CLASSES if error is not MissingExtraError])
def test_the_text_of_an_error_is_its_message(error: type[Exception]) -> None:
    assert str(error("x: no such file")) == "x: no such file"


def test_a_missing_extra_gives_the_line_that_installs_it() -> None:
    error = MissingExtraError("openvino", "openvino")
    assert str(error) == (
        "openvino is not installed; it comes with the extra 'openvino': pip install 'empathy-scorer[openvino]'"
    )
    assert (error.extra, error.module) == ("openvino", "openvino")


def test_an_error_may_go_from_process_to_process() -> None:
    error = pickle.loads(pickle.dumps(MissingExtraError("moe", "peft")))
    assert str(error) == str(MissingExtraError("moe", "peft"))
    assert (error.extra, error.module) == ("moe", "peft")
