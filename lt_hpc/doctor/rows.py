"""One line of what the doctor says, and how lines become text or data. Pure."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["ok", "warning", "refused"]
_SIGN = {"ok": "ok      ", "warning": "WARNING ", "refused": "REFUSED "}


@dataclass(frozen=True)
class Row:
    """What was found, and what follows.

    Attributes:
        group: of rows that are printed together.
        what: was looked at.
        found: in words.
        plan: what the plan chose, or what will happen because of it; empty for nothing.
        verdict: refused where the plan can not end as it is.
        change: a field and a value that would do (`slurm.train.minutes=120`), or what to do.
    """

    group: str
    what: str
    found: str
    plan: str = ""
    verdict: Verdict = "ok"
    change: str = ""


def text(rows: Sequence[Row]) -> Iterator[str]:
    """Lines, by group in the order in which the groups came, and a count at the end."""
    order = list(dict.fromkeys(row.group for row in rows))
    sorted_rows = sorted(rows, key=lambda row: order.index(row.group))
    for group, members in itertools.groupby(sorted_rows, key=lambda row: row.group):
        yield group
        for row in members:
            yield f"  {_SIGN[row.verdict]}{row.what}: {row.found}{f'; {row.plan}' if row.plan else ''}"
            if row.change:
                yield f"            change: {row.change}"
    counts = {
        verdict: sum(row.verdict == verdict for row in rows) for verdict in ("refused", "warning", "ok")
    }
    yield f"{counts['refused']} refused, {counts['warning']} warnings, {counts['ok']} ok"


def data(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The same as values for JSON."""
    return [dataclasses.asdict(row) for row in rows]


def duration(seconds: float) -> str:
    """In the unit that people would use."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def size(count: float) -> str:
    """Of bytes."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count:.0f} bytes"
