"""A settings record tells its default, range and help once: to Python, and to the command line."""

from __future__ import annotations

from dataclasses import dataclass

import click
import pytest
from click.testing import CliRunner

from scorer.cli.options import chosen, command, option_group, settings_options
from scorer.errors import EmpathyError
from scorer.settings import check_settings, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Brew:
    """How to make tea."""

    minutes: float = setting(3.0, "How long it draws.", 0, 60)
    cups: int | None = setting(None, "How many.", 1, shown="the pot")
    kind: str = setting("green", "Which tea.", choices=("green", "black"))
    sugar: bool = setting(False, "Sweeten it.")
    warm: bool = setting(True, "Warm the cups.")

    def __post_init__(self) -> None:
        check_settings(self, EmpathyError)


@command(examples=("brew --cups 2", "brew --kind black"))
@option_group("Tea", *settings_options(Brew, minutes="--time"))
def brew(**given: object) -> None:
    """Make tea.

    It is drunk hot.
    """
    click.echo(Brew(**chosen(given)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"minutes": 61}, "minutes is 61, expected 0 to 60"),
        ({"minutes": float("nan")}, "minutes is nan, expected 0 to 60"),
        ({"minutes": None}, "minutes is None, expected 0 to 60"),
        ({"cups": 0}, "cups is 0, expected at least 1"),
        ({"kind": "milk"}, "kind is 'milk', expected green or black"),
    ],
)
def test_a_value_out_of_its_range_is_one_line(given: dict[str, object], message: str) -> None:
    with pytest.raises(EmpathyError) as caught:
        Brew(**given)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_options_are_the_fields_and_what_is_not_given_stays_the_records_own() -> None:
    for arguments, expected in (
        ([], Brew()),
        (["--time", "5", "--cups", "2", "--kind", "black"], Brew(minutes=5.0, cups=2, kind="black")),
        (["--sugar", "--no-warm"], Brew(sugar=True, warm=False)),
    ):
        result = CliRunner().invoke(brew, arguments)
        assert result.output == f"{expected}\n", result.exception


def test_the_help_opens_with_the_examples_and_shows_every_default() -> None:
    text = CliRunner().invoke(brew, ["--help"]).output
    first = text.index("Make tea."), text.index("brew --cups 2"), text.index("It is drunk hot."), text.index("Tea:")
    assert list(first) == sorted(first)
    for part in ("[default: 3]", "[default: the pot]", "[default: green]", "[default: yes]", "[green|black]"):
        assert part in text
