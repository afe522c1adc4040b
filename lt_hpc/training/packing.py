"""Which examples go into which packed sequence: pure, the same for every world size.

Shapes: N examples, capacity in tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SLACK = 64
"""A row counts as full when less than capacity / SLACK is free, if it can't be filled better."""


@dataclass
class _Pool:
    """Examples not yet in a row, by length. Bit n of `there` is set when length n is there, bit
    capacity - n of `mirrored` too, so that all pairs of a given sum are one AND away."""

    capacity: int
    by_length: list[list[int]]
    there: int = 0
    mirrored: int = 0

    def __post_init__(self) -> None:
        for length, members in enumerate(self.by_length):
            if members:
                self.there |= 1 << length
                self.mirrored |= 1 << (self.capacity - length)

    def take(self, length: int) -> int:
        members = self.by_length[length]
        example = members.pop()
        if not members:
            self.there &= ~(1 << length)
            self.mirrored &= ~(1 << (self.capacity - length))
        return example

    def longest(self, room: int) -> int:
        """The longest length of at most `room`, or 0."""
        return max(0, (self.there & ((1 << (room + 1)) - 1)).bit_length() - 1)

    def pair(self, total: int) -> tuple[int, int] | None:
        """Two lengths of that sum, the longer one as long as can be."""
        found = self.there & (self.mirrored >> (self.capacity - total))
        longer = found.bit_length() - 1
        if longer <= 0 or (2 * longer == total and len(self.by_length[longer]) < 2):
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
    lengths: Sequence[int] | np.ndarray, order: Sequence[int] | np.ndarray, capacity: int
) -> list[list[int]]:
    """Pack the examples in `order` into rows of at most `capacity` tokens, each into one row.

    A row is begun with the longest example left and closed, as soon as that is possible, with
    one or two that fill it (after the minimum bin slack heuristic of Gupta and Ho, Production
    Planning & Control 10(6), 1999). Which of several examples of one length is taken is
    decided by `order`, so who shares a row is random given the lengths. The rows come out
    sorted by length and have to be shuffled.

    Raises:
        ValueError: when an example is longer than `capacity`.
    """
    by_length: list[list[int]] = [[] for _ in range(capacity + 1)]
    ordered = np.asarray(order, dtype=np.int64)
    sizes = np.asarray(lengths, dtype=np.int64)[ordered]
    for example, length in zip(ordered.tolist(), sizes.tolist(), strict=True):
        if length > capacity:
            raise ValueError(f"example {example} has {length} tokens; a sequence holds {capacity}")
        by_length[length].append(example)
    pool = _Pool(capacity, by_length)
    rows: list[list[int]] = []
    while pool.there:
        row: list[int] = []
        room = capacity
        while longest := pool.longest(room):
            last = pool.last(room, longest)
            for length in last or (longest,):
                row.append(pool.take(length))
                room -= length
            if last:
                break
        rows.append(row)
    return rows


def shuffled(count: int, generator: np.random.Generator) -> np.ndarray:
    """A random order of `count` examples."""
    return generator.permutation(count)
