"""`lt-hpc doctor --probe`: a short job where the stages of a plan would go, that looks around on its node and
answers through the run folder."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from lt_hpc.cluster.slurm import client
from lt_hpc.cluster.slurm.scheduler import Slurm
from lt_hpc.config.schema import Config
from lt_hpc.doctor import files, node
from lt_hpc.doctor.rows import Row, size
from lt_hpc.doctor.surroundings import installed_version
from lt_hpc.errors import LtError, StageError
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store.atomic import read_sealed, sealed, write_json
from lt_hpc.store.paths import RunPaths

MINUTES = 6
"""Time limit of a job: three imports on a slow file system."""
POLL_SECONDS = 1.0
LAG_SECONDS = 15.0
"""How long an answer may take to be seen here after its job has ended."""


@dataclass(frozen=True)
class Asked:
    """A job under way: the stage it stands for, the kinds of stages that go to the same place with the same
    GPUs, its id."""

    stage: Stage
    kinds: tuple[str, ...]
    job: str

    @property
    def group(self) -> str:
        return f"a node for {', '.join(self.kinds)}"


def rows(plan: Plan, paths: RunPaths, seconds: float, uses_hub: bool) -> list[Row]:
    """Submit, wait at most so many seconds for the answers, and say what they mean. Jobs that have not
    answered by then are cancelled."""
    folder = paths.doctor(uuid.uuid4().hex[:8])
    folder.mkdir(parents=True)
    hub = urlparse(os.environ.get("HF_ENDPOINT", "https://huggingface.co")).hostname
    write_json(folder / node.HELLO, sealed({"packages": _packages(plan.config), "hub": hub}))
    found: list[Row] = []
    asked: list[Asked] = []
    answers: dict[str, dict[str, Any]] = {}
    try:
        for stage, kinds in _places(plan):
            try:
                asked.append(_submitted(plan, stage, kinds, folder))
            except LtError as error:
                group = f"a node for {', '.join(kinds)}"
                found.append(Row(group, "job", str(error), "it can't be submitted", "refused", "as it says"))
        _wait(folder, asked, answers, time.monotonic() + seconds)
        for one in asked:
            found.append(_requeue(one))
            answer = answers.get(one.stage.key)
            if answer is None:
                found += _silent(one, seconds, folder)
            else:
                found += judge(one.group, answer, plan, one.stage, uses_hub)
    finally:  # also on Ctrl-C
        client.cancel(one.job for one in asked if one.stage.key not in answers)
    if len(answers) == len(asked):
        _clean(folder, paths)
    return found


def _clean(folder: Path, paths: RunPaths) -> None:
    """Leave nothing of the visit, and no run folder that it made."""
    shutil.rmtree(folder, ignore_errors=True)
    for empty in (folder.parent, paths.root):
        if empty.is_dir() and not any(empty.iterdir()):
            empty.rmdir()


def _packages(config: Config) -> list[str]:
    engine = [config.sample.engine] if installed_version(config.sample.engine) else []
    return list(dict.fromkeys(["torch", "deepspeed", *engine]))


def _places(plan: Plan) -> list[tuple[Stage, tuple[str, ...]]]:
    """A stage for each place that jobs go to, with the kinds that go there."""
    first: dict[tuple[Any, ...], Stage] = {}
    kinds: dict[tuple[Any, ...], list[str]] = {}
    for stage in plan.stages:
        job = plan.config.slurm.job(stage.name)
        where = dataclasses.astuple(plan.config.slurm.where(stage.name))
        place = (*where, job.gpus_per_node, job.memory, *sorted(job.options.items()))
        first.setdefault(place, stage)
        if stage.name not in kinds.setdefault(place, []):
            kinds[place].append(stage.name)
    return [(stage, tuple(kinds[place])) for place, stage in first.items()]


def _submitted(plan: Plan, stage: Stage, kinds: tuple[str, ...], folder: Path) -> Asked:
    """A job of the stage as launch would submit it, but of one task and some minutes."""
    config = copy.deepcopy(plan.config)
    job = config.slurm.job(stage.name)
    job.minutes, job.nodes, job.tasks_per_node = min(MINUTES, job.minutes), 1, 1
    config.slurm.signal_seconds = 30
    small = dataclasses.replace(plan, config=config)
    scheduler = Slurm(RunPaths(folder), node.run)
    (identity,) = scheduler.submit(small, stage, f"lt-doctor-{folder.name}-{stage.key}", [[0]], ())
    return Asked(stage, kinds, identity)


def _wait(folder: Path, asked: Sequence[Asked], answers: dict[str, dict[str, Any]], deadline: float) -> None:
    """Fill `answers`, key of the stage -> the answer. Files that can't be read whole yet are looked at again,
    for a while after the jobs have ended."""
    while len(answers) < len(asked) and time.monotonic() < deadline:
        waited_for = [one for one in asked if one.stage.key not in answers]
        ended = not {one.job for one in waited_for} & {task.job for task in client.queue()}
        deadline = min(deadline, time.monotonic() + LAG_SECONDS) if ended else deadline
        for one in waited_for:
            with contextlib.suppress(OSError, ValueError):
                answers[one.stage.key] = read_sealed(node.answer_file(folder, one.stage.key))
        time.sleep(POLL_SECONDS)


def _requeue(one: Asked) -> Row:
    if client.keeps_requeue(one.job):
        return Row(one.group, "requeue", f"job {one.job} kept its --requeue")
    return Row(
        one.group, "requeue", f"the site took --requeue from job {one.job}",
        "a stopped job ends with exit code 75, and what waits for it is cancelled", "warning",
        "launch again after each stop, or ask the site",
    )  # fmt: skip


def _silent(one: Asked, seconds: float, folder: Path) -> Iterator[Row]:
    """Why there is no answer, in squeue's words."""
    try:
        state, reason = client.standing(one.job)
    except StageError:
        state, reason = "", ""
    if state in ("", "COMPLETED", "FAILED"):
        found = f"job {one.job} has ended without an answer"
        change = f"--run-dir on a file system that nodes share; its log, where they do: {folder}/slurm"
        yield Row(one.group, "answer", found, "what it wrote is not here", "refused", change)
        return
    found = f"none from job {one.job} in {seconds:g} s: {state} ({reason})"
    yield Row(one.group, "answer", found, "cancelled", "warning", "again with a larger --probe-seconds")


