"""What the manifests and metrics of a run say, as one report."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from lt_hpc.errors import IncompleteError, LtError
from lt_hpc.latent.cost import forward_flops
from lt_hpc.report import thoughts, work
from lt_hpc.report.changes import Change, compare
from lt_hpc.report.rows import Benchmarked, Compute, Iteration, Report
from lt_hpc.run import estimate, events, state
from lt_hpc.run.plan import Plan, Stage, plan_to_json
from lt_hpc.store import manifest, measured, shards
from lt_hpc.store.figures import HeldOut, Score, SelectionStatistics
from lt_hpc.store.manifest import Manifest
from lt_hpc.store.measured import Measured
from lt_hpc.store.paths import METRICS, RESULTS, RunPaths, shard_folder


def collect(plan: Plan, paths: RunPaths) -> Report:
    """Settings, corpora and a row per iteration; iterations whose evaluation is not done are left out."""
    iterations: list[Iteration] = []
    benchmarks: list[Benchmarked] = []
    first: Measured | None = None
    before: Measured | None = None
    look = state.Look(paths)
    for stage in plan.stages:
        if not stage.kind.reports or look.problem(stage) is not None:
            continue
        if "answers" in stage.inputs:
            benchmarks.append(_benchmarked(paths, stage.iteration))
        else:
            now = measured_of(paths, stage.iteration)
            change = compare(before, now) if before is not None and now is not None else None
            iterations.append(_iteration(plan, paths, stage, change))
            first, before = first or now, now
    happened = events.read(paths)
    selected, made = thoughts.read(plan, paths), provenance(plan, paths)
    to_do = _to_do(plan, look)
    return Report(
        name=plan.config.name,
        plan=plan.fingerprint,
        config=plan_to_json(plan)["config"],
        corpora={name: _counts(paths.documents(name)) for name in plan.documents},
        complete=not to_do,
        iterations=iterations,
        benchmarks=benchmarks,
        teacher=dict(sum((Counter(one.counts) for one in _shards(paths.thoughts)), Counter())),
        folder=str(paths.root),
        since_first=compare(first, before) if len(iterations) > 2 and first and before else None,
        provenance=made,
        to_do=to_do,
        problems=[
            *(reason for row in iterations if (reason := damaged(paths, row.number)) is not None),
            *dict.fromkeys(one.problem for one in selected if one.problem),
        ],
        work=work.of_run(plan, happened, set(made.get("device", ())) - {"CPU"} != set()),
        excluded=events.excluded(happened),
        drift=thoughts.drifts(selected),
        passages=thoughts.passages(selected),
    )


def _to_do(plan: Plan, look: state.Look) -> dict[str, str]:
    """Key of each stage that still has to run -> why it is not done."""
    reasons: dict[str, str] = {}

    def is_done(stage: Stage) -> bool:
        reason = look.problem(stage)
        if reason is not None:
            reasons[stage.key] = reason
        return reason is None

    return {stage.key: reasons.get(stage.key, "") for stage in state.unfinished(plan, is_done)}


def provenance(plan: Plan, paths: RunPaths) -> dict[str, list[str]]:
    """Fact -> its different values in the manifests of what is done, shards left out."""
    found: dict[str, list[str]] = {}
    for folder in (folder for stage in plan.stages if not stage.kind.sharded for folder in stage.outputs):
        record = manifest.read(paths.root / folder)
        for fact, value in (record.provenance if record else {}).items():
            values = found.setdefault(fact, [])
            if str(value) not in values:
                values.append(str(value))
    return found


def measured_of(paths: RunPaths, iteration: int) -> Measured | None:
    """What the evaluation of an iteration measured of each chunk; None where an older release did it, or a
    file of it is damaged."""
    folder = paths.evaluation(iteration)
    record = manifest.read(folder)
    if record is None or damaged(paths, iteration) is not None:
        return None
    try:
        return measured.read([folder / one.name for one in record.files if one.name != METRICS])
    except (IncompleteError, OSError, ValueError):  # of an older release, or damaged
        return None


def damaged(paths: RunPaths, iteration: int) -> str | None:
    """What is wrong with the files of an evaluation, by their checksums; None where nothing is."""
    folder = paths.evaluation(iteration)
    record = manifest.read(folder)
    reasons = (manifest.file_problem(folder, one, checksums=True) for one in (record.files if record else ()))
    return next((one for one in reasons if one is not None), None)


def _benchmarked(paths: RunPaths, iteration: int) -> Benchmarked:
    raw = json.loads((paths.benchmark(iteration) / RESULTS).read_text())
    scores = [Score.of(one) for one in raw["scores"]]
    return Benchmarked(iteration, [one for one in scores if one is not None], raw["counts"])


def _counts(folder: Path) -> dict[str, int]:
    record = manifest.read(folder)
    return dict(record.counts) if record else {}


def _iteration(plan: Plan, paths: RunPaths, evaluate: Stage, change: Change | None) -> Iteration:
    number = evaluate.iteration
    records = {
        "train": manifest.read(paths.model(number)),
        "evaluate": manifest.read(paths.evaluation(number)),
        "merge": manifest.read(paths.selected(number)),
    }
    sampled = _shards(paths.samples(number))
    seconds = {name: record.seconds for name, record in records.items() if record}
    if sampled:
        seconds["sample"] = sum(record.seconds for record in sampled)
    merged, model = records["merge"], records["train"]
    trained: dict[str, Any] = model.statistics if model else {"skipped_steps": 0}
    if "rank_seconds" in trained:
        seconds["train"] = trained["rank_seconds"]
    tokens = _tokens(plan, paths, number, sampled, model)
    return Iteration(
        number=number,
        held_out=HeldOut.of(json.loads((paths.evaluation(number) / METRICS).read_text())),
        change=change,
        selection=SelectionStatistics.of(merged.statistics) if merged else None,
        tokens=tokens,
        compute=Compute(
            passes=trained.get("passes"),
            text_passes=trained.get("text_passes"),
            training_flops=trained.get("flops"),
            e_step_flops=_e_step_flops(paths, tokens) if tokens["prompt"] or not sampled else None,
        ),
        cut_prefixes=sum(record.counts.get("cut_prefixes", 0) for record in sampled),
        skipped_steps=trained.get("skipped_steps"),
        losses=trained.get("losses", []),
        seconds_by_stage=seconds,
    )


def _tokens(
    plan: Plan, paths: RunPaths, iteration: int, sampled: list[Manifest], model: Manifest | None
) -> dict[str, int]:
    data = [s.inputs["data"] for s in plan.stages if s.kind.ranked and s.iteration == iteration]
    counted = model.counts if model else {}
    return {
        "raw": sum(_counts(paths.root / one).get("tokens", 0) for one in data),
        "computed": counted.get("computed_tokens", 0),
        "trained": counted.get("trained_tokens", 0),
        **{
            name: sum(record.counts.get(f"{name}_tokens", 0) for record in sampled)
            for name in ("prompt", "sampled", "scored")
        },
    }


def _e_step_flops(paths: RunPaths, tokens: dict[str, int]) -> float | None:
    try:
        shape = estimate.shape_of(paths.base)
    except (OSError, ValueError, LtError):  # damaged, or gone
        return None
    count = sum(tokens[name] for name in ("prompt", "sampled", "scored"))
    return forward_flops(shape, count) if shape is not None else None


def _shards(folder: Path) -> list[Manifest]:
    """The manifests that a sharded stage has left."""
    shard_map = shards.read(folder)
    if shard_map is None:
        return []
    records = [manifest.read(shard_folder(folder, shard)) for shard in range(shard_map.num_shards)]
    return [record for record in records if record is not None]
