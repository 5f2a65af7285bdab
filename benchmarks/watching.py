"""Does `empathy watch` notice another source, and keep quiet where there is none?

    python -m benchmarks.watching ED ESCONV [--scores scores.npz] [--json out.json]

scores both with the starter (once: `--scores` keeps them) and replays the scores with the defaults of `empathy watch`:

- undisturbed: ED in its own order, and in orders of whole conversations at random: no alert should come;
- swapped: the first half of such an order, then ESConv: how many of its dialogues came before the first alert;
- by chance: dialogues drawn from ED one by one, every limit 0: alerts that begin per look, against what is allowed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.about import machine, versions
from scorer.cli.table import table_lines
from scorer.dialogue import Dialogue
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.outputs import write_json
from selection.watching.observation import Observation, observations
from selection.watching.settings import WatchSettings
from selection.watching.watch import Watch

_LOT = 64
_ALLOWED = 0.05


def scored(path: str, scorer: Scorer) -> dict[str, Any]:
    """Return ids, conversations, scores and whether each dialogue is outside the training domain."""
    dialogues = [record for record in Corpus([path]) if isinstance(record, Dialogue)]
    encoded = scorer.encoder.encode(dialogues)
    return {
        "ids": [one.id for one in dialogues],
        "conversations": [one.conversation for one in dialogues],
        "scores": scorer.score(dialogues),
        "outside": scorer.bundle.info.domain.outside(dialogues, encoded)["any"],
    }


def observed(found: dict[str, Any], cuts: Any) -> list[Observation]:
    """Return what was scored as observations, a second apart."""
    times = np.arange(len(found["ids"])) + 1.7e9
    return observations(
        times.tolist(), list(found["ids"]), found["scores"], cuts, outside=[bool(one) for one in found["outside"]]
    )


def shuffled(conversations: Sequence[str], seed: int) -> list[int]:
    """Return rows in an order of whole conversations at random, 0 for the order that they have."""
    groups: dict[str, list[int]] = {}
    for row, name in enumerate(conversations):
        groups.setdefault(name, []).append(row)
    parts = list(groups.values())
    if not seed:
        return list(range(len(conversations)))
    return [row for k in np.random.default_rng(seed).permutation(len(parts)) for row in parts[k]]


def replay(stream: Sequence[Observation], settings: WatchSettings) -> tuple[list[Any], int]:
    """Return the alerts that began, and the number of looks."""
    with Watch(None, settings) as watch:
        for start in range(0, len(stream), _LOT):
            watch.record(stream[start : start + _LOT])
        return watch.alerts.entries, len(stream) // (settings.recent // 5)


@click.command()
@click.argument("ed")
@click.argument("esconv")
@click.option("--scores", type=click.Path(path_type=Path), help="Keep the scores here, or take them from here.")
@click.option("--runs", default=20, help="Runs of each kind.")
@click.option("--json", "json_path", type=click.Path(path_type=Path))
def main(ed: str, esconv: str, scores: Path | None, runs: int, json_path: Path | None) -> None:
    """Replay, and print a table."""
    scorer = Scorer.load()
    if scores is not None and scores.exists():
        kept = np.load(scores, allow_pickle=False)
        parts = [{name: kept[f"{k}_{name}"] for name in ("ids", "conversations", "scores", "outside")} for k in (0, 1)]
    else:
        parts = [scored(path, scorer) for path in (ed, esconv)]
        if scores is not None:
            np.savez(scores, **{f"{k}_{name}": value for k, part in enumerate(parts) for name, value in part.items()})
    first, second = (observed(part, scorer.bundle.info.cuts) for part in parts)
    settings = WatchSettings()
    orders = [shuffled(parts[0]["conversations"], seed) for seed in range(runs)]

    quiet = [replay([first[row] for row in order], settings) for order in orders]
    half = len(first) // 2
    swapped = [replay([first[row] for row in order[:half]] + second, settings)[0] for order in orders]
    delays = [min(alert.dialogues for alert in alerts) - half if alerts else None for alerts in swapped]
    noticed = [delay for delay in delays if delay is not None]
    within = sum(0 < delay <= settings.recent for delay in noticed)
    earliest = Counter(min(alerts, key=lambda one: one.dialogues).name for alerts in swapped if alerts)

    strict = WatchSettings(drift=0, sets=0, outside=1, low=1, false_alarms=_ALLOWED)
    rng = np.random.default_rng(0)
    drawn = [replay([first[row] for row in rng.integers(len(first), size=len(first))], strict) for _ in range(runs)]
    begun, looks = sum(len(alerts) for alerts, _ in drawn), sum(count for _, count in drawn)

    rows = [
        ("runs", "dialogues", "looks", "runs with an alert", "dialogues until the first alert"),
        (
            "undisturbed",
            f"{len(first):,}",
            f"{sum(c for _, c in quiet):,}",
            f"{sum(bool(a) for a, _ in quiet)} of {runs}",
            "-",
        ),
        (
            "swapped for ESConv",
            f"{half + len(second):,}",
            f"{runs * ((half + len(second)) // (settings.recent // 5)):,}",
            f"{len(noticed)} of {runs}",
            f"{min(noticed)} to {max(noticed)}, median {np.median(noticed):.0f}" if noticed else "-",
        ),
    ]
    print("\n".join(table_lines(rows)))
    print(f"\nwithin the window of {settings.recent} dialogues after the swap: {within} of {runs}")
    print(f"the first alert was of: {', '.join(f'{name} {count}' for name, count in earliest.most_common())}")
    print(f"limits of 0: {begun} alerts in {looks:,} looks ({begun / looks:.2%}), {_ALLOWED:.0%} of looks may")
    if json_path is not None:
        found = {
            "undisturbed": [len(alerts) for alerts, _ in quiet],
            "delays": delays,
            "within": within,
            "by_chance": {"alerts": begun, "looks": looks, "allowed": _ALLOWED},
        }
        write_json(json_path, found | {"machine": machine(), "versions": versions("numpy")})


if __name__ == "__main__":
    main()
