"""aggregate: held-out figures of a model from what the shards of its evaluation measured of each chunk.

It needs no model. Its output, blocks and figures, is to the byte what `evaluate` makes by itself.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lt_hpc.data import base_model
from lt_hpc.data.corpus import Corpus
from lt_hpc.errors import ConfigError
from lt_hpc.stages import metrics
from lt_hpc.stages.measures import has_thoughts, text
from lt_hpc.stages.shards import verified_shards
from lt_hpc.stages.task import Task
from lt_hpc.store import manifest, measured, tables
from lt_hpc.store.atomic import atomic_file, clean_temporaries, write_json
from lt_hpc.store.figures import Answer, HeldOut, Precision, to_json
from lt_hpc.store.manifest import FileEntry, Manifest
from lt_hpc.store.measured import Measured
from lt_hpc.store.paths import METRICS, shard_folder

EVALUATION = "evaluation"
"""What the manifest of eval/ says it is."""
NUM_EXAMPLES = 5
PRECISION = "precision"
"""Among the statistics of the shard that has the first chunks."""


def run(task: Task) -> None:
    """Write eval/ from what was measured of the model of the iteration.

    Raises:
        IncompleteError: naming the shards that are missing or corrupt.
    """
    started = time.monotonic()
    shard_map = verified_shards(task, "measured")
    corpus = task.documents("heldout")
    tokenizer = base_model.load_tokenizer(task.input("base", checksums=False), task.plan.config.model)
    clean_temporaries(task.output)
    task.progress.start(shard_map.num_shards, "shards")
    records, blocks = [], list[FileEntry]()
    for shard in range(shard_map.num_shards):
        source = shard_folder(task.folder("measured"), shard)
        record = manifest.verified(source, shard_map.fingerprint(shard), checksums=False)
        for entry in record.files:
            with atomic_file(task.output / entry.name) as temporary:
                shutil.copyfile(source / entry.name, temporary)
        records.append(record)
        blocks += record.files
        task.progress.advance()
    precision = next((one.statistics[PRECISION] for one in records if PRECISION in one.statistics), None)
    conclude(task, corpus, tokenizer, [task.output / entry.name for entry in blocks], precision)
    made = Manifest(
        stage=EVALUATION,
        fingerprint=task.stage.fingerprint,
        complete=True,
        files=(*blocks, manifest.describe(task.output / METRICS)),
        counts={"chunks": sum(record.counts.get("chunks", 0) for record in records)},
        seconds=sum(record.seconds for record in records) + time.monotonic() - started,
        provenance=manifest.provenance(),
    )
    manifest.write(task.output, made)


def conclude(
    task: Task, corpus: Corpus, tokenizer: Any, files: Sequence[Path], precision: Mapping[str, Any] | None
) -> None:
    """Write metrics.json from the `files` of all blocks, in their order, and what float32 would have changed.

    Raises:
        ConfigError: when there is nothing to predict in the held-out corpus.
    """
    config, of_chunks = task.plan.config, measured.read(files)
    if not len(of_chunks.tokens):
        raise ConfigError(
            f"heldout.source={config.heldout.source!r}: its documents have one token each, and nothing "
            "before it; give longer ones"
        )
    found = metrics.summary(of_chunks, "thought" if has_thoughts(task) else "direct")
    if config.chunking.mode == "given":
        found = _with_answers(task, corpus, tokenizer, found, of_chunks, files[0])
    found = replace(found, precision=Precision.of(precision))
    write_json(task.output / METRICS, {"iteration": task.stage.iteration, **to_json(found)})


def _with_answers(
    task: Task, corpus: Corpus, tokenizer: Any, found: HeldOut, of_chunks: Measured, first: Path
) -> HeldOut:
    settings, vocabulary = task.plan.config.evaluate, task.vocabulary

    def decoded(ids: list[int]) -> str:
        return text(tokenizer, vocabulary, ids)

    examples = [
        Answer(
            prefix=decoded(corpus.chunk(row).prefix),
            suffix=decoded(corpus.chunk(row).suffix),
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
