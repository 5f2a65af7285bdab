"""What does not go together in a selection is refused in one clear line."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from selection.errors import SelectionError
from selection.rules import RULES
from selection.settings import BY, FORMATS, PAIRS, RANKED, RULE_NAMES, Limits, SelectSettings

NAN, INF = float("nan"), float("inf")


def settings(*, limits: dict[str, Any] | None = None, **given: Any) -> SelectSettings:
    return SelectSettings(**given, limits=Limits(**(limits or {})))


@pytest.mark.parametrize("rule", RULE_NAMES)
def test_every_rule_goes_with_every_rank_and_format(rule: str) -> None:
    for by in BY:
        for layout in FORMATS:
            settings(rule=rule, by=by, format=layout, limits=dict.fromkeys(RANKED.get(rule, ()), 1))


def test_the_standard_is_the_papers() -> None:
    standard = SelectSettings()
    assert (standard.rule, standard.threshold, bool(standard.limits)) == ("paper", (5.0, 5.0), False)
    assert not standard.whole_conversations
    assert set(RULE_NAMES) == {*RULES, *RANKED, PAIRS}
    assert (standard.by, SelectSettings(rule=PAIRS).by) == ("margin", "sensibility")


@pytest.mark.parametrize(
    "given",
    [
        {"threshold": (1, 9), "doubt": 0.5, "abstain": 0, "limits": {"share": 1.0}},
        {"threshold": (9.0, 1.0), "doubt": 1e-9, "abstain": 0.999, "limits": {"share": 1e-9}},
        {"threshold": (5.25, 4.999), "abstain": 1, "limits": {"floor": 3, "cap": 3}},
        {"abstain": 500.0},
        {"rule": "budget", "limits": {"tokens": 1}},
        {"rule": "budget", "limits": {"count": 1}},
        {"rule": "quantile", "limits": {"share": 0.5, "cap": 5}},
    ],
)
def test_the_ends_of_every_range_are_in_it(given: dict[str, Any]) -> None:
    settings(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rule": "papers"}, "rule is 'papers', expected paper or release or quantile or top-k or budget or pairs"),
        ({"by": "score"}, "by is 'score', expected margin or sensibility or rationality or difference or both"),
        ({"format": "csv"}, "format is 'csv', expected openai or sharegpt or alpaca"),
        *(({"threshold": (at, 5)}, f"threshold {at}, expected a number from 1 to 9") for at in (0.99, -INF)),
        *(({"threshold": (5, at)}, f"threshold {at}, expected a number from 1 to 9") for at in (9.5, NAN)),
        *(({"doubt": value}, f"doubt is {value}, expected above 0, at most 0.5") for value in (0, 0.51, NAN)),
        *(({"abstain": value}, f"abstain is {value}, expected at least 0") for value in (-1, NAN)),
        ({"abstain": 1.5}, "abstain is 1.5, expected a share below 1 or a whole number of dialogues"),
        ({"abstain": INF}, "abstain is inf, expected a share below 1 or a whole number of dialogues"),
        *(({"limits": {"share": value}}, f"share is {value}, expected above 0, at most 1") for value in (0, 1.01, NAN)),
        ({"limits": {"floor": 4, "cap": 3}}, "floor is 4 and cap 3, expected a floor of at most the cap"),
        *(({"limits": {name: 0}}, f"{name} is 0, expected at least 1") for name in ("count", "tokens", "floor", "cap")),
        ({"rule": "quantile"}, "quantile takes the best as long as there is room; say how much: --share"),
        ({"rule": "budget"}, "budget takes the best as long as there is room; say how much: --count or --tokens"),
        ({"rule": "top-k", "limits": {"share": 0.5}}, "say how much: --count"),
        ({"rule": "quantile", "limits": {"floor": 1}}, "say how much: --share"),
    ],
)
def test_what_does_not_go_together_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SelectionError, match=re.escape(message) + "$"):
        settings(**given)


def test_settings_read_back_from_json_are_the_same() -> None:
    chosen = settings(rule="budget", threshold=(4.5, 6.0), limits={"tokens": 10, "cap": 2}, abstain=0.25)
    assert msgspec.json.decode(msgspec.json.encode(chosen), type=SelectSettings) == chosen
