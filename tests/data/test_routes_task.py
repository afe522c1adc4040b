"""The built-in task of routes: what is enumerated is what is drawn."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.config.schema import CorpusConfig
from lt_hpc.data import chain_task, sources
from lt_hpc.data.chain_task import OPERATIONS, WORDS
from lt_hpc.data.routes_task import TAKEN, log_likelihood, posterior, problems, thoughts

ARITHMETIC = {"+": int.__add__, "-": int.__sub__, "x": int.__mul__}
questions = st.builds(
    lambda start, operations: " ".join([str(start), *operations]),
    st.integers(0, 16),
    st.lists(st.sampled_from(OPERATIONS), min_size=1, max_size=6),
)


def all_routes(question: str) -> dict[str, float]:
    """Thought -> probability, from every subset of taken steps on its own."""
    start, *operations = question.split()
    found: dict[str, float] = defaultdict(float)
    for taken in itertools.product([True, False], repeat=len(operations)):
        value, text = int(start), start
        for operation, taking in zip(operations, taken, strict=True):
            if taking:
                value = ARITHMETIC[operation[0]](value, int(operation[1:])) % 17
            text += f" {operation} {value}"
        found[text] += TAKEN ** sum(taken) * (1 - TAKEN) ** (len(taken) - sum(taken))
    return found


@given(questions)
def test_the_thoughts_of_a_question_are_those_of_all_subsets_of_taken_steps(question: str) -> None:
    assert thoughts(question) == pytest.approx(all_routes(question))
    assert sum(thoughts(question).values()) == pytest.approx(1)


@given(questions)
def test_answers_and_posteriors_are_those_of_the_thoughts(question: str) -> None:
    by_answer: dict[str, dict[str, float]] = defaultdict(dict)
    for text, probability in all_routes(question).items():
        by_answer[f"= {text.split()[-1]}"][text] = probability
    for answer in (f"= {value}" for value in range(17)):
        total = sum(by_answer[answer].values())
        expected = {text: probability / total for text, probability in by_answer[answer].items()}
        assert posterior(question, answer) == pytest.approx(expected)
        assert log_likelihood(question, answer) == (
            pytest.approx(math.log(total), abs=1e-9) if total else -math.inf
        )


def test_an_operation_that_changes_nothing_is_one_thought_and_not_two() -> None:
    assert thoughts("5 +3") == pytest.approx({"5 +3 8": TAKEN, "5 +3 5": 1 - TAKEN})
    assert thoughts("0 x7") == pytest.approx({"0 x7 0": 1.0})
    assert posterior("5 +3", "= 6") == {} and log_likelihood("5 +3", "= 6") == -math.inf


def test_a_longer_stream_starts_with_the_shorter_one_and_is_no_other_stream() -> None:
    stream = list(problems(3, 100))
    assert stream[:20] == list(problems(3, 20))
    asked = {problem.question for problem in stream}
    assert not asked & {problem.question for problem in problems(4, 100)}
    assert not asked & {problem.question for problem in chain_task.problems(3, 100)}


def test_a_thought_goes_through_the_question_and_ends_with_the_answer() -> None:
    for problem in problems(1, 300):
        start, *rest = problem.thought.split()
        assert [start, *rest[::2]] == problem.question.split() and 3 <= len(rest[::2]) <= 6
        assert problem.answer == f"= {rest[-1]}"
        assert {*problem.thought.split(), *problem.answer.split()} <= set(WORDS)


def test_seven_of_ten_operations_are_taken() -> None:
    count, taken = 0, 0
    for problem in problems(7, 4000, min_steps=1, max_steps=1):
        before, _, after = problem.thought.split()
        if before != "0" or problem.question[2] != "x":  # where the two could be told apart
            count, taken = count + 1, taken + (before != after)
    assert abs(taken / count - 0.7) < 4 * math.sqrt(0.7 * 0.3 / count)


def standard_errors(drawn: list[tuple[str, dict[str, float]]]) -> float:
    """How far the log-probabilities of outcomes are from what their distributions let expect."""
    gap, variance = 0.0, 0.0
    for outcome, distribution in drawn:
        p = np.array(list(distribution.values()))
        mean = (p * np.log(p)).sum()
        gap += math.log(distribution[outcome]) - mean
        variance += (p * (np.log(p) - mean) ** 2).sum()
    return float(gap / math.sqrt(variance))


def test_thoughts_and_answers_are_drawn_as_often_as_the_enumeration_says() -> None:
    by_thought, given_answer, by_answer = [], [], []
    for problem in problems(5, 3000):
        asked = thoughts(problem.question)
        answers = {f"= {text.split()[-1]}" for text in asked}
        by_thought.append((problem.thought, asked))
        given_answer.append((problem.thought, posterior(problem.question, problem.answer)))
        likely = {answer: math.exp(log_likelihood(problem.question, answer)) for answer in answers}
        by_answer.append((problem.answer, likely))
    for drawn in (by_thought, given_answer, by_answer):
        assert abs(standard_errors(drawn)) < 4


def test_the_likeliest_thought_of_an_answer_is_right_as_often_as_its_posterior_says() -> None:
    hits, expected, variance, shared = 0, 0.0, 0.0, 0
    for problem in problems(6, 3000):
        right = posterior(problem.question, problem.answer)
        best = max(right, key=lambda text: right[text])
        hits += problem.thought == best
        expected += right[best]
        variance += right[best] * (1 - right[best])
        shared += len(right) > 1
    assert abs(hits - expected) < 4 * math.sqrt(variance)
    assert shared > 1000, "most answers of more than a few steps have several thoughts"


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
