"""What a plan will cost: tokens, memory, GPU hours, as values. For a dry run, so from the
configuration, a local model's headers and finished corpora alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from lt_hpc.config import prompts
from lt_hpc.config.schema import Config
from lt_hpc.data import base_model
from lt_hpc.latent.cost import (
    CONTEXT_BYTES,
    ModelShape,
    activation_bytes,
    buffer_bytes,
    flops_per_token,
    prompt_bytes,
    reference_bytes,
    state_bytes,
)
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store import manifest, shards
from lt_hpc.store.paths import RunPaths, shard_folder

_DTYPE_BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Throughput:
    """Tokens per second of one engine that samples and scores, medians over the shards that were measured.

    Attributes:
        source: the stage whose shards these are, or the setting that says so.
        shards: how many; 0 for a setting.
        sampled_range, scored_range: lowest and highest of the shards.
    """

    source: str
    shards: int
    sampled: float
    scored: float
    sampled_range: tuple[float, float]
    scored_range: tuple[float, float]

    def hours(self, sampled_tokens: float, scored_tokens: float) -> float:
        """Of one engine."""
        return (sampled_tokens / self.sampled + scored_tokens / self.scored) / 3600


@dataclass(frozen=True)
class Sampling:
    """One E-step.

    Attributes:
        stage: its key.
        more: later E-steps that cost the same.
        num_samples: K, thoughts per chunk.
        sampled_tokens: tokens of all thoughts.
        scored_tokens: tokens of all thoughts and of the chunk after each of them, without prefixes.
        throughput: of one engine; None: not measured and not set.
        prompt_bytes: bytes of a GPU that vLLM takes for scoring beside what it plans with; None: not known,
            or another engine.
        reference_bytes: bytes of the float32 check beside it; None likewise, or where there is none.
    """

    stage: str
    more: int
    num_samples: int
    sampled_tokens: float
    scored_tokens: float
    throughput: Throughput | None
    prompt_bytes: float | None
    reference_bytes: float | None


@dataclass(frozen=True)
class Synthesis:
    """What a teacher is asked: one answer per chunk, more where some are refused. None: not known.

    Attributes:
        stage: its key.
        chunks: of the warm documents.
        prompt_tokens: tokens of all questions by the run's tokenizer: chunk, prefix, the prompt around.
        answer_tokens: tokens of all answers, each as long as `estimate.thought_tokens` says, or at the limit.
    """

    stage: str
    chunks: int | None
    prompt_tokens: float | None
    answer_tokens: float | None


@dataclass(frozen=True)
class Answering:
    """Answers to benchmarks of one model. How many items a task has is known once its data are loaded.

    Attributes:
        stage: its key.
        more: later stages that cost the same.
        item_tokens: tokens of a thought and an answer at most; None: the tasks say how long an answer may be.
        tokens: of all items of one task that is no group, in all trials, at most; None: not known.
        pace: sampled tokens per second of one engine, as measured or set; None: neither.
    """

    stage: str
    more: int
    item_tokens: int | None
    tokens: int | None
    pace: float | None


@dataclass(frozen=True)
class Training:
    """One M-step. None: not known.

    Attributes:
        stage: its key.
        more: later M-steps that cost the same.
        steps: optimizer steps.
        batch_tokens: tokens per step, over all ranks.
        epochs: passes that the settings ask for where they don't set steps.
        epoch_tokens: tokens of one pass at most: prefixes and thoughts included.
        ranks, ranks_per_node: what the job section asks for, or else this machine.
        held_bytes: bytes of documents and thoughts in the host memory of each rank.
        memory: ZeRO stage -> bytes per rank for weights, gradients, optimizer, buffers and activations.
        activation_bytes: bytes per rank for the activations of one micro-batch.
        micro_batch_tokens: tokens per micro-batch and rank.
        flops: floating-point operations of the whole stage, over all ranks.
        gpu_hours: hours times ranks, at `hardware.peak_tflops` and `hardware.expected_mfu`.
    """

    stage: str
    more: int
    steps: int | None
    batch_tokens: int
    epochs: float
    epoch_tokens: float | None
    ranks: int
    ranks_per_node: float
    held_bytes: float | None
    memory: dict[int, float]
    activation_bytes: float | None
    micro_batch_tokens: int
    flops: float | None
    gpu_hours: float | None


@dataclass(frozen=True)
class Estimate:
    """What a plan will cost; `shape`, that of the base model, and `sampling` are None where they are
    not known, `synthesis` and `answering` where nobody is asked."""

    shape: ModelShape | None
    synthesis: Synthesis | None
    sampling: Sampling | None
    training: tuple[Training, ...]
    answering: Answering | None = None


def estimate(plan: Plan, paths: RunPaths) -> Estimate:
    """What the stages of a plan will cost, the first E-step and the first two M-steps: later
    iterations cost the same."""
    shape = model_shape(plan.config)
    stages = [stage for stage in plan.stages if stage.kind.ranked]
    training = tuple(
        _training(plan, stage, max(0, len(stages) - 2) if stage.iteration else 0, shape, paths)
        for stage in stages[:2]
    )
    return Estimate(
        shape, _synthesis(plan, paths), _sampling(plan, shape, paths), training, _answering(plan, paths)
    )


def model_shape(config: Config) -> ModelShape | None:
    """The base model's shape: from its folder, or from the `estimate` section for a hub id."""
    source = base_model.resolve(config.model)
    if isinstance(source, Path):
        return shape_of(source)
    given = config.estimate
    values = [given.parameters, given.layers, given.hidden_size, given.vocabulary]
    return _shape(values, given.intermediate_size)


