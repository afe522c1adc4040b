"""Prefixes that are computed once: the loss and the gradient of documents that each compute their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from lt_hpc.latent.layout import Layout
from lt_hpc.training import packed_attention, sharing
from lt_hpc.training.batches import (
    IGNORED,
    Epoch,
    Examples,
    examples_of_corpus,
    make_batch,
    pack_epoch,
)
from lt_hpc.training.loss import summed_nll
from tests.training.test_batches import corpus, flat
from tests.training.test_packed_attention import TINY

LAYOUT = Layout(28, 29, 30, 31)
CONTEXT, CHUNKS = 96, (7, 4, 1, 5)


def examples(stride: int = 1, bos: int | None = None) -> Examples:
    """All chunks of four documents, the last of which answers a question; of most three thoughts with
    weights, of some none; vocabulary 32."""
    rng = np.random.default_rng(0)

    def ids(least: int) -> list[int]:
        return rng.integers(0, 27, rng.integers(least, 9)).tolist()

    documents = [[ids(1) for _ in range(count)] for count in CHUNKS]
    made = corpus([[], [], [], ids(5)], documents, 3, CONTEXT, bos, stride)
    chunks = np.repeat(np.arange(made.num_chunks), 3)
    thoughts = [ids(0) for _ in chunks]
    rows = np.where(chunks % 5 == 3, -1, np.arange(len(chunks)))
    return examples_of_corpus(
        made, chunks, flat(thoughts), rows, rng.dirichlet(np.ones(3), len(chunks))[:, 0]
    )


def gradient(network: Any, epoch: Epoch, capacity: int) -> list[torch.Tensor]:
    """The loss of an epoch per token, and its gradient by every parameter; one batch a row."""
    network.zero_grad()
    lengths = epoch.examples.lengths(epoch.thought_first)
    tokens = float(((lengths - epoch.examples.unscored) * epoch.examples.weights).sum())
    tokens += 0 if epoch.raw is None else epoch.raw_weight * float(epoch.raw.sum())
    total = torch.zeros(())
    for row in range(len(epoch.rows)):
        batch = make_batch([(epoch, row)], LAYOUT, 0, capacity)
        loss = summed_nll(network, packed_attention.NAME, batch, torch.device("cpu")).weighted / tokens
        loss.backward()
        total += loss.detach()
    return [total, *(parameter.grad.clone() for parameter in network.parameters())]


def compare(network: Any, made: Examples) -> None:
    separate, shared = (pack_epoch(made, 1, 1, 0, CONTEXT, share=share) for share in (False, True))
    tokens = [sum(map(epoch.computed, range(len(epoch.rows)))) for epoch in (separate, shared)]
    assert tokens[1] < 0.8 * tokens[0] == 0.8 * made.lengths(separate.thought_first).sum()
    assert (shared.thought_first == separate.thought_first).all()
    pairs = zip(*(gradient(network, epoch, CONTEXT) for epoch in (separate, shared)), strict=True)
    for expected, found in pairs:
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("stride", "bos"), [(1, None), (2, 27), (4, None)])
def test_loss_and_every_gradient_are_those_of_separate_documents(
    model_path: Path, stride: int, bos: int | None
) -> None:
    network = AutoModelForCausalLM.from_pretrained(
        model_path, dtype=torch.float32, attn_implementation=packed_attention.NAME
    )
    compare(network.eval(), examples(stride, bos))  # no dropout


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("llama", {}),
        ("mistral", {"sliding_window": 6}),
        ("gemma2", {"sliding_window": 3, "attn_logit_softcapping": 2.0, "query_pre_attn_scalar": 8}),
        ("gpt_oss", {"sliding_window": 3, "num_local_experts": 2, "num_experts_per_tok": 1}),
    ],
)
def test_so_they_are_with_grouped_heads_windows_caps_and_sinks(kind: str, settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    shape = TINY | {"initializer_range": 0.1}
    config = CONFIG_MAPPING[kind](**shape, **settings)
    network = AutoModelForCausalLM.from_config(config, attn_implementation=packed_attention.NAME)
    for name, weight in network.named_parameters():
        if name.endswith("sinks"):
            torch.nn.init.normal_(weight)
    compare(network.eval(), examples(2))


def plainly(network: Any, made: Examples, thought_first: np.ndarray, weight: float) -> list[torch.Tensor]:
    """What `gradient` gives, by plain transformers: each document alone, then each longest prefix as one."""
    network.zero_grad()

    def nll(ids: list[int], first: int) -> torch.Tensor:
        logits = network(torch.tensor([ids])).logits[0, first - 1 : -1]
        return torch.nn.functional.cross_entropy(logits, torch.tensor(ids[first:]), reduction="sum")

    total, tokens = torch.zeros(()), 0.0
    for n, of in enumerate(made.weights.tolist()):
        ids, first = made[n].tokens(LAYOUT, bool(thought_first[n])), int(made.unscored[n])
        total, tokens = total + of * nll(ids, first), tokens + of * (len(ids) - first)
    for origin in set(made.origins.tolist()):
        alike = (made[n].chunk.prefix for n in np.flatnonzero(made.origins == origin))
        if len(raw := max(alike, key=len)) > 1:
            total, tokens = total + weight * nll(raw, 1), tokens + weight * (len(raw) - 1)
    (total / tokens).backward()
    return [total.detach() / tokens, *(parameter.grad.clone() for parameter in network.parameters())]


@pytest.mark.parametrize(("stride", "bos", "weight"), [(1, None, 1.0), (2, 27, 0.3), (4, None, 2.0)])
def test_the_longest_prefixes_take_the_loss_of_raw_text_once_however_rows_are_packed(
    model_path: Path, stride: int, bos: int | None, weight: float
) -> None:
    ours, plain = (
        AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32, attn_implementation=kind).eval()
        for kind in (packed_attention.NAME, "eager")
    )
    made = examples(stride, bos)
    epochs = [pack_epoch(made, 1, 1, 0, size, share=True, raw_weight=weight) for size in (CONTEXT, 400)]
    assert len(epochs[0].rows) > 2 * len(epochs[1].rows)
    expected = plainly(plain, made, epochs[0].thought_first, weight)
    for epoch, size in zip(epochs, (CONTEXT, 400), strict=True):
        for one, found in zip(expected, gradient(ours, epoch, size), strict=True):
            torch.testing.assert_close(found, one, atol=1e-5, rtol=1e-5)


def test_a_row_with_raw_text_by_hand() -> None:
    made = corpus([[]], [[[1, 2], [3], [4], [5]]], 2, CONTEXT, 9, 2)
    given_all = examples_of_corpus(made, np.arange(4), flat([[]]), np.full(4, -1))
    one = pack_epoch(given_all, 1, 1, 0, CONTEXT, share=True, raw_weight=0.5)
    batch = make_batch([(one, row) for row in range(len(one.rows))], LAYOUT, 0, CONTEXT)
    assert batch.weights is not None and batch.raw is not None
    labels = batch.labels[batch.labels != IGNORED]
    # Prefixes: bos; bos 1 2; bos 1 2 3; bos 4, of chunks 1 2, 3, 4 and 5, whose losses weigh 1.
    assert sorted(zip(labels.tolist(), batch.weights.tolist(), batch.raw.tolist(), strict=True)) == [
        (1, 0.5, True), (1, 1, False), (2, 0.5, True), (2, 1, False), (3, 0.5, True), (3, 1, False),
        (4, 0.5, True), (4, 1, False), (5, 1, False),
    ]  # fmt: skip


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(1, 9)), max_size=30),
    st.integers(18, 60),
)
def test_units_hold_each_example_once_with_its_lender_first(
    given_examples: list[tuple[int, int, int]], capacity: int
) -> None:
    origins, prefixes, others = (
        (np.array(one, int) for one in zip(*given_examples, strict=True))
        if (given_examples)
        else (np.zeros(0, int),) * 3
    )
    lengths = prefixes + others
    units = sharing.units(origins, prefixes, lengths, capacity)
    members = [units.members([u]) for u in range(len(units))]
    assert sorted(n for unit in members for n in unit) == list(range(len(lengths)))
    computed = lengths - units.borrowed
    assert units.sizes.tolist() == [computed[unit].sum() for unit in members]
    for lender, *others_of_unit in members:
        assert units.borrowed[lender] == 0
        assert computed[[lender, *others_of_unit]].sum() <= capacity
        for n in others_of_unit:
            assert origins[n] == origins[lender] and prefixes[n] <= prefixes[lender]
            assert units.borrowed[n] == prefixes[n] - 1 > 0


@given(
    st.lists(
        st.lists(st.lists(st.integers(0, 90), min_size=1, max_size=9), min_size=1, max_size=8), min_size=1
    ),
    st.data(),
)
def test_prefixes_of_one_origin_are_beginnings_of_one_another(
    documents: list[list[list[int]]], draw: st.DataObject
) -> None:
    most = draw.draw(st.integers(0, 4))
    stride = draw.draw(st.integers(1, most + 1))
    questions = [draw.draw(st.lists(st.integers(0, 90), max_size=3)) for _ in documents]
    made = corpus(
        questions, documents, most, draw.draw(st.integers(21, 60)), draw.draw(st.none() | st.just(91)), stride
    )
    origins = made.prefix_origins(np.arange(made.num_chunks))
    chunks, numbers = list(made.chunks()), [j for document in documents for j in range(len(document))]
    for one in range(len(chunks)):
        for other in range(one):
            if origins[one] == origins[other]:
                assert made.document[one] == made.document[other]
                shorter, longer = sorted((chunks[one].prefix, chunks[other].prefix), key=len)
                assert longer[: len(shorter)] == shorter
    for chunk, number, document in zip(chunks, numbers, made.document, strict=True):
        start = max(0, -(-(number - most) // stride) * stride)
        assert number - most <= start <= number
        before = [token for part in documents[document][start:number] for token in part]
        before = questions[document] + before
        bos = [] if made.view.bos is None else [made.view.bos]
        assert chunk.prefix == bos + before[chunk.num_cut :]
        if not chunk.num_cut:
            alike = np.flatnonzero(origins == origins[chunk.chunk_id])
            starts = [max(0, -(-(numbers[n] - most) // stride) * stride) for n in alike]
            assert starts == [start] * len(alike)
