"""The word problems: worked solutions lead to the generator's answers, and levels are what they say."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from lt_hpc.config.schema import CorpusConfig
from lt_hpc.data import answers, sources
from lt_hpc.data.word_task import CORPUS, FAMILIES, Level, problem


def some(family: str, level: Level, seed: int = 1, count: int = 60) -> list[tuple[str, str, str]]:
    found = [problem(family, level, seed, index) for index in range(count)]
    return [(one.question, one.answer, one.thought) for one in found]


@pytest.mark.parametrize("family", ["legs", "letters"])
@pytest.mark.parametrize("level", get_args(Level))
def test_a_worked_solution_ends_with_the_answer_of_the_generator(family: str, level: Level) -> None:
    for _, answer, thought in some(family, level):
        totals = re.findall(r"(\d+) in all\.", thought)
        assert answers.same(answer, totals[-1])
        steps = [int(step) for step in re.findall(r"ha(?:s|ve) (\d+)", thought)]
        assert [int(total) for total in totals] == [sum(steps[: n + 1]) for n in range(len(steps))]


def test_levels_of_legs_have_more_animals_and_then_larger_numbers() -> None:
    kinds, most = {}, {}
    for level in get_args(Level):
        thoughts = [thought for _, _, thought in some("legs", level)]
        kinds[level] = {thought.count("in all") for thought in thoughts}
        counts = (re.findall(r"(\d+) [a-z ]+ ha(?:s|ve)", thought) for thought in thoughts)
        most[level] = max(int(n) for found in counts for n in found)
    assert kinds == {"easy": {1, 2, 3, 4}, "hard": {3, 4, 5, 6}, "unseen": {3, 4}}
    assert most == {"easy": 5, "hard": 5, "unseen": 9}


def test_the_solutions_of_gsm_are_the_generator_s_without_its_mark() -> None:
    for level in get_args(Level):
        for _, _, thought in some("gsm", level, count=20):
            assert "####" not in thought
            assert (len(thought.splitlines()) > 2) == (level != "easy")


@pytest.mark.parametrize("family", FAMILIES)
def test_streams_share_nothing_and_a_problem_depends_on_its_number(
    family: str,
) -> None:
    first, second = (some(family, "unseen", seed, count=30) for seed in (1, 2))
    assert not {question for question, _, _ in first} & {question for question, _, _ in second}
    one = problem(family, "unseen", 1, 17)
    assert (one.question, one.answer, one.thought) == first[17]


def test_the_corpus_has_unseen_problems_of_its_families() -> None:
    corpus = CorpusConfig(source="builtin:wordproblems", seed=1, offset=2, num_documents=6)
    found = [(one.question, one.answer, one.thought) for one in sources.documents(corpus, "given")]
    expected = [problem(CORPUS[index % len(CORPUS)], "unseen", 1, index) for index in range(2, 8)]
    assert found == [(one.question, one.answer, one.thought) for one in expected]
