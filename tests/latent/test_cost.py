"""The cost formulas against figures worked out by hand and published ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.latent.cost import (
    ModelShape,
    activation_bytes,
    buffer_bytes,
    flops_per_token,
    prompt_bytes,
    state_bytes,
)

SHAPE = ModelShape(7_500_000_000, 32, 4096, 32000)


def test_flops_of_a_token_by_hand() -> None:
    assert flops_per_token(ModelShape(100, 3, 5, 7), 11) == 6 * 100 + 12 * 3 * 5 * 11


@pytest.mark.parametrize(("stage", "gigabytes"), [(1, 31.4 + 30), (2, 16.6 + 0.23), (3, 1.9 + 0.23)])
def test_the_zero_papers_example(stage: int, gigabytes: float) -> None:
    """7.5B parameters on 64 GPUs (figure 1 of the paper) with its 16-bit gradients; ours are
    accumulated in float32, which is 2 bytes per parameter more, divided from stage 2 on; under ZeRO-1
    DeepSpeed keeps the 16-bit ones beside them."""
    assert state_bytes(SHAPE, stage, 64, 2) / 1e9 == pytest.approx(gigabytes, abs=0.1)


def test_float32_without_zero_is_16_bytes_a_parameter() -> None:
    assert state_bytes(SHAPE, 0, 8, 4) == 16 * SHAPE.parameters


@given(st.integers(1, 3), st.integers(1, 512), st.sampled_from([2, 4]))
def test_more_ranks_and_a_higher_stage_never_need_more(stage: int, ranks: int, size: int) -> None:
    here = state_bytes(SHAPE, stage, ranks, size)
    assert state_bytes(SHAPE, stage, ranks + 1, size) < here
    assert stage == 3 or state_bytes(SHAPE, stage + 1, ranks, size) <= here


def test_activations_grow_with_tokens_and_shrink_with_checkpointing() -> None:
    full, kept = (activation_bytes(SHAPE, 4096, 2, checkpointing) for checkpointing in (False, True))
    assert activation_bytes(SHAPE, 8192, 2, False) == 2 * full
    assert full - kept == 31 * 45 * 4096 * 4096 - 32 * 2 * 4096 * 4096


def test_buffers_are_those_of_deepspeeds_defaults() -> None:
    assert [buffer_bytes(SHAPE, stage, 2, False) for stage in range(4)] == [0, 0, 1e9, 3e9]
    assert buffer_bytes(SHAPE, 3, 2, True) == 4e9
    small = ModelShape(10_000_000, 2, 128, 1000)
    assert buffer_bytes(small, 3, 2, False) == 1e9 + 2e7, "a bucket is whole however small the model is"


def test_prompts_are_scored_in_pieces() -> None:
    assert prompt_bytes(4096, 128_256) == prompt_bytes(1024, 128_256) == 1024 * 128_256 * 7
    assert prompt_bytes(100, 10) == 7000
