"""Whether importance weights say anything: tail shape, dependence on length.

Pure; log-weights in nats, float64.
"""

from __future__ import annotations

import numpy as np

MIN_SAMPLES_FOR_PARETO = 25
"""The tail is a fifth of the samples."""
MIN_TAIL = 5
"""Fewer weights than that above the threshold of the tail say nothing of its shape."""
WARN_SELECTION_CHANGE = 0.05
"""Share of a chunk's weight that arithmetic may move between its thoughts, on average, before anyone is
told."""


def pareto_k(log_w_S: np.ndarray) -> float:
    """Shape of the generalised Pareto distribution of the largest of S weights: of a chunk's, or, where K is
    small, of many chunks' after each one's mean log-weight is taken off. Below 0.5 the weights have
    a finite variance; above 0.7 their means can't be trusted. -inf where the tail is flat: all its weights
    equal those before it. nan where it cannot be estimated: fewer than MIN_SAMPLES_FOR_PARETO weights are
    above zero, or fewer than MIN_TAIL are above the tail's threshold, as when a thought that was drawn many
    times ties with it.

    Vehtari et al., "Pareto smoothed importance sampling" (arXiv 1507.02646, section 3): the tail is
    the min(S / 5, 3 sqrt(S)) largest weights.
    """
    usable = np.sort(log_w_S[np.isfinite(log_w_S)])
    return pareto_k_of_largest(usable, len(usable))


def tail_size(count: int) -> int:
    """How many of so many weights are the tail."""
    return int(np.ceil(min(count / 5, 3 * np.sqrt(count))))


def pareto_k_of_largest(largest: np.ndarray, count: int) -> float:
    """`pareto_k` of `count` finite log-weights from the largest of them alone, sorted: one more than the tail
    has, or more."""
    if count < MIN_SAMPLES_FOR_PARETO:
        return float("nan")
    size = tail_size(count)
    weights = np.exp(largest[-size - 1 :] - largest[-1])
    excess = weights[1:] - weights[0]
    excess = excess[excess > 0]
    if not excess.size:
        return float("-inf")
    return _generalised_pareto_shape(excess) if len(excess) >= MIN_TAIL else float("nan")


def _generalised_pareto_shape(excess: np.ndarray) -> float:
    """Zhang and Stephens (2009): the posterior mean over a grid of a profile likelihood, with
    the weak prior towards 0.5 of Vehtari et al., appendix C. `excess`: weights above the threshold of the
    tail less that threshold, sorted, all positive."""
    count = len(excess)
    grid_size = 30 + int(np.sqrt(count))
    quartile = excess[int(count / 4 + 0.5) - 1]
    steps = np.arange(1, grid_size + 1) - 0.5
    spread = max(3 * quartile, np.finfo(float).tiny)
    theta = (1 - np.sqrt(grid_size / steps)) / spread + 1 / excess[-1]
    shape = np.log1p(-theta[:, None] * excess).mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        profile = count * (np.log(-theta / shape) - shape - 1)
    profile = np.where(np.isfinite(profile), profile, -np.inf)
    posterior = np.exp(profile - profile.max())
    mean = float(np.sum(theta * posterior) / posterior.sum())
    estimate = float(np.log1p(-mean * excess).mean())
    return (count * estimate + 10 * 0.5) / (count + 10)


def mean_by_length(values: np.ndarray, lengths: np.ndarray, bins: int = 5) -> list[tuple[float, float, int]]:
    """Mean of `values` [N] in bins of equal count by `lengths` [N]: (mean length, mean value,
    count) of each, shortest first."""
    order = np.argsort(lengths, kind="stable")
    return [
        (float(lengths[part].mean()), float(values[part].mean()), len(part))
        for part in np.array_split(order, min(bins, max(1, len(order))))
        if len(part)
    ]


def correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    """Pearson correlation of two samples [N]; None where either does not vary."""
    if len(one) < 2 or np.std(one) == 0 or np.std(other) == 0:
        return None
    return float(np.corrcoef(one, other)[0, 1])
