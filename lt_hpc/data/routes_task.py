"""The second built-in task: chains of arithmetic in which each step may be passed over.

Start, operations and words are those of `chain_task`, but an operation is taken with probability 0.7 only;
passed over, it leaves the value as it is.

    question  5 +3 x7 -2
    thought   5 +3 8 x7 8 -2 6     x7 is passed over
    answer    = 6

The question does not tell which steps are taken. So a question has many answers, and an answer as a rule
several right thoughts, which are not equally likely: what selection makes of them shows here, and with at
most 2^6 routes a question everything can be enumerated.

Problem ``i`` of a stream depends only on ``(seed, i)``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from math import inf, log

import numpy as np

from lt_hpc.data import chain_task
from lt_hpc.data.chain_task import EQUALS, Problem

TAKEN = 0.7
"""Probability of an operation to be taken."""
_STREAM = 1
"""Beside the seed: not the questions of the other task."""


def worked(start: int, operations: Sequence[str], taken: Sequence[bool]) -> list[str]:
    """The words of the thought: the start, then each operation and the value after it."""
    value, words = start, [str(start)]
    for operation, taking in zip(operations, taken, strict=True):
        value = chain_task.apply(value, operation) if taking else value
        words += [operation, str(value)]
    return words


def problems(seed: int, count: int, min_steps: int = 3, max_steps: int = 6) -> Iterator[Problem]:
    """The first ``count`` problems of the stream ``seed``; problem i depends on (seed, i) only."""
    for index in range(count):
        generator = np.random.default_rng((seed, index, _STREAM))
        question = chain_task.draw_problem(generator, min_steps, max_steps).question
        start, *operations = question.split()
        taken = (generator.random(len(operations)) < TAKEN).tolist()
        thought = worked(int(start), operations, taken)
        yield Problem(question, f"{EQUALS} {thought[-1]}", " ".join(thought))


def thoughts(question: str) -> dict[str, float]:
    """Every thought of a question with its probability. Routes of one text, such as through a product
    with 0, are one thought."""
    start, *operations = question.split()
    found: dict[str, float] = {start: 1.0}
    for operation in operations:
        grown: dict[str, float] = defaultdict(float)
        for text, probability in found.items():
            value = int(text.split()[-1])
            for after, share in ((chain_task.apply(value, operation), TAKEN), (value, 1 - TAKEN)):
                grown[f"{text} {operation} {after}"] += probability * share
        found = grown
    return found


def posterior(question: str, answer: str) -> dict[str, float]:
    """The thoughts that lead to an answer with their probabilities given it; empty where none does."""
    right = _leading_to(question, answer)
    total = sum(right.values())
    return {text: probability / total for text, probability in right.items()}


def log_likelihood(question: str, answer: str) -> float:
    """log p(answer | question) of the source, nats: no model can do better on average. -inf where no route
    leads there."""
    total = sum(_leading_to(question, answer).values())
    return log(total) if total > 0 else -inf


def _leading_to(question: str, answer: str) -> dict[str, float]:
    """The thoughts that end with an answer, with their probabilities given the question alone."""
    return {
        text: probability
        for text, probability in thoughts(question).items()
        if f"{EQUALS} {text.split()[-1]}" == answer
    }
