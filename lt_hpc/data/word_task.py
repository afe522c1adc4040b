"""Word problems in English, of reasoning-gym, with worked solutions: two more built-in tasks.

`builtin:gsm` has all of one generator, for models that read English. `builtin:wordproblems` is what a small
model can learn:

    question  Your task is to count how many legs there are in total when given a list of animals.
              Now, how many legs are there in total if you have 7 butterflys, 2 crabs, 6 sea slugs?
    thought   7 butterflys have 42 legs, 42 in all. 2 crabs have 20 legs, 62 in all. 6 sea slugs have 0 ...
    answer    The answer is 62.

A family is a generator of reasoning-gym with settings by level: `easy` problems, which
`tools/make_wordproblems_base.py` shows a base model solved, `hard` ones, of which it shows the work alone,
and `unseen` ones, those of the corpora, whose solutions are hidden. Questions and answers are the
generator's own; the worked solutions are made here, or the generator's where it has them.

Problem ``i`` of a stream depends only on ``(seed, i)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lt_hpc.data.chain_task import Problem
from lt_hpc.latent import seeds

Level = Literal["easy", "hard", "unseen"]
ANSWER = "The answer is {}."
_TRIES = 1000
"""Draws for one problem that a family takes; far more than any of them needs."""


@dataclass(frozen=True)
class Family:
    """`levels`: settings of the generator `dataset`; `work`: entry -> worked solution, without the answer;
    `takes`: whether an entry is of the level, where settings alone do not say."""

    dataset: str
    levels: Mapping[Level, Mapping[str, Any]]
    work: Callable[[Mapping[str, Any]], str]
    takes: Callable[[str, Level], bool] = lambda work, level: True


def _legs(entry: Mapping[str, Any]) -> str:
    from reasoning_gym.arithmetic.leg_counting import ANIMALS

    total, steps = 0, []
    for animal, count in entry["metadata"]["animals"].items():
        legs = count * ANIMALS[animal]
        total += legs
        said = f"{count} {animal}s have" if count > 1 else f"1 {animal} has"
        steps.append(f"{said} {legs} legs, {total} in all.")
    return " ".join(steps)


def _letters(entry: Mapping[str, Any]) -> str:
    letter, total, steps = entry["metadata"]["target_letter"], 0, []
    for word in entry["metadata"]["span"]:
        if count := word.lower().count(letter):
            total += count
            steps.append(f'"{word}" has {count}, {total} in all.')
    return " ".join(steps)


def _given(entry: Mapping[str, Any]) -> str:
    return str(entry["metadata"]["answer_cot"]).rpartition("####")[0].strip()


FAMILIES: dict[str, Family] = {
    "legs": Family(
        "leg_counting",
        {
            "easy": {"min_animals": 1, "max_animals": 4, "max_instances": 5},
            "hard": {"min_animals": 3, "max_animals": 6, "max_instances": 5},
            "unseen": {"min_animals": 3, "max_animals": 4, "max_instances": 9},
        },
        _legs,
    ),
    "letters": Family(
        "letter_counting",
        {
            "easy": {"min_words": 2, "max_words": 5},
            "hard": {"min_words": 6, "max_words": 10},
            "unseen": {"min_words": 11, "max_words": 14},
        },
        _letters,
    ),
    "gsm": Family(
        "gsm_symbolic",
        {"easy": {}, "hard": {}, "unseen": {}},
        _given,
        lambda work, level: (len(work.splitlines()) > 2) == (level != "easy"),
    ),
}

CORPUS = ("legs",)
"""The families of `builtin:wordproblems`, one after the other."""


def gsm_problem(seed: int, index: int) -> Problem:
    """Problem `index` of the stream `seed` of `builtin:gsm`."""
    from reasoning_gym import create_dataset

    # One data set a problem: within a data set problem i is drawn from its seed + i, so that streams with
    # neighbouring seeds would share problems.
    entry = create_dataset("gsm_symbolic", seed=seeds.derive(seed, "gsm", index), size=1)[0]
    return Problem(entry["question"], entry["answer"], entry["metadata"]["answer_cot"])


def corpus_problem(seed: int, index: int) -> Problem:
    """Problem `index` of the stream `seed` of `builtin:wordproblems`."""
    return problem(CORPUS[index % len(CORPUS)], "unseen", seed, index)


def problem(family: str, level: Level, seed: int, index: int) -> Problem:
    """Problem `index` of the stream `seed` of a family at one of its levels."""
    from reasoning_gym import create_dataset

    one = FAMILIES[family]
    for attempt in range(_TRIES):
        drawn = seeds.derive(seed, f"word problem {family} {level}", index, attempt)
        entry = create_dataset(one.dataset, seed=drawn, size=1, **one.levels[level])[0]
        work = one.work(entry)
        if one.takes(work, level):
            return Problem(entry["question"].strip() + "\n", ANSWER.format(entry["answer"]), work)
    raise RuntimeError(f"family {family}: no problem of this level in {_TRIES} draws")
