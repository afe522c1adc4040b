"""Arrays in files are those in memory, and are read by whoever did not make them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.store.arrays import IN_MEMORY, Columns, Mapped

TYPES = {"ids": np.int32, "ends": np.int64, "coins": np.bool_, "weights": np.float64}


@given(st.lists(st.dictionaries(st.sampled_from(list(TYPES)), st.lists(st.integers(0, 9), max_size=5))))
def test_blocks_end_to_end_are_the_same_in_files_and_in_memory(
    tmp_path_factory: pytest.TempPathFactory, values: list[dict[str, list[int]]]
) -> None:
    def blocks() -> Iterator[Columns]:
        return ({name: np.array(v, TYPES[name]) for name, v in block.items()} for block in values)

    def nothing() -> Iterator[Columns]:
        raise AssertionError("made twice")

    folder = tmp_path_factory.mktemp("arrays")
    held = IN_MEMORY.columns("x", TYPES, blocks)
    made = Mapped(folder, making=True).columns("x", TYPES, blocks)
    read = Mapped(folder).columns("x", TYPES, nothing)
    for name, kind in TYPES.items():
        expected = np.array([one for block in values for one in block.get(name, [])], kind)
        for found in (held, made, read):
            assert found[name].dtype == kind and found[name].tolist() == expected.tolist()


@pytest.mark.parametrize("count", [0, 70_000])
def test_scratch_is_written_like_any_array_and_leaves_no_file(tmp_path: Path, count: int) -> None:
    for arrays in (IN_MEMORY, Mapped(tmp_path, making=True)):
        scratch = arrays.scratch(count)
        scratch[:] = np.arange(count)
        np.random.default_rng(0).shuffle(scratch)
        assert scratch.tolist() == np.random.default_rng(0).permutation(count).tolist()
    assert not list(tmp_path.iterdir())


def test_making_ends_between_two_blocks_where_that_is_asked(tmp_path: Path) -> None:
    asked: list[int] = []

    def check() -> None:
        if len(asked) > 1:
            raise InterruptedError

    def blocks() -> Iterator[Columns]:
        while True:
            asked.append(0)
            yield {"ids": np.zeros(1, np.int32)}

    with pytest.raises(InterruptedError):
        Mapped(tmp_path, making=True, check=check).columns("x", {"ids": np.int32}, blocks)
    assert len(asked) == 2
