"""evaluate: held-out measures of one model.

Accuracy by generating thought, then answer; accuracy without a thought; NLL of the raw
text; and the K-sample bound with the model's own posterior as the proposal. Committed block by
block like samples; metrics.json is worked out from the blocks at the end.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from lt_hpc.data import base_model
from lt_hpc.data.corpus import Corpus
from lt_hpc.engines.load import load
from lt_hpc.latent import seeds
from lt_hpc.stages import metrics
from lt_hpc.stages.measures import Measures, text, trained_on
from lt_hpc.stages.task import Task
from lt_hpc.store import manifest, tables
from lt_hpc.store.atomic import write_json
from lt_hpc.store.figures import Answer, to_json
from lt_hpc.store.parts import Parts
from lt_hpc.store.paths import METRICS, block_part

NUM_EXAMPLES = 5


def run(task: Task) -> None:
    """Write eval/ for the model of the iteration."""
    config, model = task.plan.config, task.input("model")
    corpus = task.documents("heldout")
    parts = Parts(task.output, "evaluation", task.stage.fingerprint)
    tokenizer = base_model.load_tokenizer(model, config.model)
    size = config.sample.block_chunks
    blocks = {
        parts.folder / block_part(block): range(start, min(start + size, corpus.num_chunks))
        for block, start in enumerate(range(0, corpus.num_chunks, size))
    }
    missing = {path: numbers for path, numbers in blocks.items() if parts.get(path.name) is None}
    measures: Measures | None = None
    task.progress.start(corpus.num_chunks, "chunks", corpus.num_chunks - sum(map(len, missing.values())))
    for path, numbers in missing.items():
        task.stop_if_asked()
        started = time.monotonic()
        if measures is None:
            engine = load(config, model, config.evaluate.dtype)
            measures, parts.attention = Measures(task, engine, tokenizer), engine.attention
        columns = measures.block([corpus.chunk(n) for n in numbers], corpus.document[numbers].tolist())
        tables.write(path, tables.MEASURED, columns)
        parts.add(manifest.describe(path, {"chunks": len(numbers)}), time.monotonic() - started)
        task.progress.advance(len(numbers))
    _conclude(task, corpus, tokenizer, list(blocks))
    parts.add(manifest.describe(parts.folder / METRICS), 0.0)
    parts.finish()


def _conclude(task: Task, corpus: Corpus, tokenizer: Any, files: list[Path]) -> None:
    """Write metrics.json from the blocks."""
    config, iteration = task.plan.config, task.stage.iteration
    table = pa.concat_tables([tables.read(path, tables.MEASURED) for path in files])
    measured = metrics.Measured.of(table, config.evaluate.num_samples)
    thinks = trained_on(task) != "raw"
    draw = seeds.derive(config.seed, "bootstrap", iteration)
    found = metrics.summary(measured, "thought" if thinks else "direct", draw)
    vocabulary = task.vocabulary
    answered = table.slice(0, NUM_EXAMPLES if config.chunking.mode == "given" else 0)
    examples = [
        Answer(
            prefix=text(tokenizer, vocabulary, corpus.chunk(row).prefix),
            suffix=text(tokenizer, vocabulary, corpus.chunk(row).suffix),
            thought=text(tokenizer, vocabulary, one["thought"]),
            answer=one["answer_thought"],
        )
        for row, one in enumerate(answered.to_pylist())
    ]
    if config.chunking.mode == "given":  # the last token of an answer is the one that ends it
        too_long = int((measured.tokens - 1 > config.evaluate.max_answer_tokens).sum())
        found = replace(found, answers_too_long=too_long)
    value = {"iteration": iteration, **to_json(replace(found, examples=examples))}
    write_json(task.output / METRICS, value)
