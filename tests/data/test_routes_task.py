"""The built-in task of routes: what is enumerated is what is drawn."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.config.schema import CorpusConfig
from lt_hpc.data import chain_task, sources
from lt_hpc.data.chain_task import OPERATIONS, WORDS
from lt_hpc.data.routes_task import TWICE, problems, stated_twice, thoughts

ARITHMETIC = {"+": int.__add__, "-": int.__sub__, "x": int.__mul__}
questions = st.builds(
    lambda start, operations: " ".join([str(start), *operations]),
    st.integers(0, 16),
    st.lists(st.sampled_from(OPERATIONS), min_size=1, max_size=6),
)


@given(questions)
def test_the_thoughts_of_a_question_are_all_choices_of_what_is_stated_twice(question: str) -> None:
    start, *operations = question.split()
    expected = {}
    for twice in itertools.product((False, True), repeat=len(operations)):
        value, text = int(start), start
        for operation, again in zip(operations, twice, strict=True):
            value = ARITHMETIC[operation[0]](value, int(operation[1:])) % 17
            text += f" {operation} {value}" + f" copy {value}" * again
        expected[text] = math.prod(0.3 if again else 0.7 for again in twice)
        assert stated_twice(question, text) == sum(twice)
    assert thoughts(question) == pytest.approx(expected)
    assert sum(thoughts(question).values()) == pytest.approx(1)
    assert len(thoughts(question)) == 2 ** len(operations), "no two choices have the same text"


@pytest.mark.parametrize(
    "wrong", ["5 +3 9", "5 +3", "5 +3 8 copy 9", "5 +3 8 copy 8 copy 8", "5 +2 7", "6 +3 9", "", "copy"]
)
def test_what_is_no_thought_of_a_question_is_not_counted(wrong: str) -> None:
    assert stated_twice("5 +3", "5 +3 8") == 0 and stated_twice("5 +3", "5 +3 8 copy 8") == 1
    assert stated_twice("5 +3", wrong) is None


def test_a_longer_stream_starts_with_the_shorter_one_and_is_no_other_stream() -> None:
    stream = list(problems(3, 100))
    assert stream[:20] == list(problems(3, 20))
    asked = {problem.question for problem in stream}
    assert not asked & {problem.question for problem in problems(4, 100)}
    assert not asked & {problem.question for problem in chain_task.problems(3, 100)}


def test_a_thought_is_a_right_one_and_the_answer_its_last_value() -> None:
    for problem in problems(1, 300):
        assert problem.thought in thoughts(problem.question)
        assert problem.answer == f"= {problem.thought.split()[-1]}"
        assert 3 <= len(problem.question.split()) - 1 <= 6
        assert {*problem.thought.split(), *problem.answer.split()} <= set(WORDS)


def test_three_of_ten_steps_are_stated_twice_whatever_stands_before_them() -> None:
    after: dict[bool, list[bool]] = {False: [], True: []}
    for problem in problems(7, 4000, min_steps=2, max_steps=2):
        words = problem.thought.split()
        first = words[3] == "copy"
        after[first].append(words[-2] == "copy")
    for drawn in ([True] * len(after[True]) + [False] * len(after[False]), after[True], after[False]):
        assert abs(sum(drawn) / len(drawn) - TWICE) < 4 * math.sqrt(0.3 * 0.7 / len(drawn))


@pytest.mark.parametrize("mode", ["given", "sentences"])
def test_it_is_a_source_of_documents_of_which_any_slice_is_made_alone(mode: str) -> None:
    corpus = CorpusConfig(source="builtin:routes", seed=3, offset=2, num_documents=4)
    sources.check(corpus, "corpus", mode, needs_thought=True)
    made = list(sources.documents(corpus, mode))
    expected = list(problems(3, 6))[2:]
    assert [one.thought for one in made] == [problem.thought for problem in expected]
    if mode == "given":
        assert [(o.question, o.answer) for o in made] == [(p.question, p.answer) for p in expected]
    else:
        assert [one.text for one in made] == [f"{p.question} {p.answer}" for p in expected]
