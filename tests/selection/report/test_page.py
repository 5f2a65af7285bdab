"""The page of a report in a real browser: nothing is loaded, every chart is there, its numbers are the JSON's."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.selection.report.report_data import HOSTILE, RARE, prepare, report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path (apt-get install chromium)")

CHARTS = set(
    "joint heads thresholds correlations categories category_heat words turns chances confusion f1 calibration".split()
)
LABEL, NAME = "one => one.getAttribute('aria-label')", "figure => figure.id.slice(6)"
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on a selection, one of two sources, and one of bare scores."""
    found = prepare(tmp_path_factory.mktemp("report"))
    for name, *more in (
        ("one", "sets", "--labels", "labels.jsonl"),
        ("two", "sets", "s.parquet", "--labels", "labels.jsonl"),
        ("bare", "s.parquet", "--title", '<i>bare</i> & "co"'),
    ):
        code, said = report(found, *more, "--json", str(found / f"{name}.json"), page=f"{name}.html")
        assert code == 0, said
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as engine:
        found = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def visit(browser: Any, folder: Path) -> Iterator[Open]:
    """Open a page by its name; none may leave a console message, a page error, a dialog or a request behind."""
    seen: list[str] = []

    def open_page(name: str, width: int = 1280, scheme: str = "light", **more: Any) -> Any:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, **more)
        page.on("console", lambda message: seen.append(message.text))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.on("dialog", lambda dialog: seen.append(dialog.message))
        address = (folder / f"{name}.html").as_uri()
        page.on("request", lambda ask: seen.extend({ask.url} - {address, "data:,"}))
        page.goto(address)
        return page

    yield open_page
    for context in browser.contexts:
        context.close()
    assert seen == []


@pytest.fixture
def page(visit: Open) -> Any:
    """The page on one selection."""
    return visit("one")


@pytest.fixture
def source(folder: Path) -> Any:
    """What the JSON says of it."""
    return json.loads((folder / "one.json").read_text())["sources"][0]


def every(page: Any, selector: str, look: str) -> list[Any]:
    """Return what a JavaScript function says of every element."""
    return page.eval_on_selector_all(selector, f"all => all.map({look})")  # type: ignore[no-any-return]


def marks(page: Any, chart: str) -> list[str]:
    """Return what the marks of a chart say, without its axes and legends."""
    query = f"#chart-{chart} svg [aria-label]:not([aria-roledescription=axis]):not([aria-roledescription=legend])"
    return list(dict.fromkeys(every(page, query, LABEL)))  # a cell's text says the same as the cell


def counted(labels: list[str]) -> list[int]:
    """Return the numbers that labels end with."""
    return [int(label.rpartition(": ")[2].replace(",", "")) for label in labels]


def table(page: Any, name: str) -> list[list[str]]:
    """Return the cells of a table's body."""
    return every(page, f"#table-{name} tbody tr", "row => [...row.cells].map(cell => cell.textContent.trim())")


def test_every_chart_is_there_and_drawn(page: Any) -> None:
    assert set(every(page, "figure", NAME)) == CHARTS
    assert all(width > 100 for width in every(page, "figure svg", "one => one.getBBox().width"))
    assert all(len(label) > 9 for label in every(page, "figure svg", LABEL))


def test_scores_have_the_numbers_of_the_json(page: Any, source: Any) -> None:
    scores = source["distributions"]
    edges = scores["edges"]
    cells = [re.fullmatch(r"S ([\d.]+)–[\d.]+, R ([\d.]+)–[\d.]+: ([\d,]+)", label) for label in marks(page, "joint")]
    found = {(float(cell[1]), float(cell[2])): int(cell[3]) for cell in cells if cell}
    assert found == {(edges[s], edges[r]): count for s, r, count in scores["joint"]}
    assert sum(found.values()) == 400
    assert {"region of the sensibility set", "region of the discard set"} <= set(marks(page, "joint"))
    said = [label for label in marks(page, "heads") if " T: " in label]
    assert said == ["S < T: 4.6250", "S > T: 5.3750", "R < T: 4.0000", "R > T: 5.0000"]
    for letter, head in (("S", "sensibility"), ("R", "rationality")):
        for name, counts in scores["heads"][head]["counts"].items():
            mine = [label for label in marks(page, "heads") if label[0] == letter and f", {name}:" in label]
            assert counted(mine) == [count for count in counts if count]


