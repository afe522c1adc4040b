"""Training on all different thoughts with their probabilities: the expected gradient of one draw."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from lt_hpc.config.schema import MergeConfig
from lt_hpc.data.corpus import Chunk
from lt_hpc.latent import resampling
from lt_hpc.latent.layout import Layout
from lt_hpc.latent.seeds import Streams
from lt_hpc.stages.choice import choose
from lt_hpc.training.batches import IGNORED, Epoch, Example, examples_of_list, make_batch

LAYOUT = Layout(20, 21, 22, 23)
THOUGHTS = [[5, 6], [7], [5, 6], [8, 9, 8], [7]]
KINDS = np.array([0, 1, 0, 3, 1])
LOG_W = np.array([0.3, -0.2, 0.3, 1.0, -0.2])


def gradient(table: torch.Tensor, thoughts: list[list[int]], loss_weights: list[float]) -> torch.Tensor:
    """Of the summed loss of a model that predicts each token from the one before it."""
    chunk = Chunk(0, [1, 2], [3, 4], 2, given=True)
    examples = examples_of_list([Example(chunk, thought) for thought in thoughts])
    examples = dataclasses.replace(examples, weights=np.array(loss_weights))
    alone = [[n] for n in range(len(thoughts))]
    epoch = Epoch(examples, alone, np.ones(len(thoughts), bool), np.zeros(len(thoughts), int))
    batch = make_batch([(epoch, row) for row in range(len(thoughts))], LAYOUT, 0, 16)
    labels = torch.from_numpy(batch.labels).ravel()
    kept = labels != IGNORED
    logits = table[torch.from_numpy(batch.ids).ravel()[kept]]
    each = torch.nn.functional.cross_entropy(logits, labels[kept], reduction="none")
    every = torch.ones(len(each)) if batch.weights is None else torch.from_numpy(batch.weights)
    (found,) = torch.autograd.grad(each @ every, table)
    return found


@pytest.mark.parametrize("method", ["multinomial", "argmax", "uniform"])
def test_the_weighted_gradient_is_the_expectation_of_one_draws(method: resampling.Method) -> None:
    table = torch.randn(24, 24, generator=torch.Generator().manual_seed(0), requires_grad=True)
    settings = MergeConfig(method=method, select="weighted")
    found = choose(settings, LOG_W[None], KINDS[None], np.array([True]), Streams(0, "select", (), [0]))
    chosen = found.of(0)
    assert len(chosen) == len(set(KINDS[chosen])) and sum(found.loss_weights) == pytest.approx(1)
    weighted = gradient(table, [THOUGHTS[k] for k in chosen], found.loss_weights.tolist())
    probabilities = resampling.probabilities(method, LOG_W)
    expected = sum(
        float(p) * gradient(table, [thought], [1.0])
        for p, thought in zip(probabilities, THOUGHTS, strict=True)
    )
    torch.testing.assert_close(weighted, expected, atol=1e-6, rtol=1e-5)
