"""Progress of tasks for people: small files that tasks write, and launch and status read.

Nothing is judged by them: they are neither fsynced nor verified.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lt_hpc.run.plan import Stage
from lt_hpc.store.atomic import temporary_name
from lt_hpc.store.paths import RunPaths

RUNNING_SECONDS = 600
FILE_SECONDS, LINE_SECONDS = 0.5, 5.0


@dataclass
class Progress:
    """Progress of one task: its file, and plain lines in the log, at most one every few seconds.

    Attributes:
        path: of the file.
        unit: what is counted, in the plural: "blocks", "steps".
        total, done: of the whole task, earlier attempts included.
        first: how many of them earlier attempts did.
        kept: this attempt has committed something that the next one will find.
        setup, saved: seconds from its beginning until it was at work, and until it last committed something.
        units: how many this attempt had committed by then.
        began: when its process did, on the monotonic clock.
    """

    path: Path
    unit: str = ""
    total: int = 0
    done: int = 0
    first: int = 0
    kept: bool = False
    setup: float | None = None
    saved: float | None = None
    units: int = 0
    began: float = field(default_factory=time.monotonic)
    _at_work: float = field(default=0.0, repr=False)
    _last_file: float = field(default=0.0, repr=False)
    _last_line: float = field(default=0.0, repr=False)

    def start(self, total: int, unit: str, done: int = 0) -> None:
        """The task's work is known, and how much of it was done before."""
        self.total, self.unit, self.done, self.first = total, unit, done, done
        self._at_work = time.monotonic()
        self.ready()
        self._write(force=True)

    def ready(self) -> None:
        """What the work needs, such as a model, is loaded."""
        self.setup = time.monotonic() - self.began

    def committed(self) -> None:
        """All that was done up to now will be found by the next attempt."""
        self.saved, self.units = time.monotonic() - self.began, self.done - self.first

    def advance(self, count: int = 1, note: str = "", committed: bool = True) -> None:
        """`count` more units are done; 0 where only a part of one is. Not `committed`: the next attempt will
        do them again, unless `committed` is called before this one ends."""
        self.done += count
        self.kept = True
        if committed:
            self.committed()
        self._write(force=count > 0 and self.done >= self.total, note=note)

    def _write(self, force: bool = False, note: str = "") -> None:
        now = time.monotonic()
        if force or now - self._last_file > FILE_SECONDS:
            self._last_file = now
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = temporary_name(self.path)
            value = {"done": self.done, "total": self.total, "unit": self.unit, "note": note}
            value |= {"first": self.first, "spent": now - self._at_work}
            value |= {"setup": self.setup, "saved": self.saved}
            temporary.write_text(json.dumps(value))
            os.replace(temporary, self.path)
        if force or now - self._last_line > LINE_SECONDS:
            self._last_line = now
            print(f"{self.done}/{self.total} {self.unit} {note}".rstrip(), flush=True, file=sys.stderr)


@dataclass(frozen=True)
class Said:
    """What a task wrote last, as `Progress` has it; `spent`: seconds of its attempt, `written`: when, in
    seconds since the epoch."""

    done: int
    total: int
    unit: str
    note: str
    first: int
    spent: float
    written: float


def files(paths: RunPaths) -> dict[str, list[str]]:
    """Stage key -> the files of its tasks, in the order of their names; from one listing."""
    folder, found = paths.progress_folder, defaultdict[str, list[str]](list)
    for name in sorted(os.listdir(folder)) if folder.is_dir() else ():
        if name.endswith(".json"):
            found[name.partition(".")[0]].append(f"{folder}/{name}")
    return found


def said(files: Sequence[str]) -> list[Said]:
    """What tasks wrote last into these files."""
    found = []
    for file in files:
        try:
            with open(file, "rb", buffering=0) as stream:
                value, written = json.loads(stream.read()), os.fstat(stream.fileno()).st_mtime
            found.append(Said(int(value["done"]), int(value["total"]), str(value["unit"]), str(value["note"]),
                              int(value.get("first", 0)), float(value.get("spent", 0)), written))  # fmt: skip
        except (FileNotFoundError, ValueError, TypeError, KeyError):  # just removed, or damaged
            continue
    return found


def pace(path: Path) -> tuple[float | None, float | None]:
    """`setup` and `saved` as the task with this file wrote them last; None where it has not."""
    try:
        value = json.loads(path.read_text())
        found = [value.get("setup"), value.get("saved")]
    except (OSError, ValueError, AttributeError):
        return None, None
    setup, saved = (float(one) if isinstance(one, int | float) else None for one in found)
    return setup, saved


def of_tasks(paths: RunPaths, stage: Stage) -> list[Said]:
    """What each task of one stage wrote last."""
    return said(files(paths).get(stage.key, ()))


def of_stage(stage: Stage, tasks: Sequence[Said]) -> tuple[int, int, str]:
    """(done, total, unit and note) summed over the tasks of a stage; ranks count once. Pure."""
    counted = tasks[:1] if stage.kind.ranked else tasks
    last = f"{counted[-1].unit} {counted[-1].note}".strip() if counted else ""
    return sum(one.done for one in counted), sum(one.total for one in counted), last


def seconds_left(tasks: Sequence[Said], now: float) -> float | None:
    """Until the tasks at work at the time `now` are at their ends, if each goes on as fast as it has since it
    began: of the slowest one; None where none has done anything yet. Pure."""
    found = []
    for one in tasks:
        left, made = one.total - one.done, one.done - one.first
        if left > 0 and made > 0 and now - one.written < RUNNING_SECONDS:
            found.append(max(0.0, left * one.spent / made - (now - one.written)))
    return max(found, default=None)


def num_running(tasks: Sequence[Said], now: float) -> int:
    """Number of tasks that have written within RUNNING_SECONDS and are not at their end. Pure."""
    return sum(one.done < one.total and now - one.written < RUNNING_SECONDS for one in tasks)


def clear(paths: RunPaths, stage: Stage) -> None:
    """Remove what an earlier start of a stage left."""
    for file in files(paths).get(stage.key, ()):
        Path(file).unlink(missing_ok=True)
