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
        ("1/2", "0.5", True),
        ("-3/4", "-.75", True),
        ("1/0", "1", False),
        ("1/3", "0.33", False),
    ],
)
def test_numbers_compare_as_numbers_and_text_as_text(answer: str, expected: str, same: bool) -> None:
    assert answers.same(answer, expected) is same


WORKED = [
    # as GSM8K and models that were trained on it write
    ("#### 18", "18", True),
    ("#### 18", "#### 18.0", True),
    ("She eats 3 and bakes 4, so 16 - 3 - 4 = 9 eggs.\nShe makes 9 * 2 = $18.\n#### 18", "#### 18", True),
    ("First 7.\n#### 8\nNo, I was wrong.\n#### 9", "9", True),
    ("####18", "18", True),
    ("#### 1,234", "1234", True),
    ("#### $5.50", "5.5", True),
    ("#### -3", "\u22123", True),
    ("#### 50%", "50", True),
    ("#### 3 apples", "3", True),
    ("#### 18", "19", False),
    ("#### 18\n#### 19", "18", False),
    ("18", "#### 18", True),
    ("the total is 18", "#### 18", False),
    ("16 - 3 - 4 = 9", "#### 9", False),
    # as chains of thought end
    ("The answer is 18.", "18", True),
    ("So the answer is 18 dollars.", "18", True),
    ("The answer is $18.50.", "18.5", True),
    ("The answer is: 3.5", "3.5", True),
    ("the answer is 1,000,000. Done.", "1000000", True),
    ("THE ANSWER IS 4!", "4", True),
    ("Answer: 12", "12", True),
    ("**Answer:** 12", "12", True),
    ("answer = 7", "7", True),
    ("The answer is 18. Wait, the answer is 17.", "17", True),
    ("The answer is 18. Wait, the answer is 17.", "18", False),
    ("The answer is unknown", "5", False),
    ("The answer is 18.", "8", False),
    ("The answer is 12.5.", "12", False),
    ("The answers vary. 18", "18", False),
    ("The answer is Tuesday.", "Tuesday", True),
    ("The answer is (B).", "(B)", True),
    ("The answer is B.", "C", False),
    # as MATH writes
    (r"so \boxed{18}", "18", True),
    (r"\boxed{\frac{3}{4}}", "0.75", True),
    (r"\boxed{-\dfrac{1}{2}}", "-1/2", True),
    (r"The final answer is: $\boxed{\frac{3}{4}}$.", "3/4", True),
    (r"\fbox{7}", "7", True),
    (r"\boxed{1} and then \boxed{2}", "2", True),
    (r"\boxed{1} and then \boxed{2}", "1", False),
    (r"\boxed{x^{2}+1}", "$x^{2} + 1$", True),
    (r"\boxed{\left( 1, 2 \right)}", r"\boxed{(1,2)}", True),
    (r"\boxed{\text{Tuesday}}", "Tuesday", True),
    (r"\boxed{\mathrm{east}}", r"\text{east}", True),
    (r"\boxed{\tfrac12}", r"\frac{1}{2}", True),
    (r"\boxed{\sqrt{2}}", r"\sqrt{3}", False),
    (r"\boxed{\$5}", "5", True),
    (r"\boxed{25\%}", "25", True),
    (r"\boxed{2", "2", False),
    (r"\boxed{}", "", True),
    (r"\frac{1}{2}", r"\dfrac{1}{2}", True),
    (r"\frac{1}{2}", r"\frac{2}{4}", True),
    (r"\frac{1}{0}", "1", False),
    (r"\frac{a}{b}", r"\frac{b}{a}", False),
    # nothing is guessed from numbers that merely stand there
    ("She has 18 eggs", "18", False),
    ("18 eggs and 3 hens", "3", False),
    ("#### about 20 or 30", "20", False),
    ("Her answer was 5", "5", False),
    ("no answer", "#### 0", False),
    ("", "#### 0", False),
]


@pytest.mark.parametrize(("answer", "expected", "same"), WORKED)
def test_worked_solutions_are_judged_by_what_they_say_in_the_end(
    answer: str, expected: str, same: bool
) -> None:
    assert answers.same(answer, expected) is same
    assert answers.same(expected, answer) is same


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
