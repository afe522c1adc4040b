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
from lt_hpc.engines.torch_engine import TorchEngine, memory_errors
from lt_hpc.latent import weights
from lt_hpc.latent.layout import Layout
from lt_hpc.stages.estep import Proposals, Scheme, prompts, weigh
from lt_hpc.store.figures import Precision, to_json


def measure(
    reference: TorchEngine,
    layout: Layout,
    chunks: Sequence[Chunk],
    proposals: Sequence[Proposals],
    scheme: Scheme,
) -> dict[str, Any] | None:
    """Compare the log-weights of some chunks with those of `reference`, a float32 engine on the
    same model. None where no thought is within float32's support.

    Raises:
        MemoryError: when the device, which another engine shares, has too little left.

    Returns the figures of `Precision` (thoughts outside of float32's support, which top-p or top-k would
    have cut off, are left out of the others) and how many `thoughts` they are of.
    """
    with memory_errors():
        exact = _scored_again(reference, layout, chunks, proposals, scheme)
    deviations, changes, log_q_deviations, outside = [], [], [], 0
    for proposal, other in zip(proposals, exact, strict=True):
        inside = np.isfinite(other.log_proposal) & np.isfinite(proposal.log_weights)
        outside += int((~inside).sum())
        if not inside.any():
            continue
        low, high = proposal.log_weights[inside], other.log_weights[inside]
        lengths = np.array([len(thought) for thought in proposal.thoughts])[inside]
        deviations.append(low - high)
        log_q_deviations.append((proposal.log_proposal - other.log_proposal)[inside] / lengths)
        changes.append(0.5 * np.abs(weights.normalised(low) - weights.normalised(high)).sum())
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


def _scored_again(
    reference: TorchEngine,
    layout: Layout,
    chunks: Sequence[Chunk],
    proposals: Sequence[Proposals],
    scheme: Scheme,
) -> list[Proposals]:
    """The same thoughts, with log-probabilities of the reference."""
    posterior, joint = prompts(layout, chunks)
    free = [
        [ids[: len(ids) - cut].tolist() for ids, cut in zip(p.thoughts, p.cut, strict=True)]
        for p in proposals
    ]
    log_q = reference.score(posterior, free, scheme.free)
    log_joint = reference.score(
        joint,
        [
            [[*z.tolist(), *chunk.suffix] for z in p.thoughts]
            for chunk, p in zip(chunks, proposals, strict=True)
        ],
    )
    return [
        weigh(p.thoughts, p.cut, of_q, of_joint, scheme)
        for p, of_q, of_joint in zip(proposals, log_q, log_joint, strict=True)
    ]


def _root_mean_square(parts: list[np.ndarray]) -> float:
    return float(np.sqrt(np.mean(np.concatenate(parts) ** 2)))
