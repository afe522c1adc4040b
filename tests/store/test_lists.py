"""Lists as flat arrays against lists of Python."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.store import lists

few = st.lists(st.integers(0, 2), max_size=3)
long = st.tuples(st.integers(0, 19), st.integers(0, 1)).map(
    lambda change: [change[1] if place == change[0] else 7 for place in range(20)]
)
"""Lists that differ in one place, which a few probes may miss."""


def flat(every: list[list[int]]) -> lists.Lists:
    values = np.array([value for one in every for value in one], np.int32)
    return values, np.append(0, np.cumsum([len(one) for one in every], dtype=np.int64))


@given(
    st.integers(1, 6).flatmap(
        lambda width: st.lists(st.lists(few | long, min_size=width, max_size=width), min_size=1, max_size=6)
    )
)
def test_the_first_equal_list_of_a_row_is_found(rows: list[list[list[int]]]) -> None:
    found = lists.first_equal(flat([one for row in rows for one in row]), len(rows[0]))
    assert found.tolist() == [[row.index(one) for one in row] for row in rows]


@given(st.lists(few | long, min_size=1, max_size=8), st.data())
def test_parts_of_lists_make_a_column(every: list[list[int]], data: st.DataObject) -> None:
    values, offsets = flat(every)
    chosen = data.draw(st.lists(st.integers(0, len(every) - 1), max_size=8))
    lengths = np.array([max(0, len(every[one]) - 1) for one in chosen], np.int64)
    column = lists.column(*lists.slices(values, offsets[:-1][chosen], lengths))
    assert column.type == pa.list_(pa.int32()) and column.to_pylist() == [every[one][:-1] for one in chosen]


@given(st.lists((few | long).filter(len), max_size=8), st.data())
def test_lists_without_their_last_values_make_a_column(every: list[list[int]], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(-1, len(every) - 1), max_size=8))
    column = lists.without_last(flat(every), np.array(chosen, np.int64))
    assert column.type == pa.list_(pa.int32())
    assert column.to_pylist() == [[] if one < 0 else every[one][:-1] for one in chosen]
