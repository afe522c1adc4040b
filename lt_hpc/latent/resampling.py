"""Which of a chunk's K thoughts are selected, from its log-weights and given random numbers.

Functions that select return indices [count]; all are -1 where a rule goes by weights and no thought has any.
"""

from __future__ import annotations

from typing import Literal, assert_never

import numpy as np

from lt_hpc.latent.weights import normalised

Method = Literal["multinomial", "systematic", "argmax", "uniform"]
"""The selection rules; `merge.method` takes these."""


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


def probabilities(method: Method, log_w_K: np.ndarray) -> np.ndarray:
    """[K] with which probability a rule selects each thought; all zero where none has any weight."""
    match method:
        case "multinomial" | "systematic":
            return normalised(log_w_K)
        case "argmax":
            return np.eye(len(log_w_K) + 1)[argmax(log_w_K, 1)[0], :-1]
        case "uniform":
            return np.full(len(log_w_K), 1 / len(log_w_K))
        case _:
            assert_never(method)


def multinomial(log_w_K: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """An independent draw for each of `uniforms` [count] in [0, 1): k with probability
    w_k / sum w, by inversion."""
    cumulative = np.cumsum(normalised(log_w_K))
    if not cumulative[-1] > 0:
        return np.full(len(uniforms), -1)
    # Rounding may carry u * total up to total itself, past the last thought with any weight.
    targets = np.minimum(uniforms * cumulative[-1], np.nextafter(cumulative[-1], 0.0))
    return np.asarray(np.searchsorted(cumulative, targets, side="right"))


def systematic(log_w_K: np.ndarray, uniform: float, order: np.ndarray) -> np.ndarray:
    """Draws on an evenly spaced grid that `uniform` in [0, 1) shifts (Kitagawa 1996): of `count`
    draws, thought k has floor or ceil of count * w_k / sum w. `order`, a random permutation
    [count], gives each single draw the exact distribution too."""
    count = len(order)
    return np.asarray(multinomial(log_w_K, (np.arange(count) + uniform) / count)[order])


def argmax(log_w_K: np.ndarray, count: int) -> np.ndarray:
    """The largest weight, `count` times. Biased: the most likely thought, never the others."""
    return np.full(count, np.argmax(log_w_K) if np.any(np.isfinite(log_w_K)) else -1)
