"""Whether the work of a plan fits into its jobs: checkpoints, blocks, ranks, GPUs per engine, and how many
jobs there are. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lt_hpc.cluster.reconcile import array_tasks
from lt_hpc.cluster.slurm.scheduler import limits_at
from lt_hpc.cluster.slurm.site import Site
from lt_hpc.config.schema import Config, CorpusConfig
from lt_hpc.doctor.partitions import longest
from lt_hpc.doctor.rows import Row, duration
from lt_hpc.latent.cost import MASTER_BYTES
from lt_hpc.run.engine_work import Throughput, measures
from lt_hpc.run.estimate import Estimate, Training
from lt_hpc.run.plan import Plan

GROUP = "plan"
BYTES_PER_SECOND = 2e8
"""At which a checkpoint is assumed to be written until one was measured, by a busy file system."""


@dataclass(frozen=True)
class Work:
    """A plan and what is known of it.

    Attributes:
        wanted: key of each stage that is not done -> its missing shards, [] for a stage without shards.
        queued: jobs and array tasks of this user in the queue.
        costs: key of a trained model's stage -> seconds of a checkpoint and of a step, as measured.
        pace: of one engine; None: neither measured nor set.
        heads: attention heads of the base model; None: not known.
    """

    plan: Plan
    estimate: Estimate
    wanted: Mapping[str, list[int] | None]
    queued: int
    costs: Mapping[str, tuple[float, float]]
    pace: Throughput | None
    heads: int | None


def rows(work: Work, site: Site) -> Iterator[Row]:
    """All of them."""
    for training in work.estimate.training:
        yield from _checkpoints(work, site, training)
        yield from _ranks(work, training)
    yield from _blocks(work, site)
    yield from _engines(work)
    yield from _jobs(work, site)


def _checkpoints(work: Work, site: Site, training: Training) -> Iterator[Row]:
    stage = work.plan.stage(training.stage)
    settings, slurm = work.plan.training(stage), work.plan.config.slurm
    section, limit = ("train" if stage.iteration else "warm_start"), _limit(site, work.plan, stage.name)
    what, step, save = f"checkpoints of {stage.key}", *_seconds(work, training)
    by_steps = settings.checkpoint_steps is not None and step is not None
    interval = (settings.checkpoint_steps or 0) * (step or 0) if by_steps else settings.checkpoint_seconds
    plan = f"one every {duration(interval)}, jobs of {duration(limit)}"
    if step is None or save is None:
        if interval < limit:
            yield Row(GROUP, what, "seconds of a step are not known", plan)
        else:
            yield Row(
                GROUP, what, "seconds of a step are not known", f"{plan}: one is made at the warning alone",
                "warning", f"{section}.checkpoint_seconds={max(1, int(limit / 4))}",
            )  # fmt: skip
        return
    unit, source = step + save, "measured" if stage.key in work.costs else "estimated"
    found = f"{duration(save)}, and {duration(step)} for a step ({source})"
    notice = _notice(site, work.plan, stage.name)
    shorter = (
        f"{section}.checkpoint_steps={max(1, int(limit / 4 / step))}"
        if by_steps
        else f"{section}.checkpoint_seconds={max(1, int(limit / 4))}"
    )
    if unit > limit:
        minutes = math.ceil(3 * unit / 60)
        yield Row(GROUP, what, found, plan, "refused", f"slurm.{stage.name}.minutes={minutes}")
    elif unit > slurm.signal_seconds and interval + unit > limit:
        lost = f"{plan}: neither the warning nor the interval leaves one, so that nothing would be kept"
        change = f"{shorter} slurm.signal_seconds={math.ceil(1.5 * unit)}"
        yield Row(GROUP, what, found, lost, "refused", change)
    elif unit > notice:
        lost = f"{plan}: {notice:g} s of notice do not suffice, what was trained since the last one is lost"
        change = f"slurm.signal_seconds={math.ceil(1.5 * unit)}"
        small = f"{section}.checkpoint_seconds={max(60, math.ceil(4 * unit))}"
        yield Row(GROUP, what, found, lost, "warning", change if notice == slurm.signal_seconds else small)
    else:
        yield Row(GROUP, what, found, f"{plan}, {notice:g} s of notice")


def _seconds(work: Work, training: Training) -> tuple[float | None, float | None]:
    """Of a step and of a checkpoint: as measured, else estimated."""
    if training.stage in work.costs:
        return work.costs[training.stage][::-1]
    step: float | None = None
    save: float | None = None
    if training.gpu_hours is not None and training.steps:
        step = 3600 * training.gpu_hours / training.ranks / training.steps
    if work.estimate.shape is not None:
        save = MASTER_BYTES * work.estimate.shape.parameters / BYTES_PER_SECOND
    return step, save


def _limit(site: Site, plan: Plan, kind: str) -> float:
    """Seconds that a job of this kind has at most."""
    return min(60.0 * plan.config.slurm.job(kind).minutes, longest(site, plan.config.slurm.where(kind))[1])


def _notice(site: Site, plan: Plan, kind: str) -> float:
    """Seconds from the warning to the end, whichever end gives less."""
    given = site.preemption(plan.config.slurm.where(kind))
    seconds = float(plan.config.slurm.signal_seconds)
    if given.mode in ("REQUEUE", "CANCEL"):
        seconds = min(seconds, given.notice_seconds)
    return seconds


def _ranks(work: Work, training: Training) -> Iterator[Row]:
    stage = work.plan.stage(training.stage)
    job, section = work.plan.config.slurm.job(stage.name), "train" if stage.iteration else "warm_start"
    ranks = job.nodes * job.tasks_per_node
    length = work.plan.config.row_tokens(work.plan.training(stage))
    sequences = training.batch_tokens // length
    found, plan = str(ranks), f"{sequences} sequences in a step"
    if sequences < ranks:
        yield Row(
            GROUP, f"ranks of {stage.key}", found, f"{plan}: {ranks - sequences} ranks would compute nothing",
            "warning", f"{section}.batch_tokens={ranks * length}, which changes results, or fewer ranks",
        )  # fmt: skip
    elif sequences % ranks:
        yield Row(GROUP, f"ranks of {stage.key}", found, f"{plan}: some ranks wait for others in each")
    else:
        yield Row(GROUP, f"ranks of {stage.key}", found, plan)


def _blocks(work: Work, site: Site) -> Iterator[Row]:
    """A task that is stopped loses its block, and one that can't finish a block in all its time fails."""
    config, stages = work.plan.config, work.plan.stages
    blocks = {stage.name: _of_sampling(config) for stage in stages if "corpus" in stage.inputs}
    blocks |= {stage.name: _of_evaluation(config) for stage in stages if measures(stage)}
    for name in blocks:
        what, limit = f"a block of {name}", _limit(site, work.plan, name)
        if work.pace is None:
            yield Row(
                GROUP, what, "no pace is known", "judged once shards have measured it, or "
                "hardware.sampled_tokens_per_second and hardware.scored_tokens_per_second are set",
            )  # fmt: skip
            continue
        chunks, thoughts = blocks[name]
        most, usual = _block_seconds(config, work.pace, thoughts)
        where = "measured" if work.pace.shards else "set"
        found = f"{chunks} chunks with {thoughts} thoughts take {duration(usual)}"
        found += f", {duration(most)} at most" if most > usual else ""
        plan = f"at the pace as {where}; jobs of {duration(limit)}"
        if most <= limit:
            yield Row(GROUP, what, found, plan)
            continue
        change = f"sample.block_chunks={max(1, int(0.5 * chunks * limit / most))}"
        if 2 * most <= longest(site, config.slurm.where(name))[1]:
            change = f"slurm.{name}.minutes={math.ceil(2 * most / 60)}, or {change}"
        plan += ": no job would finish one" if usual > limit else ""
        yield Row(GROUP, what, found, plan, "refused" if usual > limit else "warning", change)