def test_thresholds_and_categories_have_the_numbers_of_the_json(page: Any, source: Any) -> None:
    dots = [re.fullmatch(r"T (\d), (\w+): ([\d.]+)", label) for label in marks(page, "thresholds")]
    found = {(float(dot[1]), dot[2]): float(dot[3]) for dot in dots if dot}
    shares = {
        (row["threshold"], name): row[name]
        for row in source["thresholds"]["shares"]
        for name in source["overview"]["sets"]
        if row["threshold"] % 1 == 0
    }
    assert found == pytest.approx(shares, abs=5e-5)
    assert len(found) == 27
    rows = source["categories"]["rows"]
    said = dict(label.rsplit(": ", 1) for label in marks(page, "categories") if " of " in label)
    assert said == {row["name"]: f"{row['kept']:.4f} of {row['count']:,}" for row in rows}
    assert [row[:2] for row in table(page, "categories")[:-1]] == [[row["name"], str(row["count"])] for row in rows]


def test_agreement_and_doubt_have_the_numbers_of_the_json(page: Any, source: Any) -> None:
    agreement = source["agreement"]
    said = counted(marks(page, "confusion"))
    assert said == [count for row in agreement["sets"]["confusion"] for count in row]
    assert sum(said) == agreement["dialogues"] == 200
    values = [row[1] for row in table(page, "sets")]
    assert values == [f"{entry['value']:.3f}".replace("-", "−") for entry in agreement["sets"]["figures"].values()]
    observed = [float(label.split(": ")[1].split(" of")[0]) for label in marks(page, "calibration") if " of " in label]
    assert observed == pytest.approx([row["observed"] for row in agreement["calibration"]["rows"]], abs=5e-5)
    chance = source["stability"]["chance"]
    bars = counted([label for label in marks(page, "chances") if label.startswith("chance")])
    assert sum(bars) == sum(chance["inside"]) + sum(chance["outside"]) == 400


def test_the_headline_and_the_cost_are_those_of_the_json(page: Any, source: Any) -> None:
    tiles = dict(every(page, ".tiles div", "one => [one.children[0].textContent, one.children[1].textContent]"))
    assert tiles["dialogues"] == "400"
    assert tiles["sensibility set"] == f"{100 * source['overview']['sets']['sensibility']['share']:.1f}\u202f%"
    assert source["cost"]["usd_avoided"] == pytest.approx(200 * 0.002)
    assert tiles["judge calls saved"] == "$0.4"
    assert [row[1] for row in table(page, "rejects")] == ["1"]


def test_search_and_filters_find_examples(page: Any) -> None:
    everything = page.locator(".ex").count()
    assert page.locator("#found").text_content() == f"{everything} examples"
    page.fill("#query", f"{RARE.upper()} the")
    assert page.locator(".ex:visible").count() == 1
    assert RARE in page.locator(".ex:visible").text_content()
    assert page.locator("#found").text_content() == f"1 of {everything} examples"
    page.fill("#query", "")
    page.select_option("#set", "discard")
    page.select_option("#kind", "typical")
    shown = page.locator(".ex:visible")
    assert 0 < shown.count() < everything
    assert set(shown.evaluate_all("all => all.map(one => one.dataset.set + one.dataset.kind)")) == {"discardtypical"}
    page.fill("#query", "no such words anywhere")
    assert page.locator(".ex:visible").count() == 0


