"""Fixtures of the tests of experts: a tiny base, two sets, an expert of each, their mixture."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from moe.mixture.compose import compose
from moe.settings import ComposeSettings
from scorer.cli.main import main
from tests.moe.tiny_causal import write_base, write_experts, write_sets


class Made(NamedTuple):
    """Where everything lies."""

    base: Path
    sets: tuple[Path, Path]
    experts: list[Path]
    mixture: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A Llama base, two experts and their mixture, router informed; tests that change them make copies."""
    folder = tmp_path_factory.mktemp("made")
    base, sets = write_base(folder / "base"), write_sets(folder)
    experts = write_experts(folder, base, sets)
    compose(experts, folder / "moe", ComposeSettings(router="informed"), sets=sets)
    return Made(base, sets, experts, folder / "moe")


def command(code: int, *arguments: str | Path) -> str:
    """Run `empathy` in this process, which has torch loaded; check its exit code and return what it said to stderr."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    if code:
        assert len(result.stderr.splitlines()) == 1, result.stderr
    return result.stderr
