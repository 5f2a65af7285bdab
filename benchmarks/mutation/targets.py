"""The modules that everything rests on, and the tests that are there for each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Target:
    """A module, and test files beyond its own: those where it does what it is for. Both relative to the tree."""

    module: str
    more: tuple[str, ...] = ()

    def tests(self, root: Path) -> list[str]:
        """Return its test files: tests/ mirrors the packages."""
        module = Path(self.module)
        own = sorted((root / "tests" / module.parent).glob(f"test_{module.stem}*.py"))
        return list(dict.fromkeys([*(str(path.relative_to(root)) for path in own), *self.more]))


TARGETS = (
    Target("scorer/outputs.py"),
    Target("scorer/apart.py"),
    Target("scorer/run/manifest.py", ("tests/scorer/run/test_output.py", "tests/scorer/test_outputs_disk.py")),
    Target("scorer/run/output.py", ("tests/scorer/test_outputs_disk.py",)),
    Target("scorer/bundle/cuts.py"),
    Target("selection/rules.py"),
    Target("distill/training/calibrate.py"),
    Target("distill/judge/verdict.py", ("tests/distill/judge/test_replies.py",)),
    Target("distill/judge/store.py"),
    Target("distill/judge/budget.py"),
    Target("distill/wire.py"),
    Target("moe/mixture/compose.py"),
)
"""Twelve: what is written and never destroyed (outputs, apart), what a killed run knows of itself (manifest, output),
what a score means (cuts, rules, calibrate), what a judge said and cost (verdict, store, budget), what the net may do
(wire), and the weights of a mixture (compose)."""
