"""YAML in which every scalar is the text that was written, or null; numbers come of the field's type."""

from __future__ import annotations

import re
from typing import Any

import yaml

from lt_hpc.config.secrets import masked
from lt_hpc.errors import ConfigError

MOST_VALUES = 100_000
"""Of one file: aliases of aliases make many out of few."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML 1.1 takes `on`, `30:00` and `0012345` for a boolean and for numbers of other bases."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (as in the class above)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:null":
                raise yaml.constructor.ConstructorError(None, None, "a name must be text", key.start_mark)
            if names.count(key.value) > 1:
                problem = f"{key.value!r} stands there twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
        return dict(super().construct_mapping(node, deep=deep))


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile("^(~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile("^<<$"), ["<"])


def parse(text: str, origin: str) -> Any:
    """A document: None, text, lists and mappings of these.

    Raises:
        ConfigError: naming the origin, and the line where there is one.
    """
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ConfigError(f"{origin}: not YAML: {line}{error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{origin}: not YAML: {str(error).partition(chr(10))[0]}") from error
    if _exceeds(value, MOST_VALUES):
        raise ConfigError(f"{origin}: more than {MOST_VALUES} values")
    return value


def parse_override(override: str) -> tuple[list[str], Any]:
    """`a.b=VALUE` as the names and the value. A list or mapping in brackets and a text in quotes are YAML;
    any other value is the characters after the =.

    Raises:
        ConfigError: when it has another form.
    """
    key, separator, value = override.partition("=")
    names = key.split(".")
    if not separator or not all(names):
        raise ConfigError(
            f"override {masked(override)[:80]!r}: write it as key=value, for example seed=1; a run folder is "
            "given by --run-dir"
        )
    if value[:1] in {"[", "{", '"', "'"} or value in {"~", "null", "Null", "NULL"}:
        return names, parse(value, f"override {masked(override)[:80]!r}")
    return names, value


def _exceeds(value: Any, most: int) -> bool:
    """Whether a value has more parts than that, each counted as often as it is met."""
    waiting, count = [value], 0
    while waiting and count <= most:
        count += 1
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, (list, set, tuple)):
            waiting += one
    return count > most
