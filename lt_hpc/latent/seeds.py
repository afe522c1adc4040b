"""One seed for every draw, derived from what the draw is for and nothing else.

A seed depends on (run seed, purpose, iteration, chunk id, sample index) and never on which
shard, task or retry makes the draw.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive(run_seed: int, purpose: str, *path: int) -> int:
    """A 63-bit seed for one draw; `path` is, for example, (iteration, chunk id, sample index)."""
    text = ":".join([str(run_seed), purpose, *map(str, path)])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(run_seed: int, purpose: str, *path: int) -> np.random.Generator:
    """A counter-based generator (Philox) for one draw."""
    return np.random.Generator(np.random.Philox(derive(run_seed, purpose, *path)))


def uniforms(seed: int, count: int) -> np.ndarray:
    """`count` float64 numbers in [0, 1) of a seed from `derive`."""
    return np.random.Generator(np.random.Philox(seed)).random(count)
