"""The mutation tool sees a mutant die and one survive, and makes the faults that it says it makes."""

from __future__ import annotations

import random
from pathlib import Path

import click
import pytest

from benchmarks.mutation.__main__ import drawn, row, run_target, summed
from benchmarks.mutation.mutants import mutants_of
from benchmarks.mutation.targets import TARGETS, Target

ROOT = Path(__file__).parents[2]

MODULE = '''"""A module."""


def share(part, whole=4):
    """Return a share."""
    while whole == 0:
        pass
    return part / whole


def unseen(number):
    return number + 1
'''
TEST = """import time

from pack.module import share


def test_slow():
    time.sleep(0.2)
    assert share(2, 4) == 0.5


def test_share():
    assert share(2) == 0.5
"""


def changes(source: str) -> list[str]:
    return [mutant.change for mutant in mutants_of(source)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a < b", ["comparison: x = a < b -> x = a <= b", "comparison: x = a < b -> x = a >= b"]),
        ("x = a is None", ["comparison: x = a is None -> x = a is not None"]),
        ("x = a + b", ["arithmetic: x = a + b -> x = a - b"]),
        ("x += y", ["arithmetic: x += y -> x -= y"]),
        (
            "x = a and not b",
            ["boolean: x = a and (not b) -> x = a or not b", "boolean: x = a and (not b) -> x = a and b"],
        ),
        ("if a: x = y", ["boolean: a -> not a"]),
        ("x = [a for a in b if a]", ["boolean: x = [a for a in b if a] -> x = [a for a in b if not a]"]),
        ("x = 1", ["constant: x = 1 -> x = 2"]),
        (
            "x = True, 'a', b'a', None",
            [
                f"constant: x = (True, 'a', b'a', None) -> x = {after}"
                for after in ("(False, 'a', b'a', None)", "(True, 'XX', b'a', None)", "(True, 'a', b'XX', None)")
            ],
        ),
        ("def f(a=0, *, b=y):\n return a", ["constant: a=0, *, b=y -> a=1, *, b=y", "return: return a -> return None"]),
        ("f(a, b=c)", ["removed: f(a, b=c) -> pass", "argument: f(a, b=c) -> f(a)"]),
        ("raise E('words', 7)", ["removed: raise E('words', 7) -> pass"]),
        ("for a in b:\n break", ["jump: break -> continue"]),
        ("with f(a=b) as c: c.g()", ["argument: f(a=b) as c -> f() as c", "removed: c.g() -> pass"]),
        ("try:\n x = y\nexcept E:\n f()", ["removed: f() -> pass"]),
        ('"""words"""\nimport a\nassert b == 1\nx: int\ny = f"a{b}" \n@c(d=True)\nclass E: "words"', []),
        ("x = 'some words' + str(y)", []),
    ],
)
def test_a_mutant_is_one_small_fault(source: str, expected: list[str]) -> None:
    assert changes(source) == expected
    for mutant in mutants_of(source):
        compile(mutant.source, "mutant", "exec")


def test_a_sample_is_seeded_and_in_order() -> None:
    mutants = mutants_of("\n".join(f"x = {number}" for number in range(50)))
    first, again, other = (drawn(mutants, 9, random.Random(seed)) for seed in ("a", "a", "b"))
    assert first == again != other
    assert [one.line for one in first] == sorted({one.line for one in first})
    assert drawn(mutants, 99, random.Random()) == drawn(mutants, None, random.Random()) == mutants


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A package of one module and its tests, one of which runs for ever on some mutant."""
    for name, text in (("pack/module.py", MODULE), ("tests/pack/test_module.py", TEST), ("pytest.ini", "[pytest]\n")):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in ("pack", "tests", "tests/pack"):
        (tmp_path / "tree" / name / "__init__.py").touch()
    return tmp_path / "tree"


@pytest.mark.slow
def test_it_sees_a_mutant_die_and_one_survive(tree: Path) -> None:
    target = Target("pack/module.py")
    assert target.tests(tree) == ["tests/pack/test_module.py"]
    result = run_target(
        tree, target, {"return: return number + 1 -> return None": "nobody asks"}, patience=0.0, least=3.0
    )
    unseen = {"arithmetic: return number + 1 -> return number - 1", "constant: return number + 1 -> return number + 2"}
    assert {survivor.partition(": ")[2] for survivor in result.survivors} >= unseen
    assert (result.made, result.equivalent, len(result.survivors)) == (result.possible, 1, 3)  # 0 -> 1 is unseen, too
    assert result.killed == result.made - 4
    assert result.timeouts == 1
    assert result.share == result.killed / (result.killed + 3)
    assert (tree / "pack/module.py").read_text() == MODULE
    assert row(summed([result, result])).startswith(f"all: {2 * result.made} of {2 * result.made} mutants, ")


def test_tests_that_fail_anyway_are_no_measure(tree: Path) -> None:
    (tree / "tests/pack/test_module.py").write_text("def test_a():\n    assert 1 == 2\n")
    with pytest.raises(click.ClickException, match=r"test_module.py fails as it is"):
        run_target(tree, Target("pack/module.py"), {}, sample=1)
    with pytest.raises(click.ClickException, match="has no test file of its own"):
        run_target(tree, Target("pack/__init__.py"), {})


def test_every_module_that_is_to_be_measured_is_there_with_its_tests() -> None:
    assert len(TARGETS) == 12
    for target in TARGETS:
        assert (ROOT / target.module).is_file()
        assert target.tests(ROOT)
        assert all((ROOT / test).is_file() for test in target.tests(ROOT))
