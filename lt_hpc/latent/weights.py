"""Importance weights over the K thoughts of a chunk, in float64 and nats.

    log w_k = log p(z_k | c) + log p(x | c, z_k) - log m(z_k)

where m is what the K thoughts were drawn from: the model's posterior q(z | c, x) (Ruan et al., arXiv
2503.18866, section 3), or a mixture of it with thoughts that do not know x. Arrays end in the sample axis K;
leading axes are free.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_PIECE = 2**15
"""Chunks of a corpus that are worked on together, lest every step takes memory for all."""


def prior_count(num_samples: int, share: float) -> int:
    """How many of K thoughts come from the prior p(z | c), the last ones: a share of them, rounded down."""
    return int(num_samples * share + 1e-9)


def log_mixture(log_q: np.ndarray, log_p: np.ndarray, share: float) -> np.ndarray:
    """[...] log of (1 - share) q + share p at each of the thoughts, from the two log densities there: what
    they are drawn from where that share of them is drawn from p and the rest from q.

    All are weighted by the mixture, whichever part drew them (Hesterberg 1995; Owen and Zhou 2000; the
    balance heuristic of Veach and Guibas 1995): the mean of the weights stays unbiased, and none is above
    p(x | c, z) / share.
    """
    if share == 0:
        return log_q
    return np.asarray(np.logaddexp(log_q + np.log1p(-share), log_p + np.log(share)))


def log_balance(log_q_JS: np.ndarray, counts_J: np.ndarray) -> np.ndarray:
    """[S] log of sum_j (n_j / S) q_j at each of S thoughts, `counts_J` of which were drawn from each of J
    proposals; `log_q_JS`: all of these at all thoughts.

    All are weighted by this mixture, whichever proposal drew them: the balance heuristic of Veach and Guibas
    (1995), deterministic mixture sampling in Owen and Zhou (2000). The sum over j of n_j / S E_{q_j}[p / m]
    is the sum of p where any q_j reaches, so that the mean of the S weights is unbiased, as long as neither p
    nor a q_j depends on the thoughts; and no weight is above S / n_j times that under q_j alone.
    """
    with np.errstate(divide="ignore"):  # a proposal that drew nothing
        log_shares = np.log(counts_J / counts_J.sum())
    return np.asarray(np.logaddexp.reduce(log_q_JS + log_shares[:, None], axis=0))


def log_weights(log_prior: np.ndarray, log_likelihood: np.ndarray, log_proposal: np.ndarray) -> np.ndarray:
    """[..., K] log-weights in nats, float64."""
    return np.asarray(np.asarray(log_prior, np.float64) + log_likelihood - log_proposal)


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
    """[...] Kish's (sum w)^2 / sum w^2, in [1, K]; 0 where no thought has any weight. It counts samples: of
    equal thoughts each one (`inverse_simpson` of `of_different` counts thoughts)."""
    return inverse_simpson(normalised(log_w))


def of_different(weights: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """[..., K] weights of the different ones among K thoughts: equal thoughts' weights added up at the first
    of them, zero at the others. `kinds` [..., K]: index of the first thought that equals each."""
    flat = weights.reshape(-1, weights.shape[-1])
    places = np.arange(len(flat))[:, None] * flat.shape[1] + kinds.reshape(flat.shape)
    total = np.bincount(places.ravel(), weights=flat.ravel(), minlength=flat.size)
    return np.asarray(total.reshape(weights.shape))


def inverse_simpson(weights: np.ndarray) -> np.ndarray:
    """[...] 1 / sum of squares of weights that sum to 1: as many equal ones would give the same; 0 where all
    are zero. (Simpson 1949; of all K samples' weights this is Kish's ESS.)"""
    square = np.sum(weights**2, axis=-1)
    # Rounding must not lift it above K.
    return np.where(square > 0, np.minimum(1.0 / np.where(square > 0, square, 1.0), weights.shape[-1]), 0.0)


def bounds_by_k(log_w: np.ndarray, orders: int = 8) -> np.ndarray:
    """[..., K] the bound of every k <= K: the mean over subsets of k of the K samples, rotations of a few
    fixed orders, in which each sample is as often as any other. Unbiased for the mean over all subsets, and
    so below log p(x | c) in expectation also where the samples are of a mixture; exact for k = 1, K - 1, K.
    """
    count = log_w.shape[-1]
    generator = np.random.Generator(np.random.Philox(count))
    total = np.zeros(log_w.shape)
    for _ in range(orders):
        order = generator.permutation(count)
        for start in range(count):
            total += np.logaddexp.accumulate(log_w[..., np.roll(order, start)], axis=-1)
    return np.asarray(total / (orders * count) - np.log(np.arange(1, count + 1)))


def gain(log_w: np.ndarray) -> np.ndarray:
    """[...] how much the bound of K samples is above that of K // 2: what more of them still bring, and so
    a sign of how far below log p(x | c) it may be. 0 for K = 1."""
    count = log_w.shape[-1]
    half = max(1, count // 2)
    return np.asarray(log_mean_exp(log_w) - bounds_by_k(log_w)[..., half - 1])


def length_normalised(log_w: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """[..., K] log-weights divided by the tokens they are sums over, `lengths` [..., K].

    Biased: selection no longer targets the posterior p(z | c, x). It flattens the weights of long
    texts most, and prefers a thought that is good per token to one that is good in all.
    (The geometric-mean weights of Variational Reasoning, arXiv 2509.22637, are of this kind.)
    """
    return np.asarray(log_w / np.maximum(lengths, 1))


def tempered_exponent(every_log_w_NK: Sequence[np.ndarray], target_ess: float) -> float:
    """The largest alpha in [0, 1] with which the weights w^alpha have a mean ESS over chunks of `target_ess`
    or more; 1 where w itself does, and 0, all thoughts alike, where not even that does. Chunks
    without any weight are left out. `every_log_w_NK`: one array for each K that chunks have.

    Biased: w^alpha selects from the geometric path q^(1 - alpha) p^alpha between the proposal
    (alpha = 0) and the posterior (alpha = 1), in exchange for less variance; see Del Moral et al.,
    "Sequential Monte Carlo samplers" (2006), where alpha is chosen by the ESS in the same way.
    """
    pieces = []
    for log_w in every_log_w_NK:
        weighty = np.isfinite(log_w).any(axis=-1)
        usable = log_w if weighty.all() else log_w[weighty]
        pieces += [usable[start : start + _PIECE] for start in range(0, len(usable), _PIECE)]

    def reaches(alpha: float) -> bool:
        ess = [effective_sample_size(tempered(piece, alpha)) for piece in pieces]
        return bool(np.mean(np.concatenate(ess)) >= target_ess)

    if not pieces or reaches(1.0):
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
