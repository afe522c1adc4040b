"""What lt_hpc asks of a scheduler. Slurm is one (cluster/slurm/), the launcher's own processes are
another (cluster/processes.py); a further one is a class with these methods and a name in
cluster/schedulers.py.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from lt_hpc.run.plan import Plan, Stage

Tasks = Sequence[Sequence[int]]
"""The shards of each task of an array; empty for a stage without shards."""


@dataclass(frozen=True)
class Queued:
    """One job or array task in the queue.

    Attributes:
        job: id that dependencies name: of the whole array for array tasks.
        index: in the array.
        state: in the scheduler's words, for people.
        waiting: it has not started.
        hopeless: it will never start as it is.
        ending: on its way out of the queue, or back into it.
    """

    job: str
    index: int | None
    name: str
    state: str
    waiting: bool = False
    hopeless: bool = False
    ending: bool = False

    @property
    def identity(self) -> str:
        """As `cancel` takes it."""
        return self.job if self.index is None else f"{self.job}_{self.index}"


@dataclass(frozen=True)
class Gone:
    """A job or array task that has ended, or is ending, without having come to an end by itself.

    Attributes:
        job, index, name: as of `Queued`.
        state: in the scheduler's words, for people.
        by_person: it was cancelled; otherwise the cluster took it away.
        again: whether this may happen any number of times, as preemption may.
    """

    job: str
    index: int | None
    name: str
    state: str
    by_person: bool = False
    again: bool = False

    @property
    def identity(self) -> str:
        """As of `Queued`."""
        return self.job if self.index is None else f"{self.job}_{self.index}"


@dataclass(frozen=True)
class Limits:
    """How a stage's shards may be spread over jobs. None: no limit.

    Attributes:
        processes: of one array task, each of which handles at least one shard.
        array_size: tasks of one array.
        tasks: of one stage.
        room: jobs and array tasks that may still be submitted, of all stages together.
    """

    processes: int = 1
    array_size: int | None = None
    tasks: int | None = None
    room: int | None = None


@dataclass(frozen=True)
class Notice:
    """Seconds between the warning to save and the end of a training job, and what decides them."""

    seconds: float
    source: str


class Scheduler(Protocol):
    """A queue of jobs. Methods raise StageError with the scheduler's own words when it refuses."""

    name: str
    lock_seconds: float
    """How long a launch waits for another one's lock on the run folder."""
    own_job: str
    """Id of the job that the launch itself runs in and can requeue; empty: it runs in none."""
    outlives_launch: bool
    """Whether jobs go on without the process that submitted them."""

    def queue(self) -> list[Queued]:
        """This user's jobs, each array task by itself."""
        ...

    def gone(self, jobs: Collection[str]) -> list[Gone]:
        """This user's jobs that something else has ended, as far back as the scheduler remembers; `jobs`: ids
        for which more than that may be asked."""
        ...

    def submit(
        self,
        plan: Plan,
        stage: Stage,
        name: str,
        tasks: Tasks,
        after: Collection[str],
        without: Sequence[str] = (),
    ) -> list[str]:
        """Submit a stage as one job, or as an array with a task per entry of `tasks`, that
        starts when all jobs of `after` have ended, however, and on none of the nodes `without`; the ids that
        dependencies can name."""
        ...

    def spared(self, plan: Plan, stages: Sequence[Stage], nodes: Sequence[str]) -> dict[str, list[str]]:
        """Key -> of some nodes, the worst first, those that jobs of each of some stages can do without,
        behind those that are left out in any case; nothing of a stage that needs all of them."""
        ...

    def avoid(self, jobs: Collection[str], nodes: Sequence[str]) -> None:
        """Have jobs that have not started, array tasks of them that have not, start on none of some nodes."""
        ...

    def delay(self, job: str, after: Collection[str]) -> None:
        """Have a job that has not started wait for other jobs."""
        ...

    def cancel(self, jobs: Collection[str]) -> None:
        """Cancel jobs or array tasks; ones that are gone are no error."""
        ...

    def requeue(self, job: str) -> bool:
        """Put a running job back into the queue; False where that is not for us to do."""
        ...

    def taken_away(self, plan: Plan, stage: Stage, job: str) -> bool:
        """Whether the cluster is ending a job of a stage that it will not start again by itself."""
        ...

    def limits(self, plan: Plan, stages: Sequence[Stage], queued: int) -> dict[str, Limits]:
        """Key -> those of each of some sharded stages, with so many jobs and array tasks in the queue."""
        ...

    def notice(self, plan: Plan) -> Notice:
        """What a training job gets."""
        ...

    def wait(self) -> None:
        """Return when this process is needed no more: at once where jobs outlive it, else when the
        queue is empty.

        Raises:
            StageError: a stage failed; the message has the end of its log.
            Interrupted: on Ctrl-C or a signal, after the tasks have saved their work.
        """
        ...
