"""What an experiment is: a YAML file with its question, its arms and what of them is compared.

An arm is a list of the overrides that `lt-hpc launch` takes, over the configuration of a size; what an
override may say is checked when the arms are planned, by the loader of every configuration.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lt_hpc.config.convert import shown
from lt_hpc.config.load import shipped
from lt_hpc.config.text import parse, parse_override
from lt_hpc.errors import ConfigError, did_you_mean
from lt_hpc.report import columns
from lt_hpc.store.figures import PerChunk, PerMeasure

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
HELD_OUT = [one.name for one in fields(PerMeasure) if one.name != "bound_by_k"]
MEASURES = [*HELD_OUT, *(one.name for one in fields(PerChunk))]
"""Of held-out chunks, and of the weights of the last E-step."""
PAIRED = tuple(columns.CHANGES.values())
"""Those that two models are compared by, chunk by chunk."""
SCORE = re.compile(r"[^.]+\..+")
"""TASK.METRIC or TASK.METRIC.FILTER: a score in a benchmark. No name in MEASURES has a dot."""


@dataclass(frozen=True)
class Arm:
    """One way of training: overrides, and EM iterations after the warm start."""

    name: str
    overrides: tuple[str, ...]
    iterations: int


@dataclass(frozen=True)
class Definition:
    """An experiment at one size.

    Attributes:
        config: the file of the ordinary configuration that every arm starts from.
        overrides: of all arms.
        pairs: (first, second): the last model of one arm less that of another.
        measures: names in `MEASURES`, and of scores.
        by_iteration: arms that are also shown iteration by iteration.
    """

    name: str
    size: str
    title: str
    question: str
    config: Path
    overrides: tuple[str, ...]
    arms: dict[str, Arm]
    pairs: tuple[tuple[str, str], ...]
    measures: tuple[str, ...]
    by_iteration: tuple[str, ...]
    seeds: tuple[int, ...]


def names() -> list[str]:
    """The experiments that are shipped."""
    return sorted(path.stem for path in shipped(Path("experiments")).glob("*.yaml"))


def read(name: str, size: str | None, arms: Sequence[str] | None) -> Definition:
    """The experiment NAME of configs/experiments, or in a YAML file, at a size (default: its first), with
    some of its arms (default: all).

    Raises:
        ConfigError: naming the entry of the file, or the argument, and what would be valid.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        if name not in names():
            raise ConfigError(
                f"experiment {shown(name)}: choose one of {', '.join(names())}, or a .yaml file"
                f"{did_you_mean(name, names())}"
            )
        path = shipped(Path("experiments") / f"{name}.yaml")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ConfigError(f"experiment {path}: cannot be read as text: {error}") from error
    where = str(path)
    needed = ("title", "question", "seeds", "measures", "sizes")
    raw = _mapping(parse(text, where), where, needed, ("pairs", "by_iteration"))
    sizes = _mapping(raw["sizes"], f"{where}: sizes")
    size = next(iter(sizes)) if size is None else _one_of(size, sizes, "--size")
    at = f"{where}: sizes.{size}"
    sized = _mapping(sizes[size], at, ("config", "iterations", "arms"), ("overrides",))
    everything = _arms(sized["arms"], f"{at}.arms", _whole(sized["iterations"], f"{at}.iterations"))
    taken = [_one_of(arm, everything, "--arms") for arm in arms] if arms else list(everything)
    return Definition(
        name=path.stem,
        size=_name(size, at),
        title=_text(raw["title"], f"{where}: title"),
        question=_text(raw["question"], f"{where}: question"),
        config=path.parent / _text(sized["config"], f"{at}.config"),
        overrides=_overrides(sized.get("overrides"), f"{at}.overrides"),
        arms={arm: everything[arm] for arm in everything if arm in taken},
        pairs=_pairs(raw.get("pairs"), f"{where}: pairs", everything, taken),
        measures=_measures(raw["measures"], f"{where}: measures"),
        by_iteration=tuple(_list(raw.get("by_iteration"), f"{where}: by_iteration", everything)),
        seeds=tuple(_whole(seed, f"{where}: seeds") for seed in _list(raw["seeds"], f"{where}: seeds")),
    )


