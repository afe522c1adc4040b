"""What of a configuration decides a result: the part of it that enters fingerprints."""

from __future__ import annotations

import dataclasses
from typing import Any


def identity_of(section: Any) -> dict[str, Any]:
    """The fields of a section (a dataclass) that decide what a result is."""
    values: dict[str, Any] = {}
    for item in dataclasses.fields(section):
        if item.metadata.get("execution"):
            continue
        value = getattr(section, item.name)
        values[item.name] = identity_of(value) if dataclasses.is_dataclass(value) else value
    return values
