"""How many thoughts each chunk of an E-step gets, from what an earlier one has shown. Pure.

Arrays over N chunks. ESS: the effective sample size of a chunk's importance weights.
"""

from __future__ import annotations

import numpy as np

MOST = 4
"""No chunk gets more than this times the mean number of thoughts."""
LEAST_VARIANCE = 1e-3
"""Of weights, relative to the square of their mean: below it all chunks are alike."""
_HALVINGS = 100


def allocate(ess_N: np.ndarray, drawn_N: np.ndarray, num_samples: int) -> np.ndarray:
    """[N] int64: thoughts K of each chunk, `num_samples` on average and in all exactly that times N.

    `ess_N`: the ESS of a chunk's weights in an earlier iteration, of `drawn_N` thoughts; 0 thoughts for a
    chunk that was not in it, which gets `num_samples`. The others share the rest:

        v = (drawn / ESS - 1) + mean v / drawn,    K proportional to sqrt(v), 1 <= K <= MOST * num_samples.

    v estimates the variance of a chunk's weights over the square of their mean: drawn / ESS - 1 is that of
    the weights that were drawn, and the second term counts one more draw with the variance of all of them
    pooled, so that a chunk with few thoughts, or one, is not taken for one without variance. The bound of K
    thoughts is about v / (2 K) below log p(x | c); with a fixed total the sum of these over chunks is least
    where K is proportional to sqrt(v) (Neyman 1934). So at an equal number of earlier thoughts a chunk with a
    lower ESS never gets fewer.

    Whole numbers by the largest remainder; between equal ones the lower ESS, then the earlier chunk. Nothing
    else depends on the order of the chunks. It must not be given the ESS of the same thoughts that it
    allocates: then 1/K sum w would not be unbiased any more.
    """
    found = np.full(len(drawn_N), num_samples, np.int64)
    known = np.flatnonzero(drawn_N > 0)
    drawn = drawn_N[known]
    ess = np.clip(ess_N[known], 1, drawn)  # 0 where no thought has any weight
    excess = drawn / ess - 1
    pooled = np.sort(drawn * excess).sum() / max(1, (drawn - 1).sum())
    if pooled >= LEAST_VARIANCE:
        scores = np.sqrt(excess + pooled / drawn)
        found[known] = _shares(scores, ess, num_samples * len(known), MOST * num_samples)
    return found


def _shares(scores: np.ndarray, ess: np.ndarray, total: int, most: int) -> np.ndarray:
    """[N] whole numbers from 1 to `most` that sum to `total`, proportional to positive `scores` between."""
    ordered = np.sort(scores)  # so that rounding does not depend on the order of the chunks
    low, high = 0.0, most / ordered[0]
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        fits = np.clip(middle * ordered, 1, most).sum() <= total
        low, high = (middle, high) if fits else (low, middle)
    wanted = np.clip(low * scores, 1, most)
    found = np.floor(wanted).astype(np.int64)
    order = np.lexsort((ess, found - wanted))
    found[order[: total - found.sum()]] += 1
    return found
