"""When an answer counts as right."""

from __future__ import annotations

import pytest

from lt_hpc.data import answers


@pytest.mark.parametrize(
    ("given", "expected", "same"),
    [
        (" 324", "324", True),
        ("1,200", "1200.0", True),
        ("$35.", "35", True),
        ("= 11", "=  11", True),
        ("= 11", "= 12", False),
        ("", "0", False),
        ("nan", "NaN", False),
        ("324 324", "324", False),
    ],
)
def test_numbers_compare_as_numbers_and_text_as_text(given: str, expected: str, same: bool) -> None:
    assert answers.same(given, expected) is same
