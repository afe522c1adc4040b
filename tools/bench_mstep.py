"""python tools/bench_mstep.py [--model builtin:demo_base] [--source builtin:chain] [--repeats 3] ...

Useful tokens (no padding) per second of the M-step, side by side on the same documents, each arm in
fresh processes with one thread each, the arms in turn `--repeats` times:

    padded      Hugging Face Trainer, each micro-batch padded to its longest document
    flattened   Hugging Face Trainer with DataCollatorWithFlattening, no cache: its packing
    bare        forward, backward, clipping and AdamW on our packed rows, no framework
    ours        the trainer of lt_hpc on one rank
    ours2       the same on two ranks

Prints a line an arm and the ratios: median (lowest to highest). --profile prints where the time
of one step of ours goes, --checkpoint what saving and restoring costs. SmolLM2 on word problems:

    python tools/bench_mstep.py --model models/smollm2-135m --source builtin:gsm --context 512 \\
        --rows 4 --micro-rows 1 --steps 2

--source prose: chunks per second on chunks of sentences of English prose, whose thoughts are other text:

    sliding     each chunk with its prefix of up to 3 chunks, as by default
    apart       prefixes of up to --prefix-chunks that begin at every --prefix-stride-th chunk, the
                chunks that `shared` has in each step
    shared      the same with train.prefixes=shared
    raw         the same with train.raw_loss_weight=1, the prefixes' loss as raw text

It also prints the tokens that one epoch of each computes, and how far the losses of `shared` lie from
those of `apart` in any step. --random trains a random Llama of so many layers and hidden units in place
of the model; --count stops after counting.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from lt_hpc.config.schema import ModelConfig
from lt_hpc.data import base_model
from tools import prose
from tools.bench_documents import Data, of_prose, of_source

ARMS = {"padded": 1, "flattened": 1, "bare": 1, "ours": 1, "ours2": 2}
"""Arm -> processes."""
PROSE_ARMS = {"sliding": 1, "apart": 1, "shared": 1, "raw": 1}
RATIOS = (
    ("ours", "padded"), ("ours", "flattened"), ("ours", "bare"), ("ours2", "ours"),
    ("apart", "sliding"), ("shared", "sliding"), ("shared", "apart"), ("raw", "shared"),
)  # fmt: skip
RATE = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="builtin:demo_base")
    parser.add_argument("--source", default="builtin:chain")
    parser.add_argument("--context", type=int, default=128, help="tokens of a packed row")
    parser.add_argument("--rows", type=int, default=16, help="rows of an optimizer step, over all ranks")
    parser.add_argument("--micro-rows", type=int, default=8, help="rows of a micro-batch")
    parser.add_argument("--steps", type=int, default=20, help="measured steps, after one to warm up")
    parser.add_argument("--zero-stage", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--arms", nargs="+", choices=[*ARMS, *PROSE_ARMS])
    parser.add_argument("--prefix-chunks", type=int, default=3, help="chunks of a prefix at most")
    parser.add_argument("--prefix-stride", type=int, default=2, help="chunks between starts of prefixes")
    parser.add_argument("--mean-sentences", type=float, default=8)
    parser.add_argument("--thought-tokens", type=float, default=1.0, help="per token of a chunk, the median")
    parser.add_argument("--row-contexts", type=int, default=1, help="train.row_tokens / --context, of prose")
    parser.add_argument("--random", type=int, nargs=2, help="layers and hidden size of a random model")
    parser.add_argument("--count", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--checkpoint", action="store_true")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)  # arm, rank, count, folder
    options = parser.parse_args()
    if options.worker:
        _work(options, options.worker[0], int(options.worker[1]), int(options.worker[2]), options.worker[3])
        return
    options.arms = options.arms or list(PROSE_ARMS if options.source == "prose" else ARMS)
    things = "chunks" if options.source == "prose" else "useful tokens"
    speeds: dict[str, list[float]] = {arm: [] for arm in options.arms}
    efficiency: dict[str, list[float]] = {arm: [] for arm in options.arms}
    losses: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        base_model.build(ModelConfig(path=options.model, context_length=options.context), base)
        if options.random:
            prose.put_random_model(base, *options.random)
        if options.source == "prose":
            for arm in PROSE_ARMS:
                print(f"{arm:10} {prose.counted(prose.epoch(base, options, arm))}", flush=True)
        for repeat in range(0 if options.count else options.repeats):
            for arm in options.arms[:: 1 if repeat % 2 == 0 else -1]:
                speed, cpu_speed, losses[arm] = _measure(arm, Path(folder) / f"{arm}-{repeat}")
                speeds[arm].append(speed)
                efficiency[arm].append(cpu_speed)
                print(f"{repeat} {arm}: {speed:.2f} {things}/s, {cpu_speed:.2f} a CPU second", flush=True)
    if options.count:
        return
    for unit, found in (("s", speeds), ("CPU second of rank 0", efficiency)):
        for arm, values in found.items():
            print(f"{arm:10} {_spread(values, 2)} {things}/{unit}")
        for upper, lower in RATIOS:
            if upper in found and lower in found:
                ratios = [a / b for a, b in zip(found[upper], found[lower], strict=True)]
                print(f"{upper} / {lower}: {_spread(ratios, 3)}")
    if {"apart", "shared"} <= set(losses):
        pairs = list(zip(losses["apart"], losses["shared"], strict=True))
        worst = max(abs(a - b) for a, b in pairs)
        curve = f"loss per token: {pairs[0][0]:.4f} to {pairs[-1][0]:.4f} in {len(pairs)} steps"
        print(f"{curve}, shared and apart differ by {worst:.1e} at most")


def _spread(values: list[float], digits: int) -> str:
    median, low, high = (
        f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values))
    )
    return f"{median} ({low} to {high})"


def _measure(arm: str, folder: Path) -> tuple[float, float, list[float]]:
    """Useful tokens (or chunks) per second, and per CPU second of rank 0, of an arm in processes of its own,
    and its losses. The second figure is the steadier one on a busy machine."""
    folder.mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    count = {**ARMS, **PROSE_ARMS}[arm]
    processes = [
        subprocess.Popen(
            [sys.executable, *sys.argv, "--worker", arm, str(rank), str(count), str(folder)],
            env=environment,
            stderr=subprocess.PIPE,
            stdout=None if {"--profile", "--checkpoint"} & set(sys.argv) else subprocess.DEVNULL,
            text=True,
        )
        for rank in range(count)
    ]
    errors = [process.communicate()[1] for process in processes]
    if any(process.returncode for process in processes):
        sys.exit(f"{arm} failed:\n{errors[0][-3000:]}")
    result = json.loads((folder / "result.json").read_text())
    return result["count"] / result["seconds"], result["count"] / result["cpu_seconds"], result["losses"]


def _work(options: argparse.Namespace, arm: str, rank: int, count: int, folder: str) -> None:
    """One process of an arm; rank 0 writes the tokens and seconds of the measured steps."""
    import torch

    torch.set_num_threads(1)
    model = Path(folder).parent / "base"
    on_prose = options.source == "prose"
    losses: list[float] = []
    ends: list[tuple[float, float]]
    done: float
    documents = of_prose(options, model, arm) if on_prose else of_source(options, model)
    if arm in ("padded", "flattened"):
        ends, done = _run_trainer(options, model, documents, flatten=arm == "flattened")
    else:
        make = _bare_step if arm == "bare" else _our_step
        step = make(options, model, documents, rank, count, Path(folder), losses)
        ends = list(_timed(step, len(documents.rows), options.profile and arm != "bare" and rank == 0))
        measured = range(1, len(documents.rows))
        done = sum(documents.chunks(s) if on_prose else documents.useful(s) for s in measured)
    if rank == 0:
        seconds, cpu = (last - first for first, last in zip(ends[0], ends[-1], strict=True))
        result = {"count": done, "seconds": seconds, "cpu_seconds": cpu, "losses": losses}
        (Path(folder) / "result.json").write_text(json.dumps(result))


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _timed(step: Callable[[int], None], count: int, profile: bool) -> Iterator[tuple[float, float]]:
    for index in range(count):
        if profile and index == count - 1:
            from torch.profiler import ProfilerActivity
            from torch.profiler import profile as record

            with record(activities=[ProfilerActivity.CPU]) as found:
                step(index)
            print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=25), flush=True)
        else:
            step(index)
        yield _now()


def _batches(options: argparse.Namespace, documents: Data, step: int, rank: int, count: int) -> list[Any]:

    from lt_hpc.training.batches import make_batch

    mine = documents.rows[step][rank::count]
    rows_per_rank = -(-options.rows // count)
    batches = []
    for first in range(0, rows_per_rank, options.micro_rows):
        rows = [(documents.epoch, row) for row in mine[first : first + options.micro_rows]]
        batches.append(make_batch(rows, documents.layout, documents.pad, documents.capacity))
    return batches


def _our_step(
    options: argparse.Namespace,
    model: Path,
    documents: Data,
    rank: int,
    count: int,
    folder: Path,
    losses: list[float],
) -> Callable[[int], None]:
    from lt_hpc.cluster import rendezvous
    from lt_hpc.cluster.place import Place
    from lt_hpc.config.schema import TrainConfig
    from lt_hpc.training import zero

    ranks = zero.init_process_group(rendezvous.store(folder, Place(rank, count, rank, "bench")), rank, count)
    prefixes: Literal["shared", "separate"] = "shared" if options.source == "prose" else "separate"
    config = TrainConfig(zero_stage=options.zero_stage, learning_rate=RATE, prefixes=prefixes)
    trainer = zero.ZeroTrainer(model, config, len(_batches(options, documents, 0, rank, count)), False)

    def step(index: int) -> None:
        scored = documents.scored(index)
        done = trainer.step(_batches(options, documents, index, rank, count), scored, RATE, index)
        losses.append(ranks.all_sum(done.nll)[0] / scored)
        if options.checkpoint and index == 0:  # before the measured steps
            _checkpoint(trainer, ranks, folder)

    return step


def _checkpoint(trainer: Any, ranks: Any, folder: Path) -> None:
    """Save and restore once, and print what that took."""
    from lt_hpc.training.saving import Saver

    saver = Saver(folder, ranks, expected="bench", attempt="bench", keep=1)
    saver.save(trainer, 1)
    cost = saver.wait()
    ranks.all_sum(0)
    started = time.perf_counter()
    saver.resume(trainer)
    if cost:
        print(
            f"checkpoint on {ranks.count} ranks: {cost.bytes:,} bytes, "
            f"training held up {cost.blocked_seconds:.2f} s, complete after {cost.seconds:.2f} s, "
            f"verified and restored in {time.perf_counter() - started:.2f} s",
            flush=True,
        )


def _bare_step(
    options: argparse.Namespace,
    model: Path,
    documents: Data,
    rank: int,
    count: int,
    folder: Path,
    losses: list[float],
) -> Callable[[int], None]:
    import torch
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.01, fused=True
    )

    def step(index: int) -> None:
        for batch in _batches(options, documents, index, rank, count):
            ids, positions, labels = (torch.from_numpy(v) for v in (batch.ids, batch.positions, batch.labels))
            logits = network(input_ids=ids, position_ids=positions, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
            (loss / documents.scored(index)).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def _run_trainer(
    options: argparse.Namespace, model: Path, documents: Data, flatten: bool
) -> tuple[list[tuple[float, float]], int]:
    """Hugging Face Trainer on the same documents in the same order; ends of its steps, and the
    tokens of the measured ones. Its micro-batches hold a fixed number of documents: the mean
    number in ours, rounded down."""
    import torch
    from torch.utils.data import SequentialSampler
    from transformers import AutoModelForCausalLM, DataCollatorWithFlattening, Trainer, TrainerCallback

    steps, ends = len(documents.rows), []
    members = [member for step in range(1, steps) for member in documents.members(step)]
    micro_batches = -(-options.rows // options.micro_rows)
    per_step = len(members) // (options.steps * micro_batches) * micro_batches
    members = [*members[:per_step], *members[: options.steps * per_step]]  # the first warms up
    features = [{"input_ids": (ids := documents.tokens(m)), "labels": ids} for m in members]
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    network.config.use_cache = False

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(_now())

    class InOrder(Trainer):  # type: ignore[misc]
        def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
            return SequentialSampler(features)

    arguments = _trainer_arguments(model.parent / "trainer", per_step // micro_batches, micro_batches, steps)
    collate = DataCollatorWithFlattening() if flatten else functools.partial(_pad, documents.pad)
    InOrder(network, arguments, data_collator=collate, train_dataset=features, callbacks=[Clock]).train()
    assert len(ends) == steps
    return ends, sum(len(f["input_ids"]) for f in features[per_step:])


def _trainer_arguments(folder: Path, size: int, micro_batches: int, steps: int) -> Any:
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=size, gradient_accumulation_steps=micro_batches,
        max_steps=steps, learning_rate=RATE, lr_scheduler_type="constant", weight_decay=0.01,
        adam_beta2=0.95, max_grad_norm=1.0, use_cpu=True, save_strategy="no", logging_strategy="no",
        report_to=[], disable_tqdm=True, remove_unused_columns=False, optim="adamw_torch_fused",
    )  # fmt: skip


def _pad(pad: int, batch: list[dict[str, list[int]]]) -> dict[str, Any]:
    import torch

    longest = max(len(feature["input_ids"]) for feature in batch)
    filled = {"input_ids": pad, "labels": -100, "attention_mask": 0}
    rows: dict[str, list[list[int]]] = {key: [] for key in filled}
    for feature in batch:
        ids = feature["input_ids"]
        for key, value in (("input_ids", ids), ("labels", ids), ("attention_mask", [1] * len(ids))):
            rows[key].append([*value, *[filled[key]] * (longest - len(ids))])
    return {key: torch.tensor(value) for key, value in rows.items()}


if __name__ == "__main__":
    main()
