"""What mkdocs runs before it builds the site: pages that lie elsewhere, links between all of them, the address.

Every page is written for whoever reads the repository, with links to files. On the site a link leads to the page that a
file became, and to the repository where a file became none; a link to nothing stays, and the strict build fails on it.
"""

from __future__ import annotations

import json
import posixpath
import re
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
NOTEBOOK = "docs/tutorials/notebook.ipynb"
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "measured.md",
    "scorer/starter/README.md": "starter.md",
    NOTEBOOK: "tutorials/notebook.md",
}
"""Files of the repository that become pages, besides those in docs/."""

_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Take the addresses from pyproject.toml, where they stand once."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    config.site_url = urls["Documentation"]
    # Not as repo_url: with it the theme asks the repository's server for the number of stars at every visit.
    link = {"icon": "material/source-repository", "link": urls["Repository"], "name": "Repository"}
    config.extra |= {"repository": urls["Repository"], "social": [link]}
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside docs/."""
    for path, name in PAGES.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        content = notebook_page(json.loads(text)) if path == NOTEBOOK else text
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let the links of a page lead to pages of the site or to the repository, outside its code."""
    name = page.file.src_uri
    path = next((path for path, became in PAGES.items() if became == name), f"docs/{name}")
    known = {file.src_uri for file in files}

    def linked(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), match[1]))
        here = PAGES.get(target, target.removeprefix("docs/") if target.startswith("docs/") else None)
        if here in known:
            return posixpath.relpath(here, posixpath.dirname(name) or ".") + (match[2] or "")
        if (ROOT / target).exists() and not target.startswith(".."):
            return urljoin(f"{config.extra['repository']}/", f"blob/main/{target}") + (match[2] or "")
        return match[0]

    parts, end = [], 0
    for fence in _FENCE.finditer(markdown):
        parts += [_LINK.sub(linked, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, _LINK.sub(linked, markdown[end:])])


def notebook_page(notebook: dict[str, Any]) -> str:
    """Return a notebook as a page: its texts, its code, and what the code printed."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            text = "".join(output.get("text") or output["data"]["text/plain"]).rstrip()
            parts.append(f"``` {{ .text .printed }}\n{text}\n```")
    return "\n\n".join(parts) + "\n"
