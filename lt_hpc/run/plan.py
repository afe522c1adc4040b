"""The plan: which stages make a run, what each waits for, and the fingerprint of its output.

Pure: the configuration and the identities of its sources go in, a list of stages comes out.
A stage's fingerprint covers the settings that decide its result and the fingerprints of
its inputs; where and how it runs is never part of it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lt_hpc.config.identity import identity_of
from lt_hpc.config.schema import Config, TrainConfig
from lt_hpc.errors import ConfigError
from lt_hpc.store.manifest import fingerprint
from lt_hpc.store.paths import RunPaths

CORPORA = ("corpus", "warm", "heldout")


def iteration_of(key: str) -> int:
    """The iteration in the key of a stage."""
    return int(key.partition("-")[2] or 0)


@dataclass(frozen=True)
class Stage:
    """One stage of a run. `outputs` maps a folder relative to the run to its fingerprint."""

    key: str
    name: str
    iteration: int
    needs: tuple[str, ...]
    outputs: dict[str, str]

    @property
    def fingerprint(self) -> str:
        """Of the stage's main (last) output."""
        return list(self.outputs.values())[-1]


@dataclass(frozen=True)
class Plan:
    """A configuration with its stages, in an order in which they can run."""

    config: Config
    stages: tuple[Stage, ...]

    def stage(self, key: str) -> Stage:
        return next(stage for stage in self.stages if stage.key == key)

    def output(self, folder: str) -> str:
        """The fingerprint of a folder of the run."""
        return next(stage.outputs[folder] for stage in self.stages if folder in stage.outputs)

    @property
    def fingerprint(self) -> str:
        """Of the whole plan, execution settings included: the name of the pinned plan file."""
        return fingerprint("plan", plan_to_json(self), {})


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """What is pinned in the run folder; jobs read it and never work it out again."""
    return {
        "config": dataclasses.asdict(plan.config),
        "stages": [dataclasses.asdict(stage) for stage in plan.stages],
    }


def plan_from_json(value: dict[str, Any], config: Config) -> Plan:
    """The pinned plan; `config` is its configuration, already typed."""
    stages = [Stage(**{**raw, "needs": tuple(raw["needs"])}) for raw in value["stages"]]
    return Plan(config, tuple(stages))


def build_plan(config: Config, num_iterations: int, sources: dict[str, Any]) -> Plan:
    """The stages of `num_iterations` EM iterations after the warm start (iteration 0).

    `sources` holds the content identities of "model" and of the three corpora.

    Raises:
        ConfigError: when the number of iterations does not fit the objective.
    """
    if num_iterations < 0:
        raise ConfigError(f"--iters {num_iterations}: must be at least 0")
    if config.objective != "em" and num_iterations > 1:
        raise ConfigError(
            f"--iters {num_iterations}: objective={config.objective} trains once after the warm start; "
            "use --iters 1 (or 0)"
        )
    prepare = _prepare(config, sources)
    stages = [prepare]
    prepared = dict(prepare.outputs)
    for iteration in range(num_iterations + 1):
        previous = next((s for s in reversed(stages) if s.name == "train"), None)
        if config.corpus.fresh and iteration and config.objective != "warm":
            stages.append(_prepare_fresh(config, iteration, sources, prepared["base"]))
            prepared |= stages[-1].outputs
        stages += _iteration(config, iteration, prepared, previous)
    return Plan(config, tuple(stages))


def _prepare(config: Config, sources: dict[str, Any]) -> Stage:
    base = fingerprint("base", {"model": sources["model"], "resize": config.model.resize_embeddings}, {})
    chunking = identity_of(config.chunking)
    outputs = {"base": base}
    for corpus in CORPORA:
        if corpus == "corpus" and config.corpus.fresh:
            continue  # its own stage in each iteration
        settings = {"source": sources[corpus], "chunking": chunking}
        if corpus == "warm":  # longer teacher thoughts are dropped
            settings["max_thought_tokens"] = config.sample.max_thought_tokens
        outputs[corpus] = fingerprint("documents", settings, {"base": base})
    return Stage("prepare", "prepare", 0, (), outputs)


