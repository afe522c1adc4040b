"""The second built-in task: chains of arithmetic whose thoughts may state a value twice.

Questions and answers are those of `chain_task`. After each step the thought states its value once more with
probability 0.3, so that a question of n steps has 2^n right thoughts, which are not equally likely.

    question  5 +3 x7 -2
    thought   5 +3 8 copy 8 x7 5 -2 3
    answer    = 3

The answer is no less likely after one right thought than after another: whatever of them is trained on can
lead to the same log p(answer | question), at best 0. But training on thoughts that were selected by their
weights keeps the share of steps that are stated twice where the source has it, and a rule that favours some
of them does not.

Problem ``i`` of a stream depends only on ``(seed, i)``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from lt_hpc.data import chain_task
from lt_hpc.data.chain_task import Problem

TWICE = 0.3
"""Probability of a step to have its value stated twice."""
COPY = "copy"
_STREAM = 1
"""Beside the seed: not the questions of the other task."""


def worked(start: int, operations: Sequence[str], twice: Sequence[bool]) -> list[str]:
    """The words of the thought: the start, then each operation and the value it leads to, once or twice."""
    value, words = start, [str(start)]
    for operation, again in zip(operations, twice, strict=True):
        value = chain_task.apply(value, operation)
        words += [operation, str(value), *([COPY, str(value)] if again else [])]
    return words


def problems(seed: int, count: int, min_steps: int = 3, max_steps: int = 6) -> Iterator[Problem]:
    """The first ``count`` problems of the stream ``seed``; problem i depends on (seed, i) only."""
    for index in range(count):
        generator = np.random.default_rng((seed, index, _STREAM))
        problem = chain_task.draw_problem(generator, min_steps, max_steps)
        start, *operations = problem.question.split()
        twice = (generator.random(len(operations)) < TWICE).tolist()
        yield Problem(problem.question, problem.answer, " ".join(worked(int(start), operations, twice)))


def thoughts(question: str) -> dict[str, float]:
    """Every right thought of a question with its probability, which is also that given the right answer."""
    start, *operations = question.split()
    found = {}
    for twice in itertools.product((False, True), repeat=len(operations)):
        text = " ".join(worked(int(start), operations, twice))
        found[text] = TWICE ** sum(twice) * (1 - TWICE) ** (len(twice) - sum(twice))
    return found


def stated_twice(question: str, thought: str) -> int | None:
    """How many steps of a thought have their value stated twice; None where it is not a right one."""
    return thought.split().count(COPY) if thought in thoughts(question) else None
