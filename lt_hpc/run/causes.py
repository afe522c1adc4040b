"""Why what a run has is to be made again: settings that changed, stages before it, damage.

What a folder was made with is in the plan of an earlier launch (plans/), found by the folder's fingerprint.
"""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lt_hpc.config.fields import walk
from lt_hpc.config.identity import identity_of
from lt_hpc.config.schema import CORPORA, Config
from lt_hpc.config.secrets import masked
from lt_hpc.errors import ConfigError
from lt_hpc.run import events, state
from lt_hpc.run.build import build_plan
from lt_hpc.run.events import Ended, Event, Submit
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store import manifest, shards
from lt_hpc.store.paths import RunPaths

UNKNOWN = "made with settings that no plan in plans/ has"
CONTENT = "no setting changed: other content of model.path or of a source, or another release of lt_hpc"


@dataclass(frozen=True)
class Cause:
    """Why a stage is done or begun no more.

    Attributes:
        own: settings of its own, as "sample.num_samples 4 -> 8", and what is damaged or missing.
        above: keys of stages that make what it takes, where that changes.
    """

    own: tuple[str, ...]
    above: tuple[str, ...]

    def __str__(self) -> str:
        made = [f"made from {', '.join(self.above)}, to be made again"] if self.above else []
        return "; ".join([*self.own, *made])


def differences(before: Config, now: Config) -> tuple[list[str], list[str]]:
    """The settings that differ, as "NAME OLD -> NEW": those that decide results, and the others. Pure."""
    old = {name: value for name, _, value in walk(before)}
    found: tuple[list[str], list[str]] = ([], [])
    for name, declared, value in walk(now):
        if old[name] != value:
            found[declared.execution].append(f"{name} {_shown(old[name])} -> {_shown(value)}")
    return found


def of_stages(paths: RunPaths, plan: Plan, pending: Sequence[Stage]) -> dict[str, Cause]:
    """Stage key -> why it is to be made again, for those of the pending stages that were made or begun."""
    earlier, happened = _Earlier(paths, plan), events.read(paths)
    found = {}
    for stage in pending:
        own, above = dict[str, None](), dict[str, None]()
        for folder, expected in stage.outputs.items():
            made = _made_for(paths.root / folder, stage)
            if made is None or made == expected:
                damage = _damage(paths, stage, folder, happened)
                own |= dict.fromkeys([damage] if damage else [])
                continue
            settings, stages = earlier.reasons(stage, folder, made)
            own |= dict.fromkeys(settings)
            above |= dict.fromkeys(stages)
        if own or above:
            found[stage.key] = Cause(tuple(own), tuple(above))
    return found


def in_words(causes: Mapping[str, Cause]) -> Iterator[str]:
    """A line for each cause, with the stages that it concerns, and one for all that only follow."""
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for key, cause in causes.items():
        groups[cause.own].append(key)
    for own, keys in groups.items():
        if own:
            yield f"{', '.join(keys)}: {'; '.join(own)}"
    following = groups.get((), [])
    if following:
        named = (f"{key} (from {', '.join(causes[key].above)})" for key in following)
        yield f"made from these: {', '.join(named)}"


def move(paths: RunPaths, plan: Plan, pending: Sequence[Stage]) -> list[str]:
    """Move what pending stages can't go on with to superseded/; returns what was moved, and why."""
    causes = of_stages(paths, plan, pending)
    return [
        f"moved: {line} ({stage.key}: {causes.get(stage.key, UNKNOWN)})"
        for stage in pending
        for line in state.move_superseded(paths, [stage])
    ]


