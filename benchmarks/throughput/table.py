"""Figures from measured rows, and the tables that show them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.throughput.rows import REPEATS, ST_DEFAULT

Result = dict[str, Any]

_COLUMNS = (
    "row",
    "precision",
    "seconds (lowest to highest)",
    "dialogues/s",
    "without start-up",
    "start-up s",
    "peak MiB",
    "r S",
    "r R",
    "flips",
    "largest diff.",
    "x ST default",
    "x ST best, same precision",
    "of the ceiling",
)


def finish(results: Sequence[Result], dialogues: int, flops: float, ceiling: Mapping[str, float]) -> None:
    """Add to each result what follows from its seconds: rates, ratios to sentence-transformers, share of the ceiling.

    Seconds are the median of the repetitions. The ratios compare end-to-end rates; a row that chooses its
    precision is compared at the precision that it reports.
    """
    ran = [result for result in results if "reason" not in result]
    for result in ran:
        result["median_seconds"] = seconds = median(result["seconds"])
        result["rate"] = dialogues / seconds
        if "startup_seconds" in result and seconds > 2 * result["startup_seconds"]:  # otherwise mostly noise
            result["rate_without_startup"] = (dialogues - 1) / (seconds - result["startup_seconds"])
        if result["precision"] in ceiling and result["kind"] != "repeats":
            result["share_of_ceiling"] = result["rate"] * flops / (ceiling[result["precision"]] * 1e12)
    by_name = {result["name"]: result for result in ran}
    if REPEATS in by_name and "ours-auto" in by_name:
        by_name[REPEATS]["times_distinct"] = by_name[REPEATS]["rate"] / by_name["ours-auto"]["rate"]
    peers = {name: result for name, result in by_name.items() if name.startswith("st-")}
    for result in ran:
        if result["kind"] not in ("ours", "peer"):
            continue
        if ST_DEFAULT in peers:
            result["times_st_default"] = result["rate"] / peers[ST_DEFAULT]["rate"]
        equal = [peer["rate"] for peer in peers.values() if peer["precision"] == result["precision"]]
        if equal:
            result["times_st_best"] = result["rate"] / max(equal)


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield all tables as Markdown."""
    machine = report["hardware"]
    yield (
        f"{report['dialogues']:,} distinct dialogues of {report['mean_tokens']:.1f} tokens on average, "
        f"{report['flops_per_dialogue'] / 1e9:.2f} GFLOP each; {machine['processor']} ({', '.join(machine['flags'])}), "
        f"{machine['threads']} threads, {machine['memory_gib']} GiB, load {machine['load_before']:.1f} before"
    )
    yield (
        f"scorer {report['scorer']}; medians of {report['repeat']}; correlation, flips and differences against our "
        f"fp32 ONNX Runtime, without the {report['cut']} dialogues that are too long, which peers cut elsewhere"
    )
    if report["meaningless"]:
        yield "**random weights: scores mean nothing, so correlation and flips are left out**"
    yield ""
    yield f"| {' | '.join(_COLUMNS)} |"
    yield "|---|---|" + "---:|" * (len(_COLUMNS) - 2)
    for result in report["rows"]:
        yield f"| {' | '.join(_cells(result, meaningless=report['meaningless']))} |"
    yield from _ceiling_lines(report)
    yield from _other_lines(report)


def _cells(result: Result, *, meaningless: bool) -> list[str]:
    if "reason" in result:
        return [result["title"], result["precision"], f"not run: {result['reason']}", *["-"] * (len(_COLUMNS) - 3)]
    found = result.get("agreement", {})
    r = {} if meaningless else found.get("correlation", {})
    flips = None if meaningless else found.get("flips")
    low, high = min(result["seconds"]), max(result["seconds"])
    return [
        result["title"],
        result["precision"],
        f"{result['median_seconds']:.1f} ({low:.1f} to {high:.1f})",
        f"{result['rate']:.1f}",
        _number(result.get("rate_without_startup"), ".1f"),
        _number(result.get("startup_seconds"), ".2f"),
        _number(result["peak_mib"], ",.0f"),
        *(_number(r.get(head), ".5f") for head in ("sensibility", "rationality")),
        _number(flips, ".2%"),
        _number(found.get("largest_difference"), ".1e"),
        *(_number(result.get(key), ".2f") for key in ("times_st_default", "times_st_best")),
        _number(result.get("share_of_ceiling"), ".0%"),
    ]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _ceiling_lines(report: Mapping[str, Any]) -> Iterator[str]:
    if "ceiling" not in report:
        return
    yield ""
    yield (
        f"Ceiling: torch's Linear on {report['hardware']['threads']} threads, TFLOP/s, best of several at each shape "
        f"and of {report['repeat']} rounds; a row's share is of its precision's highest."
    )
    yield ""
    shapes = list(next(iter(report["ceiling"].values())))
    yield f"| precision | {' | '.join(shapes)} |"
    yield "|---|" + "---:|" * len(shapes)
    for precision, found in report["ceiling"].items():
        yield f"| {precision} | " + " | ".join(_number(found.get(shape), ".2f") for shape in shapes) + " |"


def _other_lines(report: Mapping[str, Any]) -> Iterator[str]:
    for result in report["rows"]:
        if "times_distinct" in result:
            yield ""
            yield (
                f"With {report['repeats_share']:.0%} of the dialogues repeats of others' texts, `empathy score` takes "
                f"{result['times_distinct']:.2f} times as many per second as of distinct ones."
            )
    if report.get("first_line"):
        yield ""
        yield "Seconds from starting `empathy score -` to the first scored line, the dialogue already in the pipe:"
        yield ""
        for engine, seconds in report["first_line"].items():
            yield f"- {engine}: {seconds}" if isinstance(seconds, str) else f"- {engine}: {seconds:.2f}"
    if report.get("growth"):
        yield ""
        yield "| dialogues (ours, auto) | seconds | dialogues/s | peak MiB |"
        yield "|---:|---:|---:|---:|"
        for row in report["growth"]:
            yield (
                f"| {row['dialogues']:,} | {row['seconds']:.1f} | {row['rate']:.1f} | "
                f"{_number(row['peak_mib'], ',.0f')} |"
            )
