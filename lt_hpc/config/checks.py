"""Which values the configuration's fields may have: choices, ranges, and what must fit together."""

from __future__ import annotations

import importlib.util
import math
from typing import TYPE_CHECKING, Any

from lt_hpc import kinds
from lt_hpc.errors import ConfigError
from lt_hpc.latent.layout import NUM_MARKERS

if TYPE_CHECKING:
    from lt_hpc.config.schema import Config, CorpusConfig, JobConfig, SlurmConfig, TrainConfig

_DTYPES = ("float32", "bfloat16", "float16")
CHOICES: dict[str, tuple[str, ...]] = {
    "objective": ("em", "raw", "warm"),
    "chunking.mode": ("sentences", "given"),
    "sample.engine": ("torch", "vllm"),
    "sample.dtype": _DTYPES,
    "merge.method": ("multinomial", "systematic", "argmax"),
    "merge.weights": ("exact", "tempered", "length_normalised"),
    "merge.unfinished": ("raw", "drop"),
    "warm_start.schedule": ("cosine", "wsd"),
    "train.schedule": ("cosine", "wsd"),
    "warm_start.dtype": ("float32", "bfloat16"),
    "train.dtype": ("float32", "bfloat16"),
    "warm_start.start": ("base",),
    "train.start": ("base", "previous"),
    "evaluate.dtype": _DTYPES,
}
"""Fields with a closed set of values."""

_TRAIN_RANGES = {
    "epochs": (0, None, False),
    "steps": (1, None, True),
    "batch_tokens": (1, None, True),
    "learning_rate": (0, None, False),
    "warmup_steps": (0, None, True),
    "final_learning_rate": (0, 1, True),
    "weight_decay": (0, None, True),
    "clip_norm": (0, None, False),
    "beta2": (0, 0.99999, False),
    "zero_stage": (0, 3, True),
    "micro_batch_rows": (1, None, True),
    "checkpoint_seconds": (0, None, False),
    "checkpoint_steps": (1, None, True),
    "keep_checkpoints": (1, None, True),
    "log_steps": (1, None, True),
}
_JOB_RANGES = {
    "nodes": (1, None, True),
    "tasks_per_node": (1, None, True),
    "cpus_per_task": (1, None, True),
    "gpus_per_node": (0, None, True),
    "minutes": (1, None, True),
}
RANGES: dict[str, tuple[float, float | None, bool]] = {
    "model.context_length": (16, None, True),
    "chunking.mean_sentences": (0, None, False),
    "chunking.min_sentences": (1, None, True),
    "chunking.max_sentences": (1, None, True),
    "chunking.max_chunk_tokens": (1, None, True),
    "chunking.prefix_chunks": (0, None, True),
    "sample.num_samples": (1, None, True),
    "sample.temperature": (0, None, False),
    "sample.top_p": (0, 1, False),
    "sample.top_k": (0, None, True),
    "sample.max_thought_tokens": (1, None, True),
    "sample.block_chunks": (1, None, True),
    "sample.num_shards": (1, None, True),
    "sample.batch_tokens": (1, None, True),
    "sample.precision_chunks": (0, None, True),
    "merge.num_selected": (1, None, True),
    "merge.target_ess": (1, None, True),
    "sample.vllm.tensor_parallel_size": (1, None, True),
    "sample.vllm.max_num_seqs": (1, None, True),
    "sample.vllm.gpu_memory_utilization": (0, 1, False),
    "sample.vllm.kv_cache_gb": (0, None, False),
    "evaluate.num_samples": (1, None, True),
    "evaluate.max_answer_tokens": (1, None, True),
    **{f"estimate.{key}": (1, None, True) for key in ("parameters", "layers", "hidden_size", "vocabulary")},
    **{f"estimate.{key}": (0, None, False) for key in ("warm_tokens", "corpus_tokens", "thought_tokens")},
    "hardware.peak_tflops": (0, None, False),
    "hardware.memory_gb": (0, None, False),
    "hardware.expected_mfu": (0, 1, False),
    "local.processes": (1, None, True),
    "local.train_ranks": (1, None, True),
    "local.threads": (1, None, True),
    "slurm.array_parallelism": (1, None, True),
    "slurm.max_array_size": (1, None, True),
    "slurm.max_array_tasks": (1, None, True),
    "slurm.signal_seconds": (1, None, True),
    **{f"slurm.{stage}.{key}": bounds for stage in kinds.NAMES for key, bounds in _JOB_RANGES.items()},
    **{
        f"{section}.{key}": bounds
        for section in ("warm_start", "train")
        for key, bounds in _TRAIN_RANGES.items()
    },
    **{f"{section}.num_documents": (1, None, True) for section in ("corpus", "warm", "heldout")},
    **{f"{section}.offset": (0, None, True) for section in ("corpus", "warm", "heldout")},
}
"""Field -> (low, high or None, whether low itself is allowed)."""


def _lookup(config: Config, dotted: str) -> Any:
    value: Any = config
    for part in dotted.split("."):
        value = getattr(value, part)
    return value


