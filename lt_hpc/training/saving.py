"""Saving and resuming of one rank of training. Writing goes on beside the next steps: only the
copy into host memory holds training up."""

from __future__ import annotations

import dataclasses
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lt_hpc.store import checkpoints
from lt_hpc.store.checkpoints import Checkpoint, Cost


class Saver:
    """The checkpoints of one attempt at training, on one rank. `zero` is the engine's module."""

    def __init__(
        self, folder: Path, expected: str, attempt: str, rank: int, count: int, keep: int, zero: Any
    ) -> None:
        self.folder, self.expected, self.attempt = folder, expected, attempt
        self.rank, self.count, self.keep, self.zero = rank, count, keep, zero
        self.writer = ThreadPoolExecutor(max_workers=1)
        self.pending: Future[Cost | None] | None = None
        self.blocked = 0.0
        self.closed = threading.Event()
        self.last = time.monotonic()

    def resume(self, trainer: Any) -> int:
        """Put the trainer back to the newest checkpoint that verifies; its step, or 0. Rank 0
        names the candidate, every rank checks its share of the files."""
        while True:
            found = checkpoints.latest(self.folder, self.expected) if self.rank == 0 else None
            step, _, attempt = self.zero.from_first(
                f"{found.step} {found.attempt}" if found else ""
            ).partition(" ")
            if not step:
                return 0
            checkpoint = Checkpoint(int(step), attempt)
            sound = checkpoints.is_sound(self.folder, checkpoint, self.rank, self.count)
            (bad,) = self.zero.all_sum(float(not sound))
            if not bad:
                trainer.restore(checkpoints.files(self.folder, checkpoint), checkpoint.step)
                return checkpoint.step
            if self.rank == 0:
                checkpoints.discard(self.folder, checkpoint)

    def save(self, trainer: Any, step: int) -> Cost | None:
        """Begin to write the state after `step` steps; every rank calls it at the same step.
        Returns what the checkpoint before cost, where it had to be waited for (rank 0)."""
        before = self.wait()
        started = time.monotonic()
        tensors, metadata = trainer.snapshot()
        self.pending = self.writer.submit(
            self._write, Checkpoint(step, self.attempt), tensors, metadata, started
        )
        self.last = time.monotonic()
        self.blocked = self.last - started
        return before

    def _write(
        self, checkpoint: Checkpoint, tensors: dict[str, Any], metadata: dict[str, str], started: float
    ) -> Cost | None:
        path = self.folder / checkpoint.name
        checkpoints.write_part(path, self.rank, tensors, metadata)
        if self.rank:
            return None
        cost = checkpoints.commit(path, self.expected, self.count, started, self.closed.is_set)
        checkpoints.prune(self.folder, self.keep, checkpoint)
        return cost

    def done(self) -> Cost | None:
        """What the last checkpoint cost, once, when it has just become complete (rank 0).

        Raises:
            OSError, StageError: what went wrong in writing it.
        """
        if self.pending is None or not self.pending.done():
            return None
        return self.wait()

    def wait(self) -> Cost | None:
        """Wait until this rank's part, on rank 0 the whole checkpoint, is written."""
        cost = self.pending.result() if self.pending else None
        self.pending = None
        return dataclasses.replace(cost, blocked_seconds=self.blocked) if cost else None

    def close(self) -> None:
        """Wait for nobody any more: after an error other ranks may never write their part."""
        self.closed.set()
