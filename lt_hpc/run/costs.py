"""What each stage of a plan will cost, as far as it can be told: the estimate, stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace

from lt_hpc.latent.cost import cost_of, forward_flops
from lt_hpc.run import engine_work, state
from lt_hpc.run.engine_work import Throughput
from lt_hpc.run.estimate import DTYPE_BYTES, Estimate
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store import manifest
from lt_hpc.store.paths import RunPaths


@dataclass(frozen=True)
class Cost:
    """Of one stage, or of several. None: not known, or nothing to speak of.

    Attributes:
        tokens: of documents that are prepared; sampled and scored, without prefixes; trained on, padding
            included; asked and answered.
        flops: floating-point operations of these tokens.
        bytes: of the output on disk; of training without checkpoints.
        gpu_hours: GPUs times hours.
        core_hours: likewise, of the CPU cores of tasks that have no GPU.
        usd: of a teacher's tokens, and of hours at `hardware.price_hour`.
    """

    tokens: float | None = None
    flops: float | None = None
    bytes: float | None = None
    gpu_hours: float | None = None
    core_hours: float | None = None
    usd: float | None = None


def total(costs: Sequence[Cost]) -> Cost:
    """The sum of what is known."""
    return Cost(
        **{
            item.name: sum(known)
            for item in fields(Cost)
            if (known := [value for one in costs if (value := getattr(one, item.name)) is not None])
        }
    )


def on_disk(paths: RunPaths, stage: Stage) -> int:
    """Bytes of what a stage has made, as its manifests say."""
    records = [manifest.read(folder) for folder in state.folders(paths, stage)]
    return sum(entry.bytes for record in records if record for entry in record.files)


def of_stages(plan: Plan, paths: RunPaths, found: Estimate, on_slurm: bool) -> dict[str, Cost]:
    """Stage key -> what it will cost, whether it is done or not."""
    pace = _training_pace(plan, paths)
    return {
        stage.key: _priced(plan, _cost(plan, paths, stage, found, on_slurm, pace)) for stage in plan.stages
    }


def _cost(
    plan: Plan, paths: RunPaths, stage: Stage, found: Estimate, on_slurm: bool, pace: float | None
) -> Cost:
    if stage.kind.ranked:
        return _training(plan, stage, found, on_slurm, pace)
    if stage.kind.documents:
        cost = _documents(plan, paths, stage, found)
        return replace(cost, tokens=None) if "tokenised" in stage.inputs else cost
    gathered = next((one for one in plan.stages if one.inputs.get("tokenised") == stage.output), None)
    if gathered is not None:
        return _documents(plan, paths, gathered, found)
    if "teacher" in stage.settings and found.synthesis:
        asked, answered = found.synthesis.prompt_tokens, found.synthesis.answer_tokens
        if asked is None or answered is None:
            return Cost()
        return Cost(asked + answered, usd=cost_of(asked, answered, asdict(plan.config.teacher)))
    if "benchmark" in stage.settings and found.answering:
        tokens, speed = found.answering.tokens, found.answering.pace
        hours = tokens / speed / 3600 if tokens and speed else None
        return _of_engine(plan, stage, found, on_slurm, tokens, hours)
    if engine_work.measures(stage) and found.evaluation:
        return _sampled(plan, stage, found, on_slurm, found.evaluation)
    if "corpus" in stage.inputs and found.sampling:
        cost = _sampled(plan, stage, found, on_slurm, engine_work.pooled(found.sampling, len(stage.earlier)))
        return total([cost, Cost(bytes=4 * found.sampling.sampled_tokens)])
    return Cost()


def _sampled(
    plan: Plan,
    stage: Stage,
    found: Estimate,
    on_slurm: bool,
    work: engine_work.Sampling | engine_work.Evaluation,
) -> Cost:
    sampled, scored, pace = work.sampled_tokens, work.scored_tokens, work.throughput
    if sampled is None or scored is None:
        return Cost()
    hours = pace.hours(sampled, scored) if isinstance(pace, Throughput) else None
    return _of_engine(plan, stage, found, on_slurm, sampled + scored, hours)


def _of_engine(
    plan: Plan, stage: Stage, found: Estimate, on_slurm: bool, tokens: float | None, hours: float | None
) -> Cost:
    """`hours`: of one engine."""
    flops = forward_flops(found.shape, tokens) if found.shape is not None and tokens is not None else None
    if hours is None:
        return Cost(tokens, flops)
    if has_gpus(plan, stage, on_slurm):
        return Cost(tokens, flops, gpu_hours=hours * plan.config.sample.devices_per_engine)
    return Cost(tokens, flops, core_hours=hours * _cores(plan, stage, on_slurm))


def _training(plan: Plan, stage: Stage, found: Estimate, on_slurm: bool, pace: float | None) -> Cost:
    like = found.training[0 if stage.iteration == 0 else -1]
    tokens = None if like.steps is None else float(like.steps * like.batch_tokens)
    size = DTYPE_BYTES[plan.training(stage).dtype]
    disk = None if found.shape is None else float(size * found.shape.parameters)
    cost = Cost(tokens, like.flops, disk)
    if like.gpu_hours is not None and has_gpus(plan, stage, on_slurm):
        return total([cost, Cost(gpu_hours=like.gpu_hours)])
    if tokens is not None and pace is not None:
        hours = tokens * pace / 3600
        gpus = has_gpus(plan, stage, on_slurm)
        spent = Cost(gpu_hours=hours) if gpus else Cost(core_hours=hours * _cores(plan, stage, on_slurm))
        return total([cost, spent])
    return cost


def _training_pace(plan: Plan, paths: RunPaths) -> float | None:
    """Seconds of a rank per token, as the newest trained model of the run took."""
    for stage in reversed(plan.stages):
        record = manifest.read(paths.root / stage.output) if stage.kind.ranked else None
        if record and record.statistics.get("rank_seconds") and record.counts.get("computed_tokens"):
            return float(record.statistics["rank_seconds"] / record.counts["computed_tokens"])
    return None


def _documents(plan: Plan, paths: RunPaths, stage: Stage, found: Estimate) -> Cost:
    known = [
        engine_work.raw_tokens(plan, folder, paths) for folder in stage.outputs if folder in plan.documents
    ]
    tokens = sum(one for one in known if one is not None)
    makes_base = len(known) < len(stage.outputs)
    base = 4.0 * found.shape.parameters if found.shape is not None and makes_base else 0.0
    return Cost(tokens or None, bytes=(4 * tokens + base) or None)


def has_gpus(plan: Plan, stage: Stage, on_slurm: bool) -> bool:
    """Whether a stage computes on GPUs: on Slurm where its job asks for some, else where the settings say
    which GPU this machine has."""
    if on_slurm or plan.config.slurm.job(stage.name).gpus_per_node:
        return plan.config.slurm.job(stage.name).gpus_per_node > 0
    return plan.config.hardware.memory_gb is not None


def _cores(plan: Plan, stage: Stage, on_slurm: bool) -> int:
    return plan.config.slurm.job(stage.name).cpus_per_task if on_slurm else plan.config.local.threads


def _priced(plan: Plan, cost: Cost) -> Cost:
    price = plan.config.hardware.price_hour
    hours = [value for value in (cost.gpu_hours, cost.core_hours) if value is not None]
    return total([cost, Cost(usd=price * sum(hours))]) if price is not None and hours else cost
