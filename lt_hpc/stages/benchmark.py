"""benchmark: what is right in the answers to benchmarks, as the harness says.

The stored answers are put back into the harness, trial by trial, which reads, compares and averages them with
its own filters, metrics and standard errors. Beside the harness's figures stand ours: means over trials, with
95% intervals over items and over trials.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np

from lt_hpc.benchmarks import harness
from lt_hpc.benchmarks.protocol import Request, Response
from lt_hpc.errors import ConfigError
from lt_hpc.latent import intervals
from lt_hpc.stages.shards import part_files, verified_shards
from lt_hpc.stages.task import Task
from lt_hpc.store import manifest, tables
from lt_hpc.store.atomic import write_json
from lt_hpc.store.figures import Interval, Score, to_json
from lt_hpc.store.parts import Parts
from lt_hpc.store.paths import ITEMS, RESULTS, shard_folder

Key = tuple[str, int, int, int, int]
"""Task, document, request, repeat, trial."""


def run(task: Task) -> None:
    """Write benchmark/ from the answers of the iteration.

    Raises:
        IncompleteError: naming the shards of answers that are missing or corrupt.
        ConfigError: when the data of a task are not those that were answered.
    """
    started = time.monotonic()
    stored = _Stored.read(task)
    settings = task.plan.config.benchmark
    parts = Parts(task.output, "benchmark", task.stage.fingerprint)
    loaded = harness.load(settings)
    task.progress.start(settings.trials, "trials")
    trials = []
    for trial in range(settings.trials):
        task.stop_if_asked()
        trials.append(loaded.evaluate(partial(stored.answers, trial=trial)))
        task.progress.advance()
    items = parts.folder / ITEMS
    rows = [row for trial, found in enumerate(trials) for row in _items(found["samples"], trial, stored)]
    tables.write(items, tables.ITEMS, {name: [row[name] for row in rows] for name in tables.ITEMS.names})
    parts.add(manifest.describe(items, {"rows": len(rows)}), 0.0)
    results = parts.folder / RESULTS
    write_json(
        results,
        {
            "iteration": task.stage.iteration,
            "scores": [to_json(score) for score in scores(trials)],
            "counts": stored.counts,
            "harness": [_plain({key: found.get(key, {}) for key in _OF_HARNESS}) for found in trials],
        },
    )
    parts.add(manifest.describe(results), time.monotonic() - started)
    parts.finish(stored.counts)


_OF_HARNESS = ("results", "groups", "group_subtasks", "versions", "n-shot", "higher_is_better", "n-samples")


@dataclass(frozen=True)
class _Stored:
    """The answers of all shards, and their counts together."""

    rows: dict[Key, dict[str, Any]]
    counts: dict[str, int]

    @staticmethod
    def read(task: Task) -> _Stored:
        shard_map, folder = verified_shards(task, "answers"), task.folder("answers")
        rows: dict[Key, dict[str, Any]] = {}
        counts: Counter[str] = Counter()
        for shard in range(shard_map.num_shards):
            record = manifest.read(shard_folder(folder, shard))
            counts.update(record.counts if record else {})
            for path in part_files(folder, shard_map, shard):
                for row in tables.read(path, tables.ANSWERS).to_pylist():
                    key = (row["task"], row["document"], row["request"], row["repeat"], row["trial"])
                    rows[key] = row
        return _Stored(rows, dict(counts))

    def answers(self, requests: Sequence[Request], trial: int) -> list[Response]:
        """What was said to each request in a trial."""
        return [self._answer(request, trial) for request in requests]

    def _answer(self, request: Request, trial: int) -> Response:
        row = self.rows.get((request.task, request.document, request.index, request.repeat, trial))
        if row is None or row["hash"] != request.hash:
            raise ConfigError(
                f"benchmark.tasks: the data of {request.task!r} are not those that were answered: document "
                f"{request.document} asks something else; remove the answers, and launch again"
            )
        return Response(row["answer"] or "", row["log_likelihood"] or 0.0, bool(row["greedy"]))


def _items(samples: Mapping[str, list[dict[str, Any]]], trial: int, stored: _Stored) -> list[dict[str, Any]]:
    """Rows of `tables.ITEMS`."""
    return [
        {
            "task": task,
            "trial": trial,
            "document": one["doc_id"],
            "filter": one["filter"],
            "target": str(one["target"]),
            "thought": stored.rows[task, one["doc_id"], 0, 0, trial]["thought"],
            "answers": [str(answer) for answer in one["filtered_resps"]],
            "metrics": one["metrics"],
            "values": [_number(one[name]) for name in one["metrics"]],
        }
        for task, of_task in samples.items()
        for one in of_task
    ]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (bool, int, float, np.number)) else None


def scores(trials: Sequence[dict[str, Any]]) -> list[Score]:
    """Every figure of tasks and groups that the harness gives in each trial."""
    found = []
    for name, metrics in trials[0]["results"].items():
        for key in metrics:
            metric, comma, reading = key.partition(",")
            if not comma or metric.endswith("_stderr"):
                continue
            values = [_number(trial["results"][name].get(key)) for trial in trials]
            known = [value for value in values if value is not None]
            if len(known) < len(trials):
                continue
            errors = [_number(trial["results"][name].get(f"{metric}_stderr,{reading}")) for trial in trials]
            items = _by_item([trial["samples"].get(name, []) for trial in trials], metric, reading)
            found.append(
                Score(
                    task=name,
                    metric=metric,
                    filter=reading,
                    value=fmean(known),
                    interval=_over_items(items, fmean(known), errors),
                    trials=known,
                    trials_interval=_over_trials(np.array(known), items),
                    items=trials[0]["n-samples"].get(name, {}).get("effective"),
                    few_shot=trials[0]["n-shot"].get(name),
                )
            )
    return found


def _by_item(samples: Sequence[list[dict[str, Any]]], metric: str, reading: str) -> np.ndarray | None:
    """[items, trials]; None where the figures of items are no numbers, or there are none, as of a group."""
    found: dict[int, list[float | None]] = {}
    for of_trial in samples:
        for one in of_trial:
            if one["filter"] == reading and metric in one:
                found.setdefault(one["doc_id"], []).append(_number(one[metric]))
    values = list(found.values())
    if not values or any(None in of_item or len(of_item) != len(samples) for of_item in values):
        return None
    return np.array(values, np.float64)


def _over_items(items: np.ndarray | None, value: float, errors: Sequence[float | None]) -> Interval | None:
    """Of the mean over items: for shares a score interval, else a t interval; where an item has no figure of
    its own, from the harness's standard error, of one trial."""
    if items is not None and abs(items.mean() - value) < 1e-9:
        if ((items >= 0) & (items <= 1)).all():
            return intervals.mean_share(items.sum(1), np.full(len(items), items.shape[1], np.float64))[1]
        return _mean(items.mean(1))[1]
    known = [error for error in errors if error is not None]
    if len(known) < len(errors):
        return None
    half = 1.96 * fmean(known)
    return (value - half, value + half)


def _over_trials(values: np.ndarray, items: np.ndarray | None) -> Interval | None:
    """The t interval of a figure's mean over trials; of a share no more than all and no less than none."""
    found = _mean(values)[1]
    if found is None or items is None or not ((items >= 0) & (items <= 1)).all():
        return found
    return (max(0.0, found[0]), min(1.0, found[1]))


def _mean(values: np.ndarray) -> tuple[float, Interval | None]:
    return intervals.ratio(values, np.ones(len(values)))


def _plain(value: Any) -> Any:
    """As JSON has it: numbers of numpy as numbers."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
