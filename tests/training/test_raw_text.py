"""Whole documents as training examples: every token once, with a loss on each that another one precedes."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.data.corpus import Corpus, View
from lt_hpc.latent.layout import Layout
from lt_hpc.store.tables import Lists
from lt_hpc.training.batches import IGNORED, make_batch, pack_epoch
from lt_hpc.training.raw_text import examples_of_text

LAYOUT, PAD, BOS = Layout(900, 901, 902, 903), 0, 904


def lists(rows: list[list[int]]) -> Lists:
    return np.array([v for row in rows for v in row], np.int32), np.cumsum([0, *map(len, rows)])


def corpus(documents: list[list[list[int]]], questions: list[list[int]], bos: int | None) -> Corpus:
    """Documents of chunks of token ids."""
    sizes = [[len(chunk) for chunk in document] for document in documents]
    return Corpus(
        view=View(3, 64, 8, bos),
        question=lists(questions),
        tokens=lists([[token for chunk in document for token in chunk] for document in documents]),
        lengths=lists(sizes),
        bytes=np.zeros(sum(map(len, sizes)), np.int32),
        thoughts=lists([]),
        first_thought=np.full(len(documents), -1),
        first_chunk=np.cumsum([0, *map(len, documents)])[:-1],
    )


@given(
    st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=6),
    st.integers(0, 5),
    st.booleans(),
    st.integers(6, 20),
)
def test_each_token_that_another_one_precedes_takes_one_loss(
    sizes: list[list[int]], question: int, with_bos: bool, capacity: int
) -> None:
    count = iter(range(1, 900))
    documents = [[[next(count) for _ in range(size)] for size in of] for of in sizes]
    questions = [[next(count) for _ in range(question)] for _ in sizes]
    bos = BOS if with_bos else None
    examples = examples_of_text(corpus(documents, questions, bos), capacity)
    if not len(examples):
        return
    epoch = pack_epoch(examples, 0, 1, 0, capacity)
    batch = make_batch([(epoch, row) for row in range(len(epoch.rows))], LAYOUT, PAD, capacity)
    scored = sorted(batch.labels[batch.labels != IGNORED].tolist())
    wholes = [
        q + [token for chunk in of for token in chunk] for q, of in zip(questions, documents, strict=True)
    ]
    assert scored == sorted(token for whole in wholes for token in whole[0 if with_bos else 1 :])
    followers = {b: a for whole in wholes for a, b in itertools.pairwise(whole)}
    for ids, labels in zip(batch.ids, batch.labels, strict=True):
        for token, label in zip(ids, labels, strict=True):
            if label != IGNORED:
                assert token in (BOS, followers.get(int(label))), "predicted by what precedes it in the text"
    assert batch.weights is None
