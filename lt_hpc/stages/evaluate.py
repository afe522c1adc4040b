"""evaluate: held-out measures of one model, by one task.

Accuracy by generating thought, then answer; accuracy without a thought; NLL of the raw
text; the K-sample bound; and on some chunks log p(x | c) itself, estimated from many thoughts. Committed
block by block like samples; metrics.json is worked out from the blocks at the end. With
`evaluate.num_shards` above 1 the blocks are shared out: `measure` and `aggregate` make the same.
"""

from __future__ import annotations

import time

from lt_hpc.stages.aggregate import EVALUATION, conclude
from lt_hpc.stages.measure import Measurer
from lt_hpc.stages.task import Task
from lt_hpc.store import manifest, tables
from lt_hpc.store.parts import Parts
from lt_hpc.store.paths import METRICS, block_part


def run(task: Task) -> None:
    """Write eval/ for the model of the iteration."""
    measurer = Measurer.of(task)
    parts = Parts(task.output, EVALUATION, task.stage.fingerprint)
    size, num_chunks = task.plan.config.sample.block_chunks, measurer.corpus.num_chunks
    blocks = {
        parts.folder / block_part(block): range(start, min(start + size, num_chunks))
        for block, start in enumerate(range(0, num_chunks, size))
    }
    missing = {path: numbers for path, numbers in blocks.items() if parts.get(path.name) is None}
    task.progress.start(num_chunks, "chunks", num_chunks - sum(map(len, missing.values())))
    for path, numbers in missing.items():
        task.stop_if_asked()
        started = time.monotonic()
        columns = measurer.block(numbers)
        parts.attention = measurer.attention
        tables.write(path, tables.MEASURED, columns)
        parts.add(manifest.describe(path, {"chunks": len(columns["chunk"])}), time.monotonic() - started)
        task.progress.advance(len(numbers))
    conclude(task, measurer.corpus, measurer.tokenizer, list(blocks), measurer.precision())
    parts.add(manifest.describe(parts.folder / METRICS), 0.0)
    parts.finish()
