"""The card of a scorer on the hub: its header, and the bundle's own text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from scorer.bundle.bundle import Bundle, load_bundle, write_bundle
from scorer.hub.card import card_of, licence_of, without_header
from scorer.hub.push import push_bundle
from tests.conftest import Parts
from tests.scorer.hub.hub_server import NAME


def header_of(card: bytes) -> Any:
    return yaml.safe_load(card.split(b"---\n")[1])


def test_a_card_has_what_the_hub_reads_and_the_bundles_own_text(written: Bundle, parts: Parts, tmp_path: Path) -> None:
    info, files = parts
    measured = {
        "how": '3 folds: "quoted"',
        "sensibility.pearson": 0.61,
        "paper.f1.sensibility": 0.8,
        "paper.share.sensibility": 0.6,
        "coverage": {"sensibility": 0.9, "rationality": 0.9},
        "coverage_aim": 0.9,
        "mae": {"sensibility": 0.5, "rationality": 1.5},
        "rationality.pearson": None,
    }
    more = {"measured": measured, "backbone": "org/encoder", "licence": "CC BY-NC 4.0 (research use)"}
    bundle = write_bundle(tmp_path / "b", {**info, **more}, files)
    card = card_of(bundle, datasets=["org/labels"])
    header = header_of(card)
    assert header["license"] == "cc-by-nc-4.0"
    assert header["datasets"] == ["org/labels"]
    assert header["base_model"] == "org/encoder"
    assert header["metrics"] == ["f1", "mae", "pearsonr"]
    (index,) = header["model-index"]
    assert index["name"] == "tiny"
    (result,) = index["results"]
    assert result["dataset"] == {"name": "random words", "type": "org/labels", "args": {"how": measured["how"]}}
    assert {(item["name"], item["type"], item["value"]) for item in result["metrics"]} == {
        ("sensibility.pearson", "pearsonr", 0.61),
        ("paper.f1.sensibility", "f1", 0.8),
        ("sensibility.mae", "mae", 0.5),
        ("rationality.mae", "mae", 1.5),
    }
    assert without_header(card) == files["README.md"]
    assert "base_model" not in header_of(card_of(written))  # "none" is no model
    assert header_of(card_of(written, base_model="a/b"))["base_model"] == "a/b"


@pytest.mark.usefixtures("hub")
def test_a_card_that_has_a_header_stays_as_it_is(parts: Parts, tmp_path: Path) -> None:
    info, files = parts
    own = b"---\nlicense: mit\n---\n\nMine.\n---\nmore\n"
    bundle = write_bundle(tmp_path / "b", info, {**files, "README.md": own})
    assert card_of(bundle) == own
    assert load_bundle(str(push_bundle(bundle, NAME))).files["README.md"] == own


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("CC BY-NC 4.0 (research use)", {"license": "cc-by-nc-4.0"}),
        ("MIT", {"license": "mit"}),
        ("ask us: first", {"license": "other", "license_name": "ask us: first"}),
    ],
)
def test_a_licence_is_named_as_the_hub_names_it_or_in_its_own_words(text: str, expected: dict[str, str]) -> None:
    assert licence_of(text) == expected
