"""What must fit together in a configuration, beyond the type and the bounds of each field."""

from __future__ import annotations

import importlib.metadata
import importlib.util

from lt_hpc import kinds
from lt_hpc.config.convert import shown
from lt_hpc.config.fields import walk
from lt_hpc.config.machines import JobConfig, SlurmConfig
from lt_hpc.config.schema import (
    OPTIONAL_ENGINES,
    Config,
    CorpusConfig,
    TrainConfig,
)
from lt_hpc.config.secrets import has_secret
from lt_hpc.errors import ConfigError
from lt_hpc.latent import slices
from lt_hpc.latent.layout import longest_chunk

_OWN_OPTIONS = {
    "the queue of another cluster can't be looked at; log in there": "clusters cluster M",
    "launch sets this itself": "job-name J array a dependency d requeue no-requeue output o error e "
    "open-mode parsable wrap export wait W",
    "use slurm.signal_seconds": "signal",
    "use the field minutes": "time t",
    "use the field nodes": "nodes N",
    "use the field tasks_per_node": "ntasks n ntasks-per-node tasks-per-node",
    "use the field cpus_per_task": "cpus-per-task c",
    "use the field gpus_per_node": "gpus-per-node gpus G",
    "use the field memory": "mem",
    "use the field partition": "partition p",
    "use the field account": "account A",
    "use the field qos": "qos q",
    "use the field constraint": "constraint C",
}
"""What to do instead -> sbatch options that would beat, or lose against, the plan's own."""


def check(config: Config) -> None:
    """Raise ConfigError for the first field whose value can't work. (The types of the fields, closed
    sets of values among them, are checked where the tree is read.)"""
    for name, declared, value in walk(config):
        problem = declared.problem(value)
        if problem:
            raise ConfigError(f"{name}={value}: {problem}")
    _check_name(config.name)
    _check_secrets(config)
    _check_benchmark(config)
    if config.sample.engine == "vllm":
        _check_vllm(config)
    _check_jobs(config)
    if config.corpora:
        _check_documents(config)
        _check_fresh(config)
        _check_slices(config)
    if config.objective != "none":
        _check_training_together(config)


def _check_name(name: str) -> None:
    if name in {"", ".", ".."} or "/" in name or len(name.encode()) > 200:
        raise ConfigError(f"name={shown(name)}: must be the name of a folder, runs/NAME")


def _check_secrets(config: Config) -> None:
    """Settings are kept in config.yaml, plans and reports, which others may read."""
    for name, _, value in walk(config):
        pairs = value.items() if isinstance(value, dict) else [(name.rpartition(".")[2], value)]
        items = [(key, one) for key, item in pairs for one in (item if isinstance(item, list) else [item])]
        if any(has_secret(f"{key}={one}") for key, one in items):
            raise ConfigError(
                f"{name}: looks like a secret, and settings are kept where others read them; export it in "
                "your shell (jobs inherit that), or have slurm.setup source a file that only you can read"
            )


def missing_engine(config: Config) -> str | None:
    """What to do where `sample.engine` is not installed, or None where it is. Not part of `check`: a
    plan may be made where nothing will run."""
    engine = config.sample.engine
    package = OPTIONAL_ENGINES.get(engine)
    if package is None or importlib.util.find_spec(package):
        return None
    return (
        f"sample.engine={engine}: {package} is not installed; bash tools/setup.sh {package} for GPUs, "
        f"{package}-cpu without, or use sample.engine=torch"
    )


def _check_training(config: Config, section: str) -> None:
    train: TrainConfig = getattr(config, section)
    length = config.row_tokens(train)
    if length < config.model.context_length:
        raise ConfigError(
            f"{section}.row_tokens={length}: must be at least "
            f"model.context_length={config.model.context_length}"
        )
    if train.batch_tokens % length:
        name = "model.context_length" if train.row_tokens is None else f"{section}.row_tokens"
        raise ConfigError(
            f"{section}.batch_tokens={train.batch_tokens}: must be a multiple of {name}={length}"
        )
    if train.raw_loss_weight and train.prefixes != "shared":
        raise ConfigError(
            f"{section}.raw_loss_weight={train.raw_loss_weight}: it is of prefixes that are computed once; "
            f"use {section}.prefixes=shared, or {section}.raw_share, which mixes whole documents in"
        )
    if train.zero_stage == 0 and train.dtype != "float32":
        raise ConfigError(
            f"{section}.zero_stage=0: with {section}.dtype={train.dtype} choose 1, 2 or 3 "
            "(on one GPU they cost nothing); without ZeRO gradients would add up in 16 bits"
        )
    for tracker in train.trackers:
        if importlib.util.find_spec(tracker) is None:
            raise ConfigError(f"{section}.trackers: {tracker} is not installed; pip install {tracker}")


def _check_fresh(config: Config) -> None:
    for section in ("warm", "heldout"):
        if section in config.corpora and getattr(config, section).fresh:
            raise ConfigError(f"{section}.fresh=true: only corpus can be fresh in each iteration")
    if "corpus" in config.corpora and config.corpus.fresh and config.corpus.num_documents is None:
        raise ConfigError("corpus.num_documents: corpus.fresh=true needs it: documents of one iteration")


