"""Every promise on failures in docs/failures.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_tests_of_the_promises_exist() -> None:
    rows = (ROOT / "docs" / "failures.md").read_text().partition("|---|---|\n")[2].splitlines()
    named = [re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row) for row in rows]
    assert len(named) >= 20 and all(named)
    for file, name in (test for tests in named for test in tests):
        assert f"def {name}(" in (ROOT / file).read_text(), f"{file}::{name}"
