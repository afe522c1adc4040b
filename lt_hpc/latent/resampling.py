"""Which of a chunk's K thoughts are selected, from its log-weights and given random numbers.

Functions that select return indices [..., count]; all are -1 where a rule goes by weights and no thought has
any.
"""

from __future__ import annotations

from typing import Literal, Protocol, assert_never

import numpy as np

from lt_hpc.latent.weights import normalised

Method = Literal["multinomial", "systematic", "argmax", "uniform"]
"""The selection rules; `merge.method` takes these."""


class Streams(Protocol):
    """A Philox generator for each of N chunks (`seeds.Streams`)."""

    def words(self, count: int) -> np.ndarray:
        """[N, count] uint64: the first numbers of each."""

    def generator(self, row: int) -> np.random.Generator:
        """That of one chunk, from its start."""


def select(method: Method, log_w_K: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """`count` thoughts of one chunk by a rule: indices [count]."""
    match method:
        case "multinomial":
            return multinomial(log_w_K, generator.random(count))
        case "systematic":
            return systematic(log_w_K, generator.random(), generator.permutation(count))
        case "argmax":
            return argmax(log_w_K, count)
        case "uniform":
            return generator.integers(len(log_w_K), size=count)
        case _:
            assert_never(method)


def select_each(method: Method, log_w_NK: np.ndarray, count: int, streams: Streams) -> np.ndarray:
    """`count` thoughts of each of N chunks: indices [N, count], those that `select` finds chunk by chunk, as
    it does for a rule that has no case here."""
    num_chunks, num_samples = log_w_NK.shape
    chosen, alone = np.full((num_chunks, count), -1), np.zeros(num_chunks, bool)
    match method:
        case "multinomial":
            chosen = multinomial(log_w_NK, _unit(streams.words(count)))
        case "systematic":
            words = streams.words(4 * -(-count // 2))  # whole blocks; few permutations take more
            order, alone = _permutations(_halves(words[:, 1:]), count)
            chosen = systematic(log_w_NK, _unit(words[:, 0]), order)
        case "argmax":
            chosen = argmax(log_w_NK, count)
        case "uniform":
            words = streams.words((count + 1) // 2)
            chosen, again = _below(_halves(words)[:, :count], num_samples)
            alone = np.asarray(again.any(axis=1))
        case _:
            alone[:] = True
    for row in np.flatnonzero(alone).tolist():
        chosen[row] = select(method, log_w_NK[row], count, streams.generator(row))
    return chosen


def probabilities(method: Method, log_w: np.ndarray) -> np.ndarray:
    """[..., K] with which probability a rule selects each thought; all zero where none has any weight."""
    num_samples = log_w.shape[-1]
    match method:
        case "multinomial" | "systematic":
            return normalised(log_w)
        case "argmax":
            return np.asarray(np.eye(num_samples + 1)[argmax(log_w, 1)[..., 0], :-1])
        case "uniform":
            return np.full(log_w.shape, 1 / num_samples)
        case _:
            assert_never(method)


def multinomial(log_w: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """An independent draw among [..., K] for each of `uniforms` [..., count] in [0, 1): k with probability
    w_k / sum w, by inversion."""
    cumulative = np.cumsum(normalised(log_w), axis=-1)
    total = cumulative[..., -1:]
    # Rounding may carry u * total up to total itself, past the last thought with any weight.
    targets = np.minimum(uniforms * total, np.nextafter(total, 0.0))
    chosen = np.zeros(targets.shape, np.int64)
    for k in range(log_w.shape[-1]):  # how many sums are at most the target
        chosen += cumulative[..., k, None] <= targets
    return np.where(total > 0, chosen, -1)


def systematic(log_w: np.ndarray, uniform: np.ndarray | float, order: np.ndarray) -> np.ndarray:
    """Draws on an evenly spaced grid that `uniform` [...] in [0, 1) shifts (Kitagawa 1996): of `count`
    draws, thought k has floor or ceil of count * w_k / sum w. `order`, random permutations
    [..., count], gives each single draw the exact distribution too."""
    count = order.shape[-1]
    grid = (np.arange(count) + np.asarray(uniform)[..., None]) / count
    return np.take_along_axis(multinomial(log_w, grid), order, axis=-1)


def argmax(log_w: np.ndarray, count: int) -> np.ndarray:
    """The largest weight, `count` times. Biased: the most likely thought, never the others."""
    largest = np.where(np.isfinite(log_w).any(axis=-1), np.argmax(log_w, axis=-1), -1)
    return np.repeat(largest[..., None], count, axis=-1)


# How numpy's Generator makes other numbers from the 64-bit ones: 53 bits to the unit interval, 32-bit halves,
# the lower one first, to whole numbers.


def _unit(words: np.ndarray) -> np.ndarray:
    return np.asarray((words >> np.uint64(11)) * 2.0**-53)


def _halves(words: np.ndarray) -> np.ndarray:
    """[N, 2 W] uint64, each below 2^32."""
    both = np.stack([words & np.uint64(2**32 - 1), words >> np.uint64(32)], axis=-1)
    return both.reshape(len(words), 2 * words.shape[1])


def _below(halves: np.ndarray, bound: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers below `bound`, int64, and where numpy would draw another one instead, lest some are more
    frequent (Lemire 2019, "Fast random integer generation in an interval")."""
    product = halves * np.uint64(bound)
    again = (product & np.uint64(2**32 - 1)) < np.uint64(2**32 % bound)
    return (product >> np.uint64(32)).astype(np.int64), again


def _permutations(halves: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """A permutation [count] for each row, by exchanges from the last place on (Fisher and Yates), and the
    rows [N] for which the numbers don't suffice. Each place is the lowest bits of the next number that has it
    in range."""
    order, every = np.tile(np.arange(count), (len(halves), 1)), np.arange(len(halves))
    taken, given = np.zeros(len(halves), np.int64), halves.shape[1]
    for last in range(count - 1, 0, -1):
        mask, place = np.uint64(2 ** last.bit_length() - 1), np.full(len(halves), last + 1)
        while len(rows := np.flatnonzero((place > last) & (taken < given))):
            place[rows] = halves[rows, taken[rows]] & mask
            taken[rows] += 1
        taken[place > last] = given + 1
        place = np.minimum(place, last)
        order[every, place], order[:, last] = order[:, last].copy(), order[every, place].copy()
    return order, taken > given
