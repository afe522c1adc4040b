"""train: the M-step. One task is one rank; DeepSpeed ZeRO on packed sequences, from the base.

The data of step s is a function of (run seed, iteration, s), so a resumed run reads nothing
again and the order is the same for every world size. The exported model folder appears at
once, with its manifest in it; checkpoints are removed after that.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lt_hpc.cluster import rendezvous
from lt_hpc.cluster.plan import train_config, training_data
from lt_hpc.data import corpus as corpora
from lt_hpc.data import examples as data
from lt_hpc.data.examples import Epoch, Example
from lt_hpc.errors import IncompleteError, Interrupted, StageError
from lt_hpc.latent.schedule import learning_rate
from lt_hpc.stages.context import Task
from lt_hpc.store import checkpoints, manifest, tables
from lt_hpc.store.atomic import append_line, atomic_folder, clean_temporaries
from lt_hpc.store.manifest import Manifest
from lt_hpc.store.paths import LAYOUT, TRAIN_LOG


def run(task: Task) -> None:
    """Train and export the model of the iteration."""
    from lt_hpc.engines import zero

    attempt = os.environ["LT_ATTEMPT"]
    local = os.environ.get("LT_RENDEZVOUS", "local") == "local"
    folder = task.paths.checkpoints(task.stage.iteration, task.stage.fingerprint)
    folder.mkdir(parents=True, exist_ok=True)
    store = rendezvous.store(folder, attempt, task.index, task.count, local)
    zero.init_process_group(store, task.index, task.count)
    try:
        _Training(task, zero).run()
    finally:
        zero.leave()
    if task.index == 0:
        shutil.rmtree(folder)


def examples_of(task: Task) -> list[Example]:
    """The iteration's training examples, in chunk order.

    Raises:
        IncompleteError: when the corpus or the selection does not verify.
    """
    config, iteration = task.plan.config, task.stage.iteration
    kind = training_data(config, iteration)
    name = "warm" if kind == "teacher" else "corpus"
    corpus = corpora.read(task.paths.documents(name), task.plan.output(name), task.view)
    if kind == "teacher":
        return [Example(chunk, chunk.thought) for chunk in corpus.chunks()]
    if kind == "raw":
        return [Example(chunk, None) for chunk in corpus.chunks()]
    folder = task.paths.selected(iteration)
    found = manifest.verified(folder, task.plan.output(f"iter-{iteration:02d}/selected"))
    selected: dict[int, list[int] | None] = {}
    for entry in found.files:
        table = tables.read(folder / entry.name, tables.SELECTED)
        rows = zip(
            table["chunk"].to_pylist(), table["sample"].to_pylist(), table["thought"].to_pylist(), strict=True
        )
        selected.update({chunk: thought if sample >= 0 else None for chunk, sample, thought in rows})
    kept = []
    for chunk in corpus.chunks():
        if chunk.chunk_id not in selected:
            raise IncompleteError(f"{folder}: chunk {chunk.chunk_id} of the corpus has no row")
        thought = selected[chunk.chunk_id]
        if thought is not None or config.merge.unfinished == "raw":
            kept.append(Example(chunk, thought))
    return kept


@dataclass(frozen=True)
class Steps:
    """Which packed rows each optimizer step takes: the same for every world size."""

    epochs: list[Epoch]
    rows: list[tuple[int, int]]  # (epoch, row)
    rows_a_step: int
    count: int

    def of(self, step: int) -> list[tuple[int, int]]:
        start = step * self.rows_a_step
        return self.rows[start : start + self.rows_a_step]

    def tokens(self, step: int, examples: list[Example]) -> int:
        """Tokens of a step that take a loss, over all ranks."""
        return sum(
            examples[member].length(bool(self.epochs[e].thought_first[member]))
            - examples[member].num_context()
            for e, row in self.of(step)
            for member in self.epochs[e].rows[row]
        )


def plan_steps(task: Task, examples: list[Example]) -> Steps:
    """Pack as many epochs as the settings ask for. The last step may be smaller: no chunk is
    dropped, and a step's loss is normalised by its own tokens."""
    config = task.plan.config
    settings = train_config(config, task.stage.iteration)
    capacity = config.model.context_length
    rows_a_step = settings.batch_tokens // capacity
    epochs: list[Epoch] = []
    rows: list[tuple[int, int]] = []

    def enough() -> bool:
        if settings.steps is not None:
            return len(rows) >= settings.steps * rows_a_step
        return len(epochs) >= settings.epochs

    while not enough():
        epoch = data.epoch(examples, config.seed, task.stage.iteration, len(epochs), capacity)
        share = 1.0 if settings.steps is not None else min(1.0, settings.epochs - len(epochs))
        rows += [(len(epochs), row) for row in range(round(share * len(epoch.rows)))]
        epochs.append(epoch)
    count = settings.steps or -(-len(rows) // rows_a_step)
    return Steps(epochs, rows[: count * rows_a_step], rows_a_step, count)


class _Training:
    """The loop of one rank."""

    def __init__(self, task: Task, zero: Any) -> None:
        self.task, self.zero = task, zero
        self.config = train_config(task.plan.config, task.stage.iteration)
        self.layout = task.vocabulary()
        self.examples = examples_of(task)
        self.steps = plan_steps(task, self.examples)
        rows_a_rank = -(-self.steps.rows_a_step // task.count)
        self.micro_rows = min(self.config.micro_batch_rows, rows_a_rank)
        self.micro_batches = -(-rows_a_rank // self.micro_rows)
        base = task.paths.base
        manifest.verified(base, task.plan.output("base"))
        self.trainer = zero.ZeroTrainer(
            base, self.config, self.micro_batches, task.plan.config.model.trust_remote_code
        )
        self.folder = task.paths.checkpoints(task.stage.iteration, task.stage.fingerprint)
        self.started = time.monotonic()
        self.last_save = self.started
        self.tokens = 0

    def run(self) -> None:
        first = self._resume()
        self.task.progress.start(self.steps.count, "steps", first)
        for step in range(first, self.steps.count):
            self._step(step)
            done = step + 1
            stop = self.task.should_stop() and done < self.steps.count
            save = stop or self._save_due(done)
            # The largest request wins, so that every rank saves and stops at the same step.
            wish = self.zero.all_max(2 if stop else int(save))
            if wish and done < self.steps.count:
                self._save(done)
            if wish == 2:
                raise Interrupted(f"{self.task.stage.key}: stopped at step {done}, checkpoint saved")
        self._export()

    def _resume(self) -> int:
        """Step to go on from. Rank 0 decides which checkpoint is the latest that verifies."""
        fingerprint = self.task.stage.fingerprint
        latest = checkpoints.latest(self.folder, fingerprint, self.task.count) if self.task.index == 0 else 0
        step = self.zero.all_max(latest or 0)
        if step:
            self.trainer.load(self.folder, checkpoints.tag(step))
        return step

    def _batches(self, step: int) -> Iterator[data.Batch]:
        """This rank's micro-batches: rows rank, rank + count, ...; padded with empty ones, since
        DeepSpeed wants the same number on every rank."""
        rows = [(self.steps.epochs[e], r) for e, r in self.steps.of(step)]
        mine = rows[self.task.index :: self.task.count]
        capacity = self.task.plan.config.model.context_length
        empty = (Epoch([[]], self.steps.epochs[0].thought_first), 0)
        for index in range(self.micro_batches):
            chosen = mine[index * self.micro_rows : (index + 1) * self.micro_rows] or [empty]
            yield data.batch(chosen, self.examples, self.layout.layout, self.layout.pad, capacity)

    def _step(self, step: int) -> None:
        batches = list(self._batches(step))
        tokens = self.steps.tokens(step, self.examples)
        factor = learning_rate(
            self.config.schedule,
            step,
            self.steps.count,
            self.config.warmup_steps,
            self.config.final_learning_rate,
        )
        nll, norm = self.trainer.step(batches, tokens, self.config.learning_rate * factor)
        loss = self.zero.all_sum(nll) / tokens
        if not math.isfinite(loss):
            raise StageError(f"the loss is {loss} at step {step}; try a lower learning rate or float32")
        self.tokens += tokens
        if self.task.index == 0:
            seconds = time.monotonic() - self.started
            line = {
                "step": step,
                "loss": loss,
                "learning_rate": self.config.learning_rate * factor,
                "gradient_norm": norm,
                "tokens": tokens,
                "seconds": round(seconds, 3),
            }
            append_line(self.folder / TRAIN_LOG, line)
            self.task.progress.advance(note=f"loss {loss:.4f}")

    def _save_due(self, done: int) -> bool:
        if self.config.checkpoint_steps:
            return done % self.config.checkpoint_steps == 0
        return time.monotonic() - self.last_save > self.config.checkpoint_seconds

    def _save(self, done: int) -> None:
        fingerprint = self.task.stage.fingerprint
        if self.task.index == 0:
            checkpoints.clear(self.folder, done)
        self.zero.all_max(0)
        self.trainer.save(self.folder, checkpoints.tag(done))
        if self.task.index == 0:
            checkpoints.commit(self.folder, done, fingerprint, self.task.count)
            checkpoints.prune(self.folder, self.config.keep_checkpoints)
        self.zero.all_max(0)
        self.last_save = time.monotonic()

    def _export(self) -> None:
        target = self.task.paths.model(self.task.stage.iteration)
        if self.task.index == 0:
            clean_temporaries(target.parent)
            with atomic_folder(target) as temporary:
                self.trainer.export(temporary)
                self._finish(temporary)
        else:
            self.trainer.export(target)

    def _finish(self, folder: Path) -> None:
        """Add tokenizer, layout, training log and manifest to an exported model."""
        base = self.task.paths.base
        for path in sorted(base.iterdir()):
            if path.name.startswith(("tokenizer", "special_tokens", "chat_template")) or path.name == LAYOUT:
                shutil.copyfile(path, folder / path.name)
        losses = _train_log(self.folder / TRAIN_LOG)
        files = tuple(manifest.describe(path) for path in sorted(folder.iterdir()))
        statistics = {
            "losses": [losses[step]["loss"] for step in sorted(losses)],
            "examples": len(self.examples),
            "useful_share": sum(line["tokens"] for line in losses.values())
            / max(1, self.steps.count * self.config.batch_tokens),
        }
        counts = {
            "steps": self.steps.count,
            "trained_tokens": sum(line["tokens"] for line in losses.values()),
        }
        seconds = sum(line["seconds_of_step"] for line in losses.values())
        record = Manifest(
            "model",
            self.task.stage.fingerprint,
            True,
            files,
            counts,
            seconds,
            statistics,
            manifest.provenance(),
        )
        manifest.write(folder, record)


def _train_log(path: Path) -> dict[int, dict[str, Any]]:
    """Step -> its last line, over all attempts."""
    lines: dict[int, dict[str, Any]] = {}
    previous = 0.0
    for text in path.read_text().splitlines():
        line = json.loads(text)
        elapsed = line["seconds"]
        line["seconds_of_step"] = elapsed - previous if elapsed >= previous else elapsed
        previous = elapsed
        lines[line["step"]] = line
    return lines
