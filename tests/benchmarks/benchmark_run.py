"""Runs that benchmark a model, what they leave, and the same tasks under lm-evaluation-harness without us."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from lm_eval import evaluator

from lt_hpc.benchmarks import harness
from lt_hpc.cluster.place import Place
from lt_hpc.config.load import load_config, shipped
from lt_hpc.launch import make_plan
from lt_hpc.run.progress import Progress
from lt_hpc.stages import answer, benchmark, prepare
from lt_hpc.stages.task import Task
from lt_hpc.store import tables
from lt_hpc.store.paths import ITEMS, RESULTS, RunPaths

METRICS = {"lt_chain": "exact_match", "lt_chain_choice": "acc", "lt_chain_sum": "exact_match"}


def tasks(run: Path, model: Path | str, *more: str) -> Callable[..., Task]:
    """What makes the task of a stage of a run that benchmarks a model; its base is prepared."""
    overrides = ["objective=none", f"model.path={model}", "model.context_length=128", *more]
    config, paths = load_config(shipped(Path("benchmark.yaml")), overrides), RunPaths(run)
    plan = make_plan(config, 0, paths)

    def task(key: str, shards: tuple[int, ...] = (0, 1)) -> Task:
        progress = Progress(run / f"{key}.json")
        return Task(plan, plan.stage(key), paths, Place(), shards, progress, lambda: False)

    prepare.run(task("prepare"))
    return task


def answered(run: Path, model: Path | str, *more: str) -> Callable[..., Task]:
    """A whole run, in this process."""
    task = tasks(run, model, *more)
    answer.run(task("answer-00"))
    benchmark.run(task("benchmark-00"))
    return task


def launched(run: Path, model: Path, *more: str) -> subprocess.Popen[str]:
    """The command, in a session of its own."""
    options = ["--run-dir", str(run), "--cluster=local", *more]
    return subprocess.Popen(
        [sys.executable, "-m", "lt_hpc.cli", "benchmark", str(model), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def under_the_harness(
    model: Path, names: Sequence[str], limit: int, length: int, few_shot: int | None = None
) -> Any:
    """What the harness says of a model that it runs itself."""
    found = evaluator.simple_evaluate(
        "hf", {"pretrained": str(model), "dtype": "float32", "max_length": length}, tasks=[*names],
        limit=limit, task_manager=harness._manager(names), device="cpu", batch_size=8, num_fewshot=few_shot,
    )  # fmt: skip
    assert found is not None
    return found


def assert_same(run: Path, theirs: Any, tolerance: float) -> None:
    """A run's figures are the harness's to the item, and so are its texts; log-likelihoods within a
    tolerance."""
    found = results(run)["harness"][0]["results"]
    assert {*found} == {*theirs["samples"]}
    for name, samples in theirs["samples"].items():
        assert stored(run, name, 0, METRICS[name]) == figures(samples, METRICS[name])
        assert found[name] == theirs["results"][name]
        said = [row for row in answers(run) if row["task"] == name]
        if said[0]["answer"] is None:
            expected = [float(response[0][0]) for one in samples for response in one["resps"]]
            assert [row["log_likelihood"] for row in said] == pytest.approx(expected, abs=tolerance)
        else:
            texts = [[str(text) for text in one["filtered_resps"]] for one in samples]
            assert [row["answers"] for row in items(run) if row["task"] == name] == texts


def results(run: Path) -> Any:
    return json.loads((RunPaths(run).benchmark(0) / RESULTS).read_text())


def items(run: Path) -> list[dict[str, Any]]:
    """The record of every item of a run."""
    return tables.read(RunPaths(run).benchmark(0) / ITEMS, tables.ITEMS).to_pylist()


def answers(run: Path) -> list[dict[str, Any]]:
    """All stored answers of a run, in their order."""
    files = sorted(run.glob("iter-00/answers/*/part-*"), key=lambda path: path.name)
    return [row for path in files for row in tables.read(path, tables.ANSWERS).to_pylist()]


def figures(samples: list[dict[str, Any]], metric: str) -> dict[int, float]:
    """Of each document."""
    return {one["doc_id"]: one[metric] for one in samples}


def stored(run: Path, task: str, trial: int, metric: str) -> dict[int, float]:
    """Likewise, from a run's records."""
    return {
        row["document"]: dict(zip(row["metrics"], row["values"], strict=True))[metric]
        for row in items(run)
        if (row["task"], row["trial"]) == (task, trial)
    }
