"""Blocks in flight, before a server that is made up: what comes out, and that its room is filled."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.engines.in_flight import Queue, Steps

Request = tuple[int, int]
"""Steps that it takes, and what it says then."""


@dataclass
class Made:
    """A server; `served`: number -> steps left and what it says."""

    room: int
    served: dict[int, list[int]] = field(default_factory=dict)
    at_work: list[int] = field(default_factory=list)

    def add(self, number: int, request: Request) -> None:
        self.served[number] = list(request)
        assert len(self.served) <= self.room

    def step(self) -> Iterator[tuple[int, int]]:
        self.at_work.append(len(self.served))
        for one in self.served.values():
            one[0] -= 1
        ended = [number for number, (left, _) in self.served.items() if left == 0]
        return iter([(number, self.served.pop(number)[1]) for number in ended])

    def drop(self, numbers: Collection[int]) -> None:
        for number in numbers:
            del self.served[number]


def asking(turns: list[list[int]]) -> Steps[list[list[int]]]:
    """Asks for requests that take so many steps each, turn after turn; each says how long it took."""
    found = []
    for turn in turns:
        outputs = yield [(steps, steps) for steps in turn]
        found.append(list(outputs or ()))
    return found


chunks = st.lists(st.lists(st.integers(1, 5), max_size=3), max_size=3)
blocks = st.lists(st.lists(chunks, max_size=4), max_size=5)


@given(blocks, st.integers(1, 6))
def test_every_block_comes_once_with_the_results_of_its_chunks(
    work: list[list[list[list[int]]]], room: int
) -> None:
    queue = Queue(Made(room), room)
    found = dict(
        queue.complete(((n, map(asking, block)) for n, block in enumerate(work)), stopping=lambda: False)
    )
    assert found == dict(enumerate(work))
    assert queue.idle


@given(
    st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=8), st.integers(1, 6)
)
def test_room_is_left_only_when_nothing_is_left_to_begin(work: list[list[int]], room: int) -> None:
    server = Made(room)
    taken = 0

    def source() -> Iterator[tuple[int, Iterator[Steps[list[list[int]]]]]]:
        nonlocal taken
        for number, block in enumerate(work):
            assert len(server.served) < room, "a block is taken before there is room for it"
            taken += 1
            yield number, (asking([[steps]]) for steps in block)

    found = Queue(server, room).complete(source(), lambda: False)
    next(found)
    assert all(n == room for n in server.at_work) or taken == len(work)
    list(found)
    full = sum(n == room for n in server.at_work)
    assert all(n == room for n in server.at_work[:full])


def test_a_block_that_ends_first_comes_first_and_what_follows_goes_before_what_begins() -> None:
    server = Made(2)
    queue = Queue(server, 2)
    long, short = [[[9]]], [[[1], [1]], [[1]], [[1]]]
    found = queue.complete(iter([("long", map(asking, long)), ("short", map(asking, short))]), lambda: False)
    assert [block for block, _ in found] == ["short", "long"]
    assert len(server.at_work) == 9


@pytest.mark.parametrize("stop_after", range(0, 12, 3))
def test_once_stopping_what_has_begun_ends_and_the_rest_is_given_up(stop_after: int) -> None:
    server = Made(3)
    queue = Queue(server, 3)
    work = {n: [[[4]], [[2], [1]], [[7]], [[3]]] for n in range(6)}
    found = queue.complete(
        ((n, map(asking, block)) for n, block in work.items()), lambda: len(server.at_work) >= stop_after
    )
    ended = dict(found)
    assert queue.idle and not server.served
    assert all(ended[n] == work[n] for n in ended)
    assert len(ended) < len(work)
    assert len(ended) >= (stop_after > 0), "the oldest block is ended in any case"
    assert len(server.at_work) <= stop_after + sum(max(map(max, chunk)) for chunk in work[0])


def test_others_can_be_asked_meanwhile_and_go_first() -> None:
    server = Made(2)
    queue = Queue(server, 2)
    found = queue.complete(iter([(n, map(asking, [[[3]], [[3]], [[1]]])) for n in range(3)]), lambda: False)
    first = next(found)
    before = len(server.at_work)
    assert queue.run([asking([[1], [2]])]) == [[[1], [2]]]
    assert len(server.at_work) - before <= 3 + 3
    assert [first[0], *(n for n, _ in found)] == [0, 1, 2]


def test_nothing_is_left_behind_by_a_failure() -> None:
    def failing() -> Steps[None]:
        yield [(1, 0)]
        raise ValueError("no number")

    server = Made(2)
    queue = Queue(server, 2)
    with pytest.raises(ValueError, match="no number"):
        list(queue.complete(iter([(0, [failing(), asking([[5]]), asking([[5]])])]), lambda: False))
    assert queue.idle and not server.served
    assert queue.run([asking([[2]])]) == [[[2]]]
