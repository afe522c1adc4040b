"""sample: the E-step. Thoughts for every chunk of this task's shards, block by block. How many each chunk
gets is known before any is drawn.

A block is committed as one Parquet part and recorded in its shard's manifest when its last thought is scored;
a task that is stopped or killed loses at most the blocks it was working on. How many that are at once is the
engine's choice.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from lt_hpc.data.corpus import Chunk
from lt_hpc.engines.load import load, load_reference, release_memory
from lt_hpc.engines.protocol import Engine, SamplingParams, Work
from lt_hpc.latent import diagnostics, seeds
from lt_hpc.latent.layout import NUM_JOINT_MARKERS, NUM_MARKERS
from lt_hpc.stages import precision
from lt_hpc.stages.allocation import thoughts_per_chunk
from lt_hpc.stages.estep import Proposals, Scheme, proposing
from lt_hpc.stages.reuse import Earlier, pool
from lt_hpc.stages.shards import Block, missing_blocks
from lt_hpc.stages.task import Task
from lt_hpc.store import tables

COMPARED_SHARDS = 8
"""Shards of an E-step, at most, whose tasks compare their thoughts with float32."""


def run(task: Task) -> None:
    """Complete the shards of this task."""
    settings = task.plan.config.sample
    num_chunks = task.record("corpus", checksums=False).counts["chunks"]
    blocks = missing_blocks(task, num_chunks, settings.block_chunks)
    first = next(blocks, None)
    if first is None:
        return
    sampler = _Sampler(task, num_chunks)
    works = map(sampler.works, chain([first], blocks))
    for taken, new in sampler.engine.complete(works, task.should_stop):
        _commit(sampler, taken, new)
    if any(first.left.blocks.values()):  # the engine has given some up
        task.stop_if_asked()


@dataclass(frozen=True)
class _Taken:
    """A block on its way: its chunks and the first chunk of the document of each."""

    block: Block
    chunks: list[Chunk]
    documents: list[int]


def _commit(sampler: _Sampler, taken: _Taken, new: list[Proposals]) -> None:
    block, chunks = taken.block, taken.chunks
    counts = sampler.count(chunks, new)
    proposals = sampler.with_earlier(chunks, new, counts)
    schema = tables.POOLED if sampler.earlier.iterations else tables.SAMPLES
    tables.write(block.path, schema, _columns(chunks, taken.documents, proposals))
    block.parts.attention = sampler.engine.attention
    block.parts.statistics |= sampler.statistics()
    block.commit(counts)
    measured = sampler.precision(chunks, new)  # after the commit: it may run out of memory
    if measured:
        block.parts.note("precision", measured)


def compares(shards: Sequence[int], count: int) -> bool:
    """Whether a task with these of `count` shards loads the model once more, in float32: that takes minutes,
    so few do. Pure."""
    return any(shard % -(-count // COMPARED_SHARDS) == 0 for shard in shards)


@dataclass
class _Sampler:
    """The engine, loaded once for all blocks of a task, and what was counted."""

    task: Task
    num_chunks: int
    engine: Engine = field(init=False)
    load_seconds: float = field(init=False)
    checked: bool = False
    tokens: Counter[str] = field(default_factory=Counter)
    shard_chunks: range = range(0)
    read: dict[int, Chunk] = field(default_factory=dict)
    documents: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        started, config = time.monotonic(), self.task.plan.config
        self.engine = load(config, self.task.input("model"), config.sample.dtype)
        self.load_seconds = time.monotonic() - started
        self.task.progress.ready()

    def works(self, block: Block) -> tuple[_Taken, list[Work[Proposals]]]:
        """What is wanted of each chunk of a block; the chunks of its whole shard are read at once."""
        if self.shard_chunks != block.shard_chunks:
            start, stop = block.shard_chunks.start, block.shard_chunks.stop
            corpus = self.task.documents("corpus", start, stop)
            firsts = corpus.first_chunk[corpus.document].tolist()
            found = [
                (chunk, first)
                for chunk, first in zip(corpus.chunks(), firsts, strict=True)
                if start <= chunk.chunk_id < stop
            ]
            self.read = {chunk.chunk_id: chunk for chunk, _ in found}
            self.documents = {chunk.chunk_id: first for chunk, first in found}
            self.shard_chunks = block.shard_chunks
        chunks, scheme = [self.read[chunk_id] for chunk_id in block.chunks], self._scheme()
        works = [
            proposing(self.task.vocabulary.layout, chunk, self._seeds(chunk), scheme) for chunk in chunks
        ]
        return _Taken(block, chunks, [self.documents[chunk.chunk_id] for chunk in chunks]), works

    def _seeds(self, chunk: Chunk) -> list[int]:
        config, number = self.task.plan.config, chunk.chunk_id
        count = self.allocation[number]
        return [
            seeds.derive(config.seed, "sample", self.task.stage.iteration, number, k) for k in range(count)
        ]

    def count(self, chunks: list[Chunk], proposals: list[Proposals]) -> Counter[str]:
        """What the new thoughts of a block amount to."""
        counts = _count(chunks, proposals, self._scheme())
        self.tokens.update({name: counts[name] for name in ("sampled_tokens", "scored_tokens")})
        return counts

    @cached_property
    def earlier(self) -> Earlier:
        """The iterations whose thoughts are weighed again."""
        return Earlier(self.task)

    def with_earlier(
        self, chunks: list[Chunk], new: list[Proposals], counts: Counter[str]
    ) -> list[Proposals]:
        """The new thoughts of a block with those of earlier iterations; adds to the `counts` of the block."""
        earlier = self.earlier
        if not earlier.iterations:
            return new
        numbers = range(chunks[0].chunk_id, chunks[-1].chunk_id + 1)
        old = {n: earlier.drawn(n, numbers) for n in earlier.iterations}
        engines = {self.task.stage.iteration: self.engine}
        engines |= {n: earlier.engine(n) for n in old}
        layout = self.task.vocabulary.layout
        pooled = pool(engines, layout, chunks, self._scheme(), new, old)
        more = _count_pooled(chunks, pooled, len(engines))
        counts.update(more)
        self.tokens["scored_tokens"] += more["scored_tokens"]
        return pooled

    @cached_property
    def allocation(self) -> np.ndarray:
        """[chunks] how many thoughts each chunk of the corpus gets."""
        return thoughts_per_chunk(self.task, self.num_chunks)

    def statistics(self) -> dict[str, float]:
        """Of this task up to now: seconds, tokens per second, and the share of the time spent loading."""
        engines = (self.engine, *self.earlier.engines.values())
        seconds = {name: sum(engine.seconds[name] for engine in engines) for name in ("sample", "score")}
        seconds["load"] = self.load_seconds
        return {
            **{f"seconds_{name}": seconds[name] for name in ("load", "sample", "score")},
            "sampled_tokens_per_second": self.tokens["sampled_tokens"] / (seconds["sample"] or 1.0),
            "scored_tokens_per_second": self.tokens["scored_tokens"] / (seconds["score"] or 1.0),
            "load_share": seconds["load"] / (sum(seconds.values()) or 1.0),
        }

    def precision(self, chunks: list[Chunk], proposals: list[Proposals]) -> dict[str, Any] | None:
        """Once a task, in few of the tasks: what float32 would have changed in a few chunks; None where
        sampling is in float32, or this task has told already."""
        config = self.task.plan.config
        count = config.sample.precision_chunks
        if self.checked or count == 0 or config.sample.dtype == "float32":
            return None
        if not compares(self.task.shards, self.task.stage.shards):
            return None
        self.checked = True
        try:
            measured = precision.measure(
                load_reference(config, self.task.folder("model")),
                self.task.vocabulary.layout,
                chunks[:count],
                proposals[:count],
                self._scheme(),
            )
        except MemoryError as error:
            print(f"warning: sample.precision_chunks: not measured, {error}", file=sys.stderr)
            return None
        finally:
            release_memory()
        if measured and measured["selection_change"] > diagnostics.WARN_SELECTION_CHANGE:
            change = f"{measured['selection_change']:.0%}"
            print(
                f"warning: sample.dtype={config.sample.dtype} moves {change} of the weight between the "
                "thoughts of a chunk, against float32",
                file=sys.stderr,
            )
        return measured

    def _scheme(self) -> Scheme:
        settings, eol = self.task.plan.config.sample, self.task.vocabulary.layout.eol
        return Scheme(
            SamplingParams(
                settings.max_thought_tokens, eol, settings.temperature, settings.top_p, settings.top_k
            ),
            settings.prior_share,
        )


def _count(chunks: list[Chunk], proposals: list[Proposals], scheme: Scheme) -> Counter[str]:
    """Of a block: how many, and the tokens that went through the model."""
    counts = Counter(chunks=len(chunks))
    for chunk, of_chunk in zip(chunks, proposals, strict=True):
        lengths = [len(thought) for thought in of_chunk.thoughts]
        prefix, suffix = len(chunk.prefix), len(chunk.suffix)
        counts["cut_prefixes"] += chunk.num_cut > 0
        counts["samples"] += len(lengths)
        counts["sampled_tokens"] += sum(lengths)
        counts["cut"] += int(of_chunk.cut.sum())
        counts["scored_tokens"] += sum(lengths) + len(lengths) * suffix
        num_prior = scheme.num_prior(len(lengths))
        counts["scored_tokens"] += sum(lengths[len(lengths) - num_prior :])
        # One prompt to sample from and one to score after, or both for each where some are from the prior.
        prompts = prefix + suffix + NUM_MARKERS - 1 + prefix + NUM_JOINT_MARKERS - 1
        counts["prompt_tokens"] += prompts * (2 if num_prior else 1)
    return counts


def _count_pooled(chunks: list[Chunk], pooled: list[Proposals], models: int) -> Counter[str]:
    """What pooling the thoughts of a block adds: each is scored by all models but the one that drew it, and
    each that is not new once more with its chunk after it."""
    counts: Counter[str] = Counter()
    for chunk, one in zip(chunks, pooled, strict=True):
        assert one.drawn is not None
        lengths = np.array([len(ids) for ids in one.thoughts])
        old = lengths[one.drawn != one.drawn[0]]
        prefix, suffix = len(chunk.prefix), len(chunk.suffix)
        counts["reused"] += len(old)
        counts["scored_tokens"] += int(lengths.sum()) * (models - 1) + int((old + suffix).sum())
        counts["prompt_tokens"] += (
            models * (prefix + suffix + NUM_MARKERS - 1) + prefix + NUM_JOINT_MARKERS - 1
        )
    return counts


def _columns(chunks: list[Chunk], documents: list[int], proposals: list[Proposals]) -> dict[str, list[Any]]:
    """Of `tables.POOLED`; where all are new, the last one is left out."""
    sums = ("log_q", "log_prior", "log_likelihood", "log_proposal")
    return {
        "chunk": [chunk.chunk_id for chunk in chunks],
        "document": documents,
        "thoughts": [[thought.tolist() for thought in p.thoughts] for p in proposals],
        "cut": [p.cut.tolist() for p in proposals],
        **{name: [getattr(p, name).tolist() for p in proposals] for name in sums},
        "suffix_length": [len(chunk.suffix) for chunk in chunks],
        "drawn": [None if p.drawn is None else p.drawn.tolist() for p in proposals],
    }
