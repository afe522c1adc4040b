"""Blocks in flight: one queue of requests before a server that has room for so many, so that its room is
filled while the last requests of a block are still at work.

What is wanted of a chunk is a generator that yields requests, is sent their outputs and returns its result.
Requests that follow from outputs go before those that begin a chunk: chunks that were begun end first.
Nothing here knows what a request is.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

B = TypeVar("B")
T = TypeVar("T")

Steps = Generator[Sequence[Any], Sequence[Any] | None, T]
"""Yields requests and is sent their outputs, in the same order."""


class Server(Protocol):
    """Works on all the requests that it has been given."""

    def add(self, number: int, request: Any) -> None:
        """Take a request; no other one has its number."""
        ...

    def step(self) -> Iterable[tuple[int, Any]]:
        """Work on a little: the numbers of requests that have ended, with their outputs."""
        ...

    def drop(self, numbers: Collection[int]) -> None:
        """Give these requests up."""
        ...


class _Job(Generic[T]):
    """A generator on its way; `result`: once it is `done`."""

    def __init__(self, steps: Steps[T]) -> None:
        self.done = False
        self.result: Any = None
        self._steps, self._missing = steps, 0
        self._outputs: list[Any] | None = None

    def next(self) -> Sequence[Any]:
        """Its next requests, none once it is done."""
        requests: Sequence[Any] = []
        try:
            while not requests:
                requests = self._steps.send(self._outputs)
                self._outputs, self._missing = [None] * len(requests), len(requests)
        except StopIteration as end:
            self.done, self.result = True, end.value
        return requests

    def take(self, place: int, output: Any) -> bool:
        """One output; whether it is the last one of the requests."""
        assert self._outputs is not None
        self._outputs[place] = output
        self._missing -= 1
        return self._missing == 0


@dataclass(eq=False)
class _Flight(Generic[B, T]):
    block: B
    jobs: list[_Job[T]]


class Queue:
    """Keeps `room` requests in `server` as long as there are so many, and never more."""

    def __init__(self, server: Server, room: int) -> None:
        self.server, self.room = server, room
        self._first: deque[tuple[_Job[Any], int, Any]] = deque()
        self._following: deque[tuple[_Job[Any], int, Any]] = deque()
        self._served: dict[int, tuple[_Job[Any], int]] = {}
        self._numbers = itertools.count()

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not (self._first or self._following or self._served)

    def run(self, works: Iterable[Steps[T]]) -> list[T]:
        """The results of generators, before anything that has not begun."""
        jobs = [_Job(steps) for steps in works]
        try:
            for job in jobs:
                self._ask(job, self._following)
            while not all(job.done for job in jobs):
                self._step()
        finally:
            self._drop(jobs)
        return [job.result for job in jobs]

    def complete(
        self, blocks: Iterable[tuple[B, Iterable[Steps[T]]]], stopping: Callable[[], bool]
    ) -> Iterator[tuple[B, list[T]]]:
        """The results of the generators of each block, in the order in which blocks end. The next block is
        taken when there is room for some of it. Once `stopping`, none is, and those are given up of which
        something has not begun, but for the oldest."""
        source, flights, more = iter(blocks), list[_Flight[B, T]](), True
        try:
            while flights or more:
                self._fill()
                while more and not stopping() and len(self._served) < self.room:
                    taken = next(source, None)
                    if taken is None:
                        more = False
                    else:
                        flights.append(self._begin(*taken))
                if stopping():
                    more, flights = False, self._without_late(flights)
                ended = [one for one in flights if all(job.done for job in one.jobs)]
                for one in ended:
                    flights.remove(one)
                    yield one.block, [job.result for job in one.jobs]
                if flights and not ended:
                    self._step()
        finally:
            self._drop([job for one in flights for job in one.jobs])

    def _begin(self, block: B, works: Iterable[Steps[T]]) -> _Flight[B, T]:
        flight = _Flight(block, [_Job(steps) for steps in works])
        for job in flight.jobs:
            self._ask(job, self._first)
        self._fill()
        return flight

    def _ask(self, job: _Job[Any], queue: deque[tuple[_Job[Any], int, Any]]) -> None:
        queue.extend((job, place, request) for place, request in enumerate(job.next()))

    def _fill(self) -> None:
        while len(self._served) < self.room and (queue := self._following or self._first):
            job, place, request = queue.popleft()
            number = next(self._numbers)
            self._served[number] = job, place
            self.server.add(number, request)

    def _step(self) -> None:
        self._fill()
        for number, output in self.server.step():
            job, place = self._served.pop(number)
            if job.take(place, output):
                self._ask(job, self._following)

    def _without_late(self, flights: list[_Flight[B, T]]) -> list[_Flight[B, T]]:
        """The flights that are not given up."""
        unbegun = {job for job, _, _ in self._first}
        late = [one for one in flights[1:] if unbegun & set(one.jobs)]
        self._drop([job for one in late for job in one.jobs])
        return [one for one in flights if one not in late]

    def _drop(self, jobs: Collection[_Job[Any]]) -> None:
        """Give up what is still wanted for these jobs."""
        gone = {job for job in jobs if not job.done}
        if not gone:
            return
        for queue in (self._first, self._following):
            kept = [one for one in queue if one[0] not in gone]
            queue.clear()
            queue.extend(kept)
        numbers = [number for number, (job, _) in self._served.items() if job in gone]
        for number in numbers:
            del self._served[number]
        self.server.drop(numbers)
