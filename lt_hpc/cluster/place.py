"""Where a process stands among those of its stage: the only file that spells LT_ variables.

A launcher on this machine hands each process its place in the environment; a scheduler's own
variables are read where that scheduler is (cluster/slurm/environment.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_RANK = "LT_RANK"


@dataclass(frozen=True)
class Place:
    """The place of one process.

    Attributes:
        rank: among the `count` processes of the stage that were started together.
        local_rank: among those of them on this node.
        attempt: the name of this start of the stage, the same for all its processes and never
            used twice.
        restart: how often the scheduler has restarted the job before.
        job: id of the job, as the scheduler's commands take it; empty on one machine.
        node: name of the node.
        host: address at which processes on other nodes reach this one; None: the loopback address,
            all of them are on this machine.
        parent: id of the process that this one must not outlive, or None.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    attempt: str = "by-hand"
    restart: int = 0
    job: str = ""
    node: str = ""
    host: str | None = None
    parent: int | None = None

    def to_environment(self) -> dict[str, str]:
        """The variables from which `from_environment` makes a place on this machine."""
        return {
            _RANK: str(self.rank),
            "LT_COUNT": str(self.count),
            "LT_LOCAL_RANK": str(self.local_rank),
            "LT_ATTEMPT": self.attempt,
            "LT_PARENT": "" if self.parent is None else str(self.parent),
        }

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Place | None:
        """The place that a launcher on this machine gave, or None where none did."""
        if _RANK not in environment:
            return None
        parent = environment["LT_PARENT"]
        return cls(
            rank=int(environment[_RANK]),
            count=int(environment["LT_COUNT"]),
            local_rank=int(environment["LT_LOCAL_RANK"]),
            attempt=environment["LT_ATTEMPT"],
            parent=int(parent) if parent else None,
        )