def check(config: Config) -> None:
    """Raise ConfigError for the first field whose value can't work."""
    for dotted, choices in CHOICES.items():
        value = _lookup(config, dotted)
        if value not in choices:
            raise ConfigError(f"{dotted}={value!r}: choose one of {', '.join(choices)}")
    for dotted, (low, high, inclusive) in RANGES.items():
        value = _lookup(config, dotted)
        if value is None:
            continue
        if not math.isfinite(value):
            raise ConfigError(f"{dotted}={value}: must be a finite number")
        if value < low or (value == low and not inclusive) or (high is not None and value > high):
            bound = f"{'at least' if inclusive else 'greater than'} {low}"
            bound += "" if high is None else f" and at most {high}"
            raise ConfigError(f"{dotted}={value}: must be {bound}")
    _check_together(config)


_TRACKERS = {"tensorboard": "tensorboard", "wandb": "wandb"}
"""Tracker -> the package it needs."""


def _check_training(config: Config, section: str) -> None:
    train: TrainConfig = getattr(config, section)
    if train.batch_tokens % config.model.context_length:
        raise ConfigError(
            f"{section}.batch_tokens={train.batch_tokens}: must be a multiple of "
            f"model.context_length={config.model.context_length}"
        )
    if train.zero_stage == 0 and train.dtype != "float32":
        raise ConfigError(
            f"{section}.zero_stage=0: with {section}.dtype={train.dtype} choose 1, 2 or 3 "
            "(on one GPU they cost nothing); without ZeRO gradients would add up in 16 bits"
        )
    for tracker in train.trackers:
        if tracker not in _TRACKERS:
            raise ConfigError(f"{section}.trackers: {tracker!r}: choose from {', '.join(_TRACKERS)}")
        if importlib.util.find_spec(_TRACKERS[tracker]) is None:
            raise ConfigError(
                f"{section}.trackers: {tracker} is not installed; pip install {_TRACKERS[tracker]}"
            )


def _check_fresh(config: Config) -> None:
    for section in ("warm", "heldout"):
        if getattr(config, section).fresh:
            raise ConfigError(f"{section}.fresh=true: only corpus can be fresh in each iteration")
    if config.corpus.fresh and config.corpus.num_documents is None:
        raise ConfigError("corpus.num_documents: corpus.fresh=true needs it: documents of one iteration")


def _check_together(config: Config) -> None:
    chunking = config.chunking
    if chunking.min_sentences > chunking.max_sentences:
        raise ConfigError(
            f"chunking.min_sentences={chunking.min_sentences}: must be at most "
            f"chunking.max_sentences={chunking.max_sentences}"
        )
    room = config.model.context_length - config.sample.max_thought_tokens - NUM_MARKERS
    if chunking.max_chunk_tokens > room:
        raise ConfigError(
            f"chunking.max_chunk_tokens={chunking.max_chunk_tokens}: with "
            f"sample.max_thought_tokens={config.sample.max_thought_tokens} a chunk may have at most "
            f"{room} tokens in model.context_length={config.model.context_length}"
        )
    if config.merge.weights == "tempered" and config.merge.target_ess > config.sample.num_samples:
        raise ConfigError(
            f"merge.target_ess={config.merge.target_ess}: must be at most "
            f"sample.num_samples={config.sample.num_samples}"
        )
    if config.sample.engine == "vllm":
        _check_vllm(config)
    _check_jobs(config)
    if chunking.mode == "given":
        for section in ("corpus", "warm", "heldout"):
            corpus: CorpusConfig = getattr(config, section)
            if corpus.source.startswith("builtin:"):
                continue
            for key in ("question_column", "answer_column"):
                if getattr(corpus, key) is None:
                    raise ConfigError(f"{section}.{key}: chunking.mode=given needs it")
    for section in ("warm_start", "train"):
        _check_training(config, section)
    _check_fresh(config)


def _check_jobs(config: Config) -> None:
    for stage in (kind.name for kind in kinds.KINDS if kind.tasks == "one"):
        job = config.slurm.job(stage)
        for key in ("nodes", "tasks_per_node"):
            if getattr(job, key) > 1:
                raise ConfigError(f"slurm.{stage}.{key}={getattr(job, key)}: must be 1, one task does it all")
    sections: dict[str, SlurmConfig | JobConfig] = {"slurm": config.slurm}
    sections |= {f"slurm.{stage}": config.slurm.job(stage) for stage in kinds.NAMES}
    for section, options in sections.items():
        for name in {"clusters", "cluster", "M"} & set(options.options):
            raise ConfigError(
                f"{section}.options.{name}: the queue of another cluster can't be looked at; log in there"
            )


def _check_vllm(config: Config) -> None:
    sample = config.sample
    if sample.temperature < 0.01:
        raise ConfigError(f"sample.temperature={sample.temperature}: sample.engine=vllm takes 0.01 or more")
    for stage in ("sample", "evaluate"):
        gpus, size = config.slurm.job(stage).gpus_per_node, sample.vllm.tensor_parallel_size
        if 0 < gpus < size:
            raise ConfigError(
                f"slurm.{stage}.gpus_per_node={gpus}: sample.vllm.tensor_parallel_size={size} needs {size}"
            )