def shape_of(folder: Path) -> ModelShape | None:
    """Of the model in a folder, from its headers; None where they do not tell."""
    settings = json.loads((folder / "config.json").read_text())
    settings = settings.get("text_config", settings)
    names = (("num_hidden_layers", "n_layer"), ("hidden_size", "n_embd"), ("vocab_size",))
    found = [next((settings[key] for key in keys if key in settings), None) for keys in names]
    width = settings.get("intermediate_size") or settings.get("n_inner")
    return _shape([base_model.stored_parameters(folder), *found], width)


def _shape(values: list[int | None], width: int | None) -> ModelShape | None:
    if not all(values):
        return None
    parameters, layers, hidden, vocabulary = (int(value) for value in values if value)
    return ModelShape(parameters, layers, hidden, vocabulary, width)


def raw_tokens(plan: Plan, folder: str, teacher: bool, paths: RunPaths) -> float | None:
    """Tokens of the documents in a folder of the run, without thoughts and prefixes: from the finished
    corpus where there is one, else from `estimate`."""
    given = plan.config.estimate
    record = manifest.read(paths.root / folder)
    if record is not None and record.complete and "tokens" in record.counts:
        return record.counts["tokens"]
    return given.warm_tokens if teacher else given.corpus_tokens


def _synthesis(plan: Plan, paths: RunPaths) -> Synthesis | None:
    stage = next((stage for stage in plan.stages if "teacher" in stage.settings), None)
    if stage is None:
        return None
    config = plan.config
    record = manifest.read(paths.root / stage.inputs["documents"])
    chunks = record.counts.get("chunks") if record is not None and record.complete else None
    raw = raw_tokens(plan, stage.inputs["documents"], True, paths)
    if chunks is None or raw is None:
        return Synthesis(stage.key, None, None, None)
    copies = 1 + (config.chunking.prefix_chunks if config.chunking.mode == "sentences" else 0)
    # A token is about four characters of English.
    around = chunks * len(prompts.read(config.teacher.prompt)) / 4
    thought = config.estimate.thought_tokens
    answers = chunks * config.teacher.max_tokens if thought is None else thought * raw
    return Synthesis(stage.key, chunks, raw * copies + around, answers)


def _answering(plan: Plan, paths: RunPaths) -> Answering | None:
    stages = [stage for stage in plan.stages if "benchmark" in stage.settings]
    if not stages:
        return None
    config, settings = plan.config, plan.config.benchmark
    item = settings.max_answer_tokens
    if item is not None and settings.thoughts:
        item += config.benchmark_thought_tokens
    limited = settings.limit is not None and item is not None
    records = [
        record
        for stage in stages
        for folder in (paths.root / stage.output).glob("shard-*")
        if (record := manifest.read(folder)) is not None and record.complete and record.seconds
    ]
    tokens = sum(record.counts.get(f"{of}_tokens", 0) for record in records for of in ("thought", "answer"))
    throughput = _throughput(plan, [s for s in plan.stages if s.kind.sharded and "corpus" in s.inputs], paths)
    pace = throughput.sampled if throughput else config.hardware.sampled_tokens_per_second
    return Answering(
        stage=stages[0].key,
        more=len(stages) - 1,
        item_tokens=item,
        tokens=settings.trials * settings.limit * item if limited and settings.limit and item else None,
        pace=tokens / sum(record.seconds for record in records) if tokens else pace,
    )


