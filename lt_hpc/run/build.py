"""From a configuration to its plan: which stages make a run, from what, in which order.

Pure: the configuration and the identities of its sources go in, a plan comes out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lt_hpc.config.identity import identity_of
from lt_hpc.config.schema import CORPORA, Config
from lt_hpc.errors import ConfigError
from lt_hpc.run.plan import FORMAT, Plan, Stage, reused
from lt_hpc.store.fingerprints import fingerprint
from lt_hpc.store.paths import relative_paths

SCHEME = 2
"""Of sampling. 1: thoughts without an end had no weight."""
WHOLE_DOCUMENTS = "documents"
"""What a model without thoughts is trained on; once it was chunks, each with its prefix."""


def build_plan(config: Config, num_iterations: int, sources: Mapping[str, Any]) -> Plan:
    """The stages of `num_iterations` EM iterations after the warm start (iteration 0).

    `sources` holds the content identities of "model", of the corpora that are read and, where there are such,
    of the "teacher" and the "benchmark".

    Raises:
        ConfigError: when the number of iterations does not fit the objective.
    """
    if num_iterations < 0:
        raise ConfigError(f"--iters {num_iterations}: must be at least 0")
    if config.objective == "none" and num_iterations:
        raise ConfigError(f"--iters {num_iterations}: objective=none trains nothing; use --iters 0")
    if config.objective != "em" and num_iterations > 1:
        raise ConfigError(
            f"--iters {num_iterations}: objective={config.objective} trains once after the warm start; "
            "use --iters 1 (or 0)"
        )
    stages = _Stages(config)
    _prepare(stages, sources)
    in_shards = config.prepare.num_shards > 1 and not config.corpus.fresh
    if in_shards and num_iterations and config.objective in ("em", "raw"):
        _prepare_corpus(stages, None, _source(config, sources, "corpus"))
    if config.objective == "none":
        base, markers = relative_paths().base, _markers(sources)
        if config.corpora:
            _evaluate(stages, 0, base, {"markers": markers})
        _benchmark(stages, 0, base, sources, markers)
    else:
        for iteration in range(num_iterations + 1):
            _iteration(stages, iteration, sources)
    plan = Plan(config, tuple(stages.made))
    check_all_would_run(plan)
    return plan


def check_all_would_run(plan: Plan) -> None:
    """Only goals, and what goals need, ever run.

    Raises:
        ConfigError: naming a stage that is neither.
    """
    wanted = {stage.key for stage in plan.stages if stage.kind.goal}
    for stage in reversed(plan.stages):
        if stage.key not in wanted:
            raise ConfigError(f"{stage.key} would never run: make its kind a goal, or a goal need its output")
        wanted |= set(stage.needs)


class _Stages:
    """Stages in the making: each new one is built from the outputs of those before it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.made: list[Stage] = []
        self._producers: dict[str, Stage] = {}

    def output(self, folder: str) -> str:
        return self._producers[folder].outputs[folder]

    def newest(self, name: str, count: int) -> list[Stage]:
        """The newest stages of a kind, as many as there are up to `count`, the last one first."""
        return [stage for stage in reversed(self.made) if stage.name == name][:count]

    def last(self, name: str) -> Stage | None:
        """The newest stage of a kind."""
        return next(iter(self.newest(name, 1)), None)

    def add(
        self,
        name: str,
        iteration: int,
        folder: Path,
        settings: dict[str, Any],
        inputs: dict[str, Path | str],
        implied: tuple[str, ...] = (),
        shards: int = 0,
    ) -> str:
        """Add a stage `NAME-ITERATION` that makes `folder`, and return the folder.

        The inputs' fingerprints enter the stage's, but for the roles `implied` by another input: every
        model and every corpus is made from the base.
        """
        settings = {"seed": self.config.seed, "iteration": iteration, **settings}
        entering = {role: self.output(str(of)) for role, of in inputs.items() if role not in implied}
        outputs = {str(folder): fingerprint(name, settings, entering)}
        self.append(f"{name}-{iteration:02d}", name, iteration, outputs, settings, inputs, shards)
        return str(folder)

    def append(
        self,
        key: str,
        name: str,
        iteration: int,
        outputs: dict[str, str],
        settings: dict[str, Any],
        inputs: Mapping[str, Path | str],
        shards: int = 0,
    ) -> None:
        folders = {role: str(folder) for role, folder in inputs.items()}
        needs = tuple(dict.fromkeys(self._producers[folder].key for folder in folders.values()))
        stage = Stage(key, name, iteration, needs, outputs, folders, settings, shards)
        self.made.append(stage)
        self._producers |= dict.fromkeys(outputs, stage)


