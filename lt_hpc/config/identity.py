"""What of a configuration decides a result: the part of it that enters fingerprints.

A later release keeps the results of an earlier one when it declares what it changes: a new field
is `neutral`, a renamed one has a `was` (see lt_hpc.config.fields).
"""

from __future__ import annotations

import dataclasses
from typing import Any

from lt_hpc.config.fields import declared, section_of


def identity_of(section: Any) -> dict[str, Any]:
    """The fields of a section (a dataclass) that decide what a result is, under their first names."""
    values: dict[str, Any] = {}
    for item in dataclasses.fields(section):
        found = declared(item)
        if found.execution or found.engine not in (None, getattr(section, "engine", None)):
            continue
        value = _value(item, getattr(section, item.name))
        if not (found.neutral and value == _value(item, _default(item))):
            values[found.was or item.name] = value
    return values


def _value(item: dataclasses.Field[Any], value: Any) -> Any:
    return identity_of(value) if section_of(item) else value


def _default(item: dataclasses.Field[Any]) -> Any:
    return item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