def _of_sampling(config: Config) -> tuple[int, int]:
    """Chunks and thoughts of a block."""
    chunks = _at_most(config, config.corpus, config.sample.block_chunks)
    return chunks, chunks * config.sample.num_samples


def _of_evaluation(config: Config) -> tuple[int, int]:
    """Likewise: some chunks have log p(x | c) estimated as well, at worst all of them in one block."""
    settings = config.evaluate
    chunks = _at_most(config, config.heldout, config.sample.block_chunks)
    estimated = min(chunks, settings.estimate_chunks) * settings.estimate_samples
    answered = chunks * (1 + settings.answer_samples) if config.chunking.mode == "given" else 0
    return chunks, chunks * settings.num_samples + estimated + answered


def _at_most(config: Config, corpus: CorpusConfig, chunks: int) -> int:
    """So many chunks, or all that there are."""
    known = corpus.num_documents if config.chunking.mode == "given" else None
    return chunks if known is None else min(chunks, known)


def _block_seconds(config: Config, pace: Throughput, thoughts: int) -> tuple[float, float]:
    """With thoughts at their limit, and of the length that `estimate.thought_tokens` says; chunks are as long
    as they may be."""
    chunk, limit = config.chunking.max_chunk_tokens, float(config.sample.max_thought_tokens)
    ratio = config.estimate.thought_tokens

    def seconds(thought: float) -> float:
        return 3600 * pace.hours(thoughts * thought, thoughts * (thought + chunk))

    return seconds(limit), seconds(limit if ratio is None else min(limit, ratio * chunk))


