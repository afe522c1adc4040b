"""Whole documents as training examples: the controls without markers, at full strength.

A document longer than a sequence is cut into pieces. Each begins with the last token of the one before it, so
that every token but a document's first has something to be predicted from, and no token is computed twice
but that one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from lt_hpc.data.corpus import Chunk, Corpus, row
from lt_hpc.store import tables
from lt_hpc.store.arrays import IN_MEMORY, Arrays, Columns
from lt_hpc.store.lists import Lists
from lt_hpc.training.batches import Example, Examples


def examples_of_text(
    corpus: Corpus, capacity: int, arrays: Arrays = IN_MEMORY, name: str = "text"
) -> Examples:
    """The documents of a corpus in sequences of at most `capacity` tokens, a bos token where the run has one
    at the start of each. A loss on every token that another one precedes. They are put into `arrays`."""
    bos = [] if corpus.view.bos is None else [corpus.view.bos]
    room = capacity - len(bos)

    def columns() -> Iterator[Columns]:
        for first, part in corpus.parts():
            sizes = np.diff(part.question[1]) + np.diff(part.tokens[1])
            # One token alone has nothing before it.
            pieces = np.where(sizes + len(bos) > 1, 1 + np.maximum(0, -(-(sizes - room) // (room - 1))), 0)
            document = np.repeat(np.arange(len(sizes)), pieces)
            piece = np.arange(len(document)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
            start = piece * (room - 1)
            yield {
                "document": first + document,
                "start": start,
                "text": np.minimum(room, sizes[document] - start) + len(bos),
                "unscored": np.maximum(1, len(bos) + (piece > 0)),
            }

    types = {"document": np.int64, "start": np.int64, "text": np.int32, "unscored": np.int32}
    found = arrays.columns(name, types, columns)
    number = len(found["text"])

    def make(index: int) -> Example:
        of, start = int(found["document"][index]), int(found["start"][index])
        stop, asked = start + int(found["text"][index]) - len(bos), row(corpus.question, of)
        begin, before = corpus.tokens[1][of], len(asked)
        own = corpus.tokens[0][begin + max(0, start - before) : begin + max(0, stop - before)]
        ids = [*asked[start:stop].tolist(), *own.tolist()]
        return Example(Chunk(of, bos, ids, 0, given=False), None)

    return Examples(
        make,
        found["text"],
        np.broadcast_to(np.int32(-1), number),
        found["unscored"],
        np.broadcast_to(1.0, number),
        np.broadcast_to(np.int32(len(bos)), number),
        np.broadcast_to(np.int64(-1), number),
    )


def with_thoughts(corpus: Corpus, thoughts: Lists, separator: list[int]) -> Corpus:
    """The documents with the thought of each chunk as plain text before it, `separator` on both its sides;
    a chunk whose thought [chunks] is empty stands alone."""
    there = np.where(np.diff(thoughts[1]) > 0, 0, -1)
    between = tables.rows((np.array(separator, np.int32), np.array([0, len(separator)])), there)
    tokens = tables.end_to_end([between, thoughts, between, (corpus.tokens[0], corpus.ends)])
    lengths = np.diff(tokens[1]).astype(np.int32), corpus.lengths[1]
    return replace(corpus, tokens=(tokens[0], tokens[1][corpus.lengths[1]]), lengths=lengths, chunk_ends=None)


def in_other_words(corpus: Corpus, words: Lists, eos: int | None) -> Corpus:
    """A document for each chunk that has other words [chunks]: the question where the chunk answers one, then
    these words and the token that ends a text."""
    there = np.flatnonzero(np.diff(words[1]))
    end = [] if eos is None else [eos]
    ends = tables.rows((np.array(end, np.int32), np.array([0, len(end)])), np.zeros(len(there), np.int64))
    tokens = tables.end_to_end([tables.rows(words, there), ends])
    one_each = np.arange(len(there) + 1)
    return Corpus(
        view=corpus.view,
        question=tables.rows(corpus.question, np.where(corpus.given(there), corpus.documents_of(there), -1)),
        tokens=tokens,
        lengths=(np.diff(tokens[1]).astype(np.int32), one_each),
        bytes=corpus.bytes[there],
        thoughts=(np.zeros(0, np.int32), np.zeros(1, np.int64)),
        first_thought=np.full(len(there), -1),
        first_chunk=one_each[:-1],
    )
