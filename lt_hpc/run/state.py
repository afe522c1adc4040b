"""What a run has to do and what is done, according to its manifests alone."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lt_hpc.config.load import config_from_dict, load_config
from lt_hpc.config.schema import Config
from lt_hpc.errors import ConfigError
from lt_hpc.run.build import plan_from_json
from lt_hpc.run.plan import Plan, Stage, plan_to_json
from lt_hpc.store import counts, manifest, shards
from lt_hpc.store.atomic import write_json
from lt_hpc.store.fingerprints import fingerprint
from lt_hpc.store.paths import RunPaths, relative_paths, shard_folder


def read_plan(file: Path) -> Plan:
    """A plan as it was pinned.

    Raises:
        ConfigError: when it can't be read, or is not what its name, the hash of its content, says.
    """
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        if fingerprint("plan", raw, {}) != file.stem:
            raise ValueError("its content is not what its name says")
        return plan_from_json(raw, config_from_dict(raw["config"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{file}: not a plan that can be read ({error}); launch again writes it") from error


def pin_plan(paths: RunPaths, plan: Plan) -> None:
    """Write a plan down, as that of the last launch."""
    write_json(paths.plan(plan.fingerprint), plan_to_json(plan))
    write_json(paths.last_plan, {"plan": plan.fingerprint})


def last_plan(paths: RunPaths) -> Plan:
    """The plan of the last launch on a run folder.

    Raises:
        ConfigError: when the folder holds no run, or its record of the last plan is damaged.
    """
    if paths.last_plan.exists():
        try:
            name = str(json.loads(paths.last_plan.read_text(encoding="utf-8"))["plan"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{paths.last_plan}: does not name a plan ({error}); launch again writes it"
            ) from error
        return read_plan(paths.plan(name))
    # Runs of 0.1.0 did not record it.
    files = sorted(paths.plans.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    if not files:
        raise ConfigError(f"{paths.root}: no run here (plans/ is missing or empty)")
    return read_plan(files[-1])


def own_config(paths: RunPaths) -> tuple[Config, list[str]] | None:
    """The configuration that a run folder was last launched with, and what to say of damage; None where it
    holds no run. It is in two files, the last plan and config.yaml: one that can't be read is made up for by
    the other.

    Raises:
        ConfigError: when neither can be read, or config.yaml is of no launch: then somebody has edited it.
    """
    if not paths.config.exists() and not paths.plans.exists():
        return None
    written, damage = _written(paths.config)
    try:
        planned = last_plan(paths).config
    except ConfigError as error:
        if written is None:
            raise ConfigError(f"{error}; give --config") from error
        return written, [f"{error}; its settings are those of {paths.config}"]
    if written is None:
        said = f"{paths.config}: {damage}; the run goes on as it was launched, which writes it again"
        return planned, [said] if damage else []
    # A launch that was killed at the right moment left the file of the one before.
    if written == planned or written in (plan.config for plan in plans(paths)):
        return planned, []
    raise ConfigError(
        f"{paths.config}: not what the last launch wrote, but edited or damaged; --config {paths.config} "
        "takes it as it is; without that file the run goes on as it was launched"
    )


def _written(file: Path) -> tuple[Config | None, str]:
    """What config.yaml says, or None and what is wrong with it, nothing where it isn't there."""
    if not file.exists():
        return None, ""
    if not file.stat().st_size:
        return None, "empty"
    try:
        return load_config(file), ""
    except ConfigError as error:
        return None, str(error)


def plans(paths: RunPaths) -> Iterator[Plan]:
    """The plans of all launches that can be read, the newest first."""
    for file in sorted(paths.plans.glob("*.json"), key=lambda path: -path.stat().st_mtime_ns):
        with contextlib.suppress(ConfigError):
            yield read_plan(file)


@dataclass(frozen=True)
class Standing:
    """How far a stage is: why it is not done, or None. Of a sharded stage also the shards that are missing,
    all of them before it has started, and how many there are since then, or None. Sizes are compared,
    checksums are left to the stage that reads the files."""

    problem: str | None
    missing: tuple[int, ...] = ()
    pinned: int | None = None


class Look:
    """What the manifests of a run say. Each folder is looked at once, when it is first asked for, so a look
    is for what is decided together: who waits, or lets others work, takes another one after that."""

    def __init__(self, paths: RunPaths) -> None:
        self.paths = paths
        self._problems: dict[tuple[str, str], str | None] = {}
        self._shards: dict[tuple[str, str], Standing] = {}

    def standing(self, stage: Stage) -> Standing:
        """From the manifests of its outputs."""
        if not stage.kind.sharded:
            reasons = (self._problem(*output) for output in stage.outputs.items())
            return Standing(next((reason for reason in reasons if reason is not None), None))
        key = (stage.output, stage.fingerprint)
        if key not in self._shards:
            reason, pinned, missing = shards.look(self.paths.root / stage.output, stage.fingerprint)
            if pinned is None:
                self._shards[key] = Standing(reason, tuple(range(stage.shards)))
            else:
                self._shards[key] = Standing(reason, tuple(missing), pinned.num_shards)
        return self._shards[key]

    def _problem(self, folder: str, expected: str) -> str | None:
        key = (folder, expected)
        if key not in self._problems:
            self._problems[key] = manifest.problem(self.paths.root / folder, expected)
        return self._problems[key]

    def problem(self, stage: Stage) -> str | None:
        """Why a stage is not done, or None."""
        return self.standing(stage).problem

    def pending(self, plan: Plan) -> list[Stage]:
        """The stages that still have to run, in order: goals that are not done, and what they need.
        Samples that were deleted after their model was trained are not missed."""
        return unfinished(plan, lambda stage: self.problem(stage) is None)

    def complete(self, plan: Plan) -> bool:
        """Whether nothing is pending: every goal is done, whether or not what it was made from is there."""
        return all(self.problem(stage) is None for stage in plan.stages if stage.kind.goal)

    def missing_inputs(self, plan: Plan, stage: Stage) -> dict[str, str]:
        """Key of the stage that makes it -> why an input of a stage is not done."""
        found: dict[str, str] = {}
        for folder in stage.inputs.values():
            maker = plan.producer(folder)
            sharded = maker.kind.sharded
            reason = self.problem(maker) if sharded else self._problem(folder, maker.outputs[folder])
            if reason is not None:
                found.setdefault(maker.key, reason)
        return found


