"""Which examples go into which packed sequence, in which order: pure, the same for every
world size.

Shapes: N examples, capacity in tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

OPEN_ROWS = 64
"""Sequences that are filled at the same time; more packs tighter and mixes less."""


def pack(lengths: Sequence[int], order: Sequence[int], capacity: int) -> list[list[int]]:
    """Best-fit packing of examples, taken in `order`, into rows of at most `capacity` tokens.

    A row is emitted when it is full or pushed out by newer ones, so that examples stay near
    their place in the order. Every example is in exactly one row.

    Raises:
        ValueError: when an example is longer than `capacity`.
    """
    emitted: list[list[int]] = []
    rows: list[list[int]] = []
    room: list[int] = []
    for example in order:
        length = int(lengths[example])
        if length > capacity:
            raise ValueError(f"example {example} has {length} tokens; a sequence holds {capacity}")
        fitting = [i for i, free in enumerate(room) if free >= length]
        if fitting:
            best = min(fitting, key=lambda i: room[i])
            rows[best].append(int(example))
            room[best] -= length
        else:
            if len(rows) == OPEN_ROWS:
                fullest = min(range(len(room)), key=lambda i: room[i])
                emitted.append(rows.pop(fullest))
                room.pop(fullest)
            rows.append([int(example)])
            room.append(capacity - length)
    return emitted + rows


def shuffled(count: int, generator: np.random.Generator) -> np.ndarray:
    """A random order of `count` examples."""
    return generator.permutation(count)
