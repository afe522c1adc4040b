"""Built-in corpora: endless streams of questions with answers and a teacher's thoughts."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Iterator

from lt_hpc.config.schema import CorpusConfig
from lt_hpc.data import chain_task, routes_task, word_task
from lt_hpc.data.readers import Wanted
from lt_hpc.errors import ConfigError

_TASKS = {"builtin:chain": chain_task.problems, "builtin:routes": routes_task.problems}
_GENERATED: dict[str, Callable[[int, int], chain_task.Problem]] = {
    "builtin:gsm": word_task.gsm_problem,
    "builtin:wordproblems": word_task.corpus_problem,
}
"""(seed, ordinal) -> problem, of reasoning-gym."""
NAMES = (*_TASKS, *_GENERATED)


def check(corpus: CorpusConfig, prefix: str = "") -> None:
    """Refuse a stream that would not end, or whose generator is not installed."""
    if corpus.num_documents is None:
        raise ConfigError(f"{prefix}num_documents: {corpus.source} is endless; give a number")
    if corpus.source in _GENERATED and importlib.util.find_spec("reasoning_gym") is None:
        raise ConfigError(f"{prefix}source: needs reasoning-gym; run pip install 'lt_hpc[gsm]'")


def problems(corpus: CorpusConfig, ordinals: Iterator[int]) -> Iterator[tuple[str, str, str]]:
    """Question, answer and thought of the problems with these ordinals, which rise and never end."""
    check(corpus)
    if corpus.source in _GENERATED:
        make = _GENERATED[corpus.source]
        found = (make(corpus.seed, ordinal) for ordinal in ordinals)
    else:
        wanted = Wanted(ordinals)
        stream = enumerate(_TASKS[corpus.source](corpus.seed, sys.maxsize))
        found = (one for ordinal, one in stream if wanted.take(ordinal))
    for one in found:
        yield one.question, one.answer, one.thought


def identity(corpus: CorpusConfig) -> dict[str, str]:
    """What decides the documents beside the settings: another version of a generator may write others."""
    if corpus.source in _GENERATED and importlib.util.find_spec("reasoning_gym"):
        return {"generator": f"reasoning_gym {importlib.metadata.version('reasoning_gym')}"}
    return {}
