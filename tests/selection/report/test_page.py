"""The page of a report in a real browser: nothing is loaded, every chart is there, its numbers are the JSON's."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.selection.report.report_data import HOSTILE, RARE, prepare
from tests.selection.selection_data import invoke

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path (apt-get install chromium)")

CHARTS = {
    "joint",
    "heads",
    "thresholds",
    "correlations",
    "categories",
    "category_heat",
    "words",
    "turns",
    "chances",
    "confusion",
    "f1",
    "calibration",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on a selection, one of two sources, and one of bare scores."""
    found = prepare(tmp_path_factory.mktemp("report"))
    for name, more in {
        "one": ["sets", "--labels", "labels.jsonl"],
        "two": ["sets", "s.parquet", "--labels", "labels.jsonl"],
        "bare": ["s.parquet", "--title", '<i>bare</i> & "co"'],
    }.items():
        places = [str(found / item) if (found / item).exists() else item for item in more]
        out = [str(found / f"{name}.html"), "--json", str(found / f"{name}.json")]
        result = invoke(*places, "-o", *out, command="report")
        assert result.exit_code == 0, result.output
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as engine:
        found = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


Open = Callable[..., Any]


@pytest.fixture(scope="module")
def open_(browser: Any, folder: Path) -> Iterator[tuple[Open, list[str]]]:
    """What opens a page by its name, and what was heard of all of them: console, errors, dialogs, requests."""
    contexts, heard = [], []

    def open_page(name: str, width: int = 1280, scheme: str = "light", **more: Any) -> Any:
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **more))
        page = contexts[-1].new_page()
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("dialog", lambda dialog: heard.append(dialog.message))
        address = (folder / f"{name}.html").as_uri()
        page.on("request", lambda ask: heard.extend({ask.url} - {address, "data:,"}))
        page.goto(address)
        return page

    yield open_page, heard
    for context in contexts:
        context.close()


@pytest.fixture
def visit(open_: tuple[Open, list[str]]) -> Iterator[Open]:
    """Open a page of one's own; no test may leave a console message, a page error or a request behind."""
    yield open_[0]
    assert open_[1] == []


@pytest.fixture(scope="module")
def shared(open_: tuple[Open, list[str]]) -> Any:
    """The page on one selection, for tests that only look."""
    return open_[0]("one")


@pytest.fixture
def page(shared: Any, open_: tuple[Open, list[str]]) -> Iterator[Any]:
    """The shared page; nothing may have been heard of it."""
    yield shared
    assert open_[1] == []


def figures(folder: Path, name: str = "one") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return found


def marks(page: Any, chart: str) -> list[str]:
    """Return what the marks of a chart say, without its axes and legends."""
    query = f"#chart-{chart} svg [aria-label]:not([aria-roledescription=axis]):not([aria-roledescription=legend])"
    found: list[str] = page.eval_on_selector_all(query, "all => all.map(one => one.getAttribute('aria-label'))")
    return list(dict.fromkeys(found))  # a cell's text says the same as the cell


def table(page: Any, name: str) -> list[list[str]]:
    """Return the cells of a table's body."""
    rows = "all => all.map(row => [...row.cells].map(cell => cell.textContent.trim()))"
    found: list[list[str]] = page.eval_on_selector_all(f"#table-{name} tbody tr", rows)
    return found


def test_every_chart_is_there_and_drawn(page: Any) -> None:
    found = page.eval_on_selector_all(
        "figure", "all => all.map(one => [one.id, one.querySelector('svg').getBBox().width])"
    )
    assert {name for name, _ in found} == {f"chart-{name}" for name in CHARTS}
    assert all(width > 100 for _, width in found)
    assert all(
        page.eval_on_selector_all("figure svg", "all => all.map(one => one.getAttribute('aria-label').length > 9)")
    )


def test_the_joint_histogram_has_the_numbers_of_the_json(page: Any, folder: Path) -> None:
    scores = figures(folder)["sources"][0]["distributions"]
    cells = {}
    for label in marks(page, "joint"):
        if found := re.fullmatch(r"S ([\d.]+)–[\d.]+, R ([\d.]+)–[\d.]+: ([\d,]+)", label):
            cells[float(found[1]), float(found[2])] = int(found[3].replace(",", ""))
    edges = scores["edges"]
    assert cells == {(edges[s], edges[r]): count for s, r, count in scores["joint"]}
    assert sum(cells.values()) == 400


def test_the_regions_lie_at_the_cuts(page: Any, folder: Path) -> None:
    assert {"region of the sensibility set", "region of the discard set"} <= set(marks(page, "joint"))
    cuts = figures(folder)["sources"][0]["distributions"]["cuts"]
    assert cuts == {"sensibility": [4.625, 5.375], "rationality": [4.0, 5.0]}
    said = [label for label in marks(page, "heads") if " T: " in label]
    assert said == ["S < T: 4.6250", "S > T: 5.3750", "R < T: 4.0000", "R > T: 5.0000"]


