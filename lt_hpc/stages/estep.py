"""Thoughts for a group of chunks, with the three log-probabilities that make their weights.

The E-step and the held-out bound both use this, so they measure the same thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lt_hpc.data.corpus import Chunk
from lt_hpc.engines.protocol import Engine, SamplingParams
from lt_hpc.latent.layout import Layout


@dataclass(frozen=True)
class Proposals:
    """K thoughts of one chunk. Log-probabilities are sums in nats, float64 [K], over the same
    sampled ids, <EOL> included; log_prior and log_likelihood are -inf for unfinished ones."""

    thoughts: list[np.ndarray]
    finished: np.ndarray
    log_q: np.ndarray
    log_prior: np.ndarray
    log_likelihood: np.ndarray


def propose(
    engine: Engine,
    layout: Layout,
    chunks: Sequence[Chunk],
    seeds: Sequence[Sequence[int]],
    params: SamplingParams,
) -> list[Proposals]:
    """Sample z_k ~ q(. | c, x) for every chunk, then score log p(z_k | c) and log p(x | c, z_k)."""
    prompts = [layout.posterior_prompt(chunk.prefix, chunk.suffix) for chunk in chunks]
    completions = engine.sample(prompts, seeds, params)
    continuations = [
        [[*sample.ids.tolist(), *chunk.suffix] for sample in of_chunk if sample.finished]
        for chunk, of_chunk in zip(chunks, completions, strict=True)
    ]
    scores = engine.score([layout.joint_prompt(chunk.prefix) for chunk in chunks], continuations)
    results = []
    for of_chunk, scored in zip(completions, scores, strict=True):
        joint = iter(scored)
        log_prior = np.full(len(of_chunk), -np.inf)
        log_likelihood = np.full(len(of_chunk), -np.inf)
        for k, sample in enumerate(of_chunk):
            if sample.finished:
                logprobs = next(joint).astype(np.float64)
                log_prior[k] = logprobs[: len(sample.ids)].sum()
                log_likelihood[k] = logprobs[len(sample.ids) :].sum()
        results.append(
            Proposals(
                thoughts=[sample.ids for sample in of_chunk],
                finished=np.array([sample.finished for sample in of_chunk]),
                log_q=np.array([sample.logprobs.astype(np.float64).sum() for sample in of_chunk]),
                log_prior=log_prior,
                log_likelihood=log_likelihood,
            )
        )
    return results
