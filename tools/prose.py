"""English prose that Python packages ship, in chunks of sentences with stand-ins for thoughts, as the
arms of tools/bench_mstep.py lay it out."""

from __future__ import annotations

import argparse
import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np

from lt_hpc.data.chunking import chunk_text, split_long
from lt_hpc.data.corpus import Corpus, View
from lt_hpc.latent.layout import longest_chunk
from lt_hpc.store.lists import Lists
from lt_hpc.training.batches import Epoch, examples_of_corpus, pack_epoch


def texts() -> list[str]:
    """A story that reasoning-gym has, and the topics of Python's own reference."""
    from pydoc_data import topics

    from reasoning_gym.data import read_data_file

    return [read_data_file("in_the_year_2889.txt"), *topics.topics.values()]


def corpus(tokenizer: Any, view: View, mean_sentences: float) -> Corpus:
    """One document a text, its lines joined to paragraphs, in chunks of 1 + Poisson(mean - 1) sentences."""
    longest = longest_chunk(view.context_length, view.max_thought_tokens)
    documents = []
    for text in texts():
        paragraphs = (" ".join(one.split()) for one in re.split(r"\n\s*\n", text))
        whole = "\n\n".join(paragraphs)
        chunks = chunk_text(whole, mean=mean_sentences, low=1, high=100, shifted=True)
        ids = tokenizer(chunks, add_special_tokens=False)["input_ids"]
        documents.append([piece for one in ids for piece in split_long(one, longest)])
    count = sum(map(len, documents))
    return Corpus(
        view=view,
        question=_lists([[] for _ in documents]),
        tokens=_lists([[token for chunk in chunks for token in chunk] for chunks in documents]),
        lengths=_lists([[len(chunk) for chunk in chunks] for chunks in documents]),
        bytes=np.ones(count, np.int32),
        thoughts=_lists([]),
        first_thought=np.full(len(documents), -1),
        first_chunk=np.cumsum([0, *map(len, documents)])[:-1],
    )


def thoughts(of: Corpus, ratio: float, seed: int) -> Lists:
    """One a chunk: other text of the corpus, log-normally long (sigma .5), `ratio` tokens per token of the
    chunk at the median."""
    rng = np.random.default_rng(seed)
    chunk, text = of.lengths[0], of.tokens[0]
    lengths = np.exp(np.log(ratio * chunk) + 0.5 * rng.standard_normal(len(chunk))).astype(np.int64)
    lengths = np.clip(lengths, 1, of.view.max_thought_tokens)
    starts = rng.integers(0, len(text) - lengths)
    return _lists([text[start : start + size] for start, size in zip(starts, lengths, strict=True)])


def epoch(base: Path, options: argparse.Namespace, arm: str) -> Epoch:
    """An epoch in the layout of an arm."""
    from transformers import AutoTokenizer

    most, stride = (3, 1) if arm == "sliding" else (options.prefix_chunks, options.prefix_stride)
    view = View(most, options.context, options.context // 2, prefix_stride=stride)
    made = corpus(AutoTokenizer.from_pretrained(base), view, options.mean_sentences)
    every = np.arange(made.num_chunks)
    examples = examples_of_corpus(made, every, thoughts(made, options.thought_tokens, 0), every)
    capacity = options.context * options.row_contexts
    raw = 1.0 if arm == "raw" else 0.0
    packed = pack_epoch(examples, 0, 1, 0, capacity, share=arm != "sliding", raw_weight=raw)
    if arm == "apart":
        return dataclasses.replace(packed, borrowed=np.zeros_like(packed.borrowed))
    return packed


def counted(of: Epoch) -> str:
    """The tokens that an epoch computes, and of what."""
    count, computed = len(of.examples), sum(map(of.computed, range(len(of.rows))))
    prefix, shared = of.examples.prefixes.mean(), of.borrowed.mean()
    own, thought = (of.examples.text - of.examples.prefixes).mean(), of.examples.thought.mean()
    return (
        f"{computed:,} tokens computed for {count:,} chunks, {computed / count:.1f} a chunk: {prefix:.1f} of "
        f"prefix, of which {shared:.1f} shared, {own:.1f} of text, {thought:.1f} of thought"
    )


def put_random_model(base: Path, layers: int, hidden: int) -> None:
    """A random Llama in place of the base's model, with its tokenizer and vocabulary."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(
        base, num_hidden_layers=layers, hidden_size=hidden, intermediate_size=3 * hidden,
        num_attention_heads=hidden // 32, num_key_value_heads=hidden // 32, head_dim=32,
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(base)


def _lists(rows: list[Any]) -> Lists:
    values = np.concatenate([np.zeros(0, np.int32), *(np.asarray(row, np.int32) for row in rows)])
    return values, np.cumsum([0, *map(len, rows)])
