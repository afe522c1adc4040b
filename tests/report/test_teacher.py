"""What a report says of a teacher."""

from __future__ import annotations

from lt_hpc.report.teacher import in_words

COUNTS = {
    "chunks": 20, "taught": 18, "answers": 31, "prompt_tokens": 12_000, "answer_tokens": 4_000,
    "refused: too long": 9, "refused: refusal": 4, "lost requests": 0,
}  # fmt: skip


def test_nothing_is_said_where_nobody_was_asked() -> None:
    assert in_words({}, {}) is None


def test_thoughts_refusals_tokens_and_cost_are_told() -> None:
    assert in_words(COUNTS, {"price_prompt": None, "price_answer": None}) == (
        "18 of 20 chunks have a teacher's thought; 31 answers, refused: 9 too long, 4 refusal; 12,000 tokens "
        "asked and 4,000 answered"
    )
    said = in_words(COUNTS, {"price_prompt": 0.15, "price_answer": 0.6})
    assert said is not None and said.endswith("answered, 0.0042 USD")


def test_answers_that_were_lost_are_told_because_they_may_have_been_paid() -> None:
    said = in_words(COUNTS | {"lost requests": 3}, {})
    assert said is not None and "3 requests whose answers were lost" in said
