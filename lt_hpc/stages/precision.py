"""How much low-precision arithmetic moves log-weights and selection, measured on real thoughts.

Sampling in bfloat16 or float16 rounds every log-probability; over a thought the errors add
up, and selection goes by differences of log-weights. So each task scores a few of its
thoughts again in float32 and says what that would have changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lt_hpc.data.corpus import Chunk
from lt_hpc.engines.protocol import SamplingParams
from lt_hpc.engines.torch_engine import TorchEngine, memory_errors
from lt_hpc.latent import weights
from lt_hpc.latent.layout import Layout
from lt_hpc.stages.estep import Proposals
from lt_hpc.store.figures import Precision, to_json


def measure(
    reference: TorchEngine,
    layout: Layout,
    chunks: Sequence[Chunk],
    proposals: Sequence[Proposals],
    params: SamplingParams,
) -> dict[str, Any] | None:
    """Compare the log-weights of some chunks with those of `reference`, a float32 engine on the
    same model. None where no thought is finished.

    Raises:
        MemoryError: when the device, which another engine shares, has too little left.

    Returns the figures of `Precision` (thoughts outside of float32's support, which top-p or top-k would
    have cut off, are left out of the others) and how many `thoughts` they are of.
    """
    with memory_errors():
        exact = _reference_log_weights(reference, layout, chunks, proposals, params)
    deviations, changes, log_q_deviations, outside = [], [], [], 0
    for proposal, (log_w, log_q) in zip(proposals, exact, strict=True):
        inside = proposal.finished & np.isfinite(log_q)
        outside += int((proposal.finished & ~inside).sum())
        if not inside.any():
            continue
        sampled = weights.log_weights(
            proposal.log_prior, proposal.log_likelihood, proposal.log_q, proposal.finished
        )[inside]
        lengths = np.array([len(thought) for thought in proposal.thoughts])[inside]
        deviations.append(sampled - log_w[inside])
        log_q_deviations.append((proposal.log_q - log_q)[inside] / lengths)
        change = weights.normalised(sampled) - weights.normalised(log_w[inside])
        changes.append(0.5 * np.abs(change).sum())
    if not deviations:
        return None
    found = Precision(
        chunks=len(changes),
        outside_support=outside,
        selection_change=float(np.mean(changes)),
        log_weight_deviation=_root_mean_square(deviations),
        log_q_deviation_per_token=_root_mean_square(log_q_deviations),
    )
    return {**to_json(found), "thoughts": sum(map(len, deviations))}


def _reference_log_weights(
    reference: TorchEngine,
    layout: Layout,
    chunks: Sequence[Chunk],
    proposals: Sequence[Proposals],
    params: SamplingParams,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(log-weights, log q), float64 [K] each, of every chunk; -inf for unfinished thoughts."""
    finished = [[z.tolist() for z, ok in zip(p.thoughts, p.finished, strict=True) if ok] for p in proposals]
    log_q = reference.score(
        [layout.posterior_prompt(chunk.prefix, chunk.suffix) for chunk in chunks], finished, params
    )
    joint = reference.score(
        [layout.joint_prompt(chunk.prefix) for chunk in chunks],
        [[[*z, *chunk.suffix] for z in zs] for chunk, zs in zip(chunks, finished, strict=True)],
    )
    results = []
    for proposal, of_q, of_joint in zip(proposals, log_q, joint, strict=True):
        sums_q, log_w = np.full((2, len(proposal.finished)), -np.inf)
        sums_q[proposal.finished] = [scores.astype(np.float64).sum() for scores in of_q]
        with np.errstate(invalid="ignore"):
            log_w[proposal.finished] = [scores.astype(np.float64).sum() for scores in of_joint]
            log_w = log_w - sums_q
        results.append((log_w, sums_q))
    return results


def _root_mean_square(parts: list[np.ndarray]) -> float:
    return float(np.sqrt(np.mean(np.concatenate(parts) ** 2)))
