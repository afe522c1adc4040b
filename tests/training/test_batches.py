"""Packing and the labels: every chunk once, nothing across documents, every token counted once."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.data.corpus import Chunk, Corpus, View, joined
from lt_hpc.latent.layout import Layout
from lt_hpc.store.arrays import IN_MEMORY
from lt_hpc.training.batches import (
    IGNORED,
    Epoch,
    Example,
    examples_of_corpus,
    examples_of_list,
    make_batch,
    pack_epoch,
)

LAYOUT = Layout(100, 101, 102, 103)
PAD = 99


def example(index: int, prefix: int, suffix: int, thought: int | None, given_prefix: bool = True) -> Example:
    rng = np.random.default_rng(index)
    ids = [rng.integers(1, 90, size).tolist() for size in (prefix, suffix, thought or 0)]
    chunk = Chunk(index, ids[0], ids[1], suffix, given_prefix)
    return Example(chunk, None if thought is None else ids[2])


@given(st.integers(0, 5), st.booleans(), st.integers(0, 2**31))
def test_labels_are_the_next_token_inside_each_document(epoch: int, given_prefix: bool, seed: int) -> None:
    examples = examples_of_list(
        [example(i, i % 4, 3, None if i % 5 == 0 else 2 + i % 3, given_prefix) for i in range(20)]
    )
    packed = pack_epoch(examples, seed, 1, epoch, 64)
    batch = make_batch([(packed, row) for row in range(len(packed.rows))], LAYOUT, PAD, 64)
    counted = 0
    for row, members in enumerate(packed.rows):
        start = 0
        for member in members:
            tokens = examples[member].tokens(LAYOUT, bool(packed.thought_first[member]))
            stop = start + len(tokens)
            assert batch.ids[row, start:stop].tolist() == tokens
            assert batch.positions[row, start:stop].tolist() == list(range(len(tokens)))
            first = examples.unscored[member]
            labels = batch.labels[row, start:stop].tolist()
            assert labels == [IGNORED] * (first - 1) + tokens[first:] + [IGNORED]
            counted += len(tokens) - first
            start = stop
        assert (batch.labels[row, start:] == IGNORED).all()
    assert (batch.labels != IGNORED).sum() == counted


def test_a_question_takes_loss_and_earlier_chunks_take_it_in_their_own_example() -> None:
    examples = [example(1, 5, 3, 2, given_prefix=True), example(1, 5, 3, 2, given_prefix=False)]
    assert examples_of_list(examples).unscored.tolist() == [1, 5]


def test_both_orders_are_drawn_afresh_in_each_epoch_about_equally() -> None:
    examples = examples_of_list([example(i, 2, 3, 2) for i in range(200)])
    coins = np.array([pack_epoch(examples, 7, 1, e, 64).thought_first for e in range(20)])
    assert abs(coins.mean() - 0.5) < 4 * 0.5 / np.sqrt(coins.size)
    assert coins.mean(axis=0).min() > 0 and coins.mean(axis=0).max() < 1
    again = pack_epoch(examples, 7, 1, 3, 64)
    assert list(again.rows) == list(pack_epoch(examples, 7, 1, 3, 64).rows)
    assert list(again.rows) != list(pack_epoch(examples, 7, 2, 3, 64).rows)


def test_a_packed_row_by_hand() -> None:
    thought = Example(Chunk(0, [1, 2], [3, 4], 2, given=True), [5])
    raw = Example(Chunk(1, [6, 7], [8], 1, given=False), None)
    packed = Epoch(examples_of_list([thought, raw]), [[0, 1]], np.array([True, False]), np.zeros(2, int))
    batch = make_batch([(packed, 0)], LAYOUT, PAD, 14)
    sol, eol, prior, no = 100, 101, 102, IGNORED
    assert batch.ids.tolist() == [[1, 2, sol, prior, 5, eol, 3, 4, 6, 7, 8, PAD, PAD, PAD]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 0, 1, 2]]
    # The question's second token takes loss; the raw chunk's prefix takes it in earlier examples.
    assert batch.labels.tolist() == [[2, sol, prior, 5, eol, 3, 4, no, no, 8, no, no, no, no]]


def test_each_chunk_is_in_an_epoch_once_in_the_length_of_its_order() -> None:
    examples = examples_of_list([example(i, i % 7, 3, None if i % 5 == 0 else 4) for i in range(150)])
    packed = pack_epoch(examples, 3, 1, 0, 48)
    assert sorted(member for row in packed.rows for member in row) == list(range(150))
    for number, row in enumerate(packed.rows):
        lengths = packed.lengths(number).tolist()
        assert lengths == [len(examples[i].tokens(LAYOUT, bool(packed.thought_first[i]))) for i in row]
        assert sum(lengths) <= 48


def test_the_chunks_are_in_another_order_in_each_epoch() -> None:
    examples = examples_of_list([example(i, 2, 3, 2) for i in range(60)])
    orders = [[i for row in pack_epoch(examples, 1, 1, e, 64).rows for i in row] for e in range(3)]
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert orders[0] != list(range(60))


def flat(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([v for row in rows for v in row], int), np.cumsum([0, *map(len, rows)])


def corpus(
    questions: list[list[int]],
    documents: list[list[list[int]]],
    prefix_chunks: int,
    context: int,
    bos: int | None = None,
    prefix_stride: int = 1,
) -> Corpus:
    lengths = [[len(chunk) for chunk in chunks] for chunks in documents]
    return Corpus(
        view=View(prefix_chunks, context, 6, bos, prefix_stride),
        question=flat(questions),
        tokens=flat([[token for chunk in chunks for token in chunk] for chunks in documents]),
        lengths=flat(lengths),
        bytes=np.ones(sum(map(len, lengths)), int),
        thoughts=flat([]),
        first_thought=np.full(len(documents), -1),
        first_chunk=np.cumsum([0, *map(len, documents)])[:-1],
    )


@given(
    st.lists(
        st.lists(st.lists(st.integers(0, 90), min_size=1, max_size=9), min_size=1, max_size=6), min_size=1
    ),
    st.integers(0, 4),
    st.integers(21, 50),
    st.none() | st.just(91),
)
def test_sampling_scoring_and_training_see_the_same_prefix_and_fit_the_context(
    documents: list[list[list[int]]], prefix_chunks: int, context: int, bos: int | None
) -> None:
    made = corpus([[] for _ in documents], documents, prefix_chunks, context, bos)
    chunks, first = list(made.chunks()), [] if bos is None else [bos]
    assert made.prefix_lengths(np.arange(made.num_chunks)).tolist() == [len(chunk.prefix) for chunk in chunks]
    texts = [(i, j) for i, document in enumerate(documents) for j in range(len(document))]
    assert [chunk.chunk_id for chunk in chunks] == list(range(len(texts)))
    for chunk, (i, j) in zip(chunks, texts, strict=True):
        before = [token for part in documents[i][max(0, j - prefix_chunks) : j] for token in part]
        c, longest = chunk.prefix, [95] * 6
        assert chunk.suffix == documents[i][j]
        assert c == first + before[chunk.num_cut :] and not chunk.given
        sampled = [*LAYOUT.posterior_prompt(c, chunk.suffix), *longest, LAYOUT.eol]
        assert len(sampled) <= context
        assert chunk.num_cut == 0 or len(sampled) == context
        trained = [Example(chunk, longest).tokens(LAYOUT, order) for order in (True, False)]
        assert trained[1] == sampled
        assert trained[0][: len(c) + 2] == LAYOUT.joint_prompt(c)
        assert Example(chunk, None).tokens(LAYOUT, True) == c + chunk.suffix


def test_a_question_is_given_once_for_the_first_chunk_of_its_answer() -> None:
    chunks = list(corpus([[1, 2], []], [[[3], [4, 5]], [[6]]], 3, 64).chunks())
    assert [chunk.prefix for chunk in chunks] == [[1, 2], [1, 2, 3], []]
    assert [chunk.given for chunk in chunks] == [True, False, False]


@pytest.mark.parametrize("bos", [None, 91])
def test_over_a_document_every_token_with_one_before_it_takes_raw_loss_once(bos: int | None) -> None:
    tokens = list(range(1, 31))
    document = [tokens[:7], tokens[7:12], tokens[12:20], tokens[20:]]
    chunks = corpus([[]], [document], 2, 64, bos).chunks()
    examples = examples_of_list([Example(chunk, None) for chunk in chunks])
    packed = pack_epoch(examples, 0, 1, 0, 64)
    labels = make_batch([(packed, r) for r in range(len(packed.rows))], LAYOUT, PAD, 64).labels
    assert sorted(labels[labels != IGNORED].tolist()) == tokens[bos is None :]


@given(
    st.lists(
        st.lists(st.lists(st.integers(0, 90), min_size=1, max_size=9), min_size=1, max_size=4), min_size=1
    ),
    st.data(),
)
def test_parts_of_a_corpus_put_together_are_the_corpus(
    documents: list[list[list[int]]], draw: st.DataObject
) -> None:
    taught = [draw.draw(st.booleans()) for _ in documents]
    counts = np.array([len(of) if has else 0 for of, has in zip(documents, taught, strict=True)])
    thoughts = flat([[7] * n for n in range(int(counts.sum()))])
    questions = [draw.draw(st.lists(st.integers(0, 90), max_size=3)) for _ in documents]
    made = dataclasses.replace(
        corpus(questions, documents, 2, 40),
        thoughts=thoughts,
        first_thought=np.where(counts > 0, np.cumsum(counts) - counts, -1),
    )
    edges = sorted({0, len(documents), *draw.draw(st.lists(st.integers(0, len(documents)), max_size=3))})
    parts = [made.part(start, stop) for start, stop in itertools.pairwise(edges)]
    assert [chunk for part in parts for chunk in part.chunks()] == list(made.chunks())
    assert list(joined(IN_MEMORY, "x", made.view, lambda: iter(parts)).chunks()) == list(made.chunks())


@given(
    st.lists(
        st.lists(st.lists(st.integers(0, 90), min_size=1, max_size=9), min_size=1, max_size=4), min_size=1
    ),
    st.data(),
)
def test_examples_of_a_corpus_are_those_of_its_chunks(
    documents: list[list[list[int]]], draw: st.DataObject
) -> None:
    questions = [draw.draw(st.lists(st.integers(0, 90), max_size=3)) for _ in documents]
    made = corpus(questions, documents, 2, 40)
    chunks = list(made.chunks())
    kept = np.array([n for n in range(len(chunks)) if draw.draw(st.booleans())], int)
    thoughts = [draw.draw(st.none() | st.lists(st.integers(0, 90), max_size=6)) for _ in kept]
    rows = np.array(
        [-1 if z is None else sum(y is not None for y in thoughts[:i]) for i, z in enumerate(thoughts)]
    )
    lazy = examples_of_corpus(made, kept, flat([z for z in thoughts if z is not None]), rows.astype(int))
    ready = examples_of_list([Example(chunks[n], z) for n, z in zip(kept, thoughts, strict=True)])
    assert [lazy[i] for i in range(len(lazy))] == [ready[i] for i in range(len(ready))]
    for order in (True, False):
        first = np.full(len(ready), order)
        lengths = [len(ready[i].tokens(LAYOUT, order)) for i in range(len(ready))]
        assert lazy.lengths(first).tolist() == ready.lengths(first).tolist() == lengths
    assert lazy.unscored.tolist() == ready.unscored.tolist()
