"""Whole documents as training examples: every token once, with a loss on each that another one precedes."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.data.corpus import Corpus, View, row
from lt_hpc.latent.layout import Layout
from lt_hpc.store.lists import Lists
from lt_hpc.training.batches import IGNORED, make_batch, pack_epoch
from lt_hpc.training.raw_text import examples_of_text, in_other_words, with_thoughts

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


TOKENS = st.lists(st.integers(1, 99), max_size=4)


@given(
    st.lists(st.lists(st.tuples(st.lists(st.integers(1, 99), min_size=1, max_size=4), TOKENS)), max_size=5)
)
def test_thoughts_on_the_surface_stand_between_separators_before_their_chunks(
    documents: list[list[tuple[list[int], list[int]]]],
) -> None:
    questions = [[500 + n] for n in range(len(documents))]
    plain = corpus([[x for x, _ in of] for of in documents], questions, None)
    text = with_thoughts(plain, lists([z for of in documents for _, z in of]), [700, 701])
    for n, of in enumerate(documents):
        whole = [token for x, z in of for token in ([700, 701, *z, 700, 701, *x] if z else x)]
        assert row(text.tokens, n).tolist() == whole
        assert row(text.question, n).tolist() == [500 + n]
    scored = int((examples_of_text(text, 10**6).text - examples_of_text(text, 10**6).unscored).sum())
    assert scored == sum(len(row(text.tokens, n)) for n in range(len(documents)) if documents[n])


@given(st.lists(st.lists(TOKENS, max_size=3), max_size=5), st.booleans())
def test_other_words_are_documents_of_their_own_and_end(words: list[list[list[int]]], asked: bool) -> None:
    questions = [[500 + n] if asked else [] for n in range(len(words))]
    plain = corpus([[[1, 2]] * len(of) for of in words], questions, BOS)
    text = in_other_words(plain, lists([z for of in words for z in of]), 800)
    examples = examples_of_text(text, 10**6)
    made = [examples[n].chunk for n in range(len(examples))]
    expected = [
        ([500 + n] if asked and first else []) + [*z, 800]
        for n, of in enumerate(words)
        for first, z in zip([True, *[False] * len(of)], of, strict=False)
        if z
    ]
    assert [chunk.suffix for chunk in made] == expected
    assert all(chunk.prefix == [BOS] for chunk in made)
