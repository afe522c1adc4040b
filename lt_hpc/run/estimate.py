"""What the training stages of a plan will take: steps, tokens, memory, GPU hours. For a dry run,
so from the configuration, a local model's headers and finished corpora alone."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

from lt_hpc.config.schema import Config
from lt_hpc.data import base_model
from lt_hpc.latent.cost import ModelShape, activation_bytes, flops_a_token, state_bytes
from lt_hpc.run.plan import Plan, Stage, corpus_name, train_config, training_data
from lt_hpc.store import manifest
from lt_hpc.store.paths import RunPaths

_GB = 1e9
_DTYPE_BYTES = {"float32": 4, "bfloat16": 2}


def model_shape(config: Config) -> ModelShape | None:
    """The base model's shape: from its folder, or from the `estimate` section for a hub id."""
    source = base_model.resolve(config.model)
    if isinstance(source, Path):
        settings = json.loads((source / "config.json").read_text())
        settings = settings.get("text_config", settings)
        names = (("num_hidden_layers", "n_layer"), ("hidden_size", "n_embd"), ("vocab_size",))
        found = [next((settings[key] for key in keys if key in settings), None) for keys in names]
        values = [_stored_parameters(source), *found]
    else:
        given = config.estimate
        values = [given.parameters, given.layers, given.hidden_size, given.vocabulary]
    if not all(values):
        return None
    return ModelShape(*(int(value) for value in values if value))


def _stored_parameters(folder: Path) -> int:
    """Elements of all tensors in the safetensors files of a folder, from their headers; 0 where
    there are none."""
    count = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(size))
        for name, entry in header.items():
            elements = 1
            for length in entry["shape"] if name != "__metadata__" else [0]:
                elements *= length
            count += elements
    return count


def epoch_tokens(config: Config, iteration: int, paths: RunPaths) -> float | None:
    """Tokens of one pass, at most: each chunk with its prefix and its thought. From the finished
    corpus where there is one, else from `estimate`."""
    raw, thoughts = raw_tokens(config, iteration, paths), config.estimate.thought_tokens
    if training_data(config, iteration) == "raw":
        thoughts = 0.0
    if raw is None or thoughts is None:
        return None
    copies = 1 + (config.chunking.prefix_chunks if config.chunking.mode == "sentences" else 0)
    return raw * (copies + thoughts)


def raw_tokens(config: Config, iteration: int, paths: RunPaths) -> float | None:
    """Tokens of the documents that an iteration is about, without thoughts and prefixes."""
    teacher = training_data(config, iteration) == "teacher"
    name = "warm" if teacher else corpus_name(config, iteration)
    record = manifest.read(paths.documents(name))
    raw: float | None = config.estimate.warm_tokens if teacher else config.estimate.corpus_tokens
    if record is not None and record.complete and "tokens" in record.counts:
        raw = record.counts["tokens"]
    return raw


def num_ranks(config: Config) -> int:
    """Training ranks: what the slurm section asks for, or else this machine's."""
    job = config.slurm.job("train")
    return max(job.nodes * job.tasks_per_node, 1) if job.gpus_per_node else config.local.train_ranks


def lines(plan: Plan, paths: RunPaths) -> Iterator[str]:
    """What to print below a dry run's plan: the E-step, and a block for each kind of training."""
    shape = model_shape(plan.config)
    yield from _sampling(plan, paths)
    training = [stage for stage in plan.stages if stage.name == "train"]
    for stage in training[:2]:  # later iterations cost the same
        same = f" and {len(training) - 2} more like it" if stage.iteration and len(training) > 2 else ""
        yield f"{stage.key}{same}: {_amount(plan.config, stage, paths)}"
        yield from (f"  {line}" for line in _host_memory(plan.config, stage, paths))
        if shape is not None:
            yield from (f"  {line}" for line in _cost(plan.config, stage, shape, paths))
    if shape is None:
        yield (
            "memory and hours need the model's shape: set estimate.parameters, estimate.layers, "
            "estimate.hidden_size and estimate.vocabulary"
        )


