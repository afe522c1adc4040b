"""One rank of some training jobs: python -m tests.training.zero_worker SPEC.json RANK COUNT

A job is {"name", "model", "stage", "dtype", "steps", "folder"} and maybe "save_at" (write a
checkpoint into folder after that step), "resume" (go on from the checkpoint there), "forget"
(Adam's moments), "export" (a folder), "only" ([rank, count]: alone, what that rank of so many has),
"exact" (reduction in float32), "moments" (each rank writes what it holds of Adam's first moment), "shared"
(prefixes are computed once and take a loss as raw text).
Rank 0 writes NAME.json: the loss of each step it made, and what was seen of them.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from lt_hpc.cluster import rendezvous
from lt_hpc.cluster.place import Place
from lt_hpc.config.schema import TrainConfig
from lt_hpc.data.corpus import Chunk
from lt_hpc.latent.layout import Layout
from lt_hpc.training.batches import Batch, Epoch, Example, Examples, examples_of_list, make_batch, pack_epoch
from lt_hpc.training.protocol import Ranks

LAYOUT = Layout(28, 29, 30, 31)
CAPACITY, ROWS_PER_STEP, MICRO_ROWS = 48, 5, 2
RAW_WEIGHT = 0.3
RATES = [0.02, 0.02, 0.015, 0.01, 0.01, 0.008, 0.008, 0.004]
"""The learning rate of each step."""


def examples(count: int = 120) -> Examples:
    """Chunks with and without a thought, some of whose prefix takes no loss; vocabulary 32."""
    rng = np.random.default_rng(3)
    made = []
    for index in range(count):
        prefix, suffix, thought = (rng.integers(1, 28, rng.integers(2, 9)).tolist() for _ in range(3))
        chunk = Chunk(index, prefix, suffix, len(suffix), given=index % 3 != 0)
        made.append(Example(chunk, None if index % 4 == 0 else thought))
    return examples_of_list(made)


def epoch(shared: bool = False) -> Epoch:
    """Where prefixes are shared, three examples each have one prefix."""
    if not shared:
        return pack_epoch(examples(), 5, 1, 0, CAPACITY)
    made = examples(180)

    def make(index: int) -> Example:
        of, lender = made[index], made[index - index % 3].chunk
        return replace(of, chunk=replace(of.chunk, prefix=lender.prefix, given=False))

    alike = examples_of_list(list(map(make, range(len(made)))))
    origins = np.arange(len(made)) // 3
    packed = pack_epoch(replace(alike, origins=origins), 5, 1, 0, CAPACITY, share=True, raw_weight=RAW_WEIGHT)
    assert packed.borrowed.any()
    return packed


def rows_of(step: int) -> list[int]:
    return list(range(step * ROWS_PER_STEP, (step + 1) * ROWS_PER_STEP))


def scored_tokens(packed: Epoch, step: int) -> float:
    """With their weights."""
    members = [member for row in rows_of(step) for member in packed.rows[row]]
    lengths = packed.examples.lengths(packed.thought_first[members], np.array(members))
    raw = 0 if packed.raw is None else packed.raw_weight * packed.raw[members].sum()
    return float((lengths - packed.examples.unscored[members]).sum() + raw)


def batches(packed: Epoch, step: int, rank: int, count: int) -> list[Batch]:
    """This rank's micro-batches of a step; the same number on each, empty ones where none is left."""
    mine = rows_of(step)[rank::count]
    rows_per_rank = -(-ROWS_PER_STEP // count)
    number = -(-rows_per_rank // MICRO_ROWS)
    found = []
    for index in range(number):
        chosen = [(packed, row) for row in mine[index * MICRO_ROWS : (index + 1) * MICRO_ROWS]]
        found.append(make_batch(chosen, LAYOUT, 0, CAPACITY))
    return found


def run(job: dict, ranks: Ranks) -> None:
    rank, count = ranks.rank, ranks.count
    from lt_hpc.training import partitions, zero
    from lt_hpc.training.saving import Saver

    config = TrainConfig(
        zero_stage=job["stage"], dtype=job["dtype"], weight_decay=0.1, clip_norm=job.get("clip", 0.5),
        activation_checkpointing=job.get("recompute", False), float32_reduction=job.get("exact", False),
        prefixes="shared" if job.get("shared") else "separate",
    )  # fmt: skip
    packed = epoch(job.get("shared", False))
    folder = Path(job["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    share = job.get("only", (rank, count))
    trainer = zero.ZeroTrainer(Path(job["model"]), config, len(batches(packed, 0, *share)), False)
    saver = Saver(folder, ranks, expected="model", attempt=job["name"], keep=2)
    first = saver.resume(trainer) if job.get("resume") else 0
    if job.get("forget"):
        partitions.reset(trainer.engine, trainer.adam, job["stage"], 0)
    losses = {}
    for step in range(first, job["steps"]):
        tokens = scored_tokens(packed, step)
        done = trainer.step(batches(packed, step, *share), tokens, RATES[step], seed=100 * step + rank)
        losses[step] = ranks.all_sum(done.nll)[0] / tokens
        if step + 1 == job.get("save_at"):
            saver.save(trainer, step + 1)
    saver.wait()
    ranks.all_sum(0)
    if job.get("moments"):
        held = {
            f"{piece.name} {piece.start}": one.tensors["exp_avg"][piece.offset : piece.offset + piece.size]
            for one in partitions.partitions(trainer.engine, trainer.adam, job["stage"])
            for piece in one.pieces
        }
        save_file(
            {name: part.clone() for name, part in held.items()}, folder / f"{job['name']}-{rank}.safetensors"
        )
    if "export" in job:
        trainer.export(Path(job["export"]))
    if rank == 0:
        buffers = sorted({str(buffer.dtype) for buffer in trainer.engine.module.buffers()})
        (folder / f"{job['name']}.json").write_text(
            json.dumps({"losses": losses, "norm": done.norm, "buffers": buffers})
        )


def main() -> None:
    spec, rank, count = json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2]), int(sys.argv[3])
    from lt_hpc.training import zero

    store = rendezvous.store(Path(spec["rendezvous"]), Place(rank, count, rank, "test"))
    ranks = zero.init_process_group(store, rank, count)
    for job in spec["jobs"]:
        run(job, ranks)
    ranks.leave()


if __name__ == "__main__":
    main()
