"""Lists end to end as flat arrays: parts of them, which are equal, and columns of tables made of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

Lists = tuple[np.ndarray, np.ndarray]
"""Lists end to end, and the offsets [lists + 1] int64 between them."""

_PROBES = 8
_ODD = np.uint64(0x9E3779B97F4A7C15)


def slices(values: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> Lists:
    """Lists [N] of `lengths` values, each from one of `starts` on."""
    ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return values[np.repeat(starts - ends[:-1], lengths) + np.arange(ends[-1])], ends


def column(values: np.ndarray | pa.Array, offsets: np.ndarray) -> pa.Array:
    """A list column of a table, of less than 2^31 values; lists of lists where `values` is a list column."""
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(values))


def without_last(lists: Lists, chosen: np.ndarray) -> pa.Array:
    """A list column: the lists with the indices `chosen` [N], each without its last value, and an empty list
    for -1."""
    values, offsets = lists
    # Each list is two, its last value the second one, and the last of all is empty: Arrow copies lists as a
    # whole, and so without an index for each value.
    edges = np.repeat(offsets, 2)
    edges[1:-1:2] = offsets[1:] - 1
    halves = column(values, edges)
    return halves.take(pa.array(np.where(chosen < 0, len(halves) - 1, 2 * chosen)))


def first_equal(lists: Lists, width: int) -> np.ndarray:
    """[N, width] of N rows of `width` lists each: index of the first list of the row with the same values."""
    values, offsets = lists
    starts, lengths = offsets[:-1], np.diff(offsets)
    marks = _marks(lists, width).reshape(-1, width).T.copy()
    first = np.tile(np.arange(width)[:, None], marks.shape[1])
    for one in range(1, width):
        for other in reversed(range(one)):
            first[one][marks[one] == marks[other]] = other
    found = first.T.copy()
    # Lists with one mark are nearly always equal. The rows of those that are not are gone through one by one.
    rows, places = np.nonzero(found != np.arange(width))
    pairs = rows * width + places, rows * width + found[rows, places]
    for row in np.unique(rows[~_equal(values, starts, lengths, *pairs)]).tolist():
        seen: dict[bytes, int] = {}
        every = [values[offsets[n] : offsets[n + 1]].tobytes() for n in range(row * width, (row + 1) * width)]
        found[row] = [seen.setdefault(one_list, place) for place, one_list in enumerate(every)]
    return found


def _marks(lists: Lists, width: int) -> np.ndarray:
    """A number [lists] uint64 for each list, the same for equal ones of a row: its length and, where another
    one of the row has that too, the values at some places."""
    values, offsets = lists
    lengths = np.diff(offsets)
    by_place = lengths.reshape(-1, width).T.copy()
    shared = np.zeros(by_place.shape, bool)
    for one in range(1, width):
        for other in range(one):
            same = by_place[one] == by_place[other]
            shared[one] |= same
            shared[other] |= same
    some = np.flatnonzero(shared.T.ravel() & (lengths > 0))
    found, starts, length = lengths[some].astype(np.uint64), offsets[some], lengths[some]
    for probe in range(_PROBES):
        found = (found ^ values[starts + length * probe // _PROBES].astype(np.uint64)) * _ODD
        found ^= found >> np.uint64(29)
    marks = lengths.astype(np.uint64)
    marks[some] = found
    return marks


def _equal(
    values: np.ndarray, starts: np.ndarray, lengths: np.ndarray, one: np.ndarray, other: np.ndarray
) -> np.ndarray:
    """[pairs] whether the lists with the indices `one` and `other` [pairs] have the same values."""
    same = np.asarray(lengths[one] == lengths[other])
    shared = np.where(same, lengths[one], 0)
    differ = slices(values, starts[one], shared)[0] != slices(values, starts[other], shared)[0]
    same[np.repeat(np.arange(len(one)), shared)[differ]] = False
    return same