def _arms(raw: Any, where: str, iterations: int) -> dict[str, Arm]:
    """An arm is its overrides, or has `overrides` and `iterations` of its own."""
    found = {}
    for name, value in _mapping(raw, where).items():
        at = f"{where}.{_name(name, where)}"
        value = value if isinstance(value, dict) else {"overrides": value}
        value = _mapping(value, at, (), ("overrides", "iterations"))
        own = _whole(value["iterations"], f"{at}.iterations") if "iterations" in value else iterations
        found[name] = Arm(name, _overrides(value.get("overrides"), f"{at}.overrides"), own)
    return found


def _measures(raw: Any, where: str) -> tuple[str, ...]:
    """Whether an arm has the task of a score is known once the arms are planned."""
    for one in (found := _list(raw, where)):
        if not is_score(one) and one not in MEASURES:
            raise ConfigError(
                f"{where}: no {shown(one)}; choose from {', '.join(MEASURES)}, or TASK.METRIC of a benchmark"
                f"{did_you_mean(str(one), MEASURES)}"
            )
    return tuple(found)


def is_score(measure: Any) -> bool:
    """Whether a measure is a score in a benchmark."""
    return isinstance(measure, str) and SCORE.fullmatch(measure) is not None


def _pairs(
    raw: Any, where: str, arms: Collection[str], taken: Collection[str]
) -> tuple[tuple[str, str], ...]:
    """Those of which both arms are taken."""
    found = []
    for pair in _list(raw, where):
        if not isinstance(pair, list) or len(pair) != 2:
            raise ConfigError(f"{where}: {shown(pair)}: a pair is [first, second]")
        first, second = (_one_of(arm, arms, where) for arm in pair)
        if first in taken and second in taken:
            found.append((first, second))
    return tuple(found)


def _mapping(raw: Any, where: str, needed: Sequence[str] | None = None, others: Sequence[str] = ()) -> Any:
    """A mapping that is not empty, with these entries; any where none are named."""
    if not isinstance(raw, dict) or not (raw or needed == ()):
        raise ConfigError(f"{where}: must be a mapping, as {{a: b}}")
    if needed is None:
        return raw
    valid = (*needed, *others)
    for name in raw:
        _one_of(name, valid, where)
    for name in needed:
        if not raw.get(name):
            raise ConfigError(f"{where}: {name} is missing or empty; needed: {', '.join(needed)}")
    return raw


def _list(raw: Any, where: str, valid: Collection[str] | None = None) -> list[Any]:
    if raw is None:
        return []
    if not isinstance(raw, list):
        raise ConfigError(f"{where}: {shown(raw)}: must be a list, as [a, b]")
    return raw if valid is None else [_one_of(one, valid, where) for one in raw]


def _overrides(raw: Any, where: str) -> tuple[str, ...]:
    for one in (found := _list(raw, where)):
        try:
            parse_override(_text(one, where))
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
    return tuple(found)


def _one_of(value: Any, valid: Collection[str], where: str) -> str:
    if not isinstance(value, str) or value not in valid:
        near = did_you_mean(str(value), valid)
        raise ConfigError(f"{where}: no {shown(value)}; choose from {', '.join(valid)}{near}")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where}: {shown(value)}: must be text")
    return value


def _name(value: Any, where: str) -> str:
    """Of a folder."""
    if not NAME.fullmatch(_text(value, where)):
        raise ConfigError(f"{where}: {shown(value)}: a name has letters, digits, '.', '_' and '-'")
    return str(value)


def _whole(value: Any, where: str) -> int:
    if not isinstance(value, str) or not re.fullmatch(r"0|[1-9][0-9]{0,8}", value):
        raise ConfigError(f"{where}: {shown(value)}: must be a whole number of at least 0")
    return int(value)
