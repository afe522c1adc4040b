"""Every setting that a document names is one."""

from __future__ import annotations

import dataclasses
import re
import typing
from pathlib import Path
from typing import Any

import pytest

from lt_hpc.config.schema import Config

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"))
    if path.name != "log.md"  # of all times: what was so then stays
)
SECTIONS = [field.name for field in dataclasses.fields(Config)]


def known(path: list[str], tree: Any = Config) -> bool:
    """Whether a dotted path leads to a field, or into a mapping of free names."""
    if not path or not dataclasses.is_dataclass(tree):
        return True
    hints = typing.get_type_hints(tree)
    return path[0] in hints and known(path[1:], hints[path[0]])


@pytest.mark.parametrize("page", PAGES)
def test_settings_that_a_page_names_are_there(page: str) -> None:
    spans = re.findall(r"`([^`\n]+)`", (ROOT / page).read_text())
    fields = [
        name
        for span in spans
        for name in re.findall(
            rf"(?<![\w./-])((?:{'|'.join(SECTIONS)})(?:\.[a-z_0-9]+)+)(?![\w*/]|\.[A-Z…])", span
        )
        if not name.endswith((".py", ".yaml"))
    ]
    assert [name for name in fields if not known(name.split("."))] == []
