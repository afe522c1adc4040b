"""Tasks that share a node share its GPUs out among themselves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.cluster import devices


@given(st.integers(1, 16), st.integers(1, 4))
def test_as_many_tasks_as_fit_have_gpus_of_their_own(count: int, size: int) -> None:
    names = [f"GPU-{index}" for index in range(count)]
    shares = [devices.share(names, index, size) for index in range(count // size)]
    used = [name for share in shares for name in share]
    assert len(used) == len(set(used))
    assert all(len(share) == size for share in shares)


def test_more_tasks_than_gpus_take_turns_and_too_few_gpus_are_all_given() -> None:
    assert [devices.share(["0", "1"], index, 1) for index in range(3)] == [["0"], ["1"], ["0"]]
    assert devices.share(["0", "1"], 1, 4) == ["0", "1"]
    assert devices.share([], 1, 1) == []


def test_only_visible_gpus_are_shared() -> None:
    assert devices.visible({"CUDA_VISIBLE_DEVICES": "3,5"}) == ["3", "5"]
    assert devices.visible({"CUDA_VISIBLE_DEVICES": ""}) == []
