"""What the package says of itself is the same everywhere, and what its README names is in it."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ABOUT = PROJECT["project"]
BASE = ABOUT["urls"]["Repository"]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def readme_hook() -> ModuleType:
    """Return what builds the README of the package; its base class is hatchling's, which only a build needs."""
    source = text(PROJECT["tool"]["hatch"]["metadata"]["hooks"]["custom"]["path"])
    module = ModuleType("readme")
    base = "from hatchling.metadata.plugin.interface import MetadataHookInterface"
    assert base in source
    exec(source.replace(base, "MetadataHookInterface = object"), module.__dict__)
    return module


def test_the_readme_of_the_package_leads_to_files_that_exist_and_their_addresses_are_whole() -> None:
    made = readme_hook().absolute_links(README, BASE, "v1")
    links = re.findall(r"\]\(([^)#]+)", made)
    assert all(link.startswith("https://") for link in links)
    assert sorted(re.findall(r"!\[[^]]*\]\((.*?)\)", made)) == [
        f"{BASE}/raw/v1/docs/{n}" for n in ("report.png", "throughput.svg")
    ]
    ours = [link.partition("/v1/")[2] for link in links if link.startswith(BASE)]
    assert len(ours) > 15
    assert [path for path in ours if not (ROOT / path).exists()] == []


def test_the_sdist_has_what_the_readme_names() -> None:
    packed = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert [name for name in packed if not (ROOT / name).exists()] == []
    named = {path.split("/")[0] for path in re.findall(r"\]\((?!http|#)([^)#]+)", README)}
    made_with = {"Makefile", "constraints.txt", "mkdocs.yml", "Dockerfile"}
    assert named | made_with <= {*packed, "README.md"}


def test_all_addresses_begin_with_the_one_of_the_repository() -> None:
    owner, name = BASE.split("/")[-2:]
    for url in ABOUT["urls"].values():
        assert url.startswith((BASE, f"https://{owner}.github.io/{name}/"))
    cited = re.findall(r"^repository-code: (.*)$", text("CITATION.cff"), re.MULTILINE)
    contact = re.findall(r"url: (.*)", text(".github/ISSUE_TEMPLATE/config.yml"))
    assert cited == [BASE]
    assert contact == [f"{BASE}/security/advisories/new"]


def test_the_version_is_the_same_everywhere() -> None:
    assert re.findall(r"^version: (.*)$", text("CITATION.cff"), re.MULTILINE) == [ABOUT["version"]]
    assert f"empathy-scorer=={ABOUT['version']}" in text("docs/how-to/ci.md")


def test_every_python_that_is_promised_is_tested() -> None:
    minors = [int(minor) for minor in re.findall(r"Python :: 3\.(\d+)", "\n".join(ABOUT["classifiers"]))]
    low, high = minors[0], minors[-1]
    assert minors == list(range(low, high + 1))
    assert ABOUT["requires-python"] == f">=3.{low},<3.{high + 1}"
    assert f"(3, {low}) <= v < (3, {high + 1})" in text("Makefile")
    matrix = re.search(r"python: (\[.*\])", text(".github/workflows/test.yml"))
    assert matrix
    assert msgspec.json.decode(matrix[1]) == [f"3.{minor}" for minor in minors]
    for page in ("README.md", "docs/quickstart.md"):
        assert f"Python 3.{low} to 3.{high}" in text(page)


@pytest.mark.parametrize("package", PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
def test_a_package_is_typed(package: str) -> None:
    found = importlib.util.find_spec(package)
    assert found
    assert found.origin
    assert Path(found.origin).with_name("py.typed").exists()


def test_workflows_are_given_no_more_than_they_need() -> None:
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        assert "\npermissions:\n  contents: read\n" in path.read_text(encoding="utf-8"), path
