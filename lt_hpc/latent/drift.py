"""Whether thoughts drift over the iterations of EM: what is measured of each chunk, and what is a move.

Pure. z: token ids of a thought without its <EOL>, x: those of its chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lt_hpc.latent.intervals import Interval

RUN = 4
"""Tokens in a row that count as copied, or as repeated."""
LENGTH_FACTOR, SHARE_MOVED, ESS_FACTOR = 1.5, 0.1, 1.5
"""Warned of: a mean length or a mean ESS that is more than so many times the first one or less than the
inverse of that, a share that has moved by more than this, each beyond both intervals."""


def copied_share(z: Sequence[int], x: Sequence[int], run: int = RUN) -> float:
    """Share of the tokens of x that lie in a run of n consecutive tokens which stands in z too, where n is
    `run`, or the length of x where that is less. 1: all of x stands in z, in pieces of n or more. 0 for an
    empty x."""
    length = min(run, len(x))
    if length == 0:
        return 0.0
    known = set(_runs(z, length))
    covered = np.zeros(len(x), bool)
    for start, one in enumerate(_runs(x, length)):
        if one in known:
            covered[start : start + length] = True
    return float(covered.mean())


def repeated_share(z: Sequence[int], run: int = RUN) -> float:
    """1 - different runs / all runs, of `run` consecutive tokens of z: the share of them that stand further
    left in z already. 0 where there are fewer than two."""
    found = _runs(z, run)
    return 1.0 - len(set(found)) / len(found) if found else 0.0


def _runs(ids: Sequence[int], length: int) -> list[tuple[int, ...]]:
    return list(zip(*(ids[start:] for start in range(length)), strict=False))


def by_length(lengths_N: np.ndarray, classes: int = 3) -> np.ndarray:
    """[N] the class, 0 to `classes` - 1, of each length: as many chunks in each as their order allows, equal
    lengths always together."""
    ranks = np.searchsorted(np.sort(lengths_N), lengths_N, side="left")
    return np.asarray(ranks * classes // max(1, len(lengths_N)))


def scaled_by(factor: float) -> Callable[[float, float], bool]:
    """Whether a value is more than `factor` times the first one, or less than the inverse of that."""
    return lambda first, now: now > factor * first or first > factor * now


def shifted_by(distance: float) -> Callable[[float, float], bool]:
    """Whether a value is further than this from the first one."""
    return lambda first, now: abs(now - first) > distance


def has_moved(
    first: tuple[float, Interval | None],
    now: tuple[float, Interval | None],
    far: Callable[[float, float], bool],
) -> bool:
    """Whether a figure is `far` from the first one and the 95% intervals of both lie apart; False where one
    has none."""
    if first[1] is None or now[1] is None:
        return False
    return far(first[0], now[0]) and (now[1][0] > first[1][1] or now[1][1] < first[1][0])
