"""What `launch --dry-run` prints: the plan, what of it is done, and what the rest will cost."""

from __future__ import annotations

import io
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Literal

from lt_hpc.cluster.reconcile import Live, array_tasks, find_jobs, unhandled
from lt_hpc.cluster.scheduler import Scheduler
from lt_hpc.cluster.schedulers import submitted
from lt_hpc.latent.cost import cost_of
from lt_hpc.run import causes, engine_work, events, state
from lt_hpc.run.costs import Cost, has_gpus, of_stages, on_disk, total
from lt_hpc.run.engine_work import Answering, Evaluation, Sampling, Synthesis, Throughput
from lt_hpc.run.estimate import DATA_MEMORY_BYTES, Estimate, Training, disk_bytes, estimate
from lt_hpc.run.events import described
from lt_hpc.run.plan import Plan, Stage

_GB = 1e9


def show(plan: Plan, look: state.Look, scheduler: Scheduler, pending: Sequence[Stage]) -> None:
    """Print it, with the stages that are pending; nothing is created."""
    paths = look.paths
    found = estimate(plan, paths)
    print(f"run folder: {paths.root} ({'exists' if paths.root.is_dir() else 'would be created'})\n")
    print(_table(rows(plan, look, scheduler, pending, found)), "", sep="\n")
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in (*_basis(plan, found), *lines(plan, found)):
        indent = " " * (len(line) - len(line.lstrip()))
        print(textwrap.fill(line, width, subsequent_indent=f"{indent}  ") if width else line)
    failures, keys = events.failures(events.read(paths)), {stage.key for stage in pending}
    for key in failures.keys() & keys:
        print(f"{key}: failed the last time: {described(failures[key])}")
    print(f"{len(pending)} of {len(plan.stages)} stages to do; nothing was created or submitted")


def rows(
    plan: Plan, look: state.Look, scheduler: Scheduler, pending: Sequence[Stage], found: Estimate
) -> list[list[str]]:
    """The heads, a row for each stage, and one for all that is to do."""
    paths = look.paths
    on_slurm, todo = scheduler.outlives_launch, [stage.key for stage in pending]
    spent, again = of_stages(plan, paths, found, on_slurm), causes.of_stages(paths, plan, pending)
    live, tasks = _tasks(plan, look, scheduler, pending, found)
    ahead, gpus = _ahead(plan), any(has_gpus(plan, stage, on_slurm) for stage in plan.stages)
    unit = "GPU h" if gpus else "core h"
    made = [["stage", "state", "tasks", "after", "tokens", "FLOPs", "disk", unit, "USD"]]
    for stage in plan.stages:
        key, cost = stage.key, spent[stage.key]
        word = "queued" if key in live else "redo" if key in again else "to do"
        if key not in todo:
            word, cost = "done", Cost(bytes=on_disk(paths, stage))
        made.append([key, word, tasks.get(key, ""), ", ".join(ahead[key]), *_cells(cost, unit)])
    cells = _cells(total([spent[key] for key in todo]), unit)
    for number in (0, 1, 3, 4) if plan.config.hardware.price_hour is not None else (0, 1, 3):  # not the disk
        lacking = [one for one in pending if one.computes and not _cells(spent[one.key], unit)[number]]
        cells[number] = f">{cells[number]}" if cells[number] and lacking else cells[number]
    return [*made, ["total to do", "", "", "", *cells]]


def _tasks(
    plan: Plan, look: state.Look, scheduler: Scheduler, pending: Sequence[Stage], found: Estimate
) -> tuple[set[str], dict[str, str]]:
    """Stages with jobs in the queue, and stage key -> the processes that will be started for it."""
    queue, submits = scheduler.queue(), scheduler.outlives_launch
    jobs = find_jobs(plan, look.paths, queue)[0] if submits and submitted(look.paths) else {}
    wanted = {stage.key: unhandled(look, stage, jobs.get(stage.key, Live())) for stage in pending}
    sharded = [one for one in pending if one.kind.sharded]
    limits = scheduler.limits(plan, sharded, len(queue)) if sharded else {}
    numbers = {key: sum(map(len, tasks)) for key, tasks in array_tasks(wanted, limits).items()}
    tasks = {}
    for stage in pending:
        job, number = plan.config.slurm.job(stage.name), numbers[stage.key]
        if stage.kind.ranked:
            ranks = job.nodes * job.tasks_per_node if submits else found.training[0].ranks
            tasks[stage.key] = f"{ranks} ranks"
        elif stage.kind.sharded:
            tasks[stage.key] = f"array {number}" if submits and number else str(number or "")
        else:
            tasks[stage.key] = "1"
    return set(jobs), tasks


