"""Built-in corpora: endless streams of questions with answers and a teacher's thoughts."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator

from lt_hpc.config.schema import CorpusConfig
from lt_hpc.data import chain_task, routes_task
from lt_hpc.data.readers import Wanted
from lt_hpc.errors import ConfigError
from lt_hpc.latent import seeds

_TASKS = {"builtin:chain": chain_task.problems, "builtin:routes": routes_task.problems}
NAMES = (*_TASKS, "builtin:gsm")


def check(corpus: CorpusConfig, prefix: str = "") -> None:
    """Refuse a stream that would not end, or whose generator is not installed."""
    if corpus.num_documents is None:
        raise ConfigError(f"{prefix}num_documents: {corpus.source} is endless; give a number")
    if corpus.source == "builtin:gsm" and importlib.util.find_spec("reasoning_gym") is None:
        raise ConfigError(f"{prefix}source: needs reasoning-gym; run pip install 'lt_hpc[gsm]'")


def problems(corpus: CorpusConfig, ordinals: Iterator[int]) -> Iterator[tuple[str, str, str]]:
    """Question, answer and thought of the problems with these ordinals, which rise and never end."""
    check(corpus)
    if corpus.source in _TASKS:
        wanted = Wanted(ordinals)
        for ordinal, one in enumerate(_TASKS[corpus.source](corpus.seed, sys.maxsize)):
            if wanted.take(ordinal):
                yield one.question, one.answer, one.thought
    else:
        for ordinal in ordinals:
            yield _gsm_problem(corpus.seed, ordinal)


def _gsm_problem(seed: int, index: int) -> tuple[str, str, str]:
    """Question, answer and worked solution number `index`."""
    from reasoning_gym import create_dataset

    # One data set a problem: within a data set, problem i is drawn from its seed + i, so that
    # two streams with neighbouring seeds would share problems.
    entry = create_dataset("gsm_symbolic", seed=seeds.derive(seed, "gsm", index), size=1)[0]
    return entry["question"], entry["answer"], entry["metadata"]["answer_cot"]
