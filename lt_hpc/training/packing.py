"""Which examples go into which packed sequence: pure, the same for every world size.

Shapes: N examples, capacity in tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lt_hpc.store.arrays import spans

SLACK = 64
"""A row counts as full when less than capacity / SLACK is free, if it can't be filled better."""
Scratch = Callable[[int], np.ndarray]
"""Gives an array of so many int64 to write."""


def _memory(count: int) -> np.ndarray:
    return np.empty(count, np.int64)


@dataclass
class _Pool:
    """Examples not yet in a row: those of length n are the first `left[n]` of `members` from `starts[n]`
    on. Bit n of `there` is set when length n is there, bit capacity - n of `mirrored` too, so that all
    pairs of a given sum are one AND away."""

    capacity: int
    members: memoryview
    starts: list[int]
    left: list[int]
    there: int = 0
    mirrored: int = 0

    def __post_init__(self) -> None:
        for length, number in enumerate(self.left):
            if number:
                self.there |= 1 << length
                self.mirrored |= 1 << (self.capacity - length)

    def take(self, length: int) -> int:
        self.left[length] -= 1
        if not self.left[length]:
            self.there &= ~(1 << length)
            self.mirrored &= ~(1 << (self.capacity - length))
        example: int = self.members[self.starts[length] + self.left[length]]
        return example

    def longest(self, room: int) -> int:
        """The longest length of at most `room`, or 0."""
        return max(0, (self.there & ((1 << (room + 1)) - 1)).bit_length() - 1)

    def pair(self, total: int) -> tuple[int, int] | None:
        """Two lengths of that sum, the longer one as long as can be."""
        found = self.there & (self.mirrored >> (self.capacity - total))
        longer = found.bit_length() - 1
        if longer <= 0 or (2 * longer == total and self.left[longer] < 2):
            return None
        return longer, total - longer

    def last(self, room: int, longest: int) -> tuple[int, ...] | None:
        """One or two lengths, none above `longest`, that fill `room` as nearly as the slack
        allows, or None."""
        for total in range(min(room, 2 * longest), max(0, room - 1 - self.capacity // SLACK), -1):
            if self.there >> total & 1:
                return (total,)
            pair = self.pair(total)
            if pair:
                return pair
        return None


def pack(
    lengths: Sequence[int] | np.ndarray,
    order: Sequence[int] | np.ndarray,
    capacity: int,
    scratch: Scratch = _memory,
) -> Iterator[list[int]]:
    """Pack the examples in `order` into rows of at most `capacity` tokens, each into one row.

    A row is begun with the longest example left and closed, as soon as that is possible, with
    one or two that fill it (after the minimum bin slack heuristic of Gupta and Ho, Production
    Planning & Control 10(6), 1999). Which of several examples of one length is taken is
    decided by `order`, so who shares a row is random given the lengths. The rows come out
    sorted by length and have to be shuffled.

    Raises:
        ValueError: when an example is longer than `capacity`.
    """
    sizes, ordered = np.asarray(lengths, np.int64), np.asarray(order, np.int64)
    counts = np.zeros(capacity + 1, np.int64)
    for span in spans(len(ordered)):
        of_block = sizes[ordered[span]]
        if (of_block > capacity).any():
            example = ordered[span][of_block > capacity][0]
            raise ValueError(f"example {example} has {sizes[example]} tokens; a sequence holds {capacity}")
        counts += np.bincount(of_block, minlength=capacity + 1)
    starts = np.cumsum(counts) - counts
    members = _by_length(sizes, ordered, starts, scratch(len(ordered)))
    return _rows(_Pool(capacity, memoryview(members.data), starts.tolist(), counts.tolist()))


def _by_length(sizes: np.ndarray, order: np.ndarray, starts: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Into `members` the examples of each length from its start on, in their order: a counting sort."""
    ends = starts.copy()
    for span in spans(len(order)):
        of_block = sizes[order[span]]
        by_size = np.argsort(of_block, kind="stable")
        counts = np.bincount(of_block, minlength=len(ends))
        within = np.arange(len(by_size)) - np.repeat(np.cumsum(counts) - counts, counts)
        members[ends[of_block[by_size]] + within] = order[span][by_size]
        ends += counts
    return members


def _rows(pool: _Pool) -> Iterator[list[int]]:
    while pool.there:
        row: list[int] = []
        room = pool.capacity
        while longest := pool.longest(room):
            last = pool.last(room, longest)
            for length in last or (longest,):
                row.append(pool.take(length))
                room -= length
            if last:
                break
        yield row


def shuffled(count: int, generator: np.random.Generator, scratch: Scratch = _memory) -> np.ndarray:
    """A random order of `count` examples: `generator.permutation(count)`."""
    order = scratch(count)
    for span in spans(count):
        order[span] = np.arange(span.start, span.stop)
    generator.shuffle(order)
    return order
