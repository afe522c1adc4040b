"""The documents of tools/bench_mstep.py: an epoch of packed rows, and which of them each step takes."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tools import prose


@dataclass(frozen=True)
class Data:
    """The documents of all steps, packed: `rows[s]` are the packed rows of step s, of which the
    first only warms up."""

    epoch: Any
    rows: list[list[int]]
    layout: Any
    pad: int
    capacity: int

    def members(self, step: int) -> list[int]:
        return [member for row in self.rows[step] for member in self.epoch.rows[row]]

    def tokens(self, member: int) -> list[int]:
        ids: list[int] = self.epoch.examples[member].tokens(
            self.layout, bool(self.epoch.thought_first[member])
        )
        return ids

    def useful(self, step: int) -> int:
        return sum(len(self.tokens(member)) for member in self.members(step))

    def chunks(self, step: int) -> float:
        """As many chunks as a step's computed tokens are at the mean of the whole epoch: a few rows have
        chunks of quite different lengths."""
        computed = [self.epoch.computed(row) for row in range(len(self.epoch.rows))]
        chunks = sum(computed[row] for row in self.rows[step]) * len(self.epoch.examples) / sum(computed)
        return float(chunks)

    def scored(self, step: int) -> int:
        members = self.members(step)
        orders = self.epoch.thought_first[members]
        lengths = self.epoch.examples.lengths(orders, np.array(members))
        raw = 0 if self.epoch.raw is None else self.epoch.raw[members].sum()
        return int((lengths - self.epoch.examples.unscored[members]).sum() + raw)


def of_prose(options: argparse.Namespace, base: Path, arm: str) -> Data:
    packed = prose.epoch(base, options, arm)
    capacity = max(map(packed.computed, range(len(packed.rows))))
    return _data(options, base, packed, capacity)


def of_source(options: argparse.Namespace, base: Path) -> Data:
    """Documents with their teacher's thoughts, packed."""
    from transformers import AutoTokenizer

    from lt_hpc.config.schema import CorpusConfig
    from lt_hpc.data import sources
    from lt_hpc.data.corpus import Chunk
    from lt_hpc.training.batches import Example, examples_of_list, pack_epoch

    tokenizer = AutoTokenizer.from_pretrained(base)
    number = (1 + options.steps) * options.rows * (4 if options.source == "builtin:gsm" else 12)
    made: list[Any] = []
    for document in sources.documents(CorpusConfig(source=options.source, num_documents=number), "given"):
        question, thought, answer = (
            tokenizer(text, add_special_tokens=False)["input_ids"]
            for text in (document.question, document.thought, document.answer)
        )
        made.append(Example(Chunk(len(made), question, answer, 1, given=True), thought))
    lengths = examples_of_list(made).lengths(np.zeros(len(made), bool))
    fitting = [example for example, size in zip(made, lengths, strict=True) if size <= options.context]
    packed = pack_epoch(examples_of_list(fitting), 0, 1, 0, options.context)
    assert (options.steps + 1) * options.rows <= len(packed.rows), "too few documents"
    return _data(options, base, packed, options.context)


def _data(options: argparse.Namespace, base: Path, packed: Any, capacity: int) -> Data:
    """The rows of an epoch by step, from the first again after the last."""
    from lt_hpc.latent.layout import Layout

    raw = json.loads((base / "layout.json").read_text())
    every = np.arange((options.steps + 1) * options.rows) % len(packed.rows)
    layout = Layout(raw["sol"], raw["eol"], raw["prior"], raw["post"])
    return Data(packed, every.reshape(-1, options.rows).tolist(), layout, raw["pad"], capacity)
