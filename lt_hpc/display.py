"""Progress for people: bars on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from lt_hpc.run import state
from lt_hpc.run.plan import Stage
from lt_hpc.run.progress import of_stage, of_tasks
from lt_hpc.store.paths import RunPaths

PLAIN_SECONDS = 15


class Display:
    """Shows the stages of a local run as they go. A context manager."""

    def __init__(self, paths: RunPaths) -> None:
        self.paths = paths
        self.running: dict[str, Stage] = {}
        self.bars: dict[str, int] = {}
        self.progress: Any = None
        self.last_line = time.monotonic()

    def __enter__(self) -> Display:
        if sys.stdout.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (
                TextColumn("{task.description:12}"), BarColumn(), MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"), TimeElapsedColumn(),
            )  # fmt: skip
            self.progress = Progress(*columns)
            self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.progress is not None:
            self.progress.stop()

    def started(self, stage: Stage, tasks: int) -> None:
        """A stage begins with so many tasks."""
        self.running[stage.key] = stage
        if self.progress is not None:
            self.bars[stage.key] = self.progress.add_task(stage.key, total=None, note="starting")
        else:
            # Inside an allocation one process is an srun step of many tasks: no number then.
            number = f", {tasks} {'ranks' if stage.kind.ranked else 'tasks'}" if tasks > 1 else ""
            print(f"{stage.key}: started{number}", flush=True)

    def ended(self, stage: Stage, seconds: float) -> None:
        """A stage has its output."""
        self._show(stage.key)
        self.running.pop(stage.key)
        if self.progress is None:
            print(f"{stage.key}: done in {seconds:.1f} s", flush=True)
        for line in state.remarks(self.paths, stage):
            print(f"warning: {line}", flush=True)

    def poll(self) -> None:
        """Called often; redraws now and then."""
        if self.progress is not None:
            for key in self.running:
                self._show(key)
        elif time.monotonic() - self.last_line > PLAIN_SECONDS:
            self.last_line = time.monotonic()
            for key, stage in self.running.items():
                done, total, note = of_stage(stage, of_tasks(self.paths, stage))
                if total:
                    print(f"{key}: {done}/{total} {note}", flush=True)

    def _show(self, key: str) -> None:
        if self.progress is None:
            return
        stage = self.running[key]
        done, total, note = of_stage(stage, of_tasks(self.paths, stage))
        self.progress.update(self.bars[key], completed=done, total=total or None, note=note)
