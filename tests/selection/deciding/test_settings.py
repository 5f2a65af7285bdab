"""What does not go together in a selection is refused in one clear line."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from selection.deciding.ranking import BY, Limits
from selection.deciding.settings import FORMATS, NAMES, RANKED, SelectSettings
from selection.errors import SelectionError
from selection.rules import RULES

NAN, INF = float("nan"), float("inf")


def enough(rule: str) -> Limits:
    """Return a limit that a rule needs."""
    return Limits(**dict.fromkeys(RANKED.get(rule, ()), 1))


@pytest.mark.parametrize("rule", NAMES)
@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("layout", FORMATS)
def test_every_rule_goes_with_every_rank_and_format(rule: str, by: str, layout: str) -> None:
    settings = SelectSettings(rule=rule, by=by, format=layout, limits=enough(rule))
    assert (settings.rule, settings.by, settings.format) == (rule, by, layout)


def test_the_standard_is_the_papers() -> None:
    settings = SelectSettings()
    assert (settings.rule, settings.threshold, bool(settings.limits)) == ("paper", (5.0, 5.0), False)
    assert not settings.whole_conversations
    assert set(NAMES) == {*RULES, *RANKED}


@pytest.mark.parametrize(
    "settings",
    [
        {"threshold": (1, 9)},
        {"threshold": (9.0, 1.0)},
        {"threshold": (5.25, 4.999)},
        {"doubt": 0.5},
        {"doubt": 1e-9},
        {"abstain": 0},
        {"abstain": 0.999},
        {"abstain": 1},
        {"abstain": 500.0},
        {"limits": Limits(share=1.0)},
        {"limits": Limits(share=1e-9)},
        {"limits": Limits(floor=3, cap=3)},
        {"rule": "budget", "limits": Limits(tokens=1)},
        {"rule": "budget", "limits": Limits(count=1)},
        {"rule": "budget", "limits": Limits(count=5, tokens=5)},
        {"rule": "quantile", "limits": Limits(share=0.5, cap=5)},
    ],
)
def test_the_ends_of_every_range_are_in_it(settings: dict[str, Any]) -> None:
    SelectSettings(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "papers"}, "rule 'papers', by 'margin' or format 'openai' is not known"),
        ({"by": "score"}, "rule 'paper', by 'score' or format 'openai' is not known"),
        ({"format": "csv"}, "rule 'paper', by 'margin' or format 'csv' is not known"),
        ({"threshold": (0.99, 5)}, "threshold 0.99, expected a number from 1 to 9"),
        ({"threshold": (5, 9.5)}, "threshold 9.5, expected a number from 1 to 9"),
        ({"threshold": (5, NAN)}, "threshold nan, expected a number from 1 to 9"),
        ({"threshold": (-INF, 5)}, "threshold -inf, expected a number from 1 to 9"),
        ({"doubt": 0}, "doubt 0, expected a chance above 0, at most 0.5"),
        ({"doubt": 0.51}, "doubt 0.51, expected a chance above 0, at most 0.5"),
        ({"doubt": NAN}, "doubt nan, expected a chance above 0, at most 0.5"),
        ({"abstain": -1}, "abstain -1, expected a share below 1 or a whole number of dialogues"),
        ({"abstain": 1.5}, "abstain 1.5, expected a share below 1 or a whole number of dialogues"),
        ({"abstain": INF}, "abstain inf, expected a share below 1 or a whole number of dialogues"),
        ({"abstain": NAN}, "abstain nan, expected a share below 1 or a whole number of dialogues"),
        ({"limits": Limits(share=0)}, "share 0, expected a number above 0, at most 1"),
        ({"limits": Limits(share=1.01)}, "share 1.01, expected a number above 0, at most 1"),
        ({"limits": Limits(share=NAN)}, "share nan, expected a number above 0, at most 1"),
        ({"limits": Limits(floor=4, cap=3)}, "floor 4 and cap 3, expected a floor of at most the cap"),
        ({"rule": "quantile"}, "quantile takes the best as long as there is room; say how much: --share"),
        ({"rule": "top-k"}, "top-k takes the best as long as there is room; say how much: --count"),
        ({"rule": "budget"}, "budget takes the best as long as there is room; say how much: --count or --tokens"),
        ({"rule": "top-k", "limits": Limits(share=0.5)}, "say how much: --count"),
        ({"rule": "quantile", "limits": Limits(floor=1)}, "say how much: --share"),
    ],
)
def test_what_does_not_go_together_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SelectionError, match=re.escape(message) + "$") as caught:
        SelectSettings(**settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["count", "tokens", "floor", "cap"])
@pytest.mark.parametrize("value", [0, -3])
def test_a_limit_of_less_than_one_is_refused(name: str, value: int) -> None:
    with pytest.raises(SelectionError, match=f"{name} {value}, expected a whole number of at least 1"):
        SelectSettings(limits=Limits(**{name: value}))


def test_settings_read_back_from_json_are_the_same() -> None:
    settings = SelectSettings(rule="budget", threshold=(4.5, 6.0), limits=Limits(tokens=10, cap=2), abstain=0.25)
    values = json.loads(json.dumps(settings.to_json()))
    limits = Limits(**values.pop("limits"))
    assert SelectSettings(**values | {"threshold": tuple(values["threshold"]), "limits": limits}) == settings