def test_histograms_thresholds_and_categories_have_the_numbers_of_the_json(page: Any, folder: Path) -> None:
    source = figures(folder)["sources"][0]
    bars = [label for label in marks(page, "heads") if " T: " not in label]
    for letter, head in (("S", "sensibility"), ("R", "rationality")):
        for name, counts in source["distributions"]["heads"][head]["counts"].items():
            mine = [int(label.rpartition(": ")[2]) for label in bars if label[0] == letter and f", {name}:" in label]
            assert mine == [count for count in counts if count]
    shares = {
        (row["threshold"], name): row[name]
        for row in source["thresholds"]["shares"]
        for name in ("sensibility", "rationality", "discard")
    }
    dots = [re.fullmatch(r"T (\d), (\w+): ([\d.]+)", label) for label in marks(page, "thresholds")]
    found = {(float(dot[1]), dot[2]): float(dot[3]) for dot in dots if dot}
    assert found == pytest.approx({key: value for key, value in shares.items() if key[0] % 1 == 0}, abs=5e-5)
    assert len(found) == 27
    rows = source["categories"]["rows"]
    said = dict(label.rsplit(": ", 1) for label in marks(page, "categories") if " of " in label)
    assert said == {row["name"]: f"{row['kept']:.4f} of {row['count']:,}" for row in rows}
    assert [row[:2] for row in table(page, "categories")[:-1]] == [[row["name"], str(row["count"])] for row in rows]


def test_agreement_and_doubt_have_the_numbers_of_the_json(page: Any, folder: Path) -> None:
    source = figures(folder)["sources"][0]
    sets = source["agreement"]["sets"]
    said = [int(label.rpartition(": ")[2]) for label in marks(page, "confusion")]
    assert said == [count for row in sets["confusion"] for count in row]
    assert sum(said) == source["agreement"]["dialogues"] == 200
    values = [row[1] for row in table(page, "sets")]
    assert values == [f"{entry['value']:.3f}".replace("-", "−") for entry in sets["figures"].values()]
    observed = [float(label.split(": ")[1].split(" of")[0]) for label in marks(page, "calibration") if " of " in label]
    assert observed == pytest.approx([row["observed"] for row in source["agreement"]["calibration"]["rows"]], abs=5e-5)
    chance = source["stability"]["chance"]
    bars = [int(label.rpartition(": ")[2]) for label in marks(page, "chances") if label.startswith("chance")]
    assert sum(bars) == sum(chance["inside"]) + sum(chance["outside"]) == 400


def test_the_headline_and_the_cost_are_those_of_the_json(page: Any, folder: Path) -> None:
    source = figures(folder)["sources"][0]
    tiles = dict(
        page.eval_on_selector_all(
            ".tiles div", "all => all.map(one => [one.children[0].textContent, one.children[1].textContent])"
        )
    )
    first = source["overview"]["sets"]["sensibility"]
    assert tiles["dialogues"] == "400"
    assert tiles["sensibility set"] == f"{100 * first['share']:.1f}\u202f%"
    assert source["cost"]["usd_avoided"] == pytest.approx(200 * 0.002)
    assert tiles["judge calls saved"] == "$0.4"
    assert [row[1] for row in table(page, "rejects")] == ["1"]


def test_search_and_filters_find_examples(visit: Open) -> None:
    page = visit("one")
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
        scales = "all => all.map(one => one.getBoundingClientRect().width / one.viewBox.baseVal.width)"
        assert min(page.eval_on_selector_all("figure svg", scales)) > 0.7  # letters of 12 pixels stay above 8


def test_both_themes_and_the_toggle(visit: Open) -> None:
    colours = {}
    for scheme in ("light", "dark"):
        page = visit("one", scheme=scheme)
        look = (
            "() => [getComputedStyle(document.body).backgroundColor, "
            "getComputedStyle(document.querySelector('#chart-thresholds text')).fill]"
        )
        colours[scheme] = page.evaluate(look)
        page.click("#theme")
        colours[f"{scheme} toggled"] = page.evaluate(look)
        assert page.locator("#theme").text_content() == {"light": "Light", "dark": "Dark"}[scheme]
    assert colours["light"] == colours["dark toggled"] == ["rgb(255, 255, 255)", "rgb(89, 97, 106)"]
    assert colours["dark"] == colours["light toggled"]
    assert colours["dark"] != colours["light"]


def test_two_sources_show_drift_and_what_moved(visit: Open, folder: Path) -> None:
    page, found = visit("two"), figures(folder, "two")
    assert [row[0] for row in table(page, "sources")] == ["1. sets", "2. s.parquet"]
    heads = found["drift"][0]["heads"]
    assert [[row[3], row[5]] for row in table(page, "drift")] == [
        [f"{one['ks']:.3f}", f"{one['psi']:.3f}"] for one in heads.values()
    ]
    assert table(page, "moved")[0][1:3] == ["400", "0.0\u202f%"]
    names = {"shares", "quantiles", "thresholds", "joint1", "joint2"}
    assert set(page.eval_on_selector_all("figure", "all => all.map(one => one.id.slice(6))")) == names
    assert {label.split(":")[0] for label in marks(page, "shares")} >= {"1. sets, sensibility", "2. s.parquet, discard"}


def test_sections_without_data_say_what_they_need(visit: Open) -> None:
    page = visit("bare")
    assert page.title() == '<i>bare</i> & "co"'
    wanted_by = {
        "categories": "--dialogues",
        "lengths": "--dialogues",
        "agreement": "--labels",
        "cost": "--judge-price",
        "drift": "second source",
        "examples": "--dialogues",
    }
    for section, wanted in wanted_by.items():
        (line,) = page.locator(f"#{section} .needs").all_text_contents()
        assert line.startswith("Needs ")
        assert wanted in line


def test_the_hover_text_says_a_marks_value(page: Any) -> None:
    mark = page.locator("#chart-confusion [aria-label^='judge sensibility']").first
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    page.mouse.move(box["x"] + 6, box["y"] + 6)
    assert page.locator("#tip").text_content() == mark.get_attribute("aria-label")
