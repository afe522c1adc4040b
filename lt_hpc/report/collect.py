"""What the manifests and metrics of a run say, as one report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lt_hpc.report.rows import Iteration, Report
from lt_hpc.run import state
from lt_hpc.run.plan import Plan, Stage, plan_to_json
from lt_hpc.store import manifest, shards
from lt_hpc.store.figures import HeldOut, SelectionStatistics
from lt_hpc.store.manifest import Manifest
from lt_hpc.store.paths import METRICS, RunPaths, relative_paths, shard_folder


def collect(plan: Plan, paths: RunPaths) -> Report:
    """Settings, corpora and a row per iteration; iterations whose evaluation is not done are left out."""
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
    number = evaluate.iteration
    records = {
        "train": manifest.read(paths.model(number)),
        "evaluate": manifest.read(paths.evaluation(number)),
        "merge": manifest.read(paths.selected(number)),
    }
    sampled = _samples(paths, number)
    seconds = {name: record.seconds for name, record in records.items() if record}
    if sampled:
        seconds["sample"] = sum(record.seconds for record in sampled)
    merged, model = records["merge"], records["train"]
    trained: dict[str, Any] = model.statistics if model else {"skipped_steps": 0}
    if "rank_seconds" in trained:
        seconds["train"] = trained["rank_seconds"]
    return Iteration(
        number=number,
        held_out=HeldOut.of(json.loads((paths.evaluation(number) / METRICS).read_text())),
        selection=SelectionStatistics.of(merged.statistics) if merged else None,
        tokens={
            "sampled": sum(record.counts.get("sampled_tokens", 0) for record in sampled),
            "scored": sum(record.counts.get("scored_tokens", 0) for record in sampled),
            "trained": model.counts.get("trained_tokens", 0) if model else 0,
        },
        cut_prefixes=sum(record.counts.get("cut_prefixes", 0) for record in sampled),
        skipped_steps=trained.get("skipped_steps"),
        losses=trained.get("losses", []),
        seconds_by_stage=seconds,
    )


def _samples(paths: RunPaths, iteration: int) -> list[Manifest]:
    folder = paths.samples(iteration)
    shard_map = shards.read(folder)
    if shard_map is None:
        return []
    records = [manifest.read(shard_folder(folder, shard)) for shard in range(shard_map.num_shards)]
    return [record for record in records if record is not None]
