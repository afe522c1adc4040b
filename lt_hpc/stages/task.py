"""What a stage's task is given: the plan, the paths, its place among the tasks, a way to stop."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lt_hpc.data.corpus import View
from lt_hpc.errors import Interrupted
from lt_hpc.latent.layout import Layout
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store.paths import RunPaths


@dataclass(frozen=True)
class Vocabulary:
    """The ids that stages need, so that none of them has to load a tokenizer."""

    layout: Layout
    eos: int | None
    pad: int


@dataclass
class Progress:
    """Progress of one task for people: a small file that launch and status read, and plain
    lines in the log, at most one every few seconds."""

    path: Path
    unit: str = ""
    total: int = 0
    done: int = 0
    first: int = 0  # of those done, by earlier attempts
    _last_file: float = field(default=0.0, repr=False)
    _last_line: float = field(default=0.0, repr=False)

    def start(self, total: int, unit: str, done: int = 0) -> None:
        self.total, self.unit, self.done, self.first = total, unit, done, done
        self._write(force=True)

    def advance(self, count: int = 1, note: str = "") -> None:
        self.done += count
        self._write(force=self.done >= self.total, note=note)

    def _write(self, force: bool = False, note: str = "") -> None:
        now = time.monotonic()
        if force or now - self._last_file > 0.5:
            self._last_file = now
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_name(f".tmp-{self.path.name}.{os.getpid()}")
            value = {"done": self.done, "total": self.total, "unit": self.unit, "note": note}
            temporary.write_text(json.dumps(value))
            os.replace(temporary, self.path)
        if force or now - self._last_line > 5:
            self._last_line = now
            print(f"{self.done}/{self.total} {self.unit} {note}".rstrip(), flush=True, file=sys.stderr)


@dataclass(frozen=True)
class Task:
    """One task of a stage: task `index` of `count` (a rank, for training)."""

    plan: Plan
    stage: Stage
    paths: RunPaths
    index: int
    count: int
    shards: tuple[int, ...]  # of an E-step: the shards this task handles
    progress: Progress
    should_stop: Callable[[], bool]

    @property
    def view(self) -> View:
        config = self.plan.config
        return View(
            config.chunking.prefix_chunks, config.model.context_length, config.sample.max_thought_tokens
        )

    def vocabulary(self) -> Vocabulary:
        """The markers and special ids of the run's tokenizer."""
        raw = json.loads(self.paths.layout.read_text())
        return Vocabulary(Layout(raw["sol"], raw["eol"], raw["prior"], raw["post"]), raw["eos"], raw["pad"])

    def stop_if_asked(self) -> None:
        """Raise Interrupted when a signal asked this task to stop; call it where all is saved."""
        if self.should_stop():
            raise Interrupted(f"{self.stage.key}: stopped on request; finished work is kept")
