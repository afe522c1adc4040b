"""train: the M-step. One task is one rank; DeepSpeed ZeRO on packed sequences, from the base or
from the previous model.

The data of step s is a function of (run seed, iteration, s), and so are the learning rate and
the model's own draws, so a resumed run reads nothing again, on any number of ranks. The exported
model folder appears at once, with its manifest in it; checkpoints are removed after that.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from lt_hpc import hardware
from lt_hpc.cluster import rendezvous
from lt_hpc.errors import Interrupted, StageError
from lt_hpc.latent import cost, seeds
from lt_hpc.run import state
from lt_hpc.stages import train_files
from lt_hpc.stages.task import Task
from lt_hpc.stages.train_steps import StepSize
from lt_hpc.store import manifest
from lt_hpc.store.atomic import atomic_folder, clean_temporaries
from lt_hpc.store.checkpoints import Cost
from lt_hpc.store.manifest import Manifest
from lt_hpc.store.paths import LAYOUT
from lt_hpc.training import train_log
from lt_hpc.training.batches import Batch, make_batch
from lt_hpc.training.protocol import Ranks, Trainer
from lt_hpc.training.saving import Saver
from lt_hpc.training.schedule import learning_rate

MAX_SKIPPED_IN_A_ROW = 10


def run(task: Task) -> None:
    """Train and export the model of the iteration."""
    from lt_hpc.training import zero
    from lt_hpc.training.ranks import hardware_errors

    if state.problem(task.paths, task.stage) is None:
        return _clean_up(task)  # an earlier attempt was killed between its last two actions
    folder = task.paths.checkpoints(task.stage.iteration, task.stage.fingerprint)
    folder.mkdir(parents=True, exist_ok=True)
    store = rendezvous.store(folder, task.place)
    with hardware_errors():
        ranks = zero.init_process_group(store, task.place.rank, task.place.count)
        _Training(task, ranks, folder).run()
    ranks.leave()  # a rank that fails does not: it would wait for the others, and they for its end
    _clean_up(task)


def _clean_up(task: Task) -> None:
    if task.place.rank == 0:
        state.remove_spent_checkpoints(state.Look(task.paths), [task.stage])


class _Meter:
    """Tokens that were computed, documents and their tokens, and seconds since it was last read."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.tokens, self.documents, self.whole, self.started = 0, 0, 0, time.monotonic()

    def add(self, size: StepSize) -> None:
        self.tokens += size.tokens
        self.documents += size.documents
        self.whole += size.whole

    def read(self) -> tuple[int, float, float]:
        """Tokens, mean tokens of a document, seconds."""
        found = self.tokens, self.whole / self.documents, time.monotonic() - self.started
        self._reset()
        return found


def _raw_figures(size: StepSize, nll: float) -> dict[str, float | None]:
    """Of the tokens that take a loss as raw text, over all ranks; nothing where that weighs nothing."""
    if not size.raw_weight:
        return {}
    return {"raw_loss": nll / size.raw if size.raw else None, "raw_tokens": size.raw}


