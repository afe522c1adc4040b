"""What a plan will cost: tokens, memory, GPU hours, as values. For a dry run, so from the
configuration, a local model's headers and finished corpora alone."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from lt_hpc.config.schema import Config
from lt_hpc.data import base_model
from lt_hpc.latent.cost import (
    CONTEXT_BYTES,
    MASTER_BYTES,
    ModelShape,
    activation_bytes,
    buffer_bytes,
    flops_per_token,
    state_bytes,
)
from lt_hpc.run import engine_work
from lt_hpc.run.build import WHOLE_DOCUMENTS
from lt_hpc.run.engine_work import Answering, Evaluation, Sampling, Synthesis
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store.paths import RunPaths

DTYPE_BYTES = {"float32": 4, "bfloat16": 2}
DATA_MEMORY_BYTES = 2e8
"""What a rank of training holds of its data besides mapped files, however much it is: twice as much as
tools/bench_memory.py found."""


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
        data_bytes: bytes of documents and thoughts, in files that the ranks share.
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
    data_bytes: float | None
    memory: dict[int, float]
    activation_bytes: float | None
    micro_batch_tokens: int
    flops: float | None
    gpu_hours: float | None


@dataclass(frozen=True)
class Estimate:
    """What a plan will cost; `shape`, that of the base model, and `sampling` are None where they are
    not known, `synthesis` and `answering` where nobody is asked. `thoughts`: what says how long they are, or
    None."""

    shape: ModelShape | None
    synthesis: Synthesis | None
    sampling: Sampling | None
    evaluation: Evaluation | None
    training: tuple[Training, ...]
    answering: Answering | None
    thoughts: str | None


def estimate(plan: Plan, paths: RunPaths) -> Estimate:
    """What the stages of a plan will cost, the first E-step and the first two M-steps: later
    iterations cost the same."""
    plan, thoughts = _with_thoughts(plan, paths)
    shape = model_shape(plan.config)
    stages = [stage for stage in plan.stages if stage.kind.ranked]
    training = tuple(
        _training(plan, stage, max(0, len(stages) - 2) if stage.iteration else 0, shape, paths)
        for stage in stages[:2]
    )
    return Estimate(
        shape=shape,
        synthesis=engine_work.synthesis(plan, paths),
        sampling=engine_work.sampling(plan, shape, paths),
        evaluation=engine_work.evaluation(plan, paths),
        training=training,
        answering=engine_work.answering(plan, paths),
        thoughts=thoughts,
    )


def _with_thoughts(plan: Plan, paths: RunPaths) -> tuple[Plan, str | None]:
    """The plan with `estimate.thought_tokens`, as set or else as the newest E-step of the run measured it,
    and which of these it is."""
    given = plan.config.estimate.thought_tokens
    if given is not None:
        return plan, f"estimate.thought_tokens={given:g}"
    measured = engine_work.thought_tokens(plan, paths)
    if measured is None:
        return plan, None
    stage, ratio = measured
    config = dataclasses.replace(
        plan.config, estimate=dataclasses.replace(plan.config.estimate, thought_tokens=ratio)
    )
    return Plan(config, plan.stages), f"{ratio:.3g} tokens of thought per token of text in {stage}"


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


def num_steps(plan: Plan, stage: Stage, paths: RunPaths) -> int | None:
    """Optimizer steps of a training stage, where they are set or can be worked out."""
    settings = plan.training(stage)
    if settings.steps is not None:
        return settings.steps
    epoch = _epoch_tokens(plan, stage, paths)
    return None if epoch is None else max(1, round(settings.epochs * epoch / settings.batch_tokens))


def _epoch_tokens(plan: Plan, stage: Stage, paths: RunPaths) -> float | None:
    """Tokens of one pass, at most: each chunk with its prefix and its thought; of text without markers each
    token once."""
    config, text = plan.config, stage.settings.get("text")
    raw = engine_work.raw_tokens(plan, stage.inputs["data"], paths)
    if raw is None or text == WHOLE_DOCUMENTS:
        return raw
    thoughts = config.estimate.thought_tokens
    if thoughts is None:
        return None
    copies = 1 + engine_work.prefix_copies(config, plan.training(stage).prefixes == "shared")
    own = {"surface": 1, "rewrite": 0}.get(text or "", copies)
    return raw * (own + thoughts)


def _training(plan: Plan, stage: Stage, more: int, shape: ModelShape | None, paths: RunPaths) -> Training:
    config, settings, job = plan.config, plan.training(stage), plan.config.slurm.job(stage.name)
    ranks = max(job.nodes * job.tasks_per_node, 1) if job.gpus_per_node else config.local.train_ranks
    raw = engine_work.raw_tokens(plan, stage.inputs["data"], paths)
    thought, steps = config.estimate.thought_tokens, num_steps(plan, stage, paths)
    size, tokens = DTYPE_BYTES[settings.dtype], settings.micro_batch_rows * config.row_tokens(settings)
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
        data_bytes=None if raw is None or thought is None else 4.0 * raw * (1 + thought),
        memory=memory,
        activation_bytes=activations,
        micro_batch_tokens=tokens,
        flops=flops,
        gpu_hours=None if flops is None or peak is None else flops / (peak * 1e12 * mfu) / 3600,
    )


def disk_bytes(plan: Plan, found: Estimate) -> float | None:
    """What a run takes on disk at most at one time, without documents: the model of every iteration, the
    checkpoints that are kept and one that is being written, the ids of all thoughts, 4 bytes each, and the
    files of one training's data; None where the model's shape is not known."""
    if found.shape is None:
        return None
    trained = [plan.training(stage) for stage in plan.stages if stage.kind.ranked]
    parameters = found.shape.parameters
    models = sum(DTYPE_BYTES[settings.dtype] for settings in trained) * parameters + 4 * parameters
    kept = max((settings.keep_checkpoints + 1 for settings in trained), default=0)
    thoughts = 4 * found.sampling.sampled_tokens * (found.sampling.more + 1) if found.sampling else 0
    data = max((training.data_bytes or 0.0 for training in found.training), default=0.0)
    return models + kept * MASTER_BYTES * parameters + thoughts + data
