"""What the tests of distillation run against: a tiny encoder, and servers and stores that end with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from distill.judge.labelling import Labelling
from distill.judge.rate_limit import Pace
from distill.judge.rubric import Rubric
from distill.judge.store import Store
from tests.distill.judge.judge_server import Running, judge_server
from tests.distill.judge.labelling import dialogues, settings

Serve = Callable[..., Running]
Label = Callable[..., Labelling]


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT."""
    from tests.distill.tiny import write_backbone  # loads torch

    return write_backbone(tmp_path_factory.mktemp("backbone") / "tiny")


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a judge of some behaviour, in a process of its own."""
    with ExitStack() as stack:
        yield lambda **behaviour: stack.enter_context(judge_server(**behaviour))


@pytest.fixture
def label(tmp_path: Path) -> Iterator[Label]:
    """Return a labelling of so many dialogues by a server, in this process; a store that was open is closed first."""
    with ExitStack() as stack:

        def made(server: Running, count: int, **more: Any) -> Labelling:
            stack.close()
            store = stack.enter_context(Store(tmp_path / "store.sqlite"))
            return Labelling(dialogues(count), Rubric(), settings(server, **more), store)

        yield made


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait next to nothing between attempts, in this process."""
    monkeypatch.setattr(Pace, "backoff", lambda *_: 0.02)
