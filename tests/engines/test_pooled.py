"""Thoughts of several models, each of whose thoughts can all be enumerated, weighed by their mixture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lt_hpc.engines.protocol import SamplingParams
from lt_hpc.engines.torch_engine import TorchEngine
from lt_hpc.latent import seeds
from lt_hpc.stages.estep import Proposals, Scheme, propose
from lt_hpc.stages.reuse import Draws, pool
from tests.engines.exactness import CHUNK, LAYOUT, PLAIN, TRUNCATED, Enumerated, all_thoughts
from tests.runs.tiny_models import make_llama

CHUNKS = 500
COUNTS = {3: 2, 2: 3, 1: 1}
"""Iteration -> how many thoughts it draws for a chunk; the first is the present one."""


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Iteration -> the model it draws with. They differ, and agree in what is likely."""
    folder = tmp_path_factory.mktemp("models")
    return {n: make_llama(folder / str(n), 6, spread=0.3 - 0.05 * n) for n in COUNTS}


@pytest.mark.parametrize("params", [PLAIN, TRUNCATED], ids=["plain", "truncated"])
def test_pooled_weights_are_exact_and_their_mean_is_the_likelihood(
    paths: dict[int, Path], params: SamplingParams
) -> None:
    exact = {n: Enumerated.of(path, params) for n, path in paths.items()}
    engines = {n: TorchEngine(path, "float32", 2**20) for n, path in paths.items()}
    chunks = [replace(CHUNK, chunk_id=n) for n in range(CHUNKS)]

    def drawn(n: int) -> list[Proposals]:
        draws = [[seeds.derive(0, "sample", n, c.chunk_id, k) for k in range(COUNTS[n])] for c in chunks]
        return propose(engines[n], LAYOUT, chunks, draws, Scheme(params))

    new, *_ = by = [drawn(n) for n in COUNTS]
    old = {
        n: [Draws(p.thoughts, p.cut, p.log_q) for p in of]
        for n, of in zip(COUNTS, by, strict=True)
        if of is not new
    }
    found = pool(engines, LAYOUT, chunks, Scheme(params), new, old)

    size, joint = sum(COUNTS.values()), exact[3].joint
    mixture = sum(COUNTS[n] / size * exact[n].q for n in COUNTS)
    weight = {
        z: p / m if m else 0.0
        for z, p, m in zip(all_thoughts(params.max_tokens), joint, mixture, strict=True)
    }
    for one, *others in zip(found, *by, strict=True):
        assert one.drawn is not None and one.drawn.tolist() == [3, 3, 2, 2, 2, 1]
        thoughts = [tuple(z.tolist()) for other in others for z in other.thoughts]
        assert [tuple(z.tolist()) for z in one.thoughts] == thoughts
        np.testing.assert_allclose(np.exp(one.log_weights), [weight[z] for z in thoughts], rtol=2e-3)
    estimates = np.array([np.exp(one.log_weights).mean() for one in found])
    true = joint[mixture > 0].sum()
    assert abs(estimates.mean() - true) <= 4 * estimates.std() / np.sqrt(CHUNKS)


def test_a_pool_of_new_thoughts_alone_has_the_weights_they_have(paths: dict[int, Path]) -> None:
    engine = TorchEngine(paths[1], "float32", 2**20)
    new = propose(engine, LAYOUT, [CHUNK], [[1, 2, 3]], Scheme(PLAIN))
    (found,) = pool({1: engine}, LAYOUT, [CHUNK], Scheme(PLAIN), new, {})
    assert found.log_weights.tolist() == new[0].log_weights.tolist()
