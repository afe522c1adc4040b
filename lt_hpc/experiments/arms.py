"""The runs of an experiment: every arm with every seed, planned before any of them is started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lt_hpc.config.load import load_config
from lt_hpc.config.schema import CORPORA, Config
from lt_hpc.errors import ConfigError
from lt_hpc.experiments.definition import Arm, Definition
from lt_hpc.launch import make_plan
from lt_hpc.run import state
from lt_hpc.run.plan import Plan
from lt_hpc.store.paths import RunPaths, relative_paths

SEEDS = {"corpus": 100, "warm": 200, "heldout": 300}
"""What is added to the seed of an experiment, so that no two corpora have the same."""


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
        return not state.pending(self.paths, self.plan)


def plan_all(
    definition: Definition, seeds: Sequence[int], out: Path, profile: Path | None = None
) -> list[ArmRun]:
    """The runs, seed by seed; creates nothing.

    Raises:
        ConfigError: naming arm and field, where an arm is none that can be run, or the held-out documents of
            two arms that are to be compared differ.
    """
    runs = [
        _planned(definition, arm, seed, out, profile) for seed in seeds for arm in definition.arms.values()
    ]
    held_out = {
        (run.arm.name, run.seed): run.plan.output(str(relative_paths().documents("heldout"))) for run in runs
    }
    for pair in definition.pairs:
        for seed in seeds:
            if held_out[pair[0], seed] != held_out[pair[1], seed]:
                raise ConfigError(f"pairs: {' and '.join(pair)} have other held-out documents; use the same")
    return runs


def _planned(definition: Definition, arm: Arm, seed: int, out: Path, profile: Path | None) -> ArmRun:
    root = out / f"{definition.name}-{definition.size}" / f"seed-{seed}" / arm.name
    paths = RunPaths(root)
    try:
        unseeded = load_config(definition.config, [*definition.overrides, *arm.overrides], profile)
        overrides = (f"name={arm.name}", *definition.overrides, *_moved(unseeded, seed), *arm.overrides)
        config = load_config(definition.config, list(overrides), profile)
        plan = make_plan(config, arm.iterations, paths)
    except ConfigError as error:
        raise ConfigError(f"arm {arm.name}, seed {seed}: {error}") from error
    return ArmRun(arm, seed, paths, definition.config, overrides, plan)


def _moved(config: Config, seed: int) -> list[str]:
    """What a seed moves: every draw, and the documents where there are others; files stay what they are, and
    so do their slices."""
    builtin = [name for name in CORPORA if getattr(config, name).source.startswith("builtin:")]
    return [f"seed={seed}", *(f"{name}.seed={SEEDS[name] + seed}" for name in builtin)]
