"""docs/failures.md has an entry for every way to end, and quotes what the source says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from lt_hpc import errors
from lt_hpc.run import events

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "failures.md").read_text().partition("\n## What is promised")[0]
ENDINGS = ("job.py", "crash.py", "cluster/heal.py")
"""Where a job says how it ended: each of their sentences has an entry."""
GAP = "\0"


def template(node: ast.AST) -> str:
    """A text of the source, with GAP for what is filled in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else GAP for part in node.values)
    assert isinstance(node, ast.Constant)
    return re.sub(r"\{\w+\}", GAP, str(node.value))


def texts(tree: ast.AST) -> Iterator[str]:
    """Every text in a piece of source; no docstrings, and none that is a part of another one."""
    parts: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            parts.add(node.value)
        elif isinstance(node, ast.JoinedStr):
            parts.update(node.values)
        text = isinstance(node, ast.JoinedStr) or isinstance(getattr(node, "value", None), str)
        if text and node not in parts:
            yield template(node)


@cache
def source() -> tuple[ast.Module, ...]:
    return tuple(ast.parse(path.read_text()) for path in sorted((ROOT / "lt_hpc").rglob("*.py")))


@cache
def said() -> frozenset[str]:
    return frozenset(text for tree in source() for text in texts(tree))


def sentence(text: str) -> bool:
    return len(re.findall(r"[a-z]{2,}", text)) >= 3


QUOTED = tuple(
    dict.fromkeys(
        span
        for line in PAGE.splitlines()
        for cell in (line.split(" | ")[0] if line.startswith("|") else "", line)
        for span in re.findall(r"`([^`]+)`", cell)
        if ("…" in span or cell is not line) and " " in span and not span.startswith("lt-hpc ")
    )
)
"""What the page quotes: the first column of its tables, and whatever has a place that is filled in."""


def pattern(quotation: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, quotation.split("…"))), re.DOTALL)


def kinds() -> list[type[errors.LtError]]:
    return errors.LtError.__subclasses__()


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_every_class_of_errors_has_a_row_and_a_section(kind: type[errors.LtError]) -> None:
    assert re.search(rf"^\| {kind.exit_code} \| .* `{kind.__name__}`: ", PAGE, re.MULTILINE)
    assert re.search(rf"^## Exit code {kind.exit_code}: {kind.__name__}$", PAGE, re.MULTILINE)


def test_every_exit_code_has_a_row() -> None:
    codes = {value for name, value in vars(errors).items() if name.isupper() and isinstance(value, int)}
    assert len(codes) >= 4
    rows = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
    assert rows == codes | {kind.exit_code for kind in kinds()} | {0, errors.LtError.exit_code}


def test_every_row_says_what_to_do() -> None:
    assert not re.findall(r"^\|.*\| +\|", PAGE, re.MULTILINE)


def test_every_event_is_explained() -> None:
    named = set(re.findall(r"`(\w+)`", PAGE.partition("## What jobs.jsonl records")[2]))
    assert {kind.event for kind in events.Event.__subclasses__()} <= named


@pytest.mark.parametrize("quotation", QUOTED)
def test_what_the_page_quotes_is_said_by_the_source(quotation: str) -> None:
    assert any(pattern(quotation).search(text) for text in said())


def missing(wanted: Iterator[str]) -> list[str]:
    """Those of some texts that the page does not quote."""
    patterns = [pattern(one) for one in QUOTED]
    return [text for text in wanted if sentence(text) and not any(one.search(text) for one in patterns)]


@pytest.mark.parametrize("kind", [one for one in kinds() if one is not errors.ConfigError])
def test_whatever_ends_a_task_stands_on_the_page(kind: type[errors.LtError]) -> None:
    raised = (
        text
        for tree in source()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == kind.__name__
        for text in texts(node)
    )
    assert missing(raised) == []


@pytest.mark.parametrize("file", ENDINGS)
def test_whatever_a_job_says_of_its_end_stands_on_the_page(file: str) -> None:
    assert missing(texts(ast.parse((ROOT / "lt_hpc" / file).read_text()))) == []
