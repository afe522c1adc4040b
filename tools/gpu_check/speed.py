"""python -m tools.gpu_check.speed DEVICE SPEC: some steps of the trainer, timed; one process per setting."""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from tools.gpu_check.rows import FULL, REHEARSAL

MICRO_BATCHES, WARM, STEPS = 2, 2, 6


def main() -> None:
    import torch

    from lt_hpc.cluster import rendezvous
    from lt_hpc.cluster.place import Place
    from lt_hpc.config.schema import TrainConfig
    from lt_hpc.data.corpus import Chunk
    from lt_hpc.latent import cost
    from lt_hpc.latent.layout import Layout
    from lt_hpc.training import zero
    from lt_hpc.training.batches import Example, examples_of_list, make_batch, pack_epoch

    sizes, spec = (FULL if sys.argv[1] == "cuda" else REHEARSAL), json.loads(sys.argv[2])
    vocabulary, rng = sizes.trained.vocabulary, np.random.default_rng(0)
    layout = Layout(*range(vocabulary - 4, vocabulary))
    total = (WARM + STEPS) * MICRO_BATCHES * sizes.rows * sizes.context
    made: list[Example] = []
    tokens = 0
    while tokens < 1.3 * total:
        sides = [
            rng.integers(1, vocabulary - 4, rng.integers(20, sizes.context // 8)).tolist() for _ in range(3)
        ]
        made.append(Example(Chunk(len(made), sides[0], sides[1], 1, given=False), sides[2]))
        tokens += sum(map(len, sides))
    epoch = pack_epoch(examples_of_list(made), 0, 1, 0, sizes.context)
    store = rendezvous.store(Path(spec["result"]).parent, Place(0, 1, 0, f"speed-{spec['stage']}"))
    ranks = zero.init_process_group(store, 0, 1)
    config = TrainConfig(
        zero_stage=spec["stage"], dtype="bfloat16", activation_checkpointing=spec["recompute"],
        micro_batch_rows=sizes.rows, learning_rate=1e-4,
    )  # fmt: skip
    trainer = zero.ZeroTrainer(Path(spec["model"]), config, MICRO_BATCHES, False)
    speeds, flops = [], []
    for step in range(WARM + STEPS):
        first = step * MICRO_BATCHES * sizes.rows
        starts = range(first, first + MICRO_BATCHES * sizes.rows, sizes.rows)
        rows = range(first, starts[-1] + sizes.rows)
        batches = [
            make_batch([(epoch, row) for row in range(start, start + sizes.rows)], layout, 0, sizes.context)
            for start in starts
        ]
        lengths = np.concatenate([epoch.lengths(row) for row in rows])
        started = time.perf_counter()
        trainer.step(batches, int(lengths.sum()), 1e-4, step)  # reads the loss: waits for the device
        seconds = time.perf_counter() - started
        if step >= WARM:
            speeds.append(float(lengths.sum()) / seconds)
            flops.append(speeds[-1] * cost.flops_per_token(trainer.shape, float(lengths.mean())))
    cuda = sizes.device == "cuda"
    estimated = (
        cost.state_bytes(trainer.shape, spec["stage"], 1, 2)
        + cost.buffer_bytes(trainer.shape, spec["stage"], 2, False)
        + cost.activation_bytes(trainer.shape, sizes.rows * sizes.context, 2, spec["recompute"])
    )
    found = {
        "tokens_per_second": statistics.median(speeds),
        "slowest": min(speeds),
        "fastest": max(speeds),
        "flops_per_second": statistics.median(flops),
        "peak_bytes": torch.cuda.max_memory_allocated() if cuda else 0,
        "reserved_bytes": torch.cuda.max_memory_reserved() if cuda else 0,
        "estimated_bytes": estimated,
        "optimizer": type(trainer.engine.optimizer).__name__,
        "gradients_reduced_in": str(trainer.engine.communication_data_type),
    }
    Path(spec["result"]).write_text(json.dumps(found))
    ranks.leave()


if __name__ == "__main__":
    main()
