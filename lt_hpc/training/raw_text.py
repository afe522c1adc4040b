"""Whole documents as training examples: the control without thoughts, at full strength.

A document longer than a sequence is cut into pieces. Each begins with the last token of the one before it, so
that every token but a document's first has something to be predicted from, and no token is computed twice
but that one.
"""

from __future__ import annotations

import numpy as np

from lt_hpc.data.corpus import Chunk, Corpus, row
from lt_hpc.training.batches import Example, Examples


def examples_of_text(corpus: Corpus, capacity: int) -> Examples:
    """The documents of a corpus in sequences of at most `capacity` tokens, a bos token where the run has one
    at the start of each. A loss on every token that another one precedes."""
    bos = [] if corpus.view.bos is None else [corpus.view.bos]
    room = capacity - len(bos)
    ends = corpus.ends[corpus.lengths[1]]  # [documents + 1], in the values of `tokens`
    sizes = np.diff(corpus.question[1]) + np.diff(ends)
    # One token alone has nothing before it.
    pieces = np.where(sizes + len(bos) > 1, 1 + np.maximum(0, -(-(sizes - room) // (room - 1))), 0)
    document = np.repeat(np.arange(len(sizes)), pieces)
    piece = np.arange(len(document)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    start = piece * (room - 1)
    length = np.minimum(room, sizes[document] - start)

    def make(index: int) -> Example:
        of = document[index]
        whole = np.concatenate([row(corpus.question, of), corpus.tokens[0][ends[of] : ends[of + 1]]])
        ids = whole[start[index] : start[index] + length[index]].tolist()
        return Example(Chunk(int(of), bos, ids, 0, given=False), None)

    return Examples(
        make,
        length + len(bos),
        np.full(len(document), -1),
        np.maximum(1, len(bos) + (piece > 0)),
        np.ones(len(document)),
    )
