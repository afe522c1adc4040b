"""Progress of tasks for people: small files that tasks write, and launch and status read.

Nothing is judged by them: they are neither fsynced nor verified.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    """

    path: Path
    unit: str = ""
    total: int = 0
    done: int = 0
    first: int = 0
    kept: bool = False
    setup: float | None = None
    saved: float | None = None
    _created: float = field(default_factory=time.monotonic, repr=False)
    _began: float = field(default=0.0, repr=False)
    _last_file: float = field(default=0.0, repr=False)
    _last_line: float = field(default=0.0, repr=False)

    def start(self, total: int, unit: str, done: int = 0) -> None:
        """The task's work is known, and how much of it was done before."""
        self.total, self.unit, self.done, self.first = total, unit, done, done
        self._began = time.monotonic()
        self.ready()
        self._write(force=True)

    def ready(self) -> None:
        """What the work needs, such as a model, is loaded."""
        self.setup = time.monotonic() - self._created

    def committed(self) -> None:
        """All that was done up to now will be found by the next attempt."""
        self.saved = time.monotonic() - self._created

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
            value |= {"first": self.first, "spent": now - self._began}
            value |= {"setup": self.setup, "saved": self.saved}
            temporary.write_text(json.dumps(value))
            os.replace(temporary, self.path)
        if force or now - self._last_line > LINE_SECONDS:
            self._last_line = now
            print(f"{self.done}/{self.total} {self.unit} {note}".rstrip(), flush=True, file=sys.stderr)


def of_tasks(paths: RunPaths, stage: Stage) -> list[tuple[dict[str, Any], float]]:
    """What each task of a stage wrote last (`done`, `total`, `unit`, `note`, `first`, `spent`), and when, in
    seconds since the epoch."""
    found = []
    for path in paths.progress_of(stage.key):
        try:
            value = json.loads(path.read_text())
            value = {"done": int(value["done"]), "total": int(value["total"]), "unit": str(value["unit"]),
                     "note": str(value["note"]), "first": int(value.get("first", 0)),
                     "spent": float(value.get("spent", 0))}  # fmt: skip
            found.append((value, path.stat().st_mtime))
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


def of_stage(paths: RunPaths, stage: Stage) -> tuple[int, int, str]:
    """(done, total, unit and note) summed over the tasks of a stage; ranks count once."""
    done, total, unit, note = 0, 0, "", ""
    found = of_tasks(paths, stage)
    for value, _ in found[:1] if stage.kind.ranked else found:
        done, total = done + value["done"], total + value["total"]
        unit, note = value["unit"], value["note"]
    return done, total, f"{unit} {note}".strip()


def seconds_left(paths: RunPaths, stage: Stage) -> float | None:
    """Until the tasks at work are at their ends, if each goes on as fast as it has since it began: of the
    slowest one; None where none has done anything yet."""
    now, found = time.time(), []
    for value, written in of_tasks(paths, stage):
        left, made = value["total"] - value["done"], value["done"] - value["first"]
        if left > 0 and made > 0 and now - written < RUNNING_SECONDS:
            found.append(max(0.0, left * value["spent"] / made - (now - written)))
    return max(found, default=None)


def num_running(paths: RunPaths, stage: Stage) -> int:
    """Number of tasks that have written within RUNNING_SECONDS and are not at their end."""
    now = time.time()
    return sum(
        value["done"] < value["total"] and now - at < RUNNING_SECONDS for value, at in of_tasks(paths, stage)
    )


def clear(paths: RunPaths, stage: Stage) -> None:
    """Remove what an earlier start of a stage left."""
    for path in paths.progress_of(stage.key):
        path.unlink(missing_ok=True)
