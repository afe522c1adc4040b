"""The plan: the stages of a run, what goes into each, the fingerprint of what comes out. build.py makes it.

A stage's fingerprint covers the settings that decide its result and the fingerprints of
its inputs; where and how it runs is never part of it. A stage waits for the stages that make its
inputs, and for nothing else.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lt_hpc.config.schema import Config, TrainConfig
from lt_hpc.errors import ConfigError, did_you_mean
from lt_hpc.kinds import Kind, kind_of
from lt_hpc.store.fingerprints import fingerprint
from lt_hpc.store.paths import relative_paths

FORMAT = 2
"""Of a pinned plan. 1: without inputs, settings and shards."""


def reused(kind: str, iteration: int) -> str:
    """The role of what an earlier iteration gives to a `sample` stage: its `samples`, or the `model` that
    drew them."""
    return f"{kind}-{iteration:02d}"


@dataclass(frozen=True)
class Stage:
    """One stage of a run. Folders are relative to the run.

    Attributes:
        name: of its kind.
        needs: keys of the stages that make its inputs.
        outputs: folder -> fingerprint; the last one is the main one.
        inputs: role -> folder that an earlier stage makes.
        settings: what of the configuration entered the fingerprint of the main output.
        shards: in how many pieces a sharded stage does its work, until it has started.
    """

    key: str
    name: str
    iteration: int
    needs: tuple[str, ...]
    outputs: dict[str, str]
    inputs: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    shards: int = 0

    @property
    def kind(self) -> Kind:
        return kind_of(self.name)

    @property
    def output(self) -> str:
        """The main output folder."""
        return list(self.outputs)[-1]

    @property
    def fingerprint(self) -> str:
        """Of the main output."""
        return self.outputs[self.output]

    @property
    def computes(self) -> bool:
        """Whether its tasks load the model: to train it, or to ask it."""
        return self.kind.ranked or "model" in self.inputs

    @property
    def earlier(self) -> list[int]:
        """The iterations whose thoughts this E-step weighs again, the newest first."""
        return [n for n in reversed(range(1, self.iteration)) if reused("samples", n) in self.inputs]


@dataclass(frozen=True)
class Plan:
    """A configuration with its stages, in an order in which they can run."""

    config: Config
    stages: tuple[Stage, ...]

    @cached_property
    def _by_key(self) -> dict[str, Stage]:
        return {stage.key: stage for stage in self.stages}

    @cached_property
    def _by_folder(self) -> dict[str, Stage]:
        return {folder: stage for stage in self.stages for folder in stage.outputs}

    def stage(self, key: str) -> Stage:
        """The stage with a key.

        Raises:
            ConfigError: with the valid keys, when there is none.
        """
        if key in self._by_key:
            return self._by_key[key]
        near = did_you_mean(key, list(self._by_key))
        raise ConfigError(f"the plan has no stage {key!r}; it has: {', '.join(self._by_key)}{near}")

    def producer(self, folder: str) -> Stage:
        """The stage that makes a folder.

        Raises:
            ConfigError: with the folders that there are, when no stage does.
        """
        if folder in self._by_folder:
            return self._by_folder[folder]
        folders = ", ".join(folder for stage in self.stages for folder in stage.outputs)
        raise ConfigError(f"no stage of the plan makes {folder!r}; they make: {folders}")

    @property
    def documents(self) -> list[str]:
        """The folders of documents."""
        made = [folder for stage in self.stages if stage.kind.documents for folder in stage.outputs]
        return [folder for folder in made if folder != str(relative_paths().base)]

    def output(self, folder: str) -> str:
        """The fingerprint of a folder of the run."""
        return self.producer(folder).outputs[folder]

    def training(self, stage: Stage) -> TrainConfig:
        """The settings of a training stage: iteration 0 is the warm start."""
        return self.config.train if stage.iteration else self.config.warm_start

    @cached_property
    def iterations(self) -> int:
        """EM iterations after the warm start."""
        return max(stage.iteration for stage in self.stages)

    @cached_property
    def fingerprint(self) -> str:
        """Of the whole plan, execution settings included: the name of the pinned plan file."""
        return fingerprint("plan", plan_to_json(self), {})


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """What is pinned in the run folder; jobs read it and never work it out again."""
    return {
        "format": FORMAT,
        "config": dataclasses.asdict(plan.config),
        "stages": [dataclasses.asdict(stage) for stage in plan.stages],
    }