def _sampling(plan: Plan, paths: RunPaths) -> Iterator[str]:
    stages = [stage for stage in plan.stages if stage.name == "sample"]
    config = plan.config
    if not stages:
        return
    raw, thought = raw_tokens(config, stages[0].iteration, paths), config.estimate.thought_tokens
    if raw is not None and thought is not None:
        same = f" and {len(stages) - 1} more like it" if len(stages) > 1 else ""
        count = config.sample.num_samples
        yield (
            f"{stages[0].key}{same}: K={count}, {_short(count * thought * raw)} tokens to sample and "
            f"{_short(count * (1 + thought) * raw)} to score"
        )


def _host_memory(config: Config, stage: Stage, paths: RunPaths) -> Iterator[str]:
    """Every rank holds documents and thoughts, four bytes a token."""
    raw, thought = raw_tokens(config, stage.iteration, paths), config.estimate.thought_tokens
    if raw is not None and thought is not None:
        held = 4.0 * raw * (1 + thought)
        node = held * (num_ranks(config) / config.slurm.job("train").nodes)
        yield f"documents and thoughts take {_memory(held)} of host memory a rank, {_memory(node)} a node"


def num_steps(config: Config, iteration: int, paths: RunPaths) -> int | None:
    """Optimizer steps of an iteration's training, where they are set or can be worked out."""
    settings = train_config(config, iteration)
    if settings.steps is not None:
        return settings.steps
    epoch = epoch_tokens(config, iteration, paths)
    return None if epoch is None else max(1, round(settings.epochs * epoch / settings.batch_tokens))


def _amount(config: Config, stage: Stage, paths: RunPaths) -> str:
    settings = train_config(config, stage.iteration)
    steps, epoch = num_steps(config, stage.iteration, paths), epoch_tokens(config, stage.iteration, paths)
    if steps is None:
        return (
            f"{settings.epochs:g} epochs in steps of {settings.batch_tokens:,} tokens; how many, is known "
            "from a prepared corpus, or from estimate.corpus_tokens, warm_tokens and thought_tokens"
        )
    tokens = steps * settings.batch_tokens
    text = f"{steps:,} steps of {settings.batch_tokens:,} tokens = {_short(tokens)} tokens"
    if epoch is not None:
        text += f"; a pass is at most {_short(epoch)} tokens, so {tokens / epoch:.2g} passes"
    return text


def _cost(config: Config, stage: Stage, shape: ModelShape, paths: RunPaths) -> Iterator[str]:
    settings, ranks = train_config(config, stage.iteration), num_ranks(config)
    size = _DTYPE_BYTES[settings.dtype]
    tokens = settings.micro_batch_rows * config.model.context_length
    activations = activation_bytes(shape, tokens, size, settings.activation_checkpointing)
    stages = [number for number in range(4) if number or size == 4]
    needed = {number: state_bytes(shape, number, ranks, size) + activations for number in stages}
    listed = ", ".join(f"ZeRO-{number} {_memory(value)}" for number, value in needed.items())
    yield (
        f"{_short(shape.parameters)} parameters, {settings.dtype}, {ranks} ranks; memory a rank: {listed}, "
        f"of which {_memory(activations)} for the activations of {tokens:,} tokens"
    )
    memory, chosen = config.hardware.memory_gb, needed[settings.zero_stage] / _GB
    if memory is not None and chosen > memory:
        yield (
            f"zero_stage={settings.zero_stage} does not fit into hardware.memory_gb={memory:g}: lower "
            "micro_batch_rows, set activation_checkpointing, or raise zero_stage"
        )
    steps, peak = num_steps(config, stage.iteration, paths), config.hardware.peak_tflops
    if steps is not None and peak is not None:
        flops = steps * settings.batch_tokens * flops_a_token(shape, config.model.context_length)
        hours = flops / (peak * 1e12 * config.hardware.expected_mfu) / 3600
        yield (
            f"{flops:.2e} FLOPs at {config.hardware.expected_mfu:.0%} of {peak:g} TFLOP/s: "
            f"{hours:,.0f} GPU hours, {hours / ranks:,.1f} hours on {ranks} GPUs"
        )


def _memory(size: float) -> str:
    return f"{size / _GB:.1f} GB" if size >= _GB else f"{size / 1e6:,.0f} MB"


def _short(count: float) -> str:
    for unit, name in ((1e9, "B"), (1e6, "M")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return f"{count:,.0f}"
