"""What a rehearsal found, stage by stage, and the light that follows. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lt_hpc.errors import StageError
from lt_hpc.rehearse.compare import Compared
from lt_hpc.rehearse.ledger import Preempted
from lt_hpc.rehearse.small import Change
from lt_hpc.run.plan import Plan
from lt_hpc.run.progress import Said

Light = Literal["green", "yellow", "red"]
EXIT_CODES: dict[Light, int] = {"green": 0, "yellow": 1, "red": StageError.exit_code}


@dataclass(frozen=True)
class Row:
    """One stage.

    Attributes:
        preempted: None where its ledger does not show that it was at work, stopped, and came back.
        kept, total, unit: how much of its work the attempt that ended it found done.
        outputs: against those of the undisturbed run.
    """

    stage: str
    preempted: Preempted | None
    kept: int
    total: int
    unit: str
    outputs: Compared


@dataclass(frozen=True)
class Rehearsal:
    """All of it. `may_differ`: why the same bytes are not promised here, empty where they are; `stops`: how
    often tasks of the undisturbed run were stopped, by somebody else."""

    folder: str
    cluster: str
    simulated: Sequence[str]
    changes: Sequence[Change]
    rows: Sequence[Row]
    may_differ: str
    stops: int
    seconds: float

    @property
    def light(self) -> Light:
        """Red: something is wrong with what was made. Yellow: some stage was not preempted."""
        if any(row.outputs.problems or (row.outputs.differ and not self.may_differ) for row in self.rows):
            return "red"
        return "green" if all(row.preempted for row in self.rows) else "yellow"


def row(stage: str, found: Preempted | None, said: Sequence[Said], ranked: bool, outputs: Compared) -> Row:
    """`said`: what the last task at each place wrote last; ranks count once."""
    counted = said[:1] if ranked else said
    unit = counted[0].unit if counted else ""
    return Row(stage, found, sum(n.first for n in counted), sum(n.total for n in counted), unit, outputs)


def rows(
    plan: Plan,
    preempted: Mapping[str, Preempted],
    said: Mapping[str, Sequence[Said]],
    outputs: Mapping[str, Compared],
) -> list[Row]:
    """One for each stage of the plan."""
    return [
        row(one.key, preempted.get(one.key), said[one.key], one.kind.ranked, outputs[one.key])
        for one in plan.stages
    ]


def text(found: Rehearsal) -> Iterator[str]:
    """The table, what is wrong, and the light."""
    table = [("stage", "kept when stopped", "back after", "lost", "bytes"), *map(_cells, found.rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        yield "  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()
    for one in found.rows:
        yield from (f"{one.stage}: {problem}" for problem in one.outputs.problems)
        if one.outputs.differ:
            yield f"{one.stage}: not the same bytes: {', '.join(_first(one.outputs.differ))}"
        if one.preempted is None:
            yield f"{one.stage}: was not preempted: it ended before it was stopped"
        elif one.preempted.finished:
            yield f"{one.stage}: had done its work before it was ended, and was started again all the same"
    if found.may_differ:
        yield f"the same bytes are not promised here: {found.may_differ}"
    if found.stops:
        yield f"the undisturbed run was stopped {found.stops} times by somebody else"
    yield f"{found.light}: {_in_words(found)} ({found.folder}, {found.seconds:.0f} s)"


def _cells(row: Row) -> tuple[str, ...]:
    told, outputs = row.preempted, row.outputs
    bytes_ = "do not verify" if outputs.problems else f"{len(outputs.differ)} of {outputs.files} files differ"
    if not outputs.problems and not outputs.differ:
        bytes_ = f"same ({outputs.files} files)"
    if told is None:
        return row.stage, "NOT PREEMPTED", "", "", bytes_
    back = "?" if told.back_seconds is None else f"{told.back_seconds:.0f} s"
    lost = f"{'at least ' if told.at_least else ''}{told.lost_seconds:.1f} s"
    lost = "not recorded" if told.at_least and not told.lost_seconds else lost
    return row.stage, f"{row.kept}/{row.total} {row.unit}" if row.total else "nothing", back, lost, bytes_


def _first(names: Sequence[str]) -> list[str]:
    return [*names[:3], *([f"and {len(names) - 3} more"] if len(names) > 3 else [])]


def _in_words(found: Rehearsal) -> str:
    hit = sum(row.preempted is not None for row in found.rows)
    preempted = f"{hit} of {len(found.rows)} stages were preempted and came back"
    match found.light:
        case "red":
            return f"{preempted}; what they made is not what an undisturbed run made"
        case "yellow":
            return f"{preempted}; nothing is known of the others"
        case "green":
            same = not any(row.outputs.differ for row in found.rows)
            what = "bytes are" if same else "what is promised is, not all bytes,"
            return f"{preempted}; {what} as in an undisturbed run"


def data(found: Rehearsal) -> dict[str, Any]:
    """The same as values for JSON."""
    value = dataclasses.asdict(found)
    return {"light": found.light, **value}