def test_without_scripts_all_examples_can_be_opened(visit: Open) -> None:
    page = visit("one", java_script_enabled=False)
    assert page.locator(".finder").is_hidden()
    assert page.locator("#theme").is_hidden()
    first = page.locator("details.more").first
    first.locator("summary").click()
    assert first.locator(".ex").first.is_visible()


def test_hostile_text_is_inert_and_readable(page: Any) -> None:
    page.wait_for_timeout(100)
    assert page.evaluate("window.hurt") is None
    assert page.locator("script").count() == 1
    assert page.locator("main img, main a[href^=javascript]").count() == 0
    text = page.locator("#examples").text_content()
    for name in ("script", "closing", "link", "emoji"):
        assert HOSTILE[name] in text, name
    assert "more characters" in text
    assert HOSTILE["long"][:1000] in text
    assert HOSTILE["long"] not in text


@pytest.mark.parametrize("name", ["one", "two", "bare"])
def test_nothing_is_wider_than_the_window(visit: Open, name: str) -> None:
    page = visit(name, width=390)
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    for width in (390, 760, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        scale = "one => one.getBoundingClientRect().width / one.viewBox.baseVal.width"
        assert min(every(page, "figure svg", scale)) > 0.7  # letters of 12 pixels stay above 8


def test_both_themes_and_the_toggle(visit: Open) -> None:
    look = """() => [getComputedStyle(document.body).backgroundColor,
        getComputedStyle(document.querySelector('#chart-thresholds text')).fill]"""
    colours = {}
    for scheme in ("light", "dark"):
        page = visit("one", scheme=scheme)
        colours[scheme] = page.evaluate(look)
        page.click("#theme")
        colours[f"{scheme} toggled"] = page.evaluate(look)
        assert page.locator("#theme").text_content() == scheme.title()
    assert colours["light"] == colours["dark toggled"] == ["rgb(255, 255, 255)", "rgb(89, 97, 106)"]
    assert colours["dark"] == colours["light toggled"]
    assert colours["dark"] != colours["light"]


def test_two_sources_show_drift_and_what_moved(visit: Open, folder: Path) -> None:
    page, found = visit("two"), json.loads((folder / "two.json").read_text())
    assert [row[0] for row in table(page, "sources")] == ["1. sets", "2. s.parquet"]
    heads = found["drift"][0]["heads"].values()
    assert [[row[3], row[5]] for row in table(page, "drift")] == [[f"{h['ks']:.3f}", f"{h['psi']:.3f}"] for h in heads]
    assert table(page, "moved")[0][1:3] == ["400", "0.0\u202f%"]
    assert set(every(page, "figure", NAME)) == {"shares", "quantiles", "thresholds", "joint1", "joint2"}
    assert {label.split(":")[0] for label in marks(page, "shares")} >= {"1. sets, sensibility", "2. s.parquet, discard"}


def test_sections_without_data_say_what_they_need(visit: Open) -> None:
    page = visit("bare")
    assert page.title() == '<i>bare</i> & "co"'
    (absent,) = page.locator("#absent .needs").all_text_contents()
    assert absent.startswith("Not on this page:")
    for name, wanted in {
        "Categories": "--dialogues IN", "Length": "--dialogues IN", "Examples": "--dialogues IN",
        "Agreement": "--labels LABELS", "Drift": "a second source",
    }.items():  # fmt: skip
        assert wanted in absent.split(f"{name} (needs ")[1].split(")")[0]
    for section in ("categories", "lengths", "examples", "agreement", "drift"):
        assert not page.locator(f"#{section}").count()
        assert not page.locator(f"nav a[href='#{section}']").count()
    (line,) = page.locator("#cost .needs").all_text_contents()
    assert "--judge-price" in line


def test_the_hover_text_says_a_marks_value(page: Any) -> None:
    mark = page.locator("#chart-confusion [aria-label^='judge sensibility']").first
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    page.mouse.move(box["x"] + 6, box["y"] + 6)
    assert page.locator("#tip").text_content() == mark.get_attribute("aria-label")