def _check_slices(config: Config) -> None:
    """Slices of one source are disjoint when they are cut alike."""
    seen: dict[tuple[object, ...], tuple[str, int, int]] = {}
    for section in config.corpora:
        corpus: CorpusConfig = getattr(config, section)
        if corpus.slices is None:
            continue
        found = slices.parse(corpus.slices)
        where = f"{section}.slices={shown(corpus.slices)}"
        if found is None:
            raise ConfigError(f"{where}: {slices.FORM}")
        stream = corpus.seed if corpus.source.startswith("builtin:") else None
        source = (corpus.source, corpus.config_name, corpus.split, stream)
        other, total, seed = seen.setdefault(source, (section, found.total, corpus.seed))
        if (total, seed) != (found.total, corpus.seed):
            raise ConfigError(
                f"{where}: with {section}.seed={corpus.seed} it may share documents with {other}, which has "
                f"slices of {total} of the same source with {other}.seed={seed}; use one total and one seed"
            )


def _check_documents(config: Config) -> None:
    chunking = config.chunking
    if chunking.law == "shifted" and chunking.mean_sentences < chunking.min_sentences:
        raise ConfigError(
            f"chunking.mean_sentences={chunking.mean_sentences}: chunking.law=shifted needs at least "
            f"chunking.min_sentences={chunking.min_sentences}"
        )
    if chunking.prefix_stride > chunking.prefix_chunks + 1:
        raise ConfigError(
            f"chunking.prefix_stride={chunking.prefix_stride}: must be at most chunking.prefix_chunks + 1 = "
            f"{chunking.prefix_chunks + 1}"
        )
    if chunking.min_sentences > chunking.max_sentences:
        raise ConfigError(
            f"chunking.min_sentences={chunking.min_sentences}: must be at most "
            f"chunking.max_sentences={chunking.max_sentences}"
        )
    room = longest_chunk(config.model.context_length, config.sample.max_thought_tokens)
    if room < 1:
        raise ConfigError(
            f"sample.max_thought_tokens={config.sample.max_thought_tokens}: leaves no room for a chunk in "
            f"model.context_length={config.model.context_length}"
        )
    if chunking.max_chunk_tokens > room:
        raise ConfigError(
            f"chunking.max_chunk_tokens={chunking.max_chunk_tokens}: with "
            f"sample.max_thought_tokens={config.sample.max_thought_tokens} a chunk may have at most "
            f"{room} tokens in model.context_length={config.model.context_length}"
        )
    if chunking.mode == "given":
        for section in config.corpora:
            corpus: CorpusConfig = getattr(config, section)
            if corpus.source.startswith("builtin:"):
                continue
            for key in ("question_column", "answer_column"):
                if getattr(corpus, key) is None:
                    raise ConfigError(f"{section}.{key}: chunking.mode=given needs it")


def _check_training_together(config: Config) -> None:
    _check_allocation(config)
    _check_reuse(config)
    if config.merge.weights == "tempered" and config.merge.target_ess > config.sample.num_samples:
        raise ConfigError(
            f"merge.target_ess={config.merge.target_ess}: must be at most "
            f"sample.num_samples={config.sample.num_samples}"
        )
    if config.merge.select == "weighted" and config.merge.num_selected != 1:
        raise ConfigError(
            f"merge.num_selected={config.merge.num_selected}: merge.select=weighted trains on all different "
            "thoughts already; use 1"
        )
    if config.warm_start.start != "base":
        raise ConfigError(f"warm_start.start={config.warm_start.start!r}: choose one of base")
    for section in ("warm_start", "train"):
        _check_training(config, section)
    for name in ("raw_share", "raw_loss_weight"):
        if config.objective == "raw" and getattr(config.train, name):
            raise ConfigError(
                f"train.{name}={getattr(config.train, name)}: objective=raw trains on raw text alone; use 0"
            )
    teacher = config.teacher
    if teacher.use != "thought" and config.warm_start.raw_loss_weight:
        raise ConfigError(
            f"warm_start.raw_loss_weight={config.warm_start.raw_loss_weight}: with teacher.use={teacher.use} "
            "there are no prefixes; use 0"
        )
    if teacher.use != "thought" and (config.warm_is_taught or config.objective != "warm"):
        raise ConfigError(
            f"teacher.use={teacher.use}: needs a teacher that is asked (teacher.kind=openai or local) and "
            "objective=warm, since the model has no markers to go on with"
        )


def _check_allocation(config: Config) -> None:
    if config.sample.allocation == "uniform":
        return
    where = f"sample.allocation={config.sample.allocation}"
    if config.corpus.fresh:
        raise ConfigError(
            f"{where}: with corpus.fresh=true no chunk was in the iteration before; use uniform"
        )
    if config.sample.num_samples == 1:
        raise ConfigError(f"{where}: sample.num_samples=1 leaves nothing to share out; use 2 or more")