def _engines(work: Work) -> Iterator[Row]:
    """Processes on one node, each with an engine, against its GPUs."""
    config = work.plan.config
    each = config.sample.devices_per_engine
    if work.heads is not None and work.heads % each:
        fitting = max(size for size in range(1, each) if work.heads % size == 0)
        yield Row(
            GROUP, "tensor parallelism", f"the model has {work.heads} attention heads",
            f"sample.vllm.tensor_parallel_size={each} does not divide them", "refused",
            f"sample.vllm.tensor_parallel_size={fitting}",
        )  # fmt: skip
    names = {stage.name for stage in work.plan.stages if stage.kind.sharded or measures(stage)}
    for name in sorted(names):
        job = config.slurm.job(name)
        if not job.gpus_per_node or job.tasks_per_node * each <= job.gpus_per_node:
            continue
        yield Row(
            GROUP, f"engines of {name}", f"{job.tasks_per_node} per node of {each} GPUs each",
            f"slurm.{name}.gpus_per_node={job.gpus_per_node}: they would share a GPU", "refused",
            f"slurm.{name}.tasks_per_node={max(1, job.gpus_per_node // each)}",
        )  # fmt: skip


def _jobs(work: Work, site: Site) -> Iterator[Row]:
    """What launch would submit, as launch itself works it out."""
    iterations = work.plan.iterations
    arrays, tasks = _submitted(work, site, iterations)
    size = site.number("MaxArraySize", 1001)
    if arrays and size == 0:
        yield Row(
            GROUP, "job arrays", "MaxArraySize=0: the site has none", "an E-step is an array", "refused",
            "none: sbatch slurm/em_iter.sh runs an iteration in one job",
        )  # fmt: skip
        return
    if arrays:
        split = ", ".join(
            f"{key}: {len(sizes)} of at most {max(sizes)} tasks" for key, sizes in arrays.items()
        )
        yield Row(GROUP, "job arrays", f"MaxArraySize={size}", split)
    rooms = {
        f"the submit limit of {name}": quota.max_submit - work.queued
        for stage in work.plan.stages
        for name, quota in site.quotas(work.plan.config.slurm.where(stage.name)).items()
        if quota.max_submit is not None
    }
    yield from _at_once(work, site)
    rooms["MaxJobCount, of all users"] = site.number("MaxJobCount", 10_000)
    name = min(rooms, key=lambda one: rooms[one])
    found, plan = f"{name} leaves {rooms[name]}", f"{tasks} jobs and array tasks are to be submitted"
    if tasks <= rooms[name]:
        yield Row(GROUP, "number of jobs", found, plan)
        return
    yield Row(GROUP, "number of jobs", found, plan, "refused", _fewer(work, site, rooms[name]))


def _at_once(work: Work, site: Site) -> Iterator[Row]:
    """What keeps jobs from running beside each other."""
    parallel = work.plan.config.slurm.array_parallelism
    for stage in {stage.name: stage for stage in work.plan.stages if stage.kind.sharded}.values():
        for name, quota in site.quotas(work.plan.config.slurm.where(stage.name)).items():
            if quota.max_jobs is not None and quota.max_jobs < parallel:
                plan = f"slurm.array_parallelism={parallel}: the others wait"
                yield Row(GROUP, f"tasks of {stage.name} at once", f"{name} lets {quota.max_jobs} run", plan)


def _submitted(
    work: Work, site: Site, iterations: int, most: int | None = None
) -> tuple[dict[str, list[int]], int]:
    """Key of each sharded stage up to an iteration -> tasks of each of its arrays; all jobs and tasks.
    `most`: in place of slurm.max_array_tasks."""
    stages = [
        stage for stage in work.plan.stages if stage.key in work.wanted and stage.iteration <= iterations
    ]
    wanted = {stage.key: work.wanted[stage.key] for stage in stages}
    limits = {
        stage.key: limits_at(site, work.plan, stage, work.queued) for stage in stages if stage.kind.sharded
    }
    if most is not None:
        limits = {key: dataclasses.replace(of, tasks=most) for key, of in limits.items()}
    pieces = array_tasks(wanted, limits)
    arrays = {key: [len(tasks) for tasks in pieces[key]] for key in limits if wanted[key]}
    singles = sum(len(pieces[key]) for key in wanted if key not in arrays)
    return arrays, singles + sum(map(sum, arrays.values()))


def _fewer(work: Work, site: Site, room: int) -> str:
    """Fewer tasks per E-step where that suffices, else fewer iterations at a time."""
    most = max((sum(sizes) for sizes in _submitted(work, site, work.plan.iterations)[0].values()), default=1)
    for tasks in range(most - 1, 0, -1):
        if _submitted(work, site, work.plan.iterations, tasks)[1] <= room:
            return f"slurm.max_array_tasks={tasks}"
    for iterations in range(work.plan.iterations - 1, -1, -1):
        if _submitted(work, site, iterations, 1)[1] <= room:
            return f"--iters {iterations} slurm.max_array_tasks=1, and more when these have ended"
    return "launch when fewer jobs are queued"
