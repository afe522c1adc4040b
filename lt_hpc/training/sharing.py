"""Which examples compute a prefix together: pure, the same for every world size.

Prefixes that begin at the same token are beginnings of one another, so the longest of them holds
what the others need, keys and values of every layer included. Prefixes that begin at different
tokens share nothing: what a token's deeper layers hold depends on all the tokens before it.
Shapes: N examples, U units. An origin below 0 is nobody else's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Units:
    """Examples that have to stand in one row, one after the other, the lender of the others first.

    Attributes:
        order: [N] int64, the examples, unit by unit.
        edges: [U + 1] int64, where in `order` the units begin.
        borrowed: [N] int64, the first tokens of each example that its unit's first one computes.
        sizes: [U] int64, tokens that are computed for each unit.
    """

    order: np.ndarray
    edges: np.ndarray
    borrowed: np.ndarray
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.sizes)

    def members(self, units: Sequence[int]) -> list[int]:
        """The examples of some units."""
        return [n for u in units for n in self.order[self.edges[u] : self.edges[u + 1]].tolist()]


def longest(origins: np.ndarray, prefixes: np.ndarray) -> np.ndarray:
    """[N] bool: of the examples of each origin the first one with the longest of their `prefixes` [N], which
    `units` lays out whole whatever the capacity."""
    order = np.lexsort((-prefixes, origins))
    found = np.zeros(len(order), bool)
    found[order] = (origins[order] < 0) | (np.diff(origins[order], prepend=-1) != 0)
    return found


def units(origins: np.ndarray, prefixes: np.ndarray, lengths: np.ndarray, capacity: int) -> Units:
    """Group examples of equal `origins` [N], those with the longest prefix first, as many as `capacity`
    tokens hold. An example borrows its prefix but for the last token, which is computed again: the loss
    on what follows the prefix is taken there. `prefixes`, `lengths` [N]: tokens of each prefix and of each
    whole example."""
    order = np.lexsort((-prefixes, origins))
    borrowable = np.maximum(0, prefixes - 1)
    borrowed = np.zeros(len(order), np.int64)
    edges: list[int] = []
    origin, room = -1, 0
    columns = (order, origins[order], borrowable[order], lengths[order])
    for place, (n, of, saved, length) in enumerate(zip(*(map(int, one) for one in columns), strict=True)):
        if of == origin >= 0 and saved > 0 and length - saved <= room:
            borrowed[n] = saved
            room -= length - saved
        else:
            edges.append(place)
            origin, room = of, capacity - length
    ends = np.array([*edges, len(order)])
    computed = np.append(0, np.cumsum((lengths - borrowed)[order], dtype=np.int64))
    return Units(order, ends, borrowed, np.diff(computed[ends]))
