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
    ess = np.where(square > 0, 1.0 / np.where(square > 0, square, 1.0), 0.0)
    return np.asarray(np.minimum(ess, log_w.shape[-1]))  # rounding must not lift it above K


def bounds_by_k(log_w: np.ndarray) -> np.ndarray:
    """[..., K] the bound of every k <= K from the first k samples."""
    running = np.logaddexp.accumulate(log_w, axis=-1)
    return np.asarray(running - np.log(np.arange(1, log_w.shape[-1] + 1)))


def length_normalised(log_w: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """[..., K] log-weights divided by the tokens they are sums over, `lengths` [..., K].

    Biased: selection no longer targets the posterior p(z | c, x). It flattens the weights of long
    texts most, and prefers a thought that is good per token to one that is good in all.
    (The geometric-mean weights of Variational Reasoning, arXiv 2509.22637, are of this kind.)
    """
    return np.asarray(log_w / np.maximum(lengths, 1))


def tempered_exponent(log_w_NK: np.ndarray, target_ess: float) -> float:
    """The largest alpha in [0, 1] with which the weights w^alpha have a mean ESS of `target_ess`
    or more; 1 where w itself does, and 0, all finished thoughts alike, where not even that does. Chunks
    without any weight are left out.

    Biased: w^alpha selects from the geometric path q^(1 - alpha) p^alpha between the proposal
    (alpha = 0) and the posterior (alpha = 1), in exchange for less variance; see Del Moral et al.,
    "Sequential Monte Carlo samplers" (2006), where alpha is chosen by the ESS in the same way.
    """
    usable = log_w_NK[np.isfinite(log_w_NK).any(axis=-1)]

    def reaches(alpha: float) -> bool:
        return bool(np.mean(effective_sample_size(tempered(usable, alpha))) >= target_ess)

    if len(usable) == 0 or reaches(1.0):
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if reaches(middle) else (low, middle)
    return low


def tempered(log_w: np.ndarray, alpha: float) -> np.ndarray:
    """[..., K] log of w^alpha; a weight of zero stays zero."""
    with np.errstate(invalid="ignore"):  # 0 * -inf
        return np.where(np.isfinite(log_w), alpha * log_w, -np.inf)
