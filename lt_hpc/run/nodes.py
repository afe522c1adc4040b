"""Nodes on which tasks of a run fail or crawl, from the events of its jobs.jsonl. Pure.

What says something of a node is what went well elsewhere, with the same settings. A failure counts against
the node of its task where the same shards (or the same stage, where it has none) ended well on another node,
or where others of the stage did and these shards failed on no other. What was stopped (a preemption, a time
limit, a person) and what a setting or an input was the cause of never counts.
"""

from __future__ import annotations

import itertools
import statistics
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lt_hpc.errors import ConfigError, IncompleteError, Interrupted
from lt_hpc.run.events import Ended, Event, Submit, Submitted, described

RECENT_TASKS = 8
"""Of a node, its last tasks that count: it is bad where at least half of them failed."""
SLOW = 3.0
"""A node crawls where a block takes this many times the median of other nodes."""
FEWEST_BLOCKS, FEWEST_SECONDS, FEWEST_PEERS = 4, 60.0, 2
"""Before that can be said: blocks, and seconds at work, on the node; and other nodes."""
_NO_FAILURE_OF_A_NODE = {ConfigError.exit_code, IncompleteError.exit_code, Interrupted.exit_code}
_WHOLE = frozenset({-1})
"""In place of shards, of a stage that has none."""


@dataclass(frozen=True)
class Suspect:
    """A node that new jobs should leave out, and why, in words."""

    node: str
    evidence: str


@dataclass(frozen=True)
class _Task:
    """A task that ended on a node; `work`: of which stage, by which plan."""

    work: tuple[str, str]
    shards: frozenset[int]
    end: Ended

    @property
    def node(self) -> str:
        return self.end.node

    @property
    def failed(self) -> bool:
        return self.end.code != 0


@dataclass
class _Outcomes:
    """Of one stage by one plan: shard -> nodes on which it ended well, or failed."""

    well: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    failed: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))

    def against_its_node(self, task: _Task) -> bool:
        """Whether the failure of a task is one of its node."""

        def elsewhere(found: Mapping[int, set[str]], shards: frozenset[int]) -> bool:
            return any(found.get(shard, set()) - {task.node} for shard in shards)

        if elsewhere(self.well, task.shards):
            return True
        return elsewhere(self.well, frozenset(self.well)) and not elsewhere(self.failed, task.shards)


def suspects(happened: Sequence[Event]) -> list[Suspect]:
    """Nodes that fail, those with the most failures first, then those that crawl, the slowest first."""
    tasks = list(_tasks(happened))
    failing, crawling = _failing(tasks), _crawling(tasks)
    return failing + [one for one in crawling if one.node not in {other.node for other in failing}]


def _tasks(happened: Sequence[Event]) -> Iterator[_Task]:
    """Tasks of jobs that came to an end, or were stopped, on a node that is known."""
    made = {one.submission: one for one in happened if isinstance(one, Submit)}
    jobs = {
        job: made[one.submission]
        for one in happened
        if isinstance(one, Submitted) and one.submission in made
        for job in one.jobs
    }
    for one in happened:
        if not isinstance(one, Ended) or not one.node:
            continue
        job, _, index = one.job.partition("_")
        submit = jobs.get(job)
        # Ranks on several nodes fail of each other, and the first alone says that they ended well.
        if submit and submit.stage == one.stage and (submit.shards or submit.nodes == 1):
            shards = submit.shards[int(index)] if index.isdigit() else itertools.chain(*submit.shards)
            yield _Task((submit.stage, submit.plan), frozenset(shards) or _WHOLE, one)


def _failing(tasks: Sequence[_Task]) -> list[Suspect]:
    ended = [one for one in tasks if one.end.code not in _NO_FAILURE_OF_A_NODE]
    outcomes: dict[tuple[str, str], _Outcomes] = defaultdict(_Outcomes)
    for one in ended:
        of = outcomes[one.work].failed if one.failed else outcomes[one.work].well
        for shard in one.shards:
            of[shard].add(one.node)
    recent: dict[str, deque[_Task]] = defaultdict(lambda: deque(maxlen=RECENT_TASKS))
    for one in ended:
        if not one.failed or outcomes[one.work].against_its_node(one):
            recent[one.node].append(one)
    found = []
    for node, last in recent.items():
        failures = [one for one in last if one.failed]
        if failures and 2 * len(failures) >= len(last):
            said = (
                f"{len(failures)} of its last {len(last)} tasks failed, where others did not; the last: "
                f"{failures[-1].end.stage}, {described(failures[-1].end)}"
            )
            found.append((len(failures), Suspect(node, said)))
    return [one for _, one in sorted(found, key=lambda item: (-item[0], item[1].node))]


def _crawling(tasks: Sequence[_Task]) -> list[Suspect]:
    """By the newest stage that says something of a node."""
    spent: dict[tuple[str, str], dict[str, tuple[float, int]]] = defaultdict(dict)
    for one in tasks:
        end = one.end
        if one.shards != _WHOLE and end.units and end.setup is not None and end.saved is not None:
            seconds, blocks = spent[one.work].get(one.node, (0.0, 0))
            spent[one.work][one.node] = seconds + max(0.0, end.saved - end.setup), blocks + end.units
    found: dict[str, tuple[float, str]] = {}
    for (stage, _), of_nodes in spent.items():
        pace = {node: seconds / blocks for node, (seconds, blocks) in of_nodes.items()}
        for node, (seconds, blocks) in of_nodes.items():
            others = [other for name, other in pace.items() if name != node]
            if blocks < FEWEST_BLOCKS or seconds < FEWEST_SECONDS or len(others) < FEWEST_PEERS:
                continue
            median = statistics.median(others)
            said = (
                f"a block of {stage} took {pace[node]:.3g} s on average, on {len(others)} other nodes "
                f"{median:.3g} s (their median)"
            )
            found[node] = pace[node] / max(median, 1e-9), said
    slow = sorted((-ratio, node, said) for node, (ratio, said) in found.items() if ratio >= SLOW)
    return [Suspect(node, said) for _, node, said in slow]
