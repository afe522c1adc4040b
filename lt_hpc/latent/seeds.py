"""One seed for every draw, derived from what the draw is for and nothing else.

A seed depends on (run seed, purpose, iteration, chunk id, sample index) and never on which
shard, task or retry makes the draw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lt_hpc.latent import philox


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


@dataclass(frozen=True)
class Streams:
    """The generators of N draws that differ in the last number of their paths: those of `generator(run_seed,
    purpose, *path, number)` for each of `numbers`, without an object for each."""

    run_seed: int
    purpose: str
    path: tuple[int, ...]
    numbers: Sequence[int]

    def seeds(self) -> np.ndarray:
        """[N] uint64, as `derive` has them."""
        start = ":".join([str(self.run_seed), self.purpose, *map(str, self.path), ""])
        begin, digests = hashlib.blake2b(start.encode(), digest_size=8).copy, []
        for number in self.numbers:
            hashed = begin()
            hashed.update(b"%d" % number)
            digests.append(hashed.digest())
        return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64) >> np.uint64(1)

    def words(self, count: int) -> np.ndarray:
        """[N, count] uint64: the first numbers of each, which all its others are made of."""
        return philox.words(self.seeds(), count)

    def generator(self, row: int) -> np.random.Generator:
        """The generator of one of the draws."""
        return generator(self.run_seed, self.purpose, *self.path, self.numbers[row])
