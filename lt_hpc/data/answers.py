"""When two answers are the same: as numbers where both are numbers, else as text."""

from __future__ import annotations

import re
from decimal import Decimal

_NUMBER = re.compile(r"[-+]?\$?((\d{1,3}(,\d{3})+|\d+)(\.\d*)?|\.\d+)\.?", flags=re.ASCII)


def _number(text: str) -> Decimal | None:
    """A number with an optional dollar sign, and commas only between groups of three digits."""
    if not _NUMBER.fullmatch(text):
        return None
    return Decimal(text.replace(",", "").replace("$", "").rstrip("."))


def same(given: str, expected: str) -> bool:
    """True for equal numbers ("1,200" and "1200.0") and for equal text apart from white space."""
    given, expected = " ".join(given.split()), " ".join(expected.split())
    left, right = _number(given), _number(expected)
    return left == right if left is not None and right is not None else given == expected
