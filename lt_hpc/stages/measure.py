"""measure: what an evaluation in shards measures of held-out chunks, block by block.

A block comes out the same whichever task measures it, of this stage or of `evaluate`; aggregate makes the
figures of them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from lt_hpc.data import base_model
from lt_hpc.data.corpus import Corpus
from lt_hpc.engines.load import load, load_reference, release_memory
from lt_hpc.latent import seeds
from lt_hpc.stages import precision
from lt_hpc.stages.aggregate import PRECISION
from lt_hpc.stages.measures import Measures, has_thoughts, predicted
from lt_hpc.stages.shards import missing_blocks
from lt_hpc.stages.task import Task
from lt_hpc.store import tables


def run(task: Task) -> None:
    """Complete the shards of this task."""
    measurer = Measurer.of(task)
    size = task.plan.config.sample.block_chunks
    for block in missing_blocks(task, measurer.corpus.num_chunks, size):
        columns = measurer.block(block.chunks)
        tables.write(block.path, tables.MEASURED, columns)
        block.parts.attention = measurer.attention
        if 0 in block.chunks:  # recorded with the block: neither is there without the other
            block.parts.statistics[PRECISION] = measurer.precision()
        block.commit({"chunks": len(columns["chunk"])})


@dataclass
class Measurer:
    """Measures held-out chunks; the engine is loaded when something has to be measured."""

    task: Task
    corpus: Corpus
    tokenizer: Any
    loaded: Measures | None = None

    @classmethod
    def of(cls, task: Task) -> Measurer:
        """For the model and the held-out documents of a stage."""
        tokenizer = base_model.load_tokenizer(task.input("model"), task.plan.config.model)
        return cls(task, task.documents("heldout"), tokenizer)

    @property
    def attention(self) -> str:
        """The kernel that is measured with."""
        return self._measures().engine.attention

    def block(self, numbers: range) -> dict[str, list[Any]]:
        """The columns of `tables.MEASURED` for these chunks, but for those that can't be predicted."""
        found = [(n, predicted(self.tokenizer, self.corpus.chunk(n))) for n in numbers]
        chunks = {n: chunk for n, chunk in found if chunk is not None}
        chosen = self._estimated()
        documents = self.corpus.document[list(chunks)].tolist()
        return self._measures().block(list(chunks.values()), documents, [n in chosen for n in chunks])

    def precision(self) -> dict[str, Any] | None:
        """What float32 would have changed in the first chunks of all, as `precision.measure` says it; None
        where this is float32, or nothing weighs."""
        config = self.task.plan.config
        count = min(config.sample.precision_chunks, self.corpus.num_chunks)
        if config.evaluate.dtype == "float32" or count == 0 or not has_thoughts(self.task):
            return None
        measures, num_samples = self._measures(), config.evaluate.num_samples
        found = (predicted(self.tokenizer, self.corpus.chunk(n)) for n in range(count))
        chunks = [chunk for chunk in found if chunk is not None]
        proposals = measures.proposals("bound", chunks, num_samples)
        layout, scheme = self.task.vocabulary.layout, measures.scheme
        try:
            reference = load_reference(config, self.task.folder("model"))
            return precision.measure(reference, layout, chunks, proposals, scheme)
        except MemoryError as error:
            print(f"warning: sample.precision_chunks: not measured, {error}", file=sys.stderr)
            return None
        finally:
            release_memory()

    def _measures(self) -> Measures:
        if self.loaded is None:
            config = self.task.plan.config
            engine = load(config, self.task.folder("model"), config.evaluate.dtype)
            self.loaded = Measures(self.task, engine, self.tokenizer)
            self.task.progress.ready()
        return self.loaded

    def _estimated(self) -> set[int]:
        """Chunks whose log p(x | c) is estimated: the same for every model of a run."""
        config = self.task.plan.config
        order = seeds.generator(config.seed, "estimated chunks").permutation(self.corpus.num_chunks)
        return set(order[: config.evaluate.estimate_chunks].tolist())
