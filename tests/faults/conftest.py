"""What decides when the tests of faults strike."""

from __future__ import annotations

import os
import random

import pytest

SEED = int(os.environ.get("LT_FAULT_SEED") or random.SystemRandom().randrange(2**32))


@pytest.fixture
def rng() -> random.Random:
    """Other moments in each session; every failure shows the seed, with which it can be replayed."""
    print(f"LT_FAULT_SEED={SEED}")
    return random.Random(SEED)
