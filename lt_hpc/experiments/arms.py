"""The runs of an experiment: every arm with every seed, planned before any of them is started."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lt_hpc.config.identity import identity_of
from lt_hpc.config.load import load_config
from lt_hpc.config.schema import CORPORA, Config
from lt_hpc.data import base_model, sources
from lt_hpc.errors import ConfigError
from lt_hpc.experiments.definition import PAIRED, Arm, Definition, is_score, names
from lt_hpc.launch import make_plan
from lt_hpc.run import state
from lt_hpc.run.plan import Plan
from lt_hpc.store import manifest
from lt_hpc.store.paths import RunPaths

SEEDS = {"corpus": 100, "warm": 200, "heldout": 300}
"""What is added to the seed of an experiment, so that no two corpora have the same."""
OUT = Path("runs/experiments")
_EXPORTED = re.compile(
    r"((?P<out>.+)/)?(?P<name>[^/]+)-(?P<size>[^/-]+)/seed-(?P<seed>\d+)/(?P<arm>[^/]+)/iter-\d+/model/?"
)
"""Where an experiment leaves a model."""


@dataclass(frozen=True)
class ArmRun:
    """One arm with one seed. `overrides`: all of them, over the file `config`; `plan`: of all iterations."""

    arm: Arm
    seed: int
    paths: RunPaths
    config: Path
    overrides: tuple[str, ...]
    plan: Plan

    def __str__(self) -> str:
        return f"seed {self.seed}, {self.arm.name}"

    @property
    def outputs(self) -> set[str]:
        """Fingerprints of all that the run makes."""
        return {made for stage in self.plan.stages for made in stage.outputs.values()}

    @property
    def is_done(self) -> bool:
        return state.Look(self.paths).complete(self.plan)


def plan_all(
    definition: Definition, seeds: Sequence[int], out: Path, profile: Path | None = None
) -> list[ArmRun]:
    """The runs, seed by seed; creates nothing.

    Raises:
        ConfigError: naming arm and field, where an arm is none that can be run, or the held-out documents of
            two arms that are to be compared differ; naming a measure that no arm has.
    """
    runs = [
        _planned(definition, arm, seed, out, profile) for seed in seeds for arm in definition.arms.values()
    ]
    _check_scores(definition, runs)
    of = {(run.arm.name, run.seed): run for run in runs}
    for first, second in definition.pairs:
        for seed in seeds:
            _check_pair(definition, of[first, seed], of[second, seed])
    return runs


def tokenise_alike(first: ArmRun, second: ArmRun) -> bool:
    """Whether the same held-out documents are the same chunks of token ids for two runs."""
    return base_model.tokenise_alike(first.plan.config.model, second.plan.config.model)


def _check_pair(definition: Definition, first: ArmRun, second: ArmRun) -> None:
    both = f"pairs: {first.arm.name} and {second.arm.name} have other"
    if _held_out(first.plan.config) != _held_out(second.plan.config):
        raise ConfigError(f"{both} held-out documents; use the same")
    compared = [name for name in definition.measures if name in PAIRED]
    if compared and not tokenise_alike(first, second):
        raise ConfigError(
            f"{both} tokenizers, and {', '.join(compared)} are compared chunk by chunk; use models with one "
            "tokenizer, in folders, or only scores of benchmarks as measures"
        )


def _held_out(config: Config) -> object:
    """What decides the held-out documents and their chunks, but for the tokenizer."""
    if "heldout" not in config.corpora:
        return None
    return sources.identity_in(config, "heldout"), identity_of(config.chunking)


def _check_scores(definition: Definition, runs: Sequence[ArmRun]) -> None:
    """Some arm has to answer the task of each score."""
    tasks = {run.arm.name: run.plan.config.benchmark.tasks for run in runs}
    asked = {task for of_arm in tasks.values() for task in of_arm}
    for measure in filter(is_score, definition.measures):
        if not (_has_task(measure, asked) or (asked and _has_task(measure, _below(asked)))):
            found = "; ".join(f"{arm}: {', '.join(of_arm) or 'none'}" for arm, of_arm in tasks.items())
            raise ConfigError(f"measures: {measure}: no arm has its task in benchmark.tasks ({found})")


def _has_task(measure: str, tasks: Iterable[str]) -> bool:
    return any(measure.startswith(f"{task}.") for task in tasks)


def _below(tasks: Iterable[str]) -> set[str]:
    """With the tasks of groups."""
    from lt_hpc.benchmarks import harness

    return harness.below(sorted(tasks))


def _planned(definition: Definition, arm: Arm, seed: int, out: Path, profile: Path | None) -> ArmRun:
    root = out / f"{definition.name}-{definition.size}" / f"seed-{seed}" / arm.name
    paths = RunPaths(root)
    try:
        unseeded = load_config(definition.config, [*definition.overrides, *arm.overrides], profile)
        overrides = (f"name={arm.name}", *definition.overrides, *_moved(unseeded, seed), *arm.overrides)
        config = load_config(definition.config, list(overrides), profile)
        _check_exported(config.model.path)
        plan = make_plan(config, arm.iterations, paths)
    except ConfigError as error:
        raise ConfigError(f"arm {arm.name}, seed {seed}: {error}") from error
    return ArmRun(arm, seed, paths, definition.config, overrides, plan)


def _check_exported(path: str) -> None:
    """A model that another experiment leaves has to be there, and done.

    Raises:
        ConfigError: with the command that makes it.
    """
    found = _EXPORTED.fullmatch(path)
    record = manifest.read(Path(path)) if found else None
    if found is None or (record is not None and record.complete):
        return
    name, out = found["name"], found["out"] or "."
    command = ["lt-hpc experiment", name if name in names() else f"{name}.yaml"]
    command += ["--size", found["size"], "--seeds", found["seed"], "--arms", found["arm"]]
    command += ["--out", out] if Path(out) != OUT else []
    raise ConfigError(f"model.path={path!r}: not there yet; first run: {' '.join(command)}")


def _moved(config: Config, seed: int) -> list[str]:
    """What a seed moves: every draw, and the documents where there are others; files stay what they are, and
    so do their slices."""
    builtin = [name for name in CORPORA if getattr(config, name).source.startswith("builtin:")]
    return [f"seed={seed}", *(f"{name}.seed={SEEDS[name] + seed}" for name in builtin)]