def _prepare_fresh(config: Config, iteration: int, sources: dict[str, Any], base: str) -> Stage:
    settings = {"source": sources["corpus"], "chunking": identity_of(config.chunking), "fresh": iteration}
    outputs = {corpus_name(config, iteration): fingerprint("documents", settings, {"base": base})}
    return Stage(f"prepare-{iteration:02d}", "prepare", iteration, ("prepare",), outputs)


def _stage(
    config: Config,
    iteration: int,
    name: str,
    folder: Path,
    needs: list[str],
    settings: dict[str, Any],
    inputs: dict[str, str],
) -> Stage:
    settings = {"seed": config.seed, "iteration": iteration, **settings}
    key = f"{name}-{iteration:02d}"
    return Stage(key, name, iteration, tuple(needs), {str(folder): fingerprint(name, settings, inputs)})


def _view(config: Config) -> dict[str, int]:
    return {
        "context_length": config.model.context_length,
        "max_thought_tokens": config.sample.max_thought_tokens,
    }


def _iteration(
    config: Config, iteration: int, prepared: dict[str, str], previous: Stage | None
) -> list[Stage]:
    paths, view = RunPaths(Path()), _view(config)
    kind = training_data(config, iteration)
    data = "warm" if kind == "teacher" else corpus_name(config, iteration)
    fresh = config.corpus.fresh and kind != "teacher"
    ready = f"prepare-{iteration:02d}" if fresh else "prepare"
    inputs = {"base": prepared["base"], "data": prepared[data]}
    needs = [ready]
    settings = train_config(config, iteration)
    if previous is not None and settings.start == "previous":
        inputs["start"] = previous.fingerprint
        needs.append(previous.key)
    stages: list[Stage] = []
    if previous is not None and kind == "selected":
        stages = _e_step(config, iteration, prepared[data], [previous.key, ready], previous.fingerprint)
        inputs["selected"] = stages[-1].fingerprint
        needs.append(stages[-1].key)
    train = _stage(
        config,
        iteration,
        "train",
        paths.model(iteration),
        needs,
        {**view, "train": identity_of(settings), "data": kind},
        inputs,
    )
    evaluate = _stage(
        config,
        iteration,
        "evaluate",
        paths.evaluation(iteration),
        [train.key, "prepare"],
        {**view, "evaluate": identity_of(config.evaluate), "proposal": _proposal(config)},
        {"model": train.fingerprint, "heldout": prepared["heldout"]},
    )
    return [*stages, train, evaluate]


def _e_step(config: Config, iteration: int, corpus: str, needs: list[str], model: str) -> list[Stage]:
    paths = RunPaths(Path())
    sample = _stage(
        config,
        iteration,
        "sample",
        paths.samples(iteration),
        needs,
        {**_view(config), "sample": _sampling(config)},
        {"model": model, "corpus": corpus},
    )
    merge = _stage(
        config,
        iteration,
        "merge",
        paths.selected(iteration),
        [sample.key],
        {"merge": identity_of(config.merge)},
        {"samples": sample.fingerprint},
    )
    return [sample, merge]


def _proposal(config: Config) -> dict[str, Any]:
    """What of the E-step settings the held-out bound uses; its K is its own."""
    kept = ("engine", "temperature", "top_p", "top_k", "block_chunks", "batch_tokens", "vllm")
    return {key: value for key, value in _sampling(config).items() if key in kept}


def _sampling(config: Config) -> dict[str, Any]:
    """The identity of the E-step's settings, without those of the other engine."""
    other = "vllm" if config.sample.engine == "torch" else "batch_tokens"
    return {key: value for key, value in identity_of(config.sample).items() if key != other}


def train_config(config: Config, iteration: int) -> TrainConfig:
    """The training settings of an iteration: the warm start's for iteration 0."""
    return config.train if iteration else config.warm_start


def corpus_name(config: Config, iteration: int) -> str:
    """The documents an iteration samples thoughts for: the same each time, or fresh ones."""
    return f"corpus-{iteration:02d}" if config.corpus.fresh else "corpus"


def training_data(config: Config, iteration: int) -> str:
    """What an iteration trains on: `teacher` thoughts, `selected` thoughts or `raw` text."""
    if iteration == 0 or config.objective == "warm":
        return "teacher"
    return "raw" if config.objective == "raw" else "selected"
