"""Packed documents do not see each other: their logits are those of each document alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from lt_hpc.training import packed_attention
from lt_hpc.training.batches import IGNORED

LENGTHS = [7, 1, 20, 3, 12]


def packed(lengths: list[int], seed: int = 0) -> packed_attention.Flat:
    rng = np.random.default_rng(seed)
    total = sum(lengths)
    positions = np.concatenate([np.arange(length) for length in lengths])
    return packed_attention.Flat(
        rng.integers(0, 32, total), positions, np.ones(total, int), np.array(lengths)
    )


def logits(model: torch.nn.Module, flat: packed_attention.Flat, **more: object) -> torch.Tensor:
    ids, positions = torch.from_numpy(flat.ids)[None], torch.from_numpy(flat.positions)[None]
    with torch.no_grad():
        return model(input_ids=ids, position_ids=positions, **more).logits[0]  # type: ignore[no-any-return]


def alone(model: torch.nn.Module, flat: packed_attention.Flat) -> torch.Tensor:
    documents = torch.from_numpy(flat.ids).split(flat.lengths.tolist())
    with torch.no_grad():
        return torch.cat([model(input_ids=ids[None]).logits[0] for ids in documents])


def error(path: Path, kind: str, **more: object) -> float:
    """The largest difference of any logit between packed and alone."""
    flat = packed(LENGTHS)
    reference = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation=kind)
    more |= (
        packed_attention.boundaries(kind, flat, torch.device("cpu")) if kind == packed_attention.NAME else {}
    )
    return float((logits(model, flat, **more) - alone(reference, flat)).abs().max())


def test_a_packed_document_has_the_logits_of_the_document_alone(model_path: Path) -> None:
    assert error(model_path, packed_attention.NAME, use_cache=False) < 1e-5


def test_it_would_leak_if_transformers_were_left_to_find_the_documents_with_a_cache_in_use(
    model_path: Path,
) -> None:
    assert error(model_path, "sdpa", use_cache=False) < 1e-5
    assert error(model_path, "sdpa", use_cache=True) > 0.1


def test_grouped_queries(tmp_path: Path) -> None:
    config = LlamaConfig(
        vocab_size=32, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.4,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    assert error(tmp_path, packed_attention.NAME, use_cache=False) < 1e-5


TINY = {
    "vocab_size": 32, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.4,
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("mistral", {"sliding_window": 3}),
        ("mistral", {"sliding_window": 20}),
        ("gemma2", {"sliding_window": 3, "attn_logit_softcapping": 2.0, "query_pre_attn_scalar": 8}),
        ("gpt_oss", {"sliding_window": 3, "num_local_experts": 2, "num_experts_per_tok": 1}),
    ],
)
def test_windows_caps_and_sinks(tmp_path: Path, kind: str, settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**TINY, **settings))
    for name, weight in network.named_parameters():
        if name.endswith("sinks"):
            torch.nn.init.normal_(weight)
    network.save_pretrained(tmp_path)
    assert error(tmp_path, packed_attention.NAME, use_cache=False) < 5e-5  # of logits up to 70


@given(st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=4), st.data())
def test_flattening_keeps_every_labelled_document_whole_and_nothing_else(
    rows: list[list[int]], choices: st.DataObject
) -> None:
    capacity = 26
    ids = np.full((len(rows), capacity), -1)
    positions, labels = np.zeros_like(ids), np.full_like(ids, IGNORED)
    expected: list[list[int]] = []
    for r, lengths in enumerate(rows):
        start = 0
        for length in [*lengths, capacity - sum(lengths)]:
            positions[r, start : start + length] = np.arange(length)
            if start < sum(lengths):
                ids[r, start : start + length] = start + 100 * r + np.arange(length)
                if choices.draw(st.booleans()):
                    labels[r, start + length - 1] = 7
                    expected.append(ids[r, start : start + length].tolist())
            start += length
    flat = packed_attention.flatten(ids, positions, labels)
    if not expected:
        assert len(flat.ids) == 1 and (flat.labels == IGNORED).all()
        return
    documents = np.split(flat.ids, np.cumsum(flat.lengths)[:-1])
    assert [document.tolist() for document in documents] == expected
    assert flat.positions.tolist() == [i for document in expected for i in range(len(document))]
    assert (flat.labels == 7).sum() == len(expected)
