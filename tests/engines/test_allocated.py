"""Thoughts that are allocated by the ESS of an earlier iteration, on a model whose thoughts can all be
enumerated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lt_hpc.engines.torch_engine import TorchEngine
from lt_hpc.latent import seeds, weights
from lt_hpc.latent.allocation import allocate
from lt_hpc.stages.estep import Scheme, propose
from tests.engines.exactness import CHUNK, LAYOUT, PLAIN, Enumerated

CHUNKS, SAMPLES = 1200, 4


def log_weights(engine: TorchEngine, iteration: int, counts: np.ndarray, prior: float) -> list[np.ndarray]:
    """Of so many thoughts of each chunk, which all are CHUNK; iterations draw independently."""
    chunks = [replace(CHUNK, chunk_id=n) for n in range(len(counts))]
    draws = [
        [seeds.derive(0, "sample", iteration, n, k) for k in range(count)] for n, count in enumerate(counts)
    ]
    return [one.log_weights for one in propose(engine, LAYOUT, chunks, draws, Scheme(PLAIN, prior))]


@pytest.mark.parametrize("prior", [0.0, 0.5])
def test_the_mean_weight_is_the_exact_likelihood_under_an_earlier_iterations_allocation(
    tiny_path: Path, prior: float
) -> None:
    true = Enumerated.of(tiny_path, PLAIN).joint.sum()
    engine, uniform = TorchEngine(tiny_path, "float32", 2**20), np.full(CHUNKS, SAMPLES)
    earlier = log_weights(engine, 1, uniform, prior)
    ess = np.array([weights.effective_sample_size(one) for one in earlier])
    allocated = allocate(ess, uniform, SAMPLES)
    assert allocated.sum() == SAMPLES * CHUNKS and len(set(allocated)) > 2
    estimates = np.array([np.exp(one).mean() for one in log_weights(engine, 2, allocated, prior)])
    assert abs(estimates.mean() - true) <= 4 * estimates.std() / np.sqrt(CHUNKS)
    for fewer in (allocated <= SAMPLES, allocated > SAMPLES):  # of chunks with few and with many alike
        some = estimates[fewer]
        assert abs(some.mean() - true) <= 4 * some.std() / np.sqrt(len(some))
