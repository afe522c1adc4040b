"""evaluate: held-out measures of one model.

Accuracy by generating thought, then answer; accuracy without a thought; NLL of the raw
text; the K-sample bound; and on some chunks log p(x | c) itself, estimated from many thoughts. Committed
block by block like samples; metrics.json is worked out from the blocks at the end.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lt_hpc.data import base_model
from lt_hpc.data.corpus import Corpus
from lt_hpc.engines.load import load, load_reference, release_memory
from lt_hpc.errors import ConfigError
from lt_hpc.latent import seeds
from lt_hpc.stages import metrics, precision
from lt_hpc.stages.measures import Measures, has_thoughts, predicted, text
from lt_hpc.stages.task import Task
from lt_hpc.store import manifest, measured, tables
from lt_hpc.store.atomic import write_json
from lt_hpc.store.figures import Answer, HeldOut, Precision, to_json
from lt_hpc.store.measured import Measured
from lt_hpc.store.parts import Parts
from lt_hpc.store.paths import METRICS, block_part

NUM_EXAMPLES = 5


def run(task: Task) -> None:
    """Write eval/ for the model of the iteration."""
    corpus = task.documents("heldout")
    parts = Parts(task.output, "evaluation", task.stage.fingerprint)
    evaluation = _Evaluation(
        task, corpus, base_model.load_tokenizer(task.input("model"), task.plan.config.model)
    )
    size = task.plan.config.sample.block_chunks
    blocks = {
        parts.folder / block_part(block): range(start, min(start + size, corpus.num_chunks))
        for block, start in enumerate(range(0, corpus.num_chunks, size))
    }
    missing = {path: numbers for path, numbers in blocks.items() if parts.get(path.name) is None}
    task.progress.start(corpus.num_chunks, "chunks", corpus.num_chunks - sum(map(len, missing.values())))
    for path, numbers in missing.items():
        task.stop_if_asked()
        started = time.monotonic()
        columns = evaluation.block(numbers)
        parts.attention = evaluation.measures().engine.attention
        tables.write(path, tables.MEASURED, columns)
        parts.add(manifest.describe(path, {"chunks": len(columns["chunk"])}), time.monotonic() - started)
        task.progress.advance(len(numbers))
    evaluation.conclude(list(blocks))
    parts.add(manifest.describe(parts.folder / METRICS), 0.0)
    parts.finish()


@dataclass
class _Evaluation:
    """A model's evaluation; the engine is loaded when something has to be measured."""

    task: Task
    corpus: Corpus
    tokenizer: Any
    loaded: Measures | None = None

    def measures(self) -> Measures:
        if self.loaded is None:
            config = self.task.plan.config
            engine = load(config, self.task.folder("model"), config.evaluate.dtype)
            self.loaded = Measures(self.task, engine, self.tokenizer)
            self.task.progress.ready()
        return self.loaded

    def block(self, numbers: range) -> dict[str, list[Any]]:
        """The columns of `tables.MEASURED` for these chunks, but for those that can't be predicted."""
        found = [(n, predicted(self.tokenizer, self.corpus.chunk(n))) for n in numbers]
        chunks = {n: chunk for n, chunk in found if chunk is not None}
        chosen = self._estimated()
        documents = self.corpus.document[list(chunks)].tolist()
        return self.measures().block(list(chunks.values()), documents, [n in chosen for n in chunks])

    def _estimated(self) -> set[int]:
        """Chunks whose log p(x | c) is estimated: the same for every model of a run."""
        config = self.task.plan.config
        order = seeds.generator(config.seed, "estimated chunks").permutation(self.corpus.num_chunks)
        return set(order[: config.evaluate.estimate_chunks].tolist())

    def conclude(self, files: list[Path]) -> None:
        """Write metrics.json from the blocks.

        Raises:
            ConfigError: when there is nothing to predict in the held-out corpus.
        """
        config, of_chunks = self.task.plan.config, measured.read(files)
        if not len(of_chunks.tokens):
            raise ConfigError(
                f"heldout.source={config.heldout.source!r}: its documents have one token each, and nothing "
                "before it; give longer ones"
            )
        found = metrics.summary(of_chunks, "thought" if has_thoughts(self.task) else "direct")
        if config.chunking.mode == "given":
            found = self._with_answers(found, of_chunks, files[0])
        found = replace(found, precision=self._precision())
        write_json(self.task.output / METRICS, {"iteration": self.task.stage.iteration, **to_json(found)})

    def _with_answers(self, found: HeldOut, of_chunks: Measured, first: Path) -> HeldOut:
        settings, vocabulary = self.task.plan.config.evaluate, self.task.vocabulary

        def decoded(ids: list[int]) -> str:
            return text(self.tokenizer, vocabulary, ids)

        examples = [
            Answer(
                prefix=decoded(self.corpus.chunk(row).prefix),
                suffix=decoded(self.corpus.chunk(row).suffix),
                thought=None if one["thought"] is None else decoded(one["thought"]),
                answer=one["answer_direct"] if one["thought"] is None else one["answer_thought"],
            )
            for row, one in enumerate(tables.read(first, tables.MEASURED).slice(0, NUM_EXAMPLES).to_pylist())
        ]
        # The last token of an answer is the one that ends it.
        too_long = int((of_chunks.tokens - 1 > settings.max_answer_tokens).sum())
        return replace(
            found, examples=examples, answers_too_long=too_long, answer_samples=settings.answer_samples
        )

    def _precision(self) -> Precision | None:
        """What float32 would have changed in a few chunks; None where this is float32, or nothing weighs."""
        config = self.task.plan.config
        count = min(config.sample.precision_chunks, self.corpus.num_chunks)
        if config.evaluate.dtype == "float32" or count == 0 or not has_thoughts(self.task):
            return None
        measures, num_samples = self.measures(), config.evaluate.num_samples
        found = (predicted(self.tokenizer, self.corpus.chunk(n)) for n in range(count))
        chunks = [chunk for chunk in found if chunk is not None]
        proposals = measures.proposals("bound", chunks, num_samples)
        layout, scheme = self.task.vocabulary.layout, measures.scheme
        try:
            reference = load_reference(config, self.task.folder("model"))
            return Precision.of(precision.measure(reference, layout, chunks, proposals, scheme))
        except MemoryError as error:
            print(f"warning: sample.precision_chunks: not measured, {error}", file=sys.stderr)
            return None
        finally:
            release_memory()
