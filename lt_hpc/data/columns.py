"""Cells of rows by the names of their columns, and what columns hold.

`chunks.suffix` is the field `suffix` in the structs of the column `chunks`: of
{"chunks": [{"suffix": "a", "latent": "b"}, {"suffix": "c", "latent": "d"}]} the list ["a", "c"]. A column
that has a dot in its own name comes first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from lt_hpc.errors import ConfigError

NULL = "NoneType"
"""What a column holds that has only nulls so far."""


def outer(column: str, existing: Collection[str]) -> str:
    """The column of a row that has `column`, itself or as a field of its structs."""
    return column if column in existing else column.partition(".")[0]


def require(columns: Iterable[str], existing: list[str], place: str) -> list[str]:
    """The columns of a row that have these.

    Raises:
        ConfigError: naming the first that no column has.
    """
    found = {column: outer(column, existing) for column in columns}
    for column, top in found.items():
        if top not in existing:
            raise ConfigError(f"{place}: no column {column!r}; it has: {', '.join(existing)}")
    return list(dict.fromkeys(found.values()))


def is_nested(row: Mapping[str, Any], column: str) -> bool:
    """Whether a name means a field of structs in this row."""
    top = outer(column, row)
    return top != column and top in row


def cell(row: Mapping[str, Any], column: str, place: str) -> Any:
    """What a row has under a name; None where it has nothing. From structs come a text, or texts as a list.

    Raises:
        ConfigError: naming the place and the part of a struct that is missing or no text.
    """
    if not is_nested(row, column):
        return row.get(column)
    top, _, field = column.partition(".")
    value = row[top]
    if isinstance(value, list):
        return [_text_in(one, field, f"{top}[{number}]", place) for number, one in enumerate(value)]
    if isinstance(value, Mapping) and isinstance(value.get(field), list):  # as datasets reads its Sequence
        texts = value[field]
        return [_text(one, f"{column}[{number}]", place) for number, one in enumerate(texts)]
    if isinstance(value, Mapping):
        return _text_in(value, field, top, place)
    raise ConfigError(f"{place}: field {top!r} is {_kind(value)}, expected a list of objects with {field!r}")


def _text_in(value: Any, field: str, name: str, place: str) -> str:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{place}: field {name!r} is {_kind(value)}, expected an object with {field!r}")
    if field not in value:
        has = ", ".join(map(str, value)) or "nothing"
        raise ConfigError(f"{place}: field {name!r} has no {field!r}; it has: {has}")
    return _text(value[field], f"{name}.{field}", place)


def _text(value: Any, name: str, place: str) -> str:
    if isinstance(value, str):
        return value
    raise ConfigError(f"{place}: field {name!r} is {_kind(value)}, expected a string")


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__


def of_json(column: str, value: Any) -> Iterator[tuple[str, str]]:
    """What a column and, under dotted names, the fields of its structs hold in one row of JSON."""
    if not isinstance(value, list):
        yield column, type(value).__name__
        for field, inner in value.items() if isinstance(value, dict) else ():
            yield f"{column}.{field}", _of_list(inner) if isinstance(inner, list) else type(inner).__name__
        return
    yield column, _of_list(value)
    for one in value:
        for field, inner in one.items() if isinstance(one, dict) else ():
            yield f"{column}.{field}", NULL if inner is None else _of_list([inner])


def _of_list(values: list[Any]) -> str:
    kinds = {type(value).__name__ for value in values} - {NULL}
    return "list" if kinds <= {"str"} else f"list of {min(kinds - {'str'})}"


def of_arrow(field: Any) -> Iterator[tuple[str, str]]:
    """What a column of Arrow, and the fields of its structs hold."""
    import pyarrow

    yield field.name, str(field.type)
    inner = getattr(field.type, "value_type", field.type)
    if pyarrow.types.is_struct(inner):
        for one in inner:
            kind = str(one.type) if inner is field.type else f"list<element: {one.type}>"
            yield f"{field.name}.{one.name}", kind


def of_feature(name: str, feature: Any) -> Iterator[tuple[str, str]]:
    """What a column of the datasets library, and the fields of its structs hold, from its description in
    JSON: a list of one, as before version 4, a list with a `feature`, a struct, or a value."""
    inner, is_list = feature, False
    if isinstance(feature, list):
        inner, is_list = (feature or [None])[0], True
    elif isinstance(feature, dict) and "feature" in feature:
        inner, is_list = feature["feature"], True
    if not isinstance(inner, dict):
        if is_list:
            yield name, "List"
        return
    if isinstance(inner.get("_type"), str):
        yield name, _of_feature(inner, is_list)
        return
    yield name, "List of structs" if is_list else "struct"
    for field, one in inner.items():
        for dotted, kind in of_feature(f"{name}.{field}", one):
            yield dotted, _in_list(kind) if is_list else kind


def _of_feature(value: dict[str, Any], is_list: bool) -> str:
    kind = str(value.get("dtype", value.get("_type")))
    return _in_list(kind) if is_list else kind


def _in_list(kind: str) -> str:
    return "List" if kind in ("string", "large_string") else f"List of {kind}"