def _ahead(plan: Plan) -> dict[str, list[str]]:
    """Stage key -> the stages that it waits for, without those that one of these waits for anyway. Pure."""
    above: dict[str, set[str]] = {}
    for stage in plan.stages:
        above[stage.key] = set(stage.needs).union(*(above[need] for need in stage.needs))
    return {
        stage.key: [one for one in stage.needs if not any(one in above[other] for other in stage.needs)]
        for stage in plan.stages
    }


def _cells(cost: Cost, unit: str) -> list[str]:
    """Tokens, FLOPs, bytes, hours, USD; empty where they are not known."""
    hours = cost.gpu_hours if unit.startswith("GPU") else cost.core_hours
    return [
        _short(cost.tokens) if cost.tokens is not None else "",
        f"{cost.flops:.1e}".replace("+", "") if cost.flops is not None else "",
        _memory(cost.bytes) if cost.bytes else "",
        f"{hours:,.2g}" if hours is not None and hours < 10 else f"{hours:,.0f}" if hours is not None else "",
        f"{cost.usd:,.2f}" if cost.usd is not None else "",
    ]


def _table(rows: Sequence[Sequence[str]]) -> str:
    """As text, without the columns that are empty; never wider than it needs to be."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    used = [number for number in range(len(rows[0])) if any(row[number] for row in rows[1:])]
    table = Table(box=None, pad_edge=False, show_footer=True, padding=(0, 1, 0, 0))
    for number in used:
        justify: Literal["left", "right"] = "left" if number < 4 else "right"
        head, foot = (Text(rows[line][number], style="bold") for line in (0, -1))
        table.add_column(head, foot, justify=justify, no_wrap=True)
    for row in rows[1:-1]:
        table.add_row(*(Text(row[number]) for number in used))
    text = io.StringIO()  # see report.output.print_table
    Console(file=text, force_terminal=terminal, width=None if terminal else 110).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _basis(plan: Plan, found: Estimate) -> Iterator[str]:
    """What the figures of the table are."""
    yield "estimated from what follows, but for the disk of what is done; >: some of it is not known"
    yield "tokens: of documents; sampled and scored, without prefixes; trained on; of a teacher's answers"
    most = disk_bytes(plan, found)
    if most is not None:
        yield f"disk of models, thoughts, checkpoints and training data: up to {_memory(most)} at one time"
    yield f"length of thoughts: {found.thoughts or 'not known; estimate.thought_tokens sets it'}"


def lines(plan: Plan, found: Estimate) -> Iterator[str]:
    """The estimate in words."""
    if found.synthesis is not None:
        yield _synthesis(plan, found.synthesis)
    if found.sampling is not None:
        yield _sampling(found.sampling)
        yield from _reuse(plan, found.sampling)
        tokens = found.sampling.sampled_tokens, found.sampling.scored_tokens
        yield f"  {_engine_hours(plan, 'sample', tokens, found.sampling.throughput)}"
        yield from (f"  {line}" for line in _beside(plan, found.sampling))
    elif any("corpus" in stage.inputs for stage in plan.stages):
        yield (
            f"E-steps: K={plan.config.sample.num_samples}; tokens are known from prepared documents and "
            "estimate.thought_tokens, or with estimate.corpus_tokens beside it"
        )
    if found.evaluation is not None:
        yield from _evaluation(plan, found.evaluation)
    for training in found.training:
        same = f" and {training.more} more like it" if training.more else ""
        yield f"{training.stage}{same}: {_amount(training)}"
        if training.data_bytes is not None:
            yield (
                f"  documents and thoughts: {_memory(training.data_bytes)} of files, which the ranks of a "
                f"node share; up to {_memory(DATA_MEMORY_BYTES)} of host memory per rank"
            )
        if found.shape is not None:
            yield from (f"  {line}" for line in _cost(plan, training, found.shape.parameters))
    if found.answering is not None:
        yield _answering(plan, found.answering)
    if found.shape is None and found.training:
        yield (
            "memory and hours need the model's shape: set estimate.parameters, estimate.layers, "
            "estimate.hidden_size and estimate.vocabulary"
        )


def _synthesis(plan: Plan, found: Synthesis) -> str:
    settings = plan.config.teacher
    if found.prompt_tokens is None or found.answer_tokens is None:
        return f"{found.stage}: tokens and cost are known from prepared documents"
    text = (
        f"{found.stage}: {found.chunks:,} chunks, {_short(found.prompt_tokens)} tokens to ask and "
        f"{_short(found.answer_tokens)} to answer"
    )
    cost = cost_of(found.prompt_tokens, found.answer_tokens, asdict(settings))
    text += f", {cost:,.2f} USD" if cost is not None else ""
    return f"{text}; up to {settings.attempts} times as much where answers are refused"


def _sampling(found: Sampling) -> str:
    same = f" and {found.more} more like it" if found.more else ""
    return (
        f"{found.stage}{same}: K={found.num_samples}, {_short(found.sampled_tokens)} tokens to sample and "
        f"{_short(found.scored_tokens)} to score"
    )


def _reuse(plan: Plan, found: Sampling) -> Iterator[str]:
    """What old thoughts cost the E-step that weighs most of them again."""
    stage = max(plan.stages, key=lambda one: len(one.earlier))
    if stage.earlier:
        more = engine_work.pooled(found, len(stage.earlier)).scored_tokens - found.scored_tokens
        yield f"  {stage.key}: {_short(more)} more to score, for sample.reuse={plan.config.sample.reuse}"


def _evaluation(plan: Plan, found: Evaluation) -> Iterator[str]:
    stage = f"{found.stage}{f' and {found.more} more like it' if found.more else ''}"
    if found.sampled_tokens is None or found.scored_tokens is None:
        yield (
            f"{stage}: tokens are known from prepared documents and estimate.thought_tokens, or with "
            "estimate.heldout_tokens and heldout_chunks beside it"
        )
        return
    tokens = found.sampled_tokens, found.scored_tokens
    yield f"{stage}: {_short(tokens[0])} tokens to sample and {_short(tokens[1])} to score, at most"
    yield f"  {_engine_hours(plan, plan.stage(found.stage).name, tokens, found.throughput)}"


def _answering(plan: Plan, found: Answering) -> str:
    settings = plan.config.benchmark
    same = f" and {found.more} more like it" if found.more else ""
    items = f"{settings.limit:,} items of each at most" if settings.limit else "all items of each"
    trials = f", {settings.trials} trials" if settings.trials > 1 else ""
    text = f"{found.stage}{same}: {', '.join(settings.tasks)}; {items}{trials}"
    if found.item_tokens is None:
        text += ", with answers as long as each task allows"
    else:
        thoughts = "a thought and an answer" if settings.thoughts else "an answer"
        text += f", {found.item_tokens:,} tokens of {thoughts} at most"
    if found.tokens is not None:
        text += f": {_short(found.tokens)} tokens per task that is no group"
        if found.pace:
            hours = found.tokens / found.pace / 3600
            text += f", {hours:,.3g} hours of one engine at {found.pace:,.0f} per second"
    return text


def _engine_hours(plan: Plan, job: str, tokens: tuple[float, float], pace: Throughput | None) -> str:
    """Of (sampled, scored) tokens."""
    if pace is None:
        return (
            "hours are known from shards of this run, or from hardware.sampled_tokens_per_second and "
            "hardware.scored_tokens_per_second, those of one engine"
        )
    hours = pace.hours(*tokens)
    gpus = plan.config.sample.devices_per_engine if plan.config.slurm.job(job).gpus_per_node else 0
    text = f"{hours:,.3g} hours of one engine"
    text += f", {hours * gpus:,.3g} GPU hours" if gpus else ""
    if not pace.shards:
        return (
            f"{text}, at {pace.sampled:,.0f} sampled and {pace.scored:,.0f} scored tokens per second as set"
        )
    ranges = [f"{low:,.0f} to {high:,.0f}" for low, high in (pace.sampled_range, pace.scored_range)]
    return (
        f"{text}, at {pace.sampled:,.0f} sampled ({ranges[0]}) and {pace.scored:,.0f} scored ({ranges[1]}) "
        f"tokens per second, medians of {pace.shards} shards of {pace.source}"
    )


def _beside(plan: Plan, found: Sampling) -> Iterator[str]:
    """What an engine that fills a share of a GPU leaves to others."""
    share, memory = plan.config.sample.vllm.gpu_memory_utilization, plan.config.hardware.memory_gb
    if found.prompt_bytes is None or memory is None:
        return
    left = (1 - share) * memory * _GB
    text = f"of {memory:g} GB vLLM leaves {_memory(left)}: scoring takes {_memory(found.prompt_bytes)}"
    if found.reference_bytes is None:
        yield text
        return
    fits = found.prompt_bytes + found.reference_bytes <= left
    advice = "" if fits else "; not both fit: lower sample.vllm.gpu_memory_utilization, or no check is made"
    yield f"{text}, the check in float32 {_memory(found.reference_bytes)}{advice}"


def _amount(found: Training) -> str:
    if found.steps is None:
        return (
            f"{found.epochs:g} epochs in steps of {found.batch_tokens:,} tokens; the number of steps is "
            "known from a prepared corpus, or from estimate.corpus_tokens, warm_tokens and thought_tokens"
        )
    tokens = found.steps * found.batch_tokens
    text = f"{found.steps:,} steps of {found.batch_tokens:,} tokens = {_short(tokens)} tokens"
    if found.epoch_tokens is not None:
        passes = tokens / found.epoch_tokens
        text += f"; a pass is at most {_short(found.epoch_tokens)} tokens, so {passes:.2g} passes"
    return text


def _cost(plan: Plan, found: Training, parameters: int) -> Iterator[str]:
    settings, hardware = plan.training(plan.stage(found.stage)), plan.config.hardware
    listed = ", ".join(f"ZeRO-{number} {_memory(value)}" for number, value in found.memory.items())
    assert found.activation_bytes is not None
    yield (
        f"{_short(parameters)} parameters, {settings.dtype}, {found.ranks} ranks; memory per rank: {listed}, "
        f"of which {_memory(found.activation_bytes)} for the activations of "
        f"{found.micro_batch_tokens:,} tokens"
    )
    larger = too_large(plan, found)
    if larger:
        yield larger
    if found.flops is not None and found.gpu_hours is not None:
        yield (
            f"{found.flops:.2e} FLOPs at {hardware.expected_mfu:.0%} of {hardware.peak_tflops:g} TFLOP/s: "
            f"{found.gpu_hours:,.0f} GPU hours, {found.gpu_hours / found.ranks:,.1f} hours on "
            f"{found.ranks} GPUs"
        )


def too_large(plan: Plan, found: Training) -> str | None:
    """What to do about a training that does not fit into a GPU; None where it does, or it is not known."""
    memory, stage = plan.config.hardware.memory_gb, plan.training(plan.stage(found.stage)).zero_stage
    if memory is None or found.memory.get(stage, 0) <= memory * _GB:
        return None
    return (
        f"zero_stage={stage} does not fit into hardware.memory_gb={memory:g}: lower micro_batch_rows, set "
        "activation_checkpointing, or raise zero_stage"
    )


def _memory(size: float) -> str:
    if size >= _GB:
        return f"{size / _GB:.1f} GB"
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"


def _short(count: float) -> str:
    for unit, name in ((1e9, "B"), (1e6, "M")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return f"{count:,.0f}"
