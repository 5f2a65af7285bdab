"""Reports are drawn without what altair checks of each chart on its way, a third of the time; one test keeps it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="package", autouse=True)
def unchecked() -> Iterator[None]:
    """Draw without checks of what charts are made of; what Vega makes of them is looked at all the same."""
    schemapi = pytest.importorskip("altair.utils.schemapi")
    with schemapi.debug_mode(False):
        yield