class _Training:
    """The loop of one rank."""

    def __init__(self, task: Task, ranks: Ranks, folder: Path) -> None:
        from lt_hpc.training.zero import ZeroTrainer

        self.task, self.ranks = task, ranks
        self.config = task.plan.training(task.stage)
        self.layout = task.vocabulary
        self.data, self.steps = train_files.shared(task, ranks)
        rows_per_rank = -(-self.steps.rows_per_step // task.place.count)
        self.micro_rows = min(self.config.micro_batch_rows, rows_per_rank)
        self.micro_batches = -(-rows_per_rank // self.micro_rows)
        role = "start" if "start" in task.stage.inputs else "base"
        start = task.input(role, checksums=task.place.rank == 0)
        self.trainer: Trainer = ZeroTrainer(
            start, self.config, self.micro_batches, task.plan.config.model.trust_remote_code
        )
        print(hardware.line(hardware.found(self.trainer.attention)), flush=True)
        self.saver = Saver(
            folder,
            ranks,
            expected=task.stage.fingerprint,
            attempt=task.place.attempt,
            keep=self.config.keep_checkpoints,
        )
        self.log_path = task.paths.train_log(task.stage.key, task.stage.fingerprint)
        self.log: train_log.TrainLog | None = None
        self.meter = _Meter()
        self.skipped_in_a_row = 0

    def run(self) -> None:
        try:
            self._train()
        finally:
            self.saver.close()
            if self.log:
                self.log.close()

    def _train(self) -> None:
        first = self.saver.resume(self.trainer)
        if self.task.place.rank == 0:
            name = f"{self.task.plan.config.name}-{self.task.stage.key}-{self.task.stage.fingerprint}"
            trackers = self.task.paths.trackers
            self.log = train_log.TrainLog(self.log_path, self.config.trackers, trackers, name, first)
        self.task.progress.start(self.steps.count, "steps", first)
        for step in range(first, self.steps.count):
            self._step(step)
        self._record_checkpoint(self.saver.wait())
        self._export()

    def _batches(self, step: int) -> Iterator[Batch]:
        """This rank's micro-batches: rows rank, rank + count, ...; padded with empty ones, since
        DeepSpeed wants the same number on every rank."""
        mine = self.steps.of(step)[self.task.place.rank :: self.task.place.count]
        capacity = self.task.plan.config.row_tokens(self.config)
        for index in range(self.micro_batches):
            chosen = mine[index * self.micro_rows : (index + 1) * self.micro_rows]
            yield make_batch(chosen, self.layout.layout, self.layout.pad, capacity)

    def _step(self, step: int) -> None:
        """One optimizer step; saves after it where that is due, and stops where that is asked."""
        size = self.steps.size(step)
        rate = self.config.learning_rate * learning_rate(
            self.config.schedule,
            step,
            self.steps.count,
            self.config.warmup_steps,
            self.config.final_learning_rate,
        )
        seed = seeds.derive(
            self.task.plan.config.seed, "dropout", self.task.stage.iteration, step, self.task.place.rank
        )
        nll, raw_nll, norm = self.trainer.step(list(self._batches(step)), size.all_weight, rate, seed)
        done = step + 1
        # One exchange per step: the losses, and whether any rank has to save or stop.
        nll, raw_nll, stop, save = self.ranks.all_sum(
            nll, raw_nll, self.task.should_stop(), self._save_due(done)
        )
        loss, raw = (nll - size.raw_weight * raw_nll) / size.weight, _raw_figures(size, raw_nll)
        if not math.isfinite(loss):
            raise StageError(f"the loss is {loss} at step {step}; {self._advice}")
        skipped = self._skipped(step, norm)
        self.meter.add(size)
        if self.log and (done % self.config.log_steps == 0 or done == self.steps.count or skipped):
            line = {
                "step": step,
                "loss": loss,
                "learning_rate": rate,
                "gradient_norm": None if skipped else norm,
                "skipped": skipped,
                "tokens": size.scored,
            }
            self.log.step(line | raw | self._speed())
        self.task.progress.advance(note=f"loss {loss:.4f}", committed=False)
        self._record_checkpoint(self.saver.done())
        if (stop or save) and done < self.steps.count:
            self._record_checkpoint(self.saver.save(self.trainer, done))
        if stop and done < self.steps.count:
            self._record_checkpoint(self.saver.wait())
            self.ranks.all_sum(0)  # no rank leaves before rank 0 has committed
            raise Interrupted(f"{self.task.stage.key}: stopped at step {done}, checkpoint saved")

    @property
    def _advice(self) -> str:
        section = "train" if self.task.stage.iteration else "warm_start"
        return f"lower {section}.learning_rate, or set {section}.dtype=float32"

    def _skipped(self, step: int, norm: float | None) -> bool:
        """Whether DeepSpeed left a step out because its gradient is not finite. Where it does not look
        (float32), the next loss tells.

        Raises:
            StageError: when that goes on.
        """
        skipped = norm is not None and not math.isfinite(norm)
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if skipped else 0
        if self.skipped_in_a_row > MAX_SKIPPED_IN_A_ROW:
            raise StageError(
                f"the gradient was not finite in {self.skipped_in_a_row} steps in a row, up to step {step}; "
                f"{self._advice}"
            )
        return skipped

    def _save_due(self, done: int) -> bool:
        if self.config.checkpoint_steps:
            return done % self.config.checkpoint_steps == 0
        return time.monotonic() - self.saver.last > self.config.checkpoint_seconds

    def _record_checkpoint(self, written: Cost | None) -> None:
        if written:
            self.task.progress.committed()
        if written and self.log:
            self.log.checkpoint(written)

    def _speed(self) -> dict[str, float | None]:
        """Seconds since the last line, ranks, tokens per second over all of them, MFU, memory."""
        tokens, length, seconds = self.meter.read()
        peak = self.task.plan.config.hardware.peak_tflops
        flops = cost.flops_per_token(self.trainer.shape, length)
        return {
            "seconds": round(seconds, 4),
            "ranks": self.task.place.count,
            "tokens_per_second": round(tokens / seconds, 1),
            "mfu": tokens / seconds * flops / (peak * 1e12 * self.task.place.count) if peak else None,
            "peak_memory_bytes": self.ranks.peak_memory(),
        }

    def _export(self) -> None:
        target = self.task.output
        if self.task.place.rank == 0:
            clean_temporaries(target.parent)
            with atomic_folder(target) as temporary:
                self.trainer.export(temporary)
                self._finish(temporary)
        else:
            self.trainer.export(target)

    def _finish(self, folder: Path) -> None:
        """Add tokenizer, layout, training log and manifest to an exported model."""
        base = self.task.folder("base")
        names = ("tokenizer", "special_tokens", "chat_template")
        for path in sorted(base.iterdir()):
            if path.name.startswith(names) or path.name == LAYOUT or path.suffix == ".py":
                shutil.copyfile(path, folder / path.name)
        lines, saved = train_log.read(self.log_path)
        sizes = [self.steps.size(step) for step in range(self.steps.count)]
        positions = self.steps.num_rows * self.task.plan.config.row_tokens(self.config)
        statistics = {
            "losses": [line["loss"] for line in lines],
            "examples": len(self.data),
            "passes": self.steps.passes(self.data.draws),
            "text_passes": self.steps.passes([self.data.text] if self.data.text is not None else []),
            "flops": sum(
                size.tokens * cost.flops_per_token(self.trainer.shape, size.whole / size.documents)
                for size in sizes
            ),
            "filled_share": sum(size.tokens for size in sizes) / positions,
            "skipped_steps": sum(line["skipped"] for line in lines),
            "rank_seconds": sum(line["seconds"] * line["ranks"] for line in lines),
            "longest_step_seconds": max(line["seconds"] / self.config.log_steps for line in lines),
            "checkpoint": max(saved, key=lambda line: line["seconds"], default=None),
        }
        record = Manifest(
            stage="model",
            fingerprint=self.task.stage.fingerprint,
            complete=True,
            files=tuple(manifest.describe(path) for path in sorted(folder.iterdir())),
            counts={
                "steps": self.steps.count,
                "trained_tokens": sum(size.scored for size in sizes),
                **({"raw_tokens": raw} if (raw := sum(size.raw for size in sizes)) else {}),
                "computed_tokens": sum(size.tokens for size in sizes),
            },
            seconds=sum(line["seconds"] for line in lines),
            statistics=statistics,
            provenance=manifest.provenance(self.trainer.attention),
        )
        manifest.write(folder, record)
