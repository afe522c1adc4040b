"""Writes docs/configuration.md from lt_hpc/config/schema.py; --check only says whether it differs."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from lt_hpc.config.fields import Setting, declared, section_of
from lt_hpc.config.schema import Config

FILE = Path(__file__).parents[1] / "docs" / "configuration.md"
HEAD = """# Configuration

Written by `python tools/config_reference.py` from
[lt_hpc/config/schema.py](../lt_hpc/config/schema.py) and machines.py beside it; edit these. A run
reads one YAML file, then a site profile, then `key=value` overrides; later ones win, and a field
that none of them names has its default. *In fingerprints*: another value changes the result, so
that what depends on it is made again. A field that is not in them says how or where something runs.

Text stays what was typed, in files as in overrides: `007`, `30:00` and `on` are no numbers or booleans
where a field is text. Numbers are decimal, booleans `true` or `false`; `null` is none, and quoted it is
text. Interpolations are OmegaConf's: `${seed}`, `${oc.env:USER}`; a shell's own `${HOME}` is written
`\\${HOME}`. What looks like a secret is refused: a run keeps its settings where others read them.
"""
COLUMNS = ("field", "type or values", "default", "bounds", "in fingerprints", "meaning")


def _sections(cls: Any, names: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, dataclass) of a section and of all below it."""
    yield names, cls
    for item in dataclasses.fields(cls):
        if section_of(item):
            yield from _sections(section_of(item), f"{names}.{item.name}".lstrip("."))


def _type(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(hint))
    if get_origin(hint) is types.UnionType:
        return " or ".join(_type(part) for part in get_args(hint))
    if origin := get_origin(hint):
        return f"{origin.__name__} of {' to '.join(_type(part) for part in get_args(hint))}"
    return "null" if hint is type(None) else str(hint.__name__)


def _default(item: dataclasses.Field[Any]) -> str:
    value = item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
    text: str = yaml.safe_dump(value, default_flow_style=True)
    return text.removesuffix("...\n").strip()


def _in_fingerprints(setting: Setting) -> str:
    if setting.execution:
        return "no"
    limits = [f"with `engine={setting.engine}`"] if setting.engine else []
    limits += ["unless it is the default"] if setting.neutral else []
    return " ".join(limits) or "yes"


def _row(item: dataclasses.Field[Any], hint: Any) -> tuple[str, ...]:
    setting, kind, default = declared(item), "section", ""
    meaning = f"{setting.doc} (earlier name: `{setting.was}`)" if setting.was else setting.doc
    if not section_of(item):
        kind, default = _type(hint), f"`{_default(item)}`"
    return f"`{item.name}`", kind, default, setting.bound, _in_fingerprints(setting), meaning


def reference(tree: Any = Config) -> str:
    """The page: a table per dataclass, under the names of all sections that are of it."""
    names: dict[Any, list[str]] = {}
    for name, cls in _sections(tree):
        names.setdefault(cls, []).append(name)
    parts = [HEAD]
    for cls, found in names.items():
        title = ", ".join(f"`{name}`" for name in found) if found != [""] else "The top level"
        hints = get_type_hints(cls)
        rows = [_row(item, hints[item.name]) for item in dataclasses.fields(cls)]
        lines = [COLUMNS, ("---",) * len(COLUMNS), *rows]
        intro = textwrap.fill(inspect.getdoc(cls) or "", 100)
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        parts.append(f"## {title}\n\n{intro}\n\n{table}\n")
    return "\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 when it differs")
    parser.add_argument("file", nargs="?", type=Path, default=FILE)
    options = parser.parse_args()
    if not options.check:
        options.file.write_text(reference())
    elif options.file.read_text() != reference():
        print(f"{options.file}: differs from the schema; python tools/config_reference.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
