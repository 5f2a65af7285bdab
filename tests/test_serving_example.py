"""The example of `empathy serve` with Prometheus and Grafana: its files parse, and ask for what the server has."""

from __future__ import annotations

import json
import re
import tomllib
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests import forks
from tests.conftest import record

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed (pip install pyyaml)")

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "serving"
DASHBOARD = json.loads((EXAMPLE / "grafana/dashboards/empathy.json").read_text())
FUNCTIONS = {"sum", "rate", "increase", "histogram_quantile"}
WORDS = {"by", "ignoring", "group_left"}
NOT_HERE = {'status="429"'}
"""What a server that is not full does not show."""

_ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")

Samples = dict[str, list[dict[str, str]]]


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((EXAMPLE / "compose.yaml").read_text()))


def expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


@pytest.fixture(scope="module")
def samples() -> Samples:
    """Return what a real server shows after a dialogue and a record that is none: labels of the samples, by name."""
    pytest.importorskip("prometheus_client", reason="the extra serve is not installed")
    with forks.empathy("serve", "--port", "0", "--threads", "1", stderr=True) as server:
        assert server.stderr is not None
        try:
            said = list[str]()
            for line in server.stderr:
                said.append(line)
                if _ADDRESS.search(line):
                    break
            address = _ADDRESS.search("".join(said))
            assert address, "".join(said)
            body = json.dumps([record("I lost my dog.", "I am so sorry."), {"messages": []}]).encode()
            asked = urllib.request.Request(f"{address[0]}/v1/score", body, {"content-type": "application/json"})
            with urllib.request.urlopen(asked, timeout=60) as answer:
                assert answer.status == 200
            with urllib.request.urlopen(f"{address[0]}/metrics", timeout=60) as answer:
                text = answer.read().decode()
        finally:
            server.kill()
    found: Samples = {}
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", text, re.MULTILINE):
        found.setdefault(name, []).append(dict(re.findall(r'(\w+)="(.*?)"', labels)))
    return found


def test_every_metric_and_label_that_the_dashboard_asks_for_is_there(samples: Samples) -> None:
    asked = set()
    for expression in expressions():
        plain = re.sub(r"\{[^}]*\}|\[[^]]*\]|\((?=\w+(?:, \w+)*\) )[^)]*\)", "", expression)
        plain = re.sub(r"\b(by|ignoring) \([^)]*\)|\b(by|ignoring)\([^)]*\)", "", plain)
        names = set(re.findall(r"[a-zA-Z_:][\w:]*", plain)) - FUNCTIONS - WORDS
        assert names, expression
        for name in names:
            assert name in samples, f"{name} of: {expression}"
            grouped = re.findall(r"\bby \(([^)]*)\)", expression)
            for label in {label.strip() for labels in grouped for label in labels.split(",")}:
                assert any(label in labels for labels in samples[name]), f"{label} of {name} in: {expression}"
        for name, matchers in re.findall(r"([\w:]+)\{([^}]*)\}", expression):
            for label, how, value in re.findall(r'(\w+)(=~|=)"([^"]*)"', matchers):
                values = {labels.get(label, "") for labels in samples[name]}
                fits = any(re.fullmatch(value, one) if how == "=~" else value == one for one in values)
                assert fits or f'{label}="{value}"' in NOT_HERE, f"{name}{{{matchers}}}: there are {values}"
        asked |= names
    families = {
        re.sub(r"_(total|bucket|sum|count|created)$", "", name) for name in samples if name.startswith("empathy_")
    }
    shown = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in asked}
    assert families - shown == set()  # and nothing that the server counts is left out


def test_expressions_are_whole_and_counters_are_rates() -> None:
    for expression in expressions():
        for opening, closing in ("()", "[]", "{}"):
            assert expression.count(opening) == expression.count(closing), expression
        for counter in re.findall(r"[\w:]+_(?:total|bucket|sum|count)\b(?:\{[^}]*\})?(.?)", expression):
            assert counter == "[", f"a counter without a range: {expression}"
        assert len(re.findall(r"(?:rate|increase)\(", expression)) == expression.count("[")


def test_panels_do_not_overlap_and_ask_the_source_that_is_provisioned() -> None:
    (source,) = yaml.safe_load((EXAMPLE / "grafana/provisioning/datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    places: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not places & cells, panel["title"]
        assert at["x"] + at["w"] <= 24
        places |= cells
        if panel["type"] != "row":
            assert {one["datasource"]["uid"] for one in (panel, *panel["targets"])} == {source["uid"]}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert source["url"] == "http://prometheus:9090"


def test_what_compose_mounts_is_there_and_the_dashboard_lies_where_it_is_looked_for() -> None:
    services = compose()["services"]
    for service in services.values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert (EXAMPLE / source).exists() if source.startswith(".") else source in compose()["volumes"]
    provider = yaml.safe_load((EXAMPLE / "grafana/provisioning/dashboards/empathy.yaml").read_text())["providers"][0]
    grafana = services["grafana"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]
    assert (
        grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
        == f"{provider['options']['path']}/empathy.json"
    )
    scrape = yaml.safe_load((EXAMPLE / "prometheus.yml").read_text())["scrape_configs"][0]
    assert scrape["static_configs"] == [{"targets": ["empathy:8080"]}]
    (secret,) = services["prometheus"]["secrets"]
    assert scrape["authorization"]["credentials_file"] == f"/run/secrets/{secret}"
    assert compose()["secrets"][secret] == {"environment": "EMPATHY_KEY"}


def test_images_are_pinned_ports_are_this_machines_and_secrets_come_from_outside() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    text = (EXAMPLE / "compose.yaml").read_text()
    for name, service in compose()["services"].items():
        assert re.fullmatch(r"[\w/-]+:v?\d+\.\d+\.\d+", service["image"]), name
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert service["healthcheck"]["test"][0] == "CMD"
        assert service["cap_drop"] == ["ALL"]
    assert compose()["services"]["empathy"]["image"] == f"empathy-scorer:{version}"
    assert compose()["services"]["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"].startswith(
        "${GRAFANA_PASSWORD:?"
    )
    assert compose()["services"]["empathy"]["environment"]["EMPATHY_SERVE_KEYS"].startswith("${EMPATHY_KEY:?")
    wanted = set(re.findall(r"\$\{(\w+):\?", text))
    given = dict(line.split("=", 1) for line in (EXAMPLE / "env.example").read_text().splitlines() if line[0] != "#")
    assert given == dict.fromkeys(wanted, "")  # no password stands in the repository
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()
    assert "**/.env" in (ROOT / ".dockerignore").read_text().splitlines()


def test_the_command_of_the_container_is_one_that_the_server_takes() -> None:
    from selection.cli.serve import serve

    name, *arguments = compose()["services"]["empathy"]["command"]
    context = serve.make_context(name, list(arguments), resilient_parsing=False)
    assert (context.params["host"], context.params["port"]) == ("0.0.0.0", 8080)
    extras = re.search(r"\[(.*?)\]\" \\", (ROOT / "Dockerfile").read_text())
    assert extras
    assert "serve" in extras[1].split(",")