def _check_reuse(config: Config) -> None:
    sample = config.sample
    if not sample.reuse:
        return
    where = f"sample.reuse={sample.reuse}"
    if config.corpus.fresh:
        raise ConfigError(f"{where}: with corpus.fresh=true no chunk has earlier thoughts; use 0")
    if sample.engine != "torch":
        raise ConfigError(
            f"{where}: holds several models beside each other, which sample.engine={sample.engine} can not; "
            "use sample.engine=torch"
        )
    if sample.prior_share:
        raise ConfigError(
            f"{where}: takes thoughts from posteriors alone; use sample.prior_share=0, or sample.reuse=0"
        )


def _check_benchmark(config: Config) -> None:
    settings = config.benchmark
    thoughts = settings.thought_temperature if settings.thoughts else 0.0
    if settings.trials > 1 and settings.temperature == 0 and thoughts == 0:
        raise ConfigError(
            f"benchmark.trials={settings.trials}: at temperature 0 all trials are the same; raise "
            "benchmark.temperature" + (" or benchmark.thought_temperature" if settings.thoughts else "")
        )


def _check_jobs(config: Config) -> None:
    for stage in (kind.name for kind in kinds.KINDS if kind.tasks == "one"):
        job = config.slurm.job(stage)
        for key in ("nodes", "tasks_per_node"):
            if getattr(job, key) > 1:
                raise ConfigError(f"slurm.{stage}.{key}={getattr(job, key)}: must be 1, one task does it all")
    for kind in kinds.KINDS:
        job = config.slurm.job(kind.name)
        if kind.ranked and 0 < job.gpus_per_node < job.tasks_per_node:
            raise ConfigError(
                f"slurm.{kind.name}.tasks_per_node={job.tasks_per_node}: with gpus_per_node="
                f"{job.gpus_per_node} at most that many, one rank per GPU"
            )
    sections: dict[str, SlurmConfig | JobConfig] = {"slurm": config.slurm}
    sections |= {f"slurm.{stage}": config.slurm.job(stage) for stage in kinds.NAMES}
    for section, options in sections.items():
        for advice, names in _OWN_OPTIONS.items():
            for name in options.options:
                if name.replace("_", "-") in names.split():
                    raise ConfigError(f"{section}.options.{name}: {advice}")


def _check_vllm(config: Config) -> None:
    sample = config.sample
    if not 0.01 <= sample.temperature <= 2:
        raise ConfigError(f"sample.temperature={sample.temperature}: sample.engine=vllm takes 0.01 to 2")
    if sample.prior_share and (sample.temperature, sample.top_p, sample.top_k) != (1, 1, 0):
        raise ConfigError(
            f"sample.prior_share={sample.prior_share}: sample.engine=vllm scores at sample.temperature=1, "
            "sample.top_p=1 and sample.top_k=0 alone; use these, or sample.engine=torch"
        )
    trains_on_gpus = any(kind.ranked and config.slurm.job(kind.name).gpus_per_node for kind in kinds.KINDS)
    for stage in _with_engines(config):
        gpus, size = config.slurm.job(stage).gpus_per_node, sample.vllm.tensor_parallel_size
        if 0 < gpus < size:
            raise ConfigError(
                f"slurm.{stage}.gpus_per_node={gpus}: sample.vllm.tensor_parallel_size={size} needs {size}"
            )
        if not gpus and trains_on_gpus:
            raise ConfigError(
                f"slurm.{stage}.gpus_per_node=0: training asks for GPUs, and sample.engine=vllm needs {size}"
            )


def _with_engines(config: Config) -> list[str]:
    """Stages that load an engine."""
    answer = ["answer"] if config.benchmark.tasks else []
    measure = "evaluate" if config.evaluate.num_shards == 1 else "measure"
    if config.objective == "none":
        return [*([measure] if config.corpora else []), *answer]
    return ["sample", measure, *answer]


def missing_gpus(config: Config) -> str | None:
    """What the E-step or the evaluation lacks on a cluster with the engine that is installed here; None
    for nothing."""
    engine = config.sample.engine
    idle = [stage for stage in _with_engines(config) if not config.slurm.job(stage).gpus_per_node]
    if engine not in OPTIONAL_ENGINES or not idle:
        return None
    try:
        importlib.metadata.distribution(OPTIONAL_ENGINES[engine])  # its CPU build has another name
    except importlib.metadata.PackageNotFoundError:
        return None
    return (
        f"slurm.{idle[0]}.gpus_per_node=0: the {engine} that is installed runs on GPUs alone; ask for "
        f"{config.sample.devices_per_engine}, or bash tools/setup.sh {OPTIONAL_ENGINES[engine]}-cpu"
    )


def slow_jobs(config: Config) -> list[str]:
    """Warnings of stages that would compute on CPUs beside a training on GPUs."""
    if not any(kind.ranked and config.slurm.job(kind.name).gpus_per_node for kind in kinds.KINDS):
        return []
    return [
        f"slurm.{stage}.gpus_per_node=0: training asks for GPUs, this stage computes on CPUs"
        for stage in _with_engines(config)
        if not config.slurm.job(stage).gpus_per_node
    ]
