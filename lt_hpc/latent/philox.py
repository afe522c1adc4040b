"""The first numbers of many Philox generators at once: those that np.random.Philox(seed) gives for each seed,
without an object for each.

Pure; arithmetic of unsigned integers modulo 2^32 and 2^64. A seed is spread to a key as by
np.random.SeedSequence (O'Neill 2015, "Developing a seed_seq alternative"), the numbers are those of
Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_PIECE = 8192
"""Seeds that are worked on together: their intermediate numbers stay in a core's cache."""
_LOW, _HALF = np.uint64(2**32 - 1), np.uint64(32)
_MULTIPLIERS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
_STEPS = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
"""What is added to the two halves of the key from round to round."""
_ROUNDS = 10
_POOL = 4
_SHIFT = np.uint32(16)


def words(seeds_N: np.ndarray, count: int) -> np.ndarray:
    """[N, count] uint64: the first `count` numbers that each of `seeds_N` uint64 gives."""
    found = np.empty((len(seeds_N), -(-count // 4) * 4), np.uint64)
    for start in range(0, len(seeds_N), _PIECE):
        piece = slice(start, start + _PIECE)
        key = _key(seeds_N[piece])
        for block in range(0, count, 4):
            # numpy counts up before each block, so that the first one is that of 1.
            for place, column in enumerate(_block(block // 4 + 1, key)):
                found[piece, block + place] = column
    return found[:, :count]


def _constants(value: int, multiplier: int) -> Iterator[tuple[np.uint32, np.uint32]]:
    """Each constant of SeedSequence's hash with the one that follows it."""
    while True:
        following = value * multiplier % 2**32
        yield np.uint32(value), np.uint32(following)
        value = following


def _hashed(value: np.ndarray, constants: tuple[np.uint32, np.uint32]) -> np.ndarray:
    mixed = (value ^ constants[0]) * constants[1]
    return np.asarray(mixed ^ (mixed >> _SHIFT))


def _key(seeds_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """SeedSequence(seed).generate_state(2, np.uint64) of each seed."""
    constants = _constants(0x43B0D7E5, 0x931E8875)
    low, high = (seeds_N & _LOW).astype(np.uint32), (seeds_N >> _HALF).astype(np.uint32)
    zero = np.zeros(1, np.uint32)
    pool = [_hashed(part, next(constants)) for part in (low, high, zero, zero)]
    for source in range(_POOL):
        for target in range(_POOL):
            if source != target:
                other = _hashed(pool[source], next(constants))
                mixed: np.ndarray = pool[target] * np.uint32(0xCA01F9DD) - other * np.uint32(0x4973F715)
                pool[target] = mixed ^ (mixed >> _SHIFT)
    constants = _constants(0x8B51F9DD, 0x58F38DED)
    state = [_hashed(part, next(constants)).astype(np.uint64) for part in pool]
    return state[0] | state[1] << _HALF, state[2] | state[3] << _HALF


def _product(multiplier: int, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """High and low 64 bits of a product with 64-bit values, by halves."""
    above, below = np.uint64(multiplier >> 32), np.uint64(multiplier % 2**32)
    high, low = values >> _HALF, values & _LOW
    middle = high * below + (low * below >> _HALF)  # below 2^64
    other = low * above + (middle & _LOW)
    return high * above + (middle >> _HALF) + (other >> _HALF), values * np.uint64(multiplier)


def _block(counter: int, key: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, ...]:
    """The four numbers of a block."""
    zero = np.zeros(1, np.uint64)
    one, two, three, four = np.full(1, counter, np.uint64), zero, zero, zero
    first, second = key
    for round_number in range(_ROUNDS):
        if round_number:
            first, second = first + _STEPS[0], second + _STEPS[1]
        high_one, low_one = _product(_MULTIPLIERS[0], one)
        high_three, low_three = _product(_MULTIPLIERS[1], three)
        one, two, three, four = high_three ^ two ^ first, low_three, high_one ^ four ^ second, low_one
    return one, two, three, four
