"""The built-in arithmetic corpus: reproducible slices, and thoughts that are right."""

from __future__ import annotations

from lt_hpc.data.chain_task import WORDS, problems


def test_a_longer_stream_starts_with_the_shorter_one() -> None:
    assert list(problems(3, 100))[:20] == list(problems(3, 20))


def test_streams_of_two_seeds_differ() -> None:
    assert list(problems(0, 20)) != list(problems(1, 20))


def test_every_step_of_a_thought_evaluates_modulo_17() -> None:
    arithmetic = {"+": int.__add__, "-": int.__sub__, "x": int.__mul__}
    for problem in problems(5, 300):
        question, thought = problem.question.split(), problem.thought.split()
        assert [thought[0], *thought[1::2]] == question
        value = int(question[0])
        for operation, result in zip(thought[1::2], thought[2::2], strict=True):
            value = arithmetic[operation[0]](value, int(operation[1:])) % 17
            assert value == int(result)
        assert problem.answer == f"= {value}"


def test_every_word_is_in_the_vocabulary() -> None:
    words = {
        word
        for problem in problems(1, 300)
        for text in (problem.question, problem.answer, problem.thought)
        for word in text.split()
    }
    assert words <= set(WORDS)
