"""lt-hpc doctor [--config FILE] [--profile FILE] [--iters T] [key=value ...]

Whether a plan can end where it is to run: what the site's Slurm, its partitions, this environment and the
file system are like, what the plan chose because of it, and what to change. Submits nothing, unless --probe
has a short job look at a node of each kind. Exit code 2 where launch, or what it submits, can't succeed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from lt_hpc.arguments import Parser
from lt_hpc.cluster import schedulers, shared
from lt_hpc.cluster.slurm import client
from lt_hpc.cluster.slurm.scheduler import Slurm
from lt_hpc.config.schema import Config
from lt_hpc.data import base_model
from lt_hpc.doctor import controller, files, node, partitions, probe, surroundings, work
from lt_hpc.doctor.rows import Row, data, text
from lt_hpc.dry_run import too_large
from lt_hpc.errors import ConfigError, explained, guarded
from lt_hpc.launch import configured, iterations, make_plan, run_folder
from lt_hpc.run import engine_work, state
from lt_hpc.run.estimate import DATA_MEMORY_BYTES, Estimate, Training, disk_bytes, estimate
from lt_hpc.run.plan import Plan
from lt_hpc.store.paths import RunPaths

GROUP = "plan"


@guarded
def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code (see lt_hpc.errors)."""
    options = parser().parse_intermixed_args(arguments)
    config, paths, origin = configured(options)
    name, why = schedulers.choose(options.cluster)
    if options.probe and name != "slurm":
        raise ConfigError(f"--probe: needs a Slurm controller ({why})")
    place = Row(controller.GROUP, "cluster", why, f"a run would be that of --cluster {name}")
    found = [place, *_rows(options, config, paths, name == "slurm")]
    found += [Row(GROUP, "configuration", line) for line in origin]
    print(json.dumps(data(found), indent=1) if options.json else "\n".join(text(found)))
    return ConfigError.exit_code if any(row.verdict == "refused" for row in found) else 0


def parser() -> Parser:
    """Of the command line."""
    made = Parser("lt-hpc doctor", __doc__)
    made.add_argument("--config", type=Path, default=None, help="as for launch")
    made.add_argument("--profile", type=Path, default=None, help="site profile, a YAML file")
    made.add_argument("--run-dir", type=run_folder, default=None, help="default: runs/NAME of the config")
    made.add_argument("--cluster", choices=("auto", "slurm", "local"), default="auto")
    made.add_argument("--iters", type=iterations, default=3, metavar="T", help="as for launch")
    made.add_argument("--json", action="store_true", help="the same as a list of JSON objects")
    made.add_argument("--probe", action="store_true", help="submit a short job for each kind of place")
    made.add_argument("--probe-seconds", type=float, default=300.0, help="how long to wait for their answers")
    made.add_argument("overrides", nargs="*", metavar="key=value")
    return made


def _rows(options: argparse.Namespace, config: Config, paths: RunPaths, on_slurm: bool) -> Iterator[Row]:
    """Everything that is looked at, each where it can be."""
    plan, refusal = _planned(config, options.iters, paths)
    found = estimate(plan, paths) if plan else None
    if on_slurm:
        yield from _on_slurm(config, paths, plan, found)
    yield from surroundings.rows(config, on_slurm)
    if plan:
        yield from surroundings.hub_rows(config)
    yield from _files(paths, disk_bytes(plan, found) if plan and found else None)
    others = list(_others(paths))
    yield from others
    if refusal:
        yield Row(GROUP, "settings", refusal, "launch refuses them", "refused", "as it says")
    if plan and found:
        yield from surroundings.remarks(config)
        for training in found.training:
            larger = too_large(plan, training)
            if larger:
                yield Row(GROUP, f"memory of {training.stage}", larger, "", "refused", "as it says")
    if options.probe and plan and not others:
        uses_hub = any(True for _ in surroundings.from_hub(config))
        yield from probe.rows(plan, paths, options.probe_seconds, uses_hub)


def _planned(config: Config, wanted: int | None, paths: RunPaths) -> tuple[Plan | None, str]:
    """The plan, or why launch would refuse to make it."""
    try:
        return make_plan(config, wanted, paths), ""
    except ConfigError as error:
        return None, str(error)


def _on_slurm(config: Config, paths: RunPaths, plan: Plan | None, found: Estimate | None) -> Iterator[Row]:
    site = client.site()
    yield from controller.rows(site)
    if plan is None or found is None:
        return
    look = state.Look(paths)
    pending = look.pending(plan)
    host = {plan.stage(training.stage).name: _host_bytes(plan, training) for training in found.training}
    for kind in dict.fromkeys(stage.kind for stage in pending or plan.stages):
        yield from partitions.rows(site, config.slurm, kind, host.get(kind.name))
    wanted = {
        stage.key: list(look.standing(stage).missing) or None if stage.kind.sharded else []
        for stage in pending
    }
    heads = _heads(config)
    pace, costs = engine_work.throughput(plan, paths), state.training_costs(paths, plan)
    yield from work.rows(work.Work(plan, found, wanted, len(client.queue()), costs, pace, heads), site)
    yield from _of_launch(paths)


def _host_bytes(plan: Plan, training: Training) -> float:
    """What a training takes of a node's own memory: each rank for its data, and on CPUs all the rest."""
    stage = plan.stage(training.stage)
    if plan.config.slurm.job(stage.name).gpus_per_node:
        return DATA_MEMORY_BYTES * training.ranks_per_node
    on_cpus = training.memory.get(plan.training(stage).zero_stage, 0.0)
    return (DATA_MEMORY_BYTES + on_cpus) * plan.config.slurm.job(stage.name).tasks_per_node


def _heads(config: Config) -> int | None:
    """Attention heads of a base model in a folder."""
    source = base_model.resolve(config.model)
    if isinstance(source, str):
        return None
    settings = json.loads((source / "config.json").read_text(encoding="utf-8"))
    found = settings.get("text_config", settings).get("num_attention_heads")
    return found if isinstance(found, int) else None


def _files(paths: RunPaths, needed: float | None) -> Iterator[Row]:
    folder = files.existing(paths.root)
    try:
        yield from files.rows(files.look(folder), needed)
    except OSError as error:
        yield Row(files.GROUP, "writing", explained(error), "", "refused", "--run-dir where you can write")


def _others(paths: RunPaths) -> Iterator[Row]:
    """Who else could put something into the folder that jobs then run."""
    try:
        shared.refuse(paths)
    except ConfigError as error:
        yield Row(
            files.GROUP, "who can write", str(error), "launch refuses it", "refused",
            f"chmod -R go-w {paths.root}, or --allow-shared for launch",
        )  # fmt: skip


def _of_launch(paths: RunPaths) -> Iterator[Row]:
    """What launch itself would refuse on Slurm, or say of jobs that are there."""
    try:
        Slurm(paths, node.run)
    except ConfigError as error:
        yield Row(
            GROUP, "run folder", str(error), "launch refuses it", "refused", "--run-dir of another name"
        )
    jobs, allocations = schedulers.jobs_of_run(paths)
    if allocations:
        names = ", ".join(allocations)
        yield Row(
            GROUP, "queue", f"jobs that run all of it: {names}", "launch refuses another", "refused",
            f"wait for them, or scancel {names}",
        )  # fmt: skip
    elif jobs:
        yield Row(GROUP, "queue", f"{len(jobs)} jobs of this run", "launch submits what they leave")


if __name__ == "__main__":
    sys.exit(main())
