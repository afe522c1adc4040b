"""A hook of mkdocs.yml: README, CHANGELOG and CONTRIBUTING as pages of the site, and the files of the
repository that pages link to. The same links work on GitHub and in the site.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""File at the top of the repository -> page of the site."""
_LINK = re.compile(r"(?<=\]\()([^)#\s:]+)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages and the files."""
    texts = [path.read_text() for path in (ROOT / "docs").glob("*.md")]
    for name, page in PAGES.items():
        texts.append(_LINK.sub(_of_top, (ROOT / name).read_text()))
        files.append(File.generated(config, page, content=texts[-1]))
    for target in sorted({_of_docs(found) for text in texts for found in _LINK.finditer(text)}):
        if files.get_file_from_path(target) is None and (ROOT / target).is_file():
            files.append(File.generated(config, target, abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links of docs/ to files beside it."""
    return _LINK.sub(_of_docs, markdown)


def _of_top(link: re.Match[str]) -> str:
    return PAGES.get(link[1], link[1].removeprefix("docs/"))


def _of_docs(link: re.Match[str]) -> str:
    return PAGES.get(link[1].removeprefix("../"), link[1].removeprefix("../"))
