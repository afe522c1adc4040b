"""The small copy of a configuration: fewer documents, steps and samples, all else as it is. Pure."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from lt_hpc.config.checks import check
from lt_hpc.config.schema import Config

STEPS = 16
"""Of a training: some remain after a warning that comes in the first of them."""
DOCUMENTS = 16
BLOCK, BLOCKS_PER_SHARD = 2, 4
"""Chunks committed together, and blocks that a task has at least: it is stopped between two of them."""


@dataclass(frozen=True)
class Change:
    """A field that is smaller than in the configuration that is rehearsed."""

    field: str
    own: Any
    small: Any

    def __str__(self) -> str:
        return f"{self.field}: {self.small} (yours: {self.own})"


def small_copy(config: Config, named: Collection[str], on_slurm: bool) -> tuple[Config, list[Change]]:
    """The copy, and what is smaller in it. A field that is `named`, itself or by its section, stays as it is;
    so does one that is small enough. Nothing says anything of a tracker.

    Raises:
        ConfigError: when what was named does not fit together with the rest of the copy.
    """
    found, changes = copy.deepcopy(config), []
    for field, most in _limits(config, on_slurm).items():
        section, _, name = field.rpartition(".")
        holder: Any = functools.reduce(getattr, section.split("."), found)
        own = getattr(holder, name)
        small = most if own is None or isinstance(own, list) else min(own, most)
        if own != small and not any(field == one or field.startswith(f"{one}.") for one in named):
            setattr(holder, name, small)
            changes.append(Change(field, own, small))
    check(found)
    return found, changes


def _limits(config: Config, on_slurm: bool) -> dict[str, Any]:
    """Field -> its most."""
    shards = 2 * _processes(config, on_slurm)
    limits: dict[str, Any] = {f"{name}.num_documents": DOCUMENTS for name in config.corpora}
    limits["corpus.num_documents"] = max(DOCUMENTS, BLOCK * BLOCKS_PER_SHARD * shards)
    limits |= {
        "sample.num_samples": max(2, math.ceil(config.merge.target_ess)),
        "sample.block_chunks": BLOCK,
        "sample.num_shards": shards,
        "prepare.num_shards": 2,
        "teacher.num_shards": 2,
        "evaluate.num_samples": 2,
        "evaluate.estimate_chunks": 4,
        "evaluate.estimate_samples": 4,
        "evaluate.answer_samples": 1,
    }
    if config.benchmark.tasks:
        limits |= {
            "benchmark.limit": BLOCK * BLOCKS_PER_SHARD,
            "benchmark.trials": 1,
            "benchmark.block_items": BLOCK,
            "benchmark.num_shards": 2,
        }
    for name in ("warm_start", "train"):
        training = getattr(config, name)
        row = config.row_tokens(training)
        limits[f"{name}.steps"] = STEPS
        limits[f"{name}.batch_tokens"] = row * training.micro_batch_rows * _ranks(config, on_slurm)
        limits[f"{name}.trackers"] = []
    return limits


def _processes(config: Config, on_slurm: bool) -> int:
    """Of one task of the E-step, each with a shard of its own at least."""
    return config.slurm.job("sample").nodes * config.slurm.job("sample").tasks_per_node if on_slurm else 1


def _ranks(config: Config, on_slurm: bool) -> int:
    """Of a training."""
    asked = config.slurm.job("train")
    return asked.nodes * asked.tasks_per_node if on_slurm else config.local.train_ranks
