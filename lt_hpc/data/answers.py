"""When two answers are the same: as numbers where both are numbers, else as text."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation


def _number(text: str) -> Decimal | None:
    try:
        value = Decimal(text.replace(",", "").replace("$", "").rstrip("."))
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def same(given: str, expected: str) -> bool:
    """True for equal numbers ("1,200" and "1200.0") and for equal text apart from white space."""
    given, expected = " ".join(given.split()), " ".join(expected.split())
    left, right = _number(given), _number(expected)
    return left == right if left is not None and right is not None else given == expected
