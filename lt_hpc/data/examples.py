"""Training examples: chunks with their thoughts, laid out afresh in each epoch.

Everything about an epoch (the order of each chunk, the order of the chunks, the packing)
comes from (run seed, iteration, epoch), so any rank of any world size works it out alone.

Each chunk is a document of its own: its prefix c as raw text, then z and x. Laying the chunks
of a text one after the other in one sequence (z1 x1 z2 x2 ...) would compute no prefix twice,
but then chunk i would be trained given the thoughts of the chunks before it, while sampling
and scoring condition on their text alone: p and q of the importance weights would be those of
contexts that training never shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lt_hpc.data import packing
from lt_hpc.data.corpus import Chunk
from lt_hpc.latent import seeds
from lt_hpc.latent.layout import Layout

IGNORED = -100
"""Label of a position that takes no loss."""


@dataclass(frozen=True)
class Example:
    """A chunk to train on; no thought means raw text, c x."""

    chunk: Chunk
    thought: list[int] | None

    def length(self, thought_first: bool) -> int:
        """Tokens of the layout."""
        text = len(self.chunk.prefix) + len(self.chunk.suffix)
        if self.thought is None:
            return text
        return text + len(self.thought) + (3 if thought_first else 5)

    def tokens(self, layout: Layout, thought_first: bool) -> list[int]:
        """The ids of one of the two orders (or of the raw text)."""
        chunk = self.chunk
        if self.thought is None:
            return [*chunk.prefix, *chunk.suffix]
        order = layout.joint if thought_first else layout.posterior
        return order(chunk.prefix, self.thought, chunk.suffix)

    def num_context(self) -> int:
        """Leading tokens without loss: the first has no context, and a prefix made of earlier
        chunks takes its loss in their own examples."""
        return 1 if self.chunk.given else max(1, len(self.chunk.prefix))


@dataclass(frozen=True)
class Epoch:
    """One pass over the chunks: packed rows of indices into `examples`, and each one's order."""

    examples: Sequence[Example]
    rows: list[list[int]]
    thought_first: np.ndarray


def epoch(examples: Sequence[Example], run_seed: int, iteration: int, index: int, capacity: int) -> Epoch:
    """The packed rows of epoch `index`; each chunk's order is a fair coin of its own."""
    coins = seeds.generator(run_seed, "order", iteration, index).random(len(examples)) < 0.5
    shuffle = packing.shuffled(len(examples), seeds.generator(run_seed, "shuffle", iteration, index))
    lengths = [example.length(bool(coin)) for example, coin in zip(examples, coins, strict=True)]
    rows = packing.pack(lengths, shuffle.tolist(), capacity)
    mixed = packing.shuffled(len(rows), seeds.generator(run_seed, "rows", iteration, index))
    return Epoch(examples, [rows[i] for i in mixed], coins)


@dataclass(frozen=True)
class Batch:
    """Packed rows as arrays [rows, capacity] int64: ids, restarted positions, labels."""

    ids: np.ndarray
    positions: np.ndarray
    labels: np.ndarray


def batch(rows: Sequence[tuple[Epoch, int]], layout: Layout, pad: int, capacity: int) -> Batch:
    """The arrays of some rows, each given as (its epoch, index in it). Labels are shifted:
    labels[t] is the token at t + 1, and the padding at the end is a document of its own."""
    ids = np.full((len(rows), capacity), pad, dtype=np.int64)
    positions = np.zeros((len(rows), capacity), dtype=np.int64)
    labels = np.full((len(rows), capacity), IGNORED, dtype=np.int64)
    for r, (of_epoch, index) in enumerate(rows):
        start = 0
        for member in of_epoch.rows[index]:
            example = of_epoch.examples[member]
            tokens = example.tokens(layout, bool(of_epoch.thought_first[member]))
            stop = start + len(tokens)
            ids[r, start:stop] = tokens
            positions[r, start:stop] = np.arange(len(tokens))
            first = example.num_context()
            labels[r, start + first - 1 : stop - 1] = tokens[first:]
            start = stop
        positions[r, start:] = np.arange(capacity - start)
    return Batch(ids, positions, labels)
