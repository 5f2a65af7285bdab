"""A hub on loopback that each test has alone, and a scorer on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scorer.bundle.bundle import Bundle
from scorer.hub import fetch as fetching
from tests.scorer.hub.hub_server import NAME, TOKEN, HubServer, Repository, serving


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub that these tests alone use, with a cache that is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    fetching._resolved.cache_clear()
    with serving(TOKEN) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        # As its client has it where HF_ENDPOINT was set when it was imported.
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        for module in ("constants", "file_download"):
            monkeypatch.setattr(f"huggingface_hub.{module}.HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # this server has no such store
        yield server
    fetching._resolved.cache_clear()


@pytest.fixture
def published(hub: HubServer, written: Bundle) -> str:
    """The commit of a bundle that lies on the hub as it is, beside files that are no part of it."""
    others = {"pytorch_model.bin": b"a pickle", "modeling.py": b"raise SystemExit", ".gitattributes": b"x"}
    hub.repositories[NAME.repo] = Repository()
    return hub.repositories[NAME.repo].commit({**written.files, **others})
