"""How texts are cut into sentences and chunks, and long chunks into pieces."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.data.chunking import chunk_text, split_long, split_sentences

# Random text rarely has sentence ends, so half of it is made of the parts that matter.
PARTS = st.sampled_from(
    [
        *".!?…。？।؟۔\"')]」*",
        " ",
        "\n",
        "\t",
        "Dr.",
        "e.g.",
        "3.14",
        "etc.",
        "1.",
        "a",
        "Word",
        "你好",
        "नमस्ते",
    ]
)
TEXTS = st.one_of(st.text(), st.lists(PARTS).map("".join))


@given(TEXTS)
def test_sentences_join_to_the_text_and_none_is_blank(text: str) -> None:
    sentences = split_sentences(text)
    assert "".join(sentences) == (text if text.strip() else "")
    assert all(sentence.strip() for sentence in sentences)


@given(TEXTS)
def test_only_the_last_sentence_may_end_in_whitespace(text: str) -> None:
    assert not any(sentence[-1].isspace() for sentence in split_sentences(text)[:-1])


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? Four… Five", ["One.", " Two!", " Three?", " Four…", " Five"]),
        ('She said "no." (Really.) Then left.', ['She said "no."', " (Really.)", " Then left."]),
        ("Wait...  What?!\tYes.", ["Wait...", "  What?!", "\tYes."]),
        ("A title\n\nThe text\nmore\r\nlast\n", ["A title", "\n\nThe text", "\nmore", "\r\nlast\n"]),
        ("  \n first. second", ["  \n first.", " second"]),
        ("今天很好。真的吗？！「是的。」他走了", ["今天很好。", "真的吗？！", "「是的。」", "他走了"]),
        ("यह पहला है। यह दूसरा है॥", ["यह पहला है।", " यह दूसरा है॥"]),
        ("هل أنت بخير؟ نعم. یہ اردو ہے۔ ٹھیک", ["هل أنت بخير؟", " نعم.", " یہ اردو ہے۔", " ٹھیک"]),
        ("So $x = 1.$ Then **stop.** End", ["So $x = 1.$", " Then **stop.**", " End"]),
    ],
)
def test_sentence_ends(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


@pytest.mark.parametrize(
    "text",
    [
        "Pi is 3.14 or so, see example.com now",
        "Dr. Smith met Mrs. Jones",
        "J. R. Smith wrote it",
        "Take a fruit, e.g. this one, i.e. (e.g. that) an apple",
        "In the U.S. Army",
        "See Fig. 3 and eq. 4",
        "Bring apples, pears etc. and go",
        "1. The first item",
        '"Why?" he asked',
        "I was ... thinking",
        "No end at all",
    ],
)
def test_what_is_no_sentence_end(text: str) -> None:
    assert split_sentences(text) == [text]


@pytest.mark.parametrize("text", ["", " ", "\n\n\t ", "\u3000"])
def test_blank_text_has_no_sentences_and_no_chunks(text: str) -> None:
    assert split_sentences(text) == []
    assert chunk_text(text, mean=8, low=1, high=20) == []


@pytest.mark.parametrize("unit", ["a", "a ", ". ", '."', "。", "a\n", '" ', "x. ", "a" + " " * 99])
def test_a_million_characters_take_linear_time(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    started = time.monotonic()
    assert "".join(split_sentences(text)) == text
    assert time.monotonic() - started < 20  # a quadratic split would take hours


@given(TEXTS, st.floats(0.1, 40), st.integers(1, 5), st.integers(0, 10))
def test_chunks_join_to_the_text_and_keep_the_bounds(text: str, mean: float, low: int, more: int) -> None:
    chunks = chunk_text(text, mean=mean, low=low, high=low + more)
    assert "".join(chunks) == (text if text.strip() else "")
    assert chunks == chunk_text(text, mean=mean, low=low, high=low + more)
    remaining = split_sentences(text)
    for chunk in chunks:
        size = next(n for n in range(1, len(remaining) + 1) if "".join(remaining[:n]) == chunk)
        remaining = remaining[size:]
        assert size <= low + more
        assert size >= low or not remaining
    assert not remaining


def test_chunk_sizes_follow_the_mean_and_the_text() -> None:
    texts = [f"Document {index}." + " One more." * 399 for index in range(20)]
    sizes = [[chunk.count(".") for chunk in chunk_text(text, mean=8, low=1, high=20)] for text in texts]
    inner = [size for document in sizes for size in document[:-1]]
    assert 7.5 < sum(inner) / len(inner) < 8.5
    assert len({tuple(document) for document in sizes}) > 1


def test_one_sentence_is_one_chunk() -> None:
    assert chunk_text("Only this.", mean=8, low=1, high=20) == ["Only this."]


def test_shifted_sizes_are_the_fewest_and_a_poisson_number_of_others() -> None:
    """1 + Poisson(7): mean 8, variance 7, where the clipped Poisson(8) has 8."""
    sizes = []
    for number in range(60):
        text = " ".join(f"Sentence number {number} {index}." for index in range(400))
        sizes += [one.count(".") for one in chunk_text(text, mean=8, low=1, high=100, shifted=True)[:-1]]
    assert min(sizes) >= 1 and abs(np.mean(sizes) - 8) < 0.25 and abs(np.var(sizes) - 7) < 0.8
    few = chunk_text("One. Two. Three. Four.", mean=2, low=2, high=9, shifted=True)
    assert [one.count(".") for one in few] == [2, 2], "none but the fewest is left for the others"
    with pytest.raises(ValueError, match="shifted sizes need mean >= low"):
        chunk_text("text", mean=1, low=2, high=9, shifted=True)


def test_text_with_a_lone_surrogate_is_chunked() -> None:
    assert chunk_text("a \ud800 b", mean=8, low=1, high=20) == ["a \ud800 b"]


@pytest.mark.parametrize(("mean", "low", "high"), [(0.0, 1, 2), (8.0, 0, 2), (8.0, 3, 2)])
def test_impossible_bounds_are_refused(mean: float, low: int, high: int) -> None:
    with pytest.raises(ValueError, match="need mean > 0 and 1 <= low <= high"):
        chunk_text("text", mean=mean, low=low, high=high)


@given(st.lists(st.integers(0, 9), max_size=200), st.integers(1, 50))
def test_long_chunks_are_cut_into_even_pieces(ids: list[int], limit: int) -> None:
    pieces = split_long(ids, limit)
    assert [token for piece in pieces for token in piece] == ids
    sizes = [len(piece) for piece in pieces]
    assert all(1 <= size <= limit for size in sizes)
    assert not sizes or max(sizes) - min(sizes) <= 1
    assert len(pieces) == (len(ids) + limit - 1) // limit


def test_a_limit_below_one_token_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 token"):
        split_long([1], 0)