def _sampling(plan: Plan, shape: ModelShape | None, paths: RunPaths) -> Sampling | None:
    stages = [stage for stage in plan.stages if stage.kind.sharded and "corpus" in stage.inputs]
    thought = plan.config.estimate.thought_tokens
    raw = raw_tokens(plan, stages[0].inputs["corpus"], False, paths) if stages else None
    if raw is None or thought is None:
        return None
    settings, length = plan.config.sample, plan.config.model.context_length
    count = settings.num_samples
    prompts = reference = None
    if shape is not None and settings.engine == "vllm":
        prompts = prompt_bytes(length, shape.vocabulary)
        if settings.dtype != "float32" and settings.precision_chunks:
            reference = reference_bytes(shape.parameters, length, shape.vocabulary)
    return Sampling(
        stage=stages[0].key,
        more=len(stages) - 1,
        num_samples=count,
        sampled_tokens=count * thought * raw,
        scored_tokens=count * (1 + thought) * raw,
        throughput=_throughput(plan, stages, paths),
        prompt_bytes=prompts,
        reference_bytes=reference,
    )


def _throughput(plan: Plan, stages: list[Stage], paths: RunPaths) -> Throughput | None:
    """As the newest E-step with finished shards measured it, else as the settings say."""
    for stage in reversed(stages):
        folder = paths.root / stage.output
        shard_map = shards.read(folder)
        numbers = range(shard_map.num_shards) if shard_map is not None else ()
        records = [manifest.read(shard_folder(folder, number)) for number in numbers]
        found = [
            (record.statistics["sampled_tokens_per_second"], record.statistics["scored_tokens_per_second"])
            for record in records
            if record is not None and record.statistics.get("scored_tokens_per_second")
        ]
        if found:
            sampled, scored = ([pair[side] for pair in found] for side in (0, 1))
            return Throughput(
                stage.key, len(found), median(sampled), median(scored),
                (min(sampled), max(sampled)), (min(scored), max(scored)),
            )  # fmt: skip
    hardware = plan.config.hardware
    given = hardware.sampled_tokens_per_second, hardware.scored_tokens_per_second
    if given[0] is None or given[1] is None:
        return None
    return Throughput("hardware", 0, given[0], given[1], (given[0],) * 2, (given[1],) * 2)


def num_steps(plan: Plan, stage: Stage, paths: RunPaths) -> int | None:
    """Optimizer steps of a training stage, where they are set or can be worked out."""
    settings = plan.training(stage)
    if settings.steps is not None:
        return settings.steps
    epoch = _epoch_tokens(plan, stage, paths)
    return None if epoch is None else max(1, round(settings.epochs * epoch / settings.batch_tokens))


def _epoch_tokens(plan: Plan, stage: Stage, paths: RunPaths) -> float | None:
    """Tokens of one pass, at most: each chunk with its prefix and its thought."""
    config, kind = plan.config, stage.settings["data"]
    raw = raw_tokens(plan, stage.inputs["data"], kind == "teacher", paths)
    thoughts = 0.0 if kind == "raw" else config.estimate.thought_tokens
    if raw is None or thoughts is None:
        return None
    copies = 1 + (config.chunking.prefix_chunks if config.chunking.mode == "sentences" else 0)
    return raw * (copies + thoughts)


def _training(plan: Plan, stage: Stage, more: int, shape: ModelShape | None, paths: RunPaths) -> Training:
    config, settings, job = plan.config, plan.training(stage), plan.config.slurm.job(stage.name)
    ranks = max(job.nodes * job.tasks_per_node, 1) if job.gpus_per_node else config.local.train_ranks
    raw = raw_tokens(plan, stage.inputs["data"], stage.settings["data"] == "teacher", paths)
    thought, steps = config.estimate.thought_tokens, num_steps(plan, stage, paths)
    size, tokens = _DTYPE_BYTES[settings.dtype], settings.micro_batch_rows * config.model.context_length
    memory: dict[int, float] = {}
    activations = flops = None
    if shape is not None:
        activations = activation_bytes(shape, tokens, size, settings.activation_checkpointing)
        zero = [number for number in range(4) if number or size == 4]
        on_gpus = job.gpus_per_node > 0 or config.hardware.memory_gb is not None
        memory = {
            number: state_bytes(shape, number, ranks, size)
            + buffer_bytes(shape, number, size, settings.float32_reduction)
            + activations
            + (CONTEXT_BYTES if on_gpus else 0.0)
            for number in zero
        }
    if shape is not None and steps is not None:
        flops = steps * settings.batch_tokens * flops_per_token(shape, config.model.context_length)
    peak, mfu = config.hardware.peak_tflops, config.hardware.expected_mfu
    return Training(
        stage=stage.key,
        more=more,
        steps=steps,
        batch_tokens=settings.batch_tokens,
        epochs=settings.epochs,
        epoch_tokens=_epoch_tokens(plan, stage, paths),
        ranks=ranks,
        ranks_per_node=ranks / job.nodes,
        held_bytes=None if raw is None or thought is None else 4.0 * raw * (1 + thought),
        memory=memory,
        activation_bytes=activations,
        micro_batch_tokens=tokens,
        flops=flops,
        gpu_hours=None if flops is None or peak is None else flops / (peak * 1e12 * mfu) / 3600,
    )
