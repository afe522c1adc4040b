"""Saving and resuming of one rank of training. Writing goes on beside the next steps: only the
copy into host memory holds training up."""

from __future__ import annotations

import dataclasses
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from lt_hpc.store import checkpoints
from lt_hpc.store.checkpoints import Checkpoint, Cost

if TYPE_CHECKING:
    from torch import Tensor

    from lt_hpc.training.protocol import Ranks, Trainer


class Saver:
    """The checkpoints of one attempt at training, on one rank.

    `folder` holds all checkpoints of the model, of which the newest `keep` stay; `expected` is the
    model's fingerprint, and checkpoints with another one are passed over; `attempt` names this start
    of training, the same on every rank; `ranks` are all that take part.
    """

    def __init__(self, folder: Path, ranks: Ranks, *, expected: str, attempt: str, keep: int) -> None:
        self.folder, self.ranks = folder, ranks
        self.expected, self.attempt, self.keep = expected, attempt, keep
        self.writer = ThreadPoolExecutor(max_workers=1)
        self.pending: Future[Cost | None] | None = None
        self.blocked = 0.0
        """Seconds for which the last `save` held training up."""
        self.closed = threading.Event()
        self.last = time.monotonic()
        """When the last checkpoint was begun, or this attempt."""

    def resume(self, trainer: Trainer) -> int:
        """Put the trainer back to the newest checkpoint that verifies; its step, or 0. Rank 0
        names the candidate, every rank checks its share of the files."""
        while True:
            found = checkpoints.latest(self.folder, self.expected) if self.ranks.rank == 0 else None
            step, _, attempt = self.ranks.from_first(
                f"{found.step} {found.attempt}" if found else ""
            ).partition(" ")
            if not step:
                return 0
            checkpoint = Checkpoint(int(step), attempt)
            sound = checkpoints.is_sound(self.folder, checkpoint, self.ranks.rank, self.ranks.count)
            (bad,) = self.ranks.all_sum(float(not sound))
            if not bad:
                trainer.restore(checkpoints.files(self.folder, checkpoint), checkpoint.step)
                return checkpoint.step
            if self.ranks.rank == 0:
                checkpoints.discard(self.folder, checkpoint)

    def save(self, trainer: Trainer, step: int) -> Cost | None:
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
        self, checkpoint: Checkpoint, tensors: dict[str, Tensor], metadata: dict[str, str], started: float
    ) -> Cost | None:
        path = self.folder / checkpoint.name
        checkpoints.write_part(path, self.ranks.rank, tensors, metadata)
        if self.ranks.rank:
            return None
        cost = checkpoints.commit(path, self.expected, self.ranks.count, started, self.closed.is_set)
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
        """Stop waiting for other ranks, which may never write their part after an error."""
        self.closed.set()
