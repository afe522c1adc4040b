"""When an answer counts as right."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.data import answers


@pytest.mark.parametrize(
    ("answer", "expected", "same"),
    [
        (" 324", "324", True),
        ("1,200", "1200.0", True),
        ("$35.", "35", True),
        ("= 11", "=  11", True),
        ("= 11", "= 12", False),
        ("", "0", False),
        ("nan", "NaN", False),
        ("324 324", "324", False),
        ("324324", "324", False),
        ("-5", "5", False),
        ("-5.0", "-5", True),
        (".5", "0.50", True),
        ("$1,234,567.00", "1234567", True),
        ("12 apples", "12", False),
        ("a  b\n", " a b", True),
        ("A", "a", False),
        ("", "", True),
        ("Infinity", "inf", False),
        ("1e99999999999999999999", "1", False),
        ("0.1", "0.10000000000000001", False),
        ("1,2", "12", False),
        ("3$5", "35", False),
        ("1_000", "1000", False),
        (".", "0", False),
        ("$", "0", False),
    ],
)
def test_numbers_compare_as_numbers_and_text_as_text(answer: str, expected: str, same: bool) -> None:
    assert answers.same(answer, expected) is same


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=4))
def test_thousands_marks_and_trailing_zeros_do_not_matter(number: Decimal) -> None:
    plain = f"{number:f}"
    for text in (f"{number:,f}", f"{plain}00", f"  {plain} ", f"{plain}."):
        assert answers.same(text, plain) and answers.same(plain, text)
    assert not answers.same(f"{number + 1:f}", plain)


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_two_texts_compare_and_in_either_direction_alike(left: str, right: str) -> None:
    assert answers.same(left, left)
    assert answers.same(left, right) == answers.same(right, left)