def _prepare(stages: _Stages, sources: Mapping[str, Any]) -> None:
    config, paths = stages.config, relative_paths()
    settings = {"model": sources["model"], "resize": config.model.resize_embeddings}
    if config.model.bos != "auto":
        settings["bos"] = config.model.bos
    if not _markers(sources):
        settings["markers"] = False  # the base stays as it is
    base = fingerprint("base", settings, {})
    outputs = {str(paths.base): base}
    for corpus in config.corpora:
        if corpus == "corpus" and (config.corpus.fresh or config.prepare.num_shards > 1):
            continue  # stages of its own, where it is read
        settings = _source(config, sources, corpus)
        if corpus == "warm" and config.warm_is_taught:  # longer teacher thoughts are dropped
            settings["max_thought_tokens"] = config.sample.max_thought_tokens
        outputs[str(paths.documents(corpus))] = fingerprint("documents", settings, {"base": base})
    stages.append("prepare", "prepare", 0, outputs, {}, {})


def _source(config: Config, sources: Mapping[str, Any], corpus: str) -> dict[str, Any]:
    """What decides the documents of a corpus."""
    return {"source": sources[corpus], "chunking": identity_of(config.chunking)}


def _markers(sources: Mapping[str, Any]) -> bool:
    """Whether the base has markers: where nothing is trained, it stays as it is."""
    return bool((sources.get("benchmark") or {}).get("markers", True))


def _prepare_corpus(stages: _Stages, fresh: int | None, settings: dict[str, Any]) -> str:
    """The documents of EM iterations: of one where they are `fresh`, else of all. By one task, or by many
    whose parts are put together."""
    config, paths = stages.config, relative_paths()
    base, iteration, shards = str(paths.base), fresh or 0, config.prepare.num_shards
    folder, made_from = str(paths.documents("corpus", fresh)), {"base": stages.output(base)}
    outputs = {folder: fingerprint("documents", settings, made_from)}
    if shards == 1:
        stages.append(f"prepare-{iteration:02d}", "prepare", iteration, outputs, settings, {"base": base})
        return folder
    pieces = str(paths.tokenised(fresh))
    made = {pieces: fingerprint("tokenised", settings, made_from)}
    stages.append(f"tokenise-{iteration:02d}", "tokenise", iteration, made, settings, {"base": base}, shards)
    inputs = {"tokenised": pieces, "base": base}
    stages.append(f"gather-{iteration:02d}", "gather", iteration, outputs, settings, inputs)
    return folder


def _iteration(stages: _Stages, iteration: int, sources: Mapping[str, Any]) -> None:
    """Documents where they are fresh, E-step, M-step, evaluation."""
    config, paths = stages.config, relative_paths()
    base, previous = paths.base, stages.last("train")
    teacher = previous is None or config.objective == "warm"
    data: Path | str = paths.documents("warm" if teacher else "corpus")
    if config.corpus.fresh and not teacher:
        settings = {**_source(config, sources, "corpus"), "fresh": iteration}
        data = _prepare_corpus(stages, iteration, settings)
    kind = "teacher" if teacher else "raw" if config.objective == "raw" else "selected"
    text = {"text": WHOLE_DOCUMENTS} if kind == "raw" else {}
    if teacher and config.teacher.use != "thought":
        kind, text = "raw", {"text": config.teacher.use}
    training = config.train if iteration else config.warm_start
    inputs: dict[str, Path | str] = {"base": base, "data": data}
    if previous is not None and training.start == "previous":
        inputs["start"] = previous.output
    if teacher and not config.warm_is_taught:
        inputs["taught"] = _taught(stages, data, sources.get("teacher"))
    if previous is not None and kind == "selected":
        inputs["selected"] = _e_step(stages, iteration, data, previous.output)
    model = stages.add(
        "train",
        iteration,
        paths.model(iteration),
        {**_view(config), "train": identity_of(training), "data": kind, **text},
        inputs,
    )
    _evaluate(stages, iteration, model, {})
    _benchmark(stages, iteration, model, sources, kind != "raw")


def _view(config: Config) -> dict[str, Any]:
    """What decides how chunks are seen, beside their documents."""
    return {
        "context_length": config.model.context_length,
        "max_thought_tokens": config.sample.max_thought_tokens,
    }


def _evaluate(stages: _Stages, iteration: int, model: Path | str, more: Mapping[str, Any]) -> None:
    """Held-out measures of `model`. `more`: what a model that is not trained here does not say itself."""
    config, paths = stages.config, relative_paths()
    folder, shards = paths.evaluation(iteration), config.evaluate.num_shards
    measuring = {"evaluate": identity_of(config.evaluate), "proposal": _proposal(config), "scheme": SCHEME}
    settings = {**_view(config), **measuring, **more}
    read: dict[str, Path | str] = {"heldout": paths.documents("heldout"), "base": paths.base}
    inputs = {"model": model, **read}
    if shards == 1:
        stages.add("evaluate", iteration, folder, settings, inputs, implied=("base",))
        return
    measured = stages.add(
        "measure", iteration, paths.measured(iteration), settings, inputs, implied=("base",), shards=shards
    )
    # The output is that of one task, and so is its fingerprint: no number of shards makes it again.
    settings = stages.made[-1].settings
    entering = {role: stages.output(str(inputs[role])) for role in ("model", "heldout")}
    outputs = {str(folder): fingerprint("evaluate", settings, entering)}
    key = f"aggregate-{iteration:02d}"
    stages.append(key, "aggregate", iteration, outputs, settings, {"measured": measured, **read})