def _shown(value: Any) -> str:
    """As in YAML, cut and without secrets."""
    text = masked(value if isinstance(value, str) else json.dumps(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _made_for(folder: Path, stage: Stage) -> str | None:
    """The fingerprint that a folder was made for, done or not."""
    if stage.kind.sharded:
        pinned = shards.read(folder)
        return pinned.samples if pinned else None
    record = manifest.read(folder)
    return record.fingerprint if record else None


def _damage(paths: RunPaths, stage: Stage, name: str, happened: Sequence[Event]) -> str | None:
    """What is wrong with a folder of the right settings that was done once, or None."""
    folder = paths.root / name
    if stage.kind.sharded:
        found = [reason for one in state.folders(paths, stage) if (reason := _damage_of(one))]
        more = f", and {len(found) - 1} more shards" if len(found) > 1 else ""
        return f"{found[0]}{more}" if found else None
    damage = _damage_of(folder)
    if damage is None and _ended_well(stage, happened):
        damage = manifest.problem(folder, stage.outputs[name])
    return damage


def _damage_of(folder: Path) -> str | None:
    """As `manifest.damage`, by sizes."""
    record = manifest.read(folder)
    if record is None:
        return manifest.problem(folder, "") if (folder / manifest.NAME).exists() else None
    return manifest.problem(folder, record.fingerprint) if record.complete else None


def _ended_well(stage: Stage, happened: Sequence[Event]) -> bool:
    """Whether the last jobs of a stage were of its present settings, and one of them has ended well."""
    same = ended = False
    for one in happened:
        if isinstance(one, Submit) and one.stage == stage.key:
            same, ended = one.fingerprint == stage.fingerprint, False
        elif isinstance(one, Ended) and one.stage == stage.key and one.code == 0:
            ended = True
    return same and ended


class _Earlier:
    """The plans of earlier launches, read when they are asked for."""

    def __init__(self, paths: RunPaths, plan: Plan) -> None:
        self.paths, self.plan = paths, plan
        self.plans: list[Plan] | None = None
        self.concerns: dict[int, dict[str, list[str]]] = {}

    def reasons(self, stage: Stage, folder: str, made: str) -> tuple[list[str], list[str]]:
        """Settings, in words, and keys of stages by which what is in a folder now is not what is wanted."""
        before = self._with(folder, made)
        if before is None:
            return [UNKNOWN], []
        old = {name: expected for one in before.stages for name, expected in one.outputs.items()}
        above = [
            self.plan.producer(taken).key
            for taken in stage.inputs.values()
            if old.get(taken) != self.plan.output(taken)
        ]
        if id(before) not in self.concerns:
            self.concerns[id(before)] = concerned(self.plan, before.config)
        settings = self.concerns[id(before)].get(stage.key, [])
        return (settings if settings or above else [CONTENT]), list(dict.fromkeys(above))

    def _with(self, folder: str, made: str) -> Plan | None:
        if self.plans is None:
            self.plans = list(state.plans(self.paths))
        wanted = (folder, made)
        return next(
            (plan for plan in self.plans if any(wanted in s.outputs.items() for s in plan.stages)), None
        )


def concerned(plan: Plan, before: Config) -> dict[str, list[str]]:
    """Stage key -> which of the settings that differ from `before` enter its own fingerprint, each in words:
    those without whose change the stage would be another one. Pure."""
    old = {name: value for name, declared, value in walk(before) if not declared.execution}
    now = _owned(plan.config, plan.iterations)
    found: dict[str, list[str]] = defaultdict(list)
    for name, declared, value in walk(plan.config):
        if declared.execution or old[name] == value:
            continue
        try:
            then = _owned(_with_value(plan.config, name.split("."), old[name]), plan.iterations)
        except ConfigError:  # this one goes with others: objective with the number of iterations
            then = {}
        for key, owned in now.items():
            if then.get(key) != owned:
                found[key].append(f"{name} {_shown(old[name])} -> {_shown(value)}")
    return found


def _owned(config: Config, iterations: int) -> dict[str, Any]:
    """Stage key -> what enters its own fingerprint; sources by their settings, none is looked at."""
    model = {"path": config.model.path, "revision": config.model.revision}
    sources = {"model": model, **{name: identity_of(getattr(config, name)) for name in CORPORA}}
    return {s.key: s.settings or s.outputs for s in build_plan(config, iterations, sources).stages}


def _with_value(section: Any, names: Sequence[str], value: Any) -> Any:
    """A section with another value of the field a.b.c."""
    first, *rest = names
    inner = _with_value(getattr(section, first), rest, value) if rest else value
    return dataclasses.replace(section, **{first: inner})
