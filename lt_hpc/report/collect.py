"""What the manifests and metrics of a run say."""

from __future__ import annotations

import json
from pathlib import Path

from lt_hpc.report.rows import Iteration, Report
from lt_hpc.run import state
from lt_hpc.run.plan import Plan, Stage, plan_to_json
from lt_hpc.store import manifest, shards
from lt_hpc.store.figures import HeldOut, SelectionStatistics
from lt_hpc.store.manifest import Manifest
from lt_hpc.store.paths import METRICS, RunPaths, relative_paths, shard_folder


def collect(plan: Plan, paths: RunPaths) -> Report:
    """The report of what is done so far. Iterations whose evaluation is not done are left out."""
    return Report(
        name=plan.config.name,
        plan=plan.fingerprint,
        config=plan_to_json(plan)["config"],
        corpora={name: _counts(paths.documents(name)) for name in _corpora(plan)},
        complete=not state.pending(paths, plan),
        iterations=[
            _iteration(paths, stage)
            for stage in plan.stages
            if stage.kind.reports and state.problem(paths, stage) is None
        ],
    )


def _corpora(plan: Plan) -> list[str]:
    base = str(relative_paths().base)
    outputs = [folder for stage in plan.stages if stage.kind.documents for folder in stage.outputs]
    return [folder for folder in outputs if folder != base]


def _counts(folder: Path) -> dict[str, int]:
    record = manifest.read(folder)
    return dict(record.counts) if record else {}


def _iteration(paths: RunPaths, evaluate: Stage) -> Iteration:
    iteration = evaluate.iteration
    records = {
        "train": manifest.read(paths.model(iteration)),
        "evaluate": manifest.read(paths.evaluation(iteration)),
        "merge": manifest.read(paths.selected(iteration)),
    }
    sampled, model, merged = _samples(paths, iteration), records["train"], records["merge"]
    seconds = {name: record.seconds for name, record in records.items() if record}
    if sampled:
        seconds["sample"] = sum(record.seconds for record in sampled)
    if model:
        seconds["train"] = model.statistics["rank_seconds"]
    return Iteration(
        iteration=iteration,
        heldout=HeldOut.of(json.loads((paths.evaluation(iteration) / METRICS).read_text())),
        selection=SelectionStatistics.of(merged.statistics) if merged else None,
        tokens={
            "sampled": sum(record.counts.get("sampled_tokens", 0) for record in sampled),
            "scored": sum(record.counts.get("scored_tokens", 0) for record in sampled),
            "trained": model.counts["trained_tokens"] if model else 0,
        },
        cut_prefixes=sum(record.counts.get("cut_prefixes", 0) for record in sampled),
        skipped_steps=model.statistics.get("skipped_steps", 0) if model else 0,
        losses=model.statistics.get("losses", []) if model else [],
        seconds_by_stage=seconds,
    )


def _samples(paths: RunPaths, iteration: int) -> list[Manifest]:
    folder = paths.samples(iteration)
    shard_map = shards.read(folder)
    if shard_map is None:
        return []
    records = [manifest.read(shard_folder(folder, shard)) for shard in range(shard_map.num_shards)]
    return [record for record in records if record is not None]