def judge(group: str, answer: Mapping[str, Any], plan: Plan, stage: Stage, uses_hub: bool) -> Iterator[Row]:
    """What an answer means. Pure."""
    yield Row(group, "run folder", f"node {answer['host']} sees it, and what it wrote is here")
    for row in files.rows(files.Found(**answer["files"]), None, group):
        yield row if row.what != "space" else dataclasses.replace(row, plan="")
    if answer["memory"] is not None:
        yield Row(group, "memory", f"{size(answer['memory'])} are free on the node")
    yield from _packages_there(group, answer["packages"])
    yield _gpus(group, answer, plan.config.slurm.job(stage.name).gpus_per_node, stage)
    away = answer["network"]
    verdict = "warning" if away and uses_hub else "ok"
    change = "lt-hpc prefetch, and export HF_HUB_OFFLINE=1 in slurm.setup" if away and uses_hub else ""
    yield Row(
        group, "network", f"the hub is not reached ({away})" if away else "the hub is reached",
        "" if uses_hub else "nothing comes from it", "warning" if verdict == "warning" else "ok", change,
    )  # fmt: skip


def _packages_there(group: str, packages: Mapping[str, Mapping[str, Any]]) -> Iterator[Row]:
    for name, found in packages.items():
        here = installed_version(name)
        if "error" in found:
            change = f"slurm.setup: what makes `python -c 'import {name}'` work on the node"
            yield Row(group, name, found["error"], "it can't be imported there", "refused", change)
        elif here and here.partition("+")[0] != str(found["version"]).partition("+")[0]:
            yield Row(
                group, name, f"{found['version']} there, {here} here", "", "warning",
                "slurm.setup: activate the same environment",
            )  # fmt: skip
        else:
            yield Row(group, name, f"{found['version']} is imported")


def _gpus(group: str, answer: Mapping[str, Any], asked: int, stage: Stage) -> Row:
    torch = answer["packages"].get("torch", {})
    free, visible = torch.get("free", []), len(answer["devices"])
    found = f"{visible} visible, torch can use {torch.get('gpus', 0)}"
    found += f" ({', '.join(size(one) for one in free)} free)" if free else ""
    if torch.get("gpus", 0) < asked:
        return Row(
            group, "GPUs", found, f"slurm.{stage.name}.gpus_per_node={asked}", "refused",
            "a torch for the node's driver (bash tools/setup.sh), or a partition whose GPUs are seen",
        )  # fmt: skip
    return Row(group, "GPUs", found, f"{asked} asked for")
