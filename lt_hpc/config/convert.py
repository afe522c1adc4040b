"""Texts, and values that have a type already, as the fields of the typed tree. Pure.

What a user typed stays what it is where a field is text; elsewhere it becomes a number or a boolean, or
is refused.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from functools import cache
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from lt_hpc.config.secrets import masked
from lt_hpc.errors import did_you_mean

LONGEST_TEXT = 4096
LARGEST_INTEGER = 10**15
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_NUMBER = re.compile(r"[-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?")
_NO_NUMBERS = {"nan", "inf", "+inf", "-inf", ".nan", ".inf", "+.inf", "-.inf"}
"""Numbers to Python and YAML; the bounds of a field refuse them with a better reason."""


class WrongValueError(Exception):
    """A value that a field can't have. `field`: its dotted name; `unknown`: there is no such field."""

    def __init__(self, field: str, message: str, unknown: bool = False) -> None:
        super().__init__(message)
        self.field, self.unknown = field, unknown


def shown(value: Any) -> str:
    """A value in a message, on one line, cut and without secrets."""
    text = masked(value if isinstance(value, str) else repr(value))
    text = text if len(text) <= 80 else f"{text[:77]}..."
    return repr(text) if isinstance(value, str) else text


def typed(section: Any, values: Any, name: str = "") -> Any:
    """An object of a section from its values; fields that are not named have their defaults.

    Raises:
        WrongValueError: for the first one that does not fit.
    """
    if not isinstance(values, Mapping):
        fields = ", ".join(_hints(section))
        raise WrongValueError(name, f"{name}={shown(values)}: must be a mapping with some of {fields}")
    prefix = f"{name}." if name else ""
    hints = _hints(section)
    for key in values:
        if key not in hints:
            where = f"{name!r}" if name else "the top level"
            raise WrongValueError(
                f"{prefix}{key}",
                f"no field {shown(f'{prefix}{key}')}; {where} has: {', '.join(hints)}",
                unknown=True,
            )
    return section(**{key: _value(hints[key], value, f"{prefix}{key}") for key, value in values.items()})


@cache
def _hints(section: Any) -> dict[str, Any]:
    """Field -> its type."""
    hints = get_type_hints(section)
    return {item.name: hints[item.name] for item in dataclasses.fields(section)}


def _value(hint: Any, value: Any, name: str, lines: bool = False) -> Any:
    """`lines`: a text may have more than one."""
    kind, arguments = get_origin(hint), get_args(hint)
    if NoneType in arguments:
        (inner,) = (one for one in arguments if one is not NoneType)
        return None if value is None or value == "" else _value(inner, value, name)
    if dataclasses.is_dataclass(hint):
        return typed(hint, value, name)
    if kind is Literal:
        if value not in arguments:
            near = did_you_mean(str(value), arguments)
            raise WrongValueError(name, f"{name}={shown(value)}: choose one of {', '.join(arguments)}{near}")
        return value
    if kind is list:
        if not isinstance(value, list):
            raise WrongValueError(name, f"{name}={shown(value)}: must be a list, as [a, b]")
        return [_value(arguments[0], one, f"{name}[{n}]", lines=True) for n, one in enumerate(value)]
    if kind is dict:
        if not isinstance(value, Mapping):
            raise WrongValueError(name, f"{name}={shown(value)}: must be a mapping, as {{a: b}}")
        return {_text(key, name): _value(arguments[1], one, f"{name}.{key}") for key, one in value.items()}
    if value is None:
        raise WrongValueError(name, f"{name}=null: {_WORDS[hint]}")
    if hint is str:
        return _text(value, name, lines)
    converted = _CONVERSIONS[hint](value)
    if converted is None:
        raise WrongValueError(name, f"{name}={shown(value)}: {_WORDS[hint]}")
    return converted


def _text(value: Any, name: str, lines: bool = False) -> str:
    if not isinstance(value, str):
        raise WrongValueError(name, f"{name}={shown(value)}: {_WORDS[str]}")
    if len(value) > LONGEST_TEXT:
        raise WrongValueError(name, f"{name}={shown(value)}: at most {LONGEST_TEXT} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise WrongValueError(name, f"{name}={shown(value)}: not UTF-8") from None
    if any(ord(letter) < 32 and not (lines and letter in "\n\t") for letter in value):
        raise WrongValueError(name, f"{name}={shown(value)}: no control characters or line breaks")
    return value


def _boolean(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    words = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
    return words.get(value) if isinstance(value, str) else None


def _integer(value: Any) -> int | None:
    if isinstance(value, str) and _INTEGER.fullmatch(value) and len(value) < 40:
        value = int(value)
    good = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST_INTEGER
    return value if good else None


def _number(value: Any) -> float | None:
    if isinstance(value, str) and len(value) < 40 and (_NUMBER.fullmatch(value) or value in _NO_NUMBERS):
        return float(value.replace(".inf", "inf").replace(".nan", "nan"))
    good = isinstance(value, float) or _integer(value) is not None
    return float(value) if good else None


_CONVERSIONS: dict[Any, Any] = {bool: _boolean, int: _integer, float: _number}
_WORDS = {
    bool: "must be true or false",
    int: f"must be an integer, in decimal digits, at most {LARGEST_INTEGER:.0e}",
    float: "must be a number, as 0.5 or 1e-4",
    str: "must be text; put it in quotes",
}
