"""The built-in task of the demo: chains of arithmetic modulo 17.

A problem starts from a value in 0..16 and applies operations from {+, -, x} x {2..9}; every
value and every operation is one whitespace-separated word.

    question  5 +3 x7 -2           the prefix c
    thought   5 +3 8 x7 5 -2 3     the latent z: each operation with the value it leads to
    answer    = 3                  the chunk x

Raw text holds question and answer only, so the intermediate values are truly latent: several
steps cannot be done "in the head" by a tiny model, while each step of the thought is local.

Problem ``i`` of a stream depends only on ``(seed, i)``, so any slice can be regenerated alone.
Training and held-out streams are told apart by their seeds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

MODULUS = 17
OPERATORS: tuple[str, ...] = ("+", "-", "x")
OPERANDS: tuple[int, ...] = tuple(range(2, 10))

VALUES: tuple[str, ...] = tuple(str(value) for value in range(MODULUS))
OPERATIONS: tuple[str, ...] = tuple(f"{sign}{n}" for sign in OPERATORS for n in OPERANDS)
EQUALS = "="
#: Words that only the easy pretraining documents of the demo's base model use.
DRILL_WORDS: tuple[str, ...] = ("run", "work", "copy")
#: Every word of the task, in a fixed order: the vocabulary of the demo's tokenizer.
WORDS: tuple[str, ...] = (*VALUES, *OPERATIONS, EQUALS, *DRILL_WORDS)


@dataclass(frozen=True)
class Problem:
    """One problem; the three texts are words separated by single spaces."""

    question: str
    answer: str
    thought: str


def apply(value: int, operation: str) -> int:
    """The value after one operation such as ``"x7"``, modulo 17."""
    sign, operand = operation[0], int(operation[1:])
    if sign == "+":
        return (value + operand) % MODULUS
    if sign == "-":
        return (value - operand) % MODULUS
    if sign == "x":
        return (value * operand) % MODULUS
    raise ValueError(f"operation {operation!r}: must start with one of {OPERATORS}")


def worked(start: int, operations: Sequence[str]) -> list[str]:
    """The words of the thought: the start, then each operation and the value it leads to."""
    value, words = start, [str(start)]
    for operation in operations:
        value = apply(value, operation)
        words += [operation, str(value)]
    return words


def make_problem(start: int, operations: Sequence[str]) -> Problem:
    """The problem with this start and these operations (at least one)."""
    if not operations:
        raise ValueError("a problem needs at least one operation")
    thought = worked(start, operations)
    return Problem(
        question=" ".join([str(start), *operations]),
        answer=f"{EQUALS} {thought[-1]}",
        thought=" ".join(thought),
    )


def draw_problem(rng: np.random.Generator, min_steps: int, max_steps: int) -> Problem:
    """One random problem; the number of steps is uniform between the two bounds."""
    num_steps = int(rng.integers(min_steps, max_steps + 1))
    start = int(rng.integers(MODULUS))
    return make_problem(start, [OPERATIONS[i] for i in rng.integers(len(OPERATIONS), size=num_steps)])


def problems(seed: int, count: int, min_steps: int = 3, max_steps: int = 6) -> Iterator[Problem]:
    """The first ``count`` problems of the stream ``seed``; problem i depends on (seed, i) only."""
    if not 1 <= min_steps <= max_steps:
        raise ValueError(f"steps {min_steps}..{max_steps}: need 1 <= min_steps <= max_steps")
    for index in range(count):
        yield draw_problem(np.random.default_rng((seed, index)), min_steps, max_steps)
