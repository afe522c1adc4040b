"""Figures of a corpus with 95% intervals, over its documents: a corpus is a sample of documents, and what is
in one of them depends on each other.

Pure. D documents. Tried by simulation in tools/interval_coverage.py; a figure of fewer than two documents
has no interval. The intervals say how far another sample of documents might lie, not what another training
seed would give.
"""

from __future__ import annotations

from math import atan, cos, exp, pi, sin, sqrt
from statistics import NormalDist

import numpy as np

LEVEL = 0.95
Interval = tuple[float, float]


def by_document(documents: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sums [D] of `values` [N] over the chunks of each of the documents [N], in the order of their
    numbers."""
    _, place = np.unique(documents, return_inverse=True)
    return np.bincount(place, weights=values)


def ratio(numerators_D: np.ndarray, denominators_D: np.ndarray) -> tuple[float, Interval | None]:
    """Sum over sum, such as nats over tokens, and its t interval.

    The standard error is the delete-one jackknife's (Efron and Stein 1981), which is at or above the true one
    in expectation, with D - 1 degrees of freedom.
    """
    count = len(denominators_D)
    above, below = numerators_D.sum(), denominators_D.sum()
    value = float(above / below)
    if count < 2:
        return value, None
    left_out = (above - numerators_D) / (below - denominators_D)
    error = sqrt((count - 1) / count * float(np.sum((left_out - left_out.mean()) ** 2)))
    return value, around(value, error, count)


def around(value: float, error: float, count: int) -> Interval:
    """The t interval of a figure of `count` > 1 documents with this standard error."""
    half = t_quantile((1 + LEVEL) / 2, count - 1) * error
    return value - half, value + half


def positive_ratio(numerators_D: np.ndarray, denominators_D: np.ndarray) -> tuple[float, Interval | None]:
    """A ratio of what is never below zero, such as the gain of the bound by more thoughts, and the t interval
    of its logarithm (delta method). Such values are skewed: a sample without one of the rare large ones has
    too low a mean and too small a spread, and an interval symmetric about it ends below the truth."""
    value, interval = ratio(numerators_D, denominators_D)
    if interval is None or value <= 0:
        return value, interval
    factor = exp((interval[1] - interval[0]) / 2 / value)
    return value, (value / factor, value * factor)


def share(successes: float, count: float) -> tuple[float, Interval | None]:
    """Successes among `count` > 0 independent trials, with the score interval (Wilson 1927): unlike others
    it is not empty where all of them failed, or none."""
    value = successes / count
    if count < 2:
        return value, None
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    centre = (successes + z**2 / 2) / (count + z**2)
    half = z / (count + z**2) * sqrt(successes * (count - successes) / count + z**2 / 4)
    return value, (max(0.0, centre - half), min(1.0, centre + half))


def mean_share(successes_D: np.ndarray, trials_D: np.ndarray) -> tuple[float, Interval | None]:
    """A share of trials that depend on each other within each of D documents, such as several answers to
    one question: the score interval of as many independent trials as would have an interval as wide as the
    t interval (Korn and Graubard 1998; Dean and Pagano 2015), at least one for each document. The t interval
    is first widened by half of what t is above the normal quantile, as a skewed share needs: with 12
    documents and a share of .05 it then holds the truth in .91 of all cases instead of .89."""
    return of_mean_share(*ratio(successes_D, trials_D), len(trials_D))


def of_mean_share(value: float, interval: Interval | None, count: int) -> tuple[float, Interval | None]:
    """`mean_share` of `count` documents, from their `ratio`."""
    if interval is None:
        return value, None
    level = (1 + LEVEL) / 2
    z, t = NormalDist().inv_cdf(level), t_quantile(level, count - 1)
    half = (interval[1] - interval[0]) / 2 * (1 + t / z) / 2
    agree = half <= 1e-9 * abs(value)  # all but the rounding
    independent = 0.0 if agree else value * (1 - value) * (z / half) ** 2 * (count - 1) / count
    trials = max(count, independent)
    return value, share(value * trials, trials)[1]


def share_difference(gained: int, lost: int, count: int) -> tuple[float, Interval | None]:
    """How much a share of the same `count` trials has risen, of which `gained` succeed now alone and `lost`
    succeeded before alone; with the interval of Agresti and Min (2005), which adds half a trial to each of
    the four cells."""
    value = (gained - lost) / count
    if count < 2:
        return value, None
    z, total = NormalDist().inv_cdf((1 + LEVEL) / 2), count + 2
    half = z * sqrt(gained + lost + 1 - (gained - lost) ** 2 / total) / total
    centre = (gained - lost) / total
    return value, (max(-1.0, centre - half), min(1.0, centre + half))


def t_quantile(level: float, degrees: int) -> float:
    """Quantile of Student's distribution above its median, by halving an interval. The distribution function
    is a finite sum for whole degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    if degrees > 1000:
        return NormalDist().inv_cdf(level)
    low, high = 0.0, 1e4
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_distribution(middle, degrees) < level else (low, middle)
    return high


def _t_distribution(t: float, degrees: int) -> float:
    theta = atan(t / sqrt(degrees))
    odd = degrees % 2
    term, total = (cos(theta), 0.0) if odd else (1.0, 0.0)
    for step in range(2 + odd, degrees + 1, 2):
        total += term
        term *= cos(theta) ** 2 * (step - 1) / step
    between = (2 / pi) * (theta + sin(theta) * total) if odd else sin(theta) * total
    return (1 + between) / 2
