"""The live page in a real browser: its numbers are the watch's, it loads nothing else, and texts stay texts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.selection.watching.test_command import state_of, until
from tests.selection.watching.watch_data import growing, line, live, stream

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path (apt-get install chromium)")

HOSTILE = "</script><img src=x onerror='window.hurt=1'>"


@pytest.fixture
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as engine:
        found = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


def cells(page: Any, table: str) -> list[list[str]]:
    query = f"#table-{table} tbody tr"
    found: list[list[str]] = page.eval_on_selector_all(
        query, "all => all.map(row => [...row.cells].map(cell => cell.textContent.trim()))"
    )
    return found


@pytest.mark.slow
def test_the_page_while_5000_scores_arrive(browser: Any, tmp_path: Path) -> None:
    path, seen = growing(tmp_path), list[str]()
    names = [HOSTILE, "sad", "__proto__", "constructor"]
    rows = stream(3000, 1) + stream(2000, 2, 1.2)
    lines = [
        line(
            one.id if k else HOSTILE,
            one.sensibility if k else 1,
            one.rationality if k else 1,
            category=names[k % 4],
            response=HOSTILE,
        )
        for k, one in enumerate(rows)
    ]
    with live(path, "--title", HOSTILE, "--keep-texts") as (_, address):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.on("console", lambda message: seen.append(message.text))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.on("request", lambda ask: seen.extend({ask.url} - {address, f"{address}/events", "data:,"}))
        page.goto(address)
        page.locator(".connection.on").wait_for()
        with path.open("a") as file:
            for start in range(0, 5000, 250):
                file.write("".join(lines[start : start + 250]))
                file.flush()
                page.wait_for_timeout(60)
        page.locator("#tiles .big", has_text="5,000").wait_for(timeout=30_000)
        page.wait_for_timeout(700)
        state = until(address, lambda found: found["total"] == 5000)

        now = state["recent"]
        tiles = page.eval_on_selector_all("#tiles .big", "all => all.map(one => one.textContent)")
        share = 100 * now["sets"]["sensibility"] / now["count"]
        assert tiles[0] == "5,000"
        assert tiles[2:5] == [f"{now['means'][0]:.2f}", f"{now['means'][1]:.2f}", f"{share:.1f}\u202f%"]
        found = {row[0]: row[1] for row in cells(page, "categories")}
        assert found[HOSTILE] == found["sad"] == found["constructor"] == "1,250"
        assert sum(int(row[1].replace(",", "")) for row in cells(page, "windows")) == 5000
        open_ = [alert for alert in state["alerts"] if alert["ended"] is None]
        assert len(cells(page, "alerts")) == len(state["alerts"]) > 0
        assert page.locator("#open-alerts li").count() == len(open_)
        assert page.locator("#table-lows td", has_text="onerror").count() > 0
        ks = cells(page, "drift")[1][2]
        assert ks.startswith(f"{state['drift']['heads']['rationality']['ks']['value']:.2f}")
        assert page.evaluate("window.hurt") is None
        assert page.title().endswith(HOSTILE)
        page.get_by_role("button", name="Latest window").click()
        assert page.locator("#table-categories tbody tr").count() >= 3
        assert page.locator("figure svg[role=img][aria-label]").count() == 6

        for width, scheme in ((360, "light"), (360, "dark")):
            phone = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
            phone.goto(address)
            phone.locator(".connection.on").wait_for()
            assert phone.evaluate("document.documentElement.scrollWidth") <= width
            light = phone.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
            assert light is (scheme == "light")
        assert seen == []
        assert state_of(address)["total"] == 5000


def test_the_page_comes_back_when_the_server_does(browser: Any, tmp_path: Path) -> None:
    path = growing(tmp_path)
    path.write_text(line("a"))
    with live(path) as (process, address):
        page = browser.new_page()
        page.goto(address)
        page.locator("#tiles .big", has_text="1").first.wait_for()
        process.terminate()
        page.locator(".connection.off").wait_for()
    assert json.dumps(page.locator("#connection").text_content()) == '"connection lost, trying again"'
