"""Which thoughts chunks train on: the rule of `merge.select`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

import numpy as np

from lt_hpc.config.schema import MergeConfig
from lt_hpc.latent import resampling, seeds, weights

LEAST_WEIGHT = 1e-4
"""Thoughts of less probability than that are not trained on: their tokens would cost what others' do."""


@dataclass(frozen=True)
class Chosen:
    """S thoughts of N chunks to train on, chunk by chunk: how many each chunk has, `counts` [N]; their
    indices, `samples` [S], with -1 in place of one where none may be taken; the weights of their losses [S].
    """

    counts: np.ndarray
    samples: np.ndarray
    loss_weights: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """[S] the chunk of each, counted from 0."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def of(self, row: int) -> list[int]:
        """The indices of one chunk."""
        end = int(self.counts[: row + 1].sum())
        found: list[int] = self.samples[end - self.counts[row] : end].tolist()
        return found


def choose(
    settings: MergeConfig, log_w: np.ndarray, kinds: np.ndarray, usable: np.ndarray, streams: seeds.Streams
) -> Chosen:
    """What chunks with the log-weights [N, K] train on; none of the thoughts where a chunk is not `usable`
    [N]. Each has one of the N `streams`. `kinds` [N, K]: index of the first equal thought."""
    match settings.select:
        case "one":
            drawn = resampling.select_each(settings.method, log_w, settings.num_selected, streams)
            samples = np.where(usable[:, None], drawn, -1)
            return Chosen(np.full(len(log_w), settings.num_selected), samples.ravel(), np.ones(samples.size))
        case "weighted":
            return _weighted(
                weights.of_different(resampling.probabilities(settings.method, log_w), kinds), usable
            )
        case _:
            assert_never(settings.select)


def _weighted(probabilities: np.ndarray, usable: np.ndarray) -> Chosen:
    """Every different thought with the probability [N, K] with which the rule would draw it, so that the
    expected loss, and its gradient, are those of one draw."""
    kept = (probabilities >= LEAST_WEIGHT) & usable[:, None]
    sizes = kept.sum(axis=1)
    total = np.ones(len(kept))
    for size in np.unique(sizes).tolist():  # of as many at once, so that each sum is that of a chunk alone
        alike = sizes == size
        if size:
            total[alike] = probabilities[alike][kept[alike]].reshape(-1, size).sum(axis=1)
    counts = np.maximum(sizes, 1)
    some = np.repeat(sizes > 0, counts)
    samples, loss_weights = np.full(len(some), -1), np.ones(len(some))
    samples[some] = np.nonzero(kept)[1]
    loss_weights[some] = (probabilities / total[:, None])[kept]
    return Chosen(counts, samples, loss_weights)
