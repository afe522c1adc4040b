"""What the manifests and metrics of a run say, as one JSON-able tree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lt_hpc.run import state
from lt_hpc.run.plan import Plan, Stage, plan_to_json
from lt_hpc.store import manifest, shards
from lt_hpc.store.manifest import Manifest
from lt_hpc.store.paths import METRICS, RunPaths, relative_paths, shard_folder


def collect(plan: Plan, paths: RunPaths) -> dict[str, Any]:
    """The report as one JSON-able tree: settings, corpora and a row an iteration.

    Figures in nats a token unless named otherwise; seconds are summed over the tasks of a stage (shards,
    ranks), for training those of its steps.
    Iterations whose evaluation is not done are left out.
    """
    iterations = []
    for stage in plan.stages:
        if stage.kind.reports and state.problem(paths, stage) is None:
            iterations.append(_iteration(plan, paths, stage))
    return {
        "format": 1,
        "name": plan.config.name,
        "plan": plan.fingerprint,
        "config": plan_to_json(plan)["config"],
        "corpora": {name: _counts(paths.documents(name)) for name in _corpora(plan)},
        "complete": not state.pending(paths, plan),
        "iterations": iterations,
    }


def _corpora(plan: Plan) -> list[str]:
    base = str(relative_paths().base)
    outputs = [folder for stage in plan.stages if stage.kind.documents for folder in stage.outputs]
    return [folder for folder in outputs if folder != base]


def _counts(folder: Path) -> dict[str, int]:
    record = manifest.read(folder)
    return dict(record.counts) if record else {}


def _iteration(plan: Plan, paths: RunPaths, evaluate: Stage) -> dict[str, Any]:
    iteration = evaluate.iteration
    metrics = json.loads((paths.evaluation(iteration) / METRICS).read_text())
    records = {
        "train": manifest.read(paths.model(iteration)),
        "evaluate": manifest.read(paths.evaluation(iteration)),
        "merge": manifest.read(paths.selected(iteration)),
    }
    sampled = _samples(paths, iteration)
    selection = records["merge"].statistics if records["merge"] else {}
    seconds = {name: record.seconds for name, record in records.items() if record}
    if sampled:
        seconds["sample"] = sum(record.seconds for record in sampled)
    model = records["train"]
    if model:
        seconds["train"] = model.statistics["rank_seconds"]
    return {
        **{k: v for k, v in metrics.items() if k not in ("ess_mean", "iteration")},
        "iteration": iteration,
        "heldout_ess_mean": metrics["ess_mean"],
        "ess_mean": selection.get("ess_mean"),
        "selected_unfinished": selection.get("selected_unfinished", 0),
        "selection": selection,
        "tokens": {
            "sampled": sum(record.counts.get("sampled_tokens", 0) for record in sampled),
            "scored": sum(record.counts.get("scored_tokens", 0) for record in sampled),
            "trained": model.counts["trained_tokens"] if model else 0,
        },
        "cut_prefixes": sum(record.counts.get("cut_prefixes", 0) for record in sampled),
        "skipped_steps": model.statistics["skipped_steps"] if model else 0,
        "losses": model.statistics.get("losses", []) if model else [],
        "seconds_by_stage": seconds,
        "seconds": sum(seconds.values()),
    }


def _samples(paths: RunPaths, iteration: int) -> list[Manifest]:
    folder = paths.samples(iteration)
    shard_map = shards.read(folder)
    if shard_map is None:
        return []
    records = [manifest.read(shard_folder(folder, shard)) for shard in range(shard_map.num_shards)]
    return [record for record in records if record is not None]
