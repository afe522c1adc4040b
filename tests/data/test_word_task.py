"""The word problems: worked solutions lead to the generator's answers, and levels are what they say."""

from __future__ import annotations

import re

import pytest

from lt_hpc.config.schema import CorpusConfig
from lt_hpc.data import answers, sources
from lt_hpc.data.word_task import CORPUS, FAMILIES, problem


def some(family: str, hard: bool, seed: int = 1, count: int = 60) -> list[tuple[str, str, str]]:
    found = [problem(family, hard, seed, index) for index in range(count)]
    return [(one.question, one.answer, one.thought) for one in found]


@pytest.mark.parametrize("family", ["legs", "letters"])
@pytest.mark.parametrize("hard", [False, True])
def test_a_worked_solution_ends_with_the_answer_of_the_generator(family: str, hard: bool) -> None:
    for _, answer, thought in some(family, hard):
        totals = re.findall(r"(\d+) in all\.", thought)
        assert answers.same(answer, totals[-1])
        steps = [int(step) for step in re.findall(r"ha(?:s|ve) (\d+)", thought)]
        assert [int(total) for total in totals] == [sum(steps[: n + 1]) for n in range(len(steps))]


def test_hard_problems_of_legs_have_more_animals() -> None:
    kinds, most = {}, {}
    for hard in (False, True):
        thoughts = [thought for _, _, thought in some("legs", hard)]
        kinds[hard] = {thought.count("in all") for thought in thoughts}
        most[hard] = max(
            int(n) for thought in thoughts for n in re.findall(r"(\d+) [a-z ]+ ha(?:s|ve)", thought)
        )
    assert kinds == {False: {1, 2, 3, 4}, True: {3, 4}}
    assert most == {False: 5, True: 9}


def test_the_solutions_of_gsm_are_the_generator_s_without_its_mark() -> None:
    for hard in (False, True):
        for _, _, thought in some("gsm", hard, count=20):
            assert "####" not in thought
            assert (len(thought.splitlines()) > 2) == hard


@pytest.mark.parametrize("family", FAMILIES)
def test_streams_share_nothing_and_a_problem_depends_on_its_number(
    family: str,
) -> None:
    first, second = (some(family, True, seed, count=30) for seed in (1, 2))
    assert not {question for question, _, _ in first} & {question for question, _, _ in second}
    one = problem(family, True, 1, 17)
    assert (one.question, one.answer, one.thought) == first[17]


def test_the_corpus_has_hard_problems_of_its_families() -> None:
    corpus = CorpusConfig(source="builtin:wordproblems", seed=1, offset=2, num_documents=6)
    found = [(one.question, one.answer, one.thought) for one in sources.documents(corpus, "given")]
    expected = [problem(CORPUS[index % len(CORPUS)], True, 1, index) for index in range(2, 8)]
    assert found == [(one.question, one.answer, one.thought) for one in expected]
