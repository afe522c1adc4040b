"""Which values the configuration's fields may have: choices, ranges, and what must fit together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lt_hpc.errors import ConfigError
from lt_hpc.latent.layout import NUM_MARKERS

if TYPE_CHECKING:
    from lt_hpc.config import Config, CorpusConfig, TrainConfig

_DTYPES = ("float32", "bfloat16", "float16")
CHOICES: dict[str, tuple[str, ...]] = {
    "objective": ("em", "raw", "warm"),
    "chunking.mode": ("sentences", "given"),
    "sample.engine": ("torch",),
    "sample.dtype": _DTYPES,
    "merge.method": ("resample", "argmax"),
    "merge.unfinished": ("raw", "drop"),
    "warm_start.schedule": ("cosine", "wsd"),
    "train.schedule": ("cosine", "wsd"),
    "warm_start.dtype": ("float32", "bfloat16"),
    "train.dtype": ("float32", "bfloat16"),
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
    "beta2": (0, 1, False),
    "zero_stage": (0, 3, True),
    "micro_batch_rows": (1, None, True),
    "checkpoint_seconds": (0, None, False),
    "checkpoint_steps": (1, None, True),
    "keep_checkpoints": (1, None, True),
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
    "evaluate.num_samples": (1, None, True),
    "evaluate.max_answer_tokens": (1, None, True),
    "local.processes": (1, None, True),
    "local.train_ranks": (1, None, True),
    "local.threads": (1, None, True),
    "slurm.array_parallelism": (1, None, True),
    "slurm.max_array_size": (1, None, True),
    "slurm.signal_seconds": (1, None, True),
    **{
        f"slurm.{stage}.{key}": bounds
        for stage in ("prepare", "sample", "merge", "train", "evaluate")
        for key, bounds in _JOB_RANGES.items()
    },
    **{
        f"{section}.{key}": bounds
        for section in ("warm_start", "train")
        for key, bounds in _TRAIN_RANGES.items()
    },
    **{
        f"{section}.{key}": (0, None, True)
        for section in ("corpus", "warm", "heldout")
        for key in ("offset", "num_documents")
    },
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
        if value < low or (value == low and not inclusive) or (high is not None and value > high):
            bound = f"{'at least' if inclusive else 'greater than'} {low}"
            bound += "" if high is None else f" and at most {high}"
            raise ConfigError(f"{dotted}={value}: must be {bound}")
    _check_together(config)


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
    if chunking.mode == "given":
        for section in ("corpus", "warm", "heldout"):
            corpus: CorpusConfig = getattr(config, section)
            if corpus.source.startswith("builtin:"):
                continue
            for key in ("question_column", "answer_column"):
                if getattr(corpus, key) is None:
                    raise ConfigError(f"{section}.{key}: chunking.mode=given needs it")
    for section in ("warm_start", "train"):
        train: TrainConfig = getattr(config, section)
        if train.batch_tokens % config.model.context_length:
            raise ConfigError(
                f"{section}.batch_tokens={train.batch_tokens}: must be a multiple of "
                f"model.context_length={config.model.context_length}"
            )
