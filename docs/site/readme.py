"""What hatchling runs when it builds the package: the README for a package index, its links and images absolute.

They lead to the files of this version, at the address that pyproject.toml gives as Repository.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(!?)(\[[^\]]*\]\()(?!\w+:|#)([^)\s]+\))")


class Readme(MetadataHookInterface):
    """Sets ``readme``."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the README of the project to its metadata."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        absolute = absolute_links(text, metadata["urls"]["Repository"], f"v{metadata['version']}")
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute}


def absolute_links(text: str, repository: str, version: str) -> str:
    """Return Markdown whose links lead to files of a version of a repository, and its images to their raw content."""

    def linked(match: re.Match[str]) -> str:
        image, before, path = match.groups()
        return f"{image}{before}{repository}/{'raw' if image else 'blob'}/{version}/{path}"

    return _LINK.sub(linked, text)