def _benchmark(
    stages: _Stages, iteration: int, model: Path | str, sources: Mapping[str, Any], markers: bool
) -> None:
    """Answers of `model` to the items of benchmarks, and what is right in them. `markers`: whether it was
    trained with them."""
    config, paths = stages.config, relative_paths()
    if not config.benchmark.tasks:
        return
    engine = {key: value for key, value in _proposal(config).items() if key != "block_chunks"}
    settings = {
        "context_length": config.model.context_length,
        "max_thought_tokens": config.benchmark_thought_tokens,
        "benchmark": identity_of(config.benchmark),
        "engine": engine,
        "markers": markers,
        **(sources.get("benchmark") or {}),
    }
    answers = stages.add(
        "answer",
        iteration,
        paths.answers(iteration),
        settings,
        {"model": model, "base": paths.base},
        implied=("base",),
        shards=config.benchmark.num_shards,
    )
    stages.add("benchmark", iteration, paths.benchmark(iteration), {}, {"answers": answers})


def _taught(stages: _Stages, documents: Path | str, identity: Any) -> str:
    """A teacher's thoughts of the warm documents, made once."""
    config, paths = stages.config, relative_paths()
    made = stages.last("synthesize")
    if made is not None:
        return made.output
    asked = {**identity_of(config.teacher), **(identity or {})}
    use = asked.pop("use", "thought")
    longest = {} if use == "rewrite" else {"max_thought_tokens": config.sample.max_thought_tokens}
    settings = {"context_length": config.model.context_length, **longest, "teacher": asked}
    if config.teacher.kind == "local":
        settings["engine"] = _proposal(config) | {"dtype": config.sample.dtype}
    return stages.add(
        "synthesize",
        0,
        paths.thoughts,
        settings,
        {"documents": documents, "base": paths.base},
        implied=("base",),
        shards=config.teacher.num_shards,
    )


def _e_step(stages: _Stages, iteration: int, corpus: Path | str, model: str) -> str:
    """Thoughts of `model` for a corpus, and the selection among them."""
    config, paths, previous = stages.config, relative_paths(), stages.last("merge")
    sample = identity_of(config.sample)
    inputs: dict[str, Path | str] = {"model": model, "corpus": corpus, "base": paths.base}
    allocation = sample.pop("allocation", "uniform")
    if allocation == "ess" and previous is not None:  # the first E-step is uniform in any case
        sample["allocation"], inputs["previous"] = allocation, previous.output
    for stage in stages.newest("sample", sample.pop("reuse", 0)):
        inputs[reused("samples", stage.iteration)] = stage.output
        inputs[reused("model", stage.iteration)] = stage.inputs["model"]
    samples = stages.add(
        "sample",
        iteration,
        paths.samples(iteration),
        {**_view(config), "sample": sample, "scheme": SCHEME},
        inputs,
        implied=("base",),
        shards=config.sample.num_shards,
    )
    return stages.add(
        "merge",
        iteration,
        paths.selected(iteration),
        {"merge": identity_of(config.merge)},
        {"samples": samples, "base": paths.base},
        implied=("base",),
    )


def _proposal(config: Config) -> dict[str, Any]:
    """What of the E-step settings evaluation uses: its thoughts are drawn from the model as it is."""
    other = (
        "dtype", "num_samples", "allocation", "reuse", "max_thought_tokens", "prior_share", "temperature",
        "top_p", "top_k",
    )  # fmt: skip
    return {key: value for key, value in identity_of(config.sample).items() if key not in other}


def plan_from_json(value: dict[str, Any], config: Config) -> Plan:
    """The pinned plan; `config` is its configuration, already typed."""
    stages = [Stage(**{**raw, "needs": tuple(raw["needs"])}) for raw in value["stages"]]
    if value.get("format", 1) < FORMAT:
        stages = _with_inputs(stages, config)
    return Plan(config, tuple(stages))


def _with_inputs(stages: list[Stage], config: Config) -> list[Stage]:
    """Stages of a plan of format 1 with what it did not say. All but the fingerprints follows from the
    configuration alone."""
    unknown = {name: None for name in ("model", *CORPORA)}
    built = build_plan(config, max(stage.iteration for stage in stages), unknown)
    return [
        dataclasses.replace(built.stage(stage.key), needs=stage.needs, outputs=stage.outputs)
        for stage in stages
    ]
