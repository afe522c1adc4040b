"""Data sets of the benchmarks in configs/benchmarks: made here, so that no network is needed. The files
name these functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lt_hpc.config.schema import CorpusConfig
from lt_hpc.data import builtin, chain_task
from lt_hpc.latent import seeds

SIZE = 300
"""Items of each."""
SEED = 10_000
"""Of the streams: not those of configurations."""
EXAMPLES = 20
"""For few-shot prompts."""
CHOICES = 4


def chain(**settings: Any) -> dict[str, Any]:
    """Questions and answers of `builtin:chain`; with wrong answers beside the right one."""
    return _splits(_chain_rows("chain"))


def word_problems(**settings: Any) -> dict[str, Any]:
    """Questions, answers and worked solutions of `builtin:gsm`."""
    return _of("builtin:gsm")


def unseen_word_problems(**settings: Any) -> dict[str, Any]:
    """The same of `builtin:wordproblems`."""
    return _of("builtin:wordproblems")


def sums(**settings: Any) -> dict[str, Any]:
    """Questions and answers of reasoning-gym's chain_sum: sums of a few whole numbers."""
    from reasoning_gym import create_dataset

    found = create_dataset("chain_sum", seed=SEED, size=SIZE + EXAMPLES)
    return _splits([{"question": one["question"], "answer": one["answer"]} for one in found])


def _of(source: str) -> dict[str, Any]:
    corpus = CorpusConfig(source=source, seed=SEED, num_documents=SIZE + EXAMPLES)
    found = builtin.problems(corpus, iter(range(SIZE + EXAMPLES)))
    return _splits([{"question": q, "answer": a, "solution": solution} for q, a, solution in found])


def _chain_rows(purpose: str) -> list[dict[str, Any]]:
    rows = []
    for number, one in enumerate(chain_task.problems(SEED, SIZE + EXAMPLES)):
        generator = seeds.generator(SEED, purpose, number)
        right = one.answer.split()[-1]
        others = [value for value in chain_task.VALUES if value != right]
        choices = [right, *generator.choice(others, CHOICES - 1, replace=False).tolist()]
        order = generator.permutation(CHOICES)
        rows.append(
            {
                "question": one.question,
                "answer": one.answer,
                "choices": [f"{chain_task.EQUALS} {choices[place]}" for place in order],
                "right": int(np.flatnonzero(order == 0)[0]),
            }
        )
    return rows


def _splits(rows: list[dict[str, Any]]) -> dict[str, Any]:
    from datasets import Dataset

    return {"test": Dataset.from_list(rows[:SIZE]), "train": Dataset.from_list(rows[SIZE:])}
