"""A run folder in which everything is done, without having been run: manifests and a file in each folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lt_hpc.config.load import demo_file, load_config
from lt_hpc.run import state
from lt_hpc.run.build import build_plan
from lt_hpc.run.plan import Plan
from lt_hpc.store import manifest, shards
from lt_hpc.store.manifest import Manifest
from lt_hpc.store.paths import RunPaths
from lt_hpc.store.shards import ShardMap


def planned(*overrides: str, content: str = "c") -> Plan:
    config = load_config(demo_file(), list(overrides))
    documents = {name: [content, vars(getattr(config, name))] for name in ("corpus", "warm", "heldout")}
    sources: dict[str, Any] = {"model": config.model.path, "teacher": {"prompt": "p"}, **documents}
    return build_plan(config, 1, sources)


def finished(
    folder: Path, plan: Plan, size: int = 10, counts: dict[str, int] | None = None
) -> RunPaths:
    """A run folder in which all of a plan is done; `size`: bytes of each file; `counts`: of each folder."""
    paths = RunPaths(folder)
    state.pin_plan(paths, plan)
    for stage in plan.stages:
        if stage.kind.sharded:
            shard_map = ShardMap(stage.fingerprint, num_chunks=4, block_chunks=2, num_shards=2)
            shards.pin(folder / stage.output, shard_map)
            for number, made in enumerate(state.folders(paths, stage)):
                made.mkdir()
                manifest.write(made, Manifest("any", shard_map.fingerprint(number), True, ()))
            continue
        for name, expected in stage.outputs.items():
            (folder / name).mkdir(parents=True)
            (folder / name / "result").write_bytes(bytes(size))
            entry = manifest.describe(folder / name / "result")
            manifest.write(folder / name, Manifest("any", expected, True, (entry,), counts or {}))
    return paths


