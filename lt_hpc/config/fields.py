"""What is declared of a field of the configuration, in one line beside its name, type and default.

Checks, fingerprints, old names and docs/configuration.md all read these declarations.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Setting:
    """The declaration of one field.

    Attributes:
        doc: its meaning, with the unit.
        ge, gt, le: the bounds of a number: at least, greater than, at most.
        execution: it says how or where something runs, never what a result is: no fingerprint has it.
        neutral: its default means "as before this field existed": fingerprints have other values alone.
        was: its name in earlier releases, which files may still use and fingerprints go on using.
        engine: the only `engine` of its section that reads it; fingerprints of others leave it out.
    """

    doc: str
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    execution: bool = False
    neutral: bool = False
    was: str | None = None
    engine: str | None = None

    @property
    def bound(self) -> str:
        """The bounds in words, empty where every value of the type is good."""
        words = {"at least": self.ge, "greater than": self.gt, "at most": self.le}
        return " and ".join(f"{word} {limit}" for word, limit in words.items() if limit is not None)

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value, or None; a null is always within the bounds."""
        if value is None or not self.bound:
            return None
        if not math.isfinite(value):
            return "must be a finite number"
        low = self.ge is None or value >= self.ge
        above = self.gt is None or value > self.gt
        high = self.le is None or value <= self.le
        return None if low and above and high else f"must be {self.bound}"


def setting(default: Any, doc: str, **declared: Any) -> Any:
    """A dataclass field with its `Setting`; a class as the default makes a new object each time."""
    kind = "default_factory" if isinstance(default, type) else "default"
    options: dict[str, Any] = {kind: default, "metadata": {"setting": Setting(doc, **declared)}}
    return dataclasses.field(**options)


def execution(default: Any, doc: str, **declared: Any) -> Any:
    """A `setting` that no result depends on."""
    return setting(default, doc, execution=True, **declared)


def declared(item: dataclasses.Field[Any]) -> Setting:
    """The `Setting` of a field."""
    found = item.metadata["setting"]
    assert isinstance(found, Setting)
    return found


def section_of(item: dataclasses.Field[Any]) -> Any:
    """The dataclass of a field that is a section, or None."""
    return item.default_factory if dataclasses.is_dataclass(item.default_factory) else None


def walk(section: Any, parent: str = "") -> Iterator[tuple[str, Setting, Any]]:
    """Every field below a section that is no section itself: dotted name, declaration, value."""
    for item in dataclasses.fields(section):
        name, value = f"{parent}{item.name}", getattr(section, item.name)
        if section_of(item):
            yield from walk(value, f"{name}.")
        else:
            yield name, declared(item), value