def problem(paths: RunPaths, stage: Stage) -> str | None:
    """Why a stage is not done, or None, by a look of its own."""
    return Look(paths).problem(stage)


def pending(paths: RunPaths, plan: Plan) -> list[Stage]:
    """The stages that still have to run, by a look of their own."""
    return Look(paths).pending(plan)


def folders(paths: RunPaths, stage: Stage) -> list[Path]:
    """The folders of a stage's output that have a manifest each."""
    if not stage.kind.sharded:
        return [paths.root / folder for folder in stage.outputs]
    folder = paths.root / stage.output
    pinned = shards.read(folder)
    return [shard_folder(folder, one) for one in range(pinned.num_shards if pinned else 0)]


def unfinished(plan: Plan, is_done: Callable[[Stage], bool]) -> list[Stage]:
    """`Look.pending`, where it is known what is done. Pure."""
    wanted = {stage.key for stage in plan.stages if stage.kind.goal}
    todo = []
    for stage in reversed(plan.stages):  # what a stage needs stands before it
        if stage.key in wanted and not is_done(stage):
            todo.append(stage)
            wanted |= set(stage.needs)
    return todo[::-1]


def remarks(paths: RunPaths, stage: Stage) -> list[str]:
    """What a user should know of the documents that a stage made; see `counts.remarks`."""
    made = folders(paths, stage) if stage.kind.documents else []
    records = {folder.name: manifest.read(folder) for folder in made}
    return [
        f"{name}: {line}"
        for name, record in records.items()
        if record
        for line in counts.remarks(name, record.counts)
    ]


def training_costs(paths: RunPaths, plan: Plan) -> dict[str, tuple[float, float]]:
    """Key of each trained model's stage -> seconds of its slowest checkpoint and of its longest step."""
    records = {
        stage.key: manifest.read(paths.root / stage.output) for stage in plan.stages if stage.kind.ranked
    }
    return {
        key: (record.statistics["checkpoint"]["seconds"], record.statistics["longest_step_seconds"])
        for key, record in records.items()
        if record and record.statistics.get("checkpoint")
    }


def slow_checkpoints(paths: RunPaths, plan: Plan, seconds: float, source: str) -> list[str]:
    """A warning for each trained model whose checkpoint and longest step took more than the
    `seconds` of notice that jobs get from `source`: training still to come would be cut off while
    it saves."""
    return [
        f"a checkpoint of {key} took {saved:.0f} s and a step up to {step:.0f} s, but jobs get {seconds:g} s "
        f"of notice ({source}): what was trained since the last checkpoint (train.checkpoint_seconds) would "
        "be lost"
        for key, (saved, step) in training_costs(paths, plan).items()
        if saved + step > seconds
    ]


def remove_spent_checkpoints(look: Look, stages: Sequence[Stage]) -> None:
    """Delete the checkpoints of every model that is done: training deletes its own, unless it is
    killed just before."""
    for stage in stages:
        if stage.kind.ranked and look.problem(stage) is None:
            spent = look.paths.checkpoints(stage.iteration, stage.fingerprint)
            shutil.rmtree(spent, ignore_errors=True)


def _reason_to_move(folder: Path, stage: Stage, expected: str) -> str | None:
    """What the folder of a stage that is to run has in place of the stage's own work in progress: the
    fingerprint it was made for, or `damaged`; None where the stage can go on in it."""
    if stage.kind.sharded:
        pinned = shards.read(folder)
        return pinned.samples if pinned and pinned.samples != expected else None
    record = manifest.read(folder)
    if record is not None and record.fingerprint != expected:
        return record.fingerprint
    # Models appear whole: one that is there and not done is damaged, or its manifest is.
    whole = stage.kind.ranked or folder.name == relative_paths().base.name
    if record is None and (whole or (folder / manifest.NAME).exists()):
        return "damaged"
    return f"{expected}-damaged" if whole else None


def _unused(path: Path) -> Path:
    """This path, or the first of PATH.2, PATH.3, ... that nothing has."""
    numbered = (path.with_name(f"{path.name}.{n}") for n in itertools.count(2))
    return next(one for one in itertools.chain([path], numbered) if not one.exists())


def move_superseded(paths: RunPaths, stages: list[Stage]) -> list[str]:
    """Move outputs of other settings, and damaged ones that can't be gone on with, out of the way of the
    given stages; returns what was moved. Nothing is deleted: expensive samples may still be wanted."""
    moved = []
    for stage in stages:
        for name, expected in stage.outputs.items():
            folder = paths.root / name
            if not folder.is_dir():
                continue
            if manifest.problem(folder, expected) is None and not stage.kind.sharded:
                continue
            found = _reason_to_move(folder, stage, expected)
            if found is None:
                continue
            target = _unused(paths.superseded / f"{name.replace('/', '-')}-{found}")
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(folder, target)
            moved.append(f"{name} -> {target.relative_to(paths.root)}")
    return moved
