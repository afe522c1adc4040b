"""lm-evaluation-harness: which tasks there are, what they ask, what they say of the answers. The one file
that imports lm_eval.

The harness draws few-shot examples in the order of the documents, so all requests of a task are always built,
with its own seeds; which of them are answered here is for the caller to say.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lt_hpc.benchmarks.protocol import Item, Request, Response
from lt_hpc.config.load import shipped
from lt_hpc.config.schema import BenchmarkConfig
from lt_hpc.errors import ConfigError, did_you_mean
from lt_hpc.store.manifest import sha256

OWN = Path("benchmarks")
"""In configs/."""
BOOTSTRAPS = 1000
"""Draws for standard errors of figures that are no means."""
_NAME = re.compile(r"""(?m)^(?:task|group): *["']?([\w.:+-]+)["']? *(?:#.*)?$""")
_LISTED = re.compile(r"""(?m)^(?:tag: *| *- +)["']?([\w.:+-]+)["']? *(?:#.*)?$""")
_REFUSED = {
    "unsafe_code": "runs code that a model wrote",
    "doc_to_image": "shows images",
    "doc_to_audio": "plays sounds",
}
_DEFAULT_TOKENS = 256
"""Of an answer, where a task says nothing: the harness's own."""

Answers = Callable[[Sequence[Request]], Sequence[Response]]


def identity(settings: BenchmarkConfig) -> dict[str, Any]:
    """What answers depend on beside the settings: the harness's version and, of our own tasks, their files.

    Raises:
        ConfigError: naming the field, when a task is not known, or can't be answered; or when the harness is
            not installed.
    """
    _check(settings.tasks)
    files = {path.stem: path for path in _own_files()}
    return {
        "lm_eval": importlib.metadata.version("lm_eval"),
        "own": {name: sha256(files[name]) for name in settings.tasks if name in files},
    }


def _check(names: Sequence[str]) -> None:
    if importlib.util.find_spec("lm_eval") is None:
        raise ConfigError("benchmark.tasks: needs lm-evaluation-harness; bash tools/setup.sh bench")
    manager = _manager(names)
    for name in names:
        for found in _leaves(manager, name):
            problem = next((said for key, said in _REFUSED.items() if found.get(key)), None)
            if found.get("output_type") == "loglikelihood_rolling":
                problem = "scores whole documents, as the evaluation does already"
            if problem:
                raise ConfigError(
                    f"benchmark.tasks: {name!r} {problem}, which can't be done here; leave it out"
                )
    double = [name for name, count in Counter(names).items() if count > 1]
    if double:
        raise ConfigError(f"benchmark.tasks: {double[0]!r} stands there twice; name it once")


def data_sets(names: Sequence[str]) -> list[tuple[str, str | None]]:
    """Name and configuration of the hub's data sets that tasks read."""
    manager = _manager(names)
    found = [one for name in names for one in _leaves(manager, name) if one.get("dataset_path")]
    return sorted({(one["dataset_path"], one.get("dataset_name")) for one in found}, key=str)


def below(names: Sequence[str]) -> set[str]:
    """These tasks and groups, and all that belong to them."""
    manager = _manager(names)
    return {*names, *(member for name in names for member in _members(manager, name))}


def _own_files() -> list[Path]:
    return sorted(shipped(OWN).glob("*.yaml"))


def _manager(names: Sequence[str]) -> Any:
    """The harness's index of tasks, of the folders with these names alone: it has some 15,000, and to read
    all of them takes a minute on a slow file system.

    Raises:
        ConfigError: with names like it, when there is none of one of them.
    """
    os.environ.setdefault("TQDM_DISABLE", "1")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    from lm_eval import tasks

    own = {path.stem for path in _own_files()}
    waiting = set(names) - own
    where, listed = _folders(Path(tasks.__file__).parent) if waiting else ({}, set())
    _refuse_unknown(names, {*own, *where, *listed})
    folders = {shipped(OWN)}
    while waiting <= set(where):
        folders |= {where[name] for name in waiting}
        manager = tasks.TaskManager(include_path=[*map(str, sorted(folders))], include_defaults=False)
        waiting = {name for parent in names for name in _members(manager, parent)} - set(manager.all_tasks)
        if not waiting:
            return manager
    manager = tasks.TaskManager(include_path=str(shipped(OWN)))  # files of any folder may have a tag
    _refuse_unknown(names, set(manager.all_tasks))
    return manager


def _folders(root: Path) -> tuple[dict[str, Path], set[str]]:
    """Name of each task and group -> the folder in `root` that has its file; and what may be a tag."""
    found: dict[str, Path] = {}
    listed: set[str] = set()
    for path in sorted(root.glob("**/*.yaml"), key=Path.as_posix):
        text = path.read_text(encoding="utf-8", errors="replace")
        match = _NAME.search(text)
        if match:
            found.setdefault(match[1], root / path.relative_to(root).parts[0])
        listed |= set(_LISTED.findall(text))
    return found, listed


def _refuse_unknown(names: Sequence[str], known: set[str]) -> None:
    for name in names:
        if name not in known:
            near = did_you_mean(name, sorted(known))
            raise ConfigError(
                f"benchmark.tasks: no task is called {name!r}{near}; our own are "
                f"{', '.join(path.stem for path in _own_files())}, `lm-eval ls tasks` lists the harness's"
            )


def _members(manager: Any, name: str) -> Iterator[str]:
    """Names below a group or a tag, in turn; of a task none."""
    entry = manager.task_index.get(name)
    if entry is None:
        return
    if entry.kind.name == "TAG":
        yield from sorted(entry.tags)
    elif entry.kind.name == "GROUP":
        for one in entry.cfg["task"] if isinstance(entry.cfg["task"], list) else []:
            child = one if isinstance(one, str) else one.get("group") or one["task"]
            yield child
            yield from _members(manager, child)


def _leaves(manager: Any, name: str) -> Iterator[Mapping[str, Any]]:
    """The settings of the tasks below a name, as their files say."""
    for one in (name, *_members(manager, name)):
        entry = manager.task_index.get(one)
        if entry is not None and entry.kind.name in ("TASK", "PY_TASK"):
            yield entry.cfg or {}


@dataclass
class Tasks:
    """Loaded tasks with their data. `loaded` is the harness's own, tasks and groups by name."""

    settings: BenchmarkConfig
    loaded: dict[str, Any]

    def items(self) -> list[Item]:
        """All items, with all that is asked about them, in the order of tasks and documents."""
        self._seed()
        found = []
        for name, task in self.loaded["tasks"].items():
            task.build_all_requests(limit=self.settings.limit)
            documents: dict[int, list[Request]] = {}
            for instance, number in _numbered(task):
                requests = documents.setdefault(instance.doc_id, [])
                requests += [_request(task, instance, number, one) for one in range(instance.repeats or 1)]
            found += [Item(name, document, tuple(requests)) for document, requests in documents.items()]
        return found

    def evaluate(self, answers: Answers) -> dict[str, Any]:
        """What the harness says of answers: `results`, `groups` and, by task, `samples`."""
        from lm_eval import evaluator

        self._seed()
        model = _model(self.loaded["tasks"], answers)
        found: dict[str, Any] = evaluator.evaluate(
            lm=model, task_dict=self.loaded, limit=self.settings.limit, bootstrap_iters=BOOTSTRAPS
        )
        return found

    def _seed(self) -> None:
        """Everything that the harness draws from, as it does itself."""
        import numpy as np
        from lm_eval import defaults, utils

        random.seed(defaults.DEFAULT_RANDOM_SEED)
        np.random.seed(defaults.DEFAULT_OTHER_SEED)
        utils.set_torch_seed(defaults.DEFAULT_OTHER_SEED)
        for task in self.loaded["tasks"].values():
            task.set_fewshot_seed(seed=defaults.DEFAULT_OTHER_SEED)


def load(settings: BenchmarkConfig) -> Tasks:
    """The tasks of the settings with their data, from files and the cache of the hub.

    Raises:
        ConfigError: naming a task and its data set, when that is not to be had here.
    """
    manager = _manager(settings.tasks)
    loaded: dict[str, dict[str, Any]] = {"tasks": {}, "groups": {}, "group_map": {}}
    for name in settings.tasks:
        try:
            found = manager.load([name])
        except Exception as error:  # what data sets and functions of tasks raise
            raise ConfigError(_no_data(manager, name, error)) from error
        both = set(found["tasks"]) & set(loaded["tasks"])
        if both:
            raise ConfigError(
                f"benchmark.tasks: {name!r} has {sorted(both)[0]!r}, which another one has too; leave one out"
            )
        for key, values in found.items():
            loaded[key] |= values
    for task in loaded["tasks"].values():
        own = task.get_config("num_fewshot")
        if settings.few_shot is not None and own != 0:
            task.set_config("num_fewshot", settings.few_shot)
        elif own is None:
            task.set_config("num_fewshot", 0)
    return Tasks(settings, loaded)


def _no_data(manager: Any, name: str, error: Exception) -> str:
    sets = sorted({one["dataset_path"] for one in _leaves(manager, name) if one.get("dataset_path")})
    line = next(iter(str(error).strip().splitlines()), "")[:200]
    of = f" (its data: {', '.join(sets)})" if sets else ""
    return (
        f"benchmark.tasks: {name!r} can't be loaded here{of}: {type(error).__name__}: {line}; on a "
        f"machine with a network, as a login node: lt-hpc prefetch benchmark.tasks=[{name}]"
    )


def _numbered(task: Any) -> Iterator[tuple[Any, int]]:
    """The requests of a task, each with its number among those about its document."""
    seen: Counter[int] = Counter()
    for instance in task.instances:
        yield instance, seen[instance.doc_id]
        seen[instance.doc_id] += 1


def _request(task: Any, instance: Any, number: int, repeat: int) -> Request:
    name = task.task_name
    match instance.request_type:
        case "loglikelihood":
            context, continuation = instance.args[:2]
            metrics = getattr(task, "_metric_fn_list", {})
            greedy = task.OUTPUT_TYPE == "loglikelihood" or "exact_match" in metrics
            greedy = greedy or task.get_config("process_results") is not None
            return Request(name, instance.doc_id, number, repeat, context, continuation, wants_greedy=greedy)
        case "generate_until":
            from lm_eval.models.utils import normalize_gen_kwargs

            context, given = instance.args[:2]
            found = normalize_gen_kwargs(given, _DEFAULT_TOKENS)
            sampled = found["temperature"] > 0
            return Request(
                name, instance.doc_id, number, repeat, context,
                until=tuple(text for text in found["until"] if text),
                max_tokens=found["max_gen_toks"],
                temperature=found["temperature"],
                top_p=float(found.get("top_p") or 1.0) if sampled else 1.0,
                top_k=max(0, int(found.get("top_k") or 0)) if sampled else 0,
            )  # fmt: skip
        case other:
            raise ConfigError(
                f"benchmark.tasks: {name!r} asks for {other}, which can't be done here; tasks that generate "
                "or compare choices can"
            )


def _model(tasks: Mapping[str, Any], answers: Answers) -> Any:
    """The model as the harness sees it."""
    from lm_eval.api.model import LM

    class Model(LM):  # type: ignore[misc]
        def generate_until(self, requests: list[Any], **_: Any) -> list[str]:
            return [one.text for one in self._answered(requests)]

        def loglikelihood(self, requests: list[Any], **_: Any) -> list[tuple[float, bool]]:
            return [(one.log_likelihood, one.greedy) for one in self._answered(requests)]

        def loglikelihood_rolling(self, requests: list[Any], **_: Any) -> list[float]:
            raise AssertionError("refused with the configuration")

        def _answered(self, instances: list[Any]) -> Sequence[Response]:
            numbers = {id(one): (task, n) for task in tasks.values() for one, n in _numbered(task)}
            repeats: Counter[int] = Counter()
            asked = []
            for one in instances:
                task, number = numbers[id(one)]
                asked.append(_request(task, one, number, repeats[id(one)]))
                repeats[id(one)] += 1
            return answers(asked)

    return Model()
