"""The sections of the configuration on machines: what they are, how stages run on them. All `execution`."""

# ruff: noqa: RUF009 (the calls in the defaults return dataclass fields)

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TypeVar

from lt_hpc import kinds
from lt_hpc.config.fields import execution

T = TypeVar("T")


@dataclass
class HardwareConfig:
    """One GPU, for the dry run's estimates and the MFU in training logs."""

    peak_tflops: float | None = execution(None, "TFLOP/s, dense, in the training dtype; A100 bf16: 312", gt=0)
    memory_gb: float | None = execution(None, "GB of memory", gt=0)
    expected_mfu: float = execution(0.4, "model FLOPs utilisation that hours are estimated with", gt=0, le=1)
    sampled_tokens_per_second: float | None = execution(
        None, "of one engine, until shards of the run have measured it", gt=0
    )
    scored_tokens_per_second: float | None = execution(None, "likewise", gt=0)
    price_hour: float | None = execution(None, "USD per hour of a GPU; where there are none, of a core", ge=0)


@dataclass
class EstimateConfig:
    """What a dry run can't look up before anything is prepared or downloaded. Null: not known."""

    parameters: int | None = execution(None, "of a model that is not in a local folder", ge=1)
    layers: int | None = execution(None, "likewise", ge=1)
    hidden_size: int | None = execution(None, "likewise", ge=1)
    intermediate_size: int | None = execution(
        None, "likewise, of the feed-forward layers; null: 2.75 of hidden_size", ge=1
    )
    vocabulary: int | None = execution(None, "likewise, in tokens", ge=1)
    warm_tokens: int | None = execution(None, "raw tokens of the warm documents", gt=0)
    corpus_tokens: int | None = execution(None, "raw tokens of the corpus, of one iteration", gt=0)
    heldout_tokens: int | None = execution(None, "raw tokens of the held-out documents", gt=0)
    heldout_chunks: int | None = execution(None, "their chunks", ge=1)
    thought_tokens: float | None = execution(None, "tokens of thoughts per raw token", gt=0)


@dataclass
class LocalConfig:
    """The back-end for one machine."""

    processes: int = execution(2, "tasks at once; with GPUs at most one per engine's GPUs", ge=1, le=1024)
    train_ranks: int = execution(2, "ranks of training; with GPUs at most one per GPU", ge=1, le=1024)
    threads: int = execution(1, "torch threads per process; of prepare, processes", ge=1, le=1024)


@dataclass(frozen=True)
class Where:
    """Where in a cluster jobs go. None: as the site decides."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None


@dataclass
class JobConfig:
    """What stages of one kind ask of Slurm. Null: as in the `slurm` section."""

    nodes: int = execution(1, "nodes per job", ge=1)
    tasks_per_node: int = execution(1, "tasks per node: ranks, for training", ge=1)
    cpus_per_task: int = execution(1, "CPU cores per task", ge=1)
    gpus_per_node: int = execution(0, "GPUs per node", ge=0)
    memory: str | None = execution(None, "per node, for example 200GB")
    minutes: int = execution(60, "time limit per job", ge=1)
    partition: str | None = execution(None, "sbatch --partition")
    account: str | None = execution(None, "sbatch --account")
    qos: str | None = execution(None, "sbatch --qos")
    constraint: str | None = execution(None, "sbatch --constraint")
    options: dict[str, str] = execution(dict, "further sbatch options")


def _with_a_section_per_kind(cls: type[T]) -> type[T]:
    """A field of type JobConfig for every row of the table of kinds."""
    for name in kinds.NAMES:
        cls.__annotations__[name] = "JobConfig"
        setattr(cls, name, execution(JobConfig, f"jobs of {name} stages"))
    return cls


@dataclass
@_with_a_section_per_kind
class SlurmConfig:
    """The back-end for a cluster; site profiles under configs/cluster/ fill it in. An E-step with more shards
    than `max_array_tasks` has tasks that handle several; arrays longer than `max_array_size` or the cluster's
    own limit are split. Each kind of stage has a section of its own: slurm.prepare, slurm.sample, ..."""

    partition: str | None = execution(None, "sbatch --partition")
    account: str | None = execution(None, "sbatch --account")
    qos: str | None = execution(None, "sbatch --qos")
    constraint: str | None = execution(None, "sbatch --constraint")
    options: dict[str, str] = execution(dict, "further sbatch options, of every stage")
    setup: list[str] = execution(list, "shell lines before the stage, for example module load cuda")
    srun_options: list[str] = execution(list, "for example --container-image=...")
    array_parallelism: int = execution(64, "array tasks that run at the same time", ge=1)
    max_array_size: int = execution(1001, "tasks per array at most", ge=1)
    max_array_tasks: int | None = execution(None, "tasks per E-step at most", ge=1)
    excluded_share: float = execution(
        0.25, "of a partition's nodes at most that jobs leave out where tasks fail or crawl; 0: none",
        ge=0, le=0.5,
    )  # fmt: skip
    signal_seconds: int = execution(120, "seconds from the warning to the time limit", ge=1)

    def job(self, kind: str) -> JobConfig:
        """What stages of a kind ask for: the section `slurm.KIND`."""
        found = getattr(self, kind)
        assert isinstance(found, JobConfig)
        return found

    def where(self, kind: str) -> Where:
        """Where jobs of a kind go: its own settings before those of all stages."""
        job = self.job(kind)
        names = (item.name for item in dataclasses.fields(Where))
        return Where(**{name: getattr(job, name) or getattr(self, name) for name in names})
