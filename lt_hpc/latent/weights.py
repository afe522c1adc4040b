"""Importance weights over the K thoughts of a chunk, in float64 and nats.

    log w_k = log p(z_k | c) + log p(x | c, z_k) - log q(z_k | c, x)

(Ruan et al., arXiv 2503.18866, section 3.) A thought without its <EOL> has weight zero.
Arrays end in the sample axis K; leading axes are free.
"""

from __future__ import annotations

import numpy as np


def log_weights(
    log_prior: np.ndarray, log_likelihood: np.ndarray, log_q: np.ndarray, finished: np.ndarray
) -> np.ndarray:
    """[..., K] log-weights in nats; -inf where the thought is unfinished."""
    with np.errstate(invalid="ignore"):  # -inf - -inf belongs to an unfinished thought
        log_w = (
            np.asarray(log_prior, np.float64)
            + np.asarray(log_likelihood, np.float64)
            - np.asarray(log_q, np.float64)
        )
    return np.where(finished, log_w, -np.inf)


def log_sum_exp(log_w: np.ndarray) -> np.ndarray:
    """[...] log sum_k exp(log_w_k); -inf where every term is -inf."""
    top = np.max(log_w, axis=-1, keepdims=True)
    safe = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.sum(np.exp(log_w - safe), axis=-1)) + safe[..., 0])


def log_mean_exp(log_w: np.ndarray) -> np.ndarray:
    """[...] log(1/K sum_k w_k): the importance-weighted bound on log p(x | c) (Burda et al.,
    arXiv 1509.00519, eq. 8)."""
    return np.asarray(log_sum_exp(log_w) - np.log(log_w.shape[-1]))


def normalised(log_w: np.ndarray) -> np.ndarray:
    """[..., K] weights that sum to 1; all zero where no thought has any weight."""
    top = np.max(log_w, axis=-1, keepdims=True)
    weights = np.exp(log_w - np.where(np.isfinite(top), top, 0.0))
    total = weights.sum(axis=-1, keepdims=True)
    # Divided rather than exp(log_w - log_sum_exp): exact also for huge log-weights.
    return np.asarray(weights / np.where(total > 0, total, 1.0))


def effective_sample_size(log_w: np.ndarray) -> np.ndarray:
    """[...] Kish's (sum w)^2 / sum w^2, in [1, K]; 0 where no thought has any weight."""
    weights = normalised(log_w)
    square = np.sum(weights**2, axis=-1)
    return np.where(square > 0, 1.0 / np.where(square > 0, square, 1.0), 0.0)


def bounds_by_k(log_w: np.ndarray) -> np.ndarray:
    """[..., K] the bound of every k <= K from the first k samples."""
    running = np.logaddexp.accumulate(log_w, axis=-1)
    return running - np.log(np.arange(1, log_w.shape[-1] + 1))


def resample(log_w_K: np.ndarray, uniform: float) -> int:
    """Index k drawn with probability w_k / sum w by inversion of `uniform` in [0, 1);
    -1 where no thought has any weight."""
    weights = normalised(log_w_K)
    cumulative = np.cumsum(weights)
    if not cumulative[-1] > 0:
        return -1
    target = min(uniform * cumulative[-1], np.nextafter(cumulative[-1], 0.0))
    return int(np.searchsorted(cumulative, target, side="right"))


def argmax(log_w_K: np.ndarray) -> int:
    """Index of the largest weight; -1 where no thought has any weight."""
    return int(np.argmax(log_w_K)) if np.any(np.isfinite(log_w_K)) else -1
