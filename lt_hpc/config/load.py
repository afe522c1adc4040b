"""From YAML files, a site profile and dotted overrides to a checked configuration.

`load_config(file, overrides)` merges defaults < file < overrides and checks every field, so that
a wrong value is refused with the dotted field and the valid choices before any work. A field that
was renamed may be called by its earlier name in any of them.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path
from typing import Any

from lt_hpc.config.checks import check
from lt_hpc.config.convert import WrongValueError, shown, typed
from lt_hpc.config.fields import declared, section_of, walk
from lt_hpc.config.schema import Config
from lt_hpc.config.text import parse, parse_override
from lt_hpc.errors import ConfigError, did_you_mean


def demo_file() -> Path:
    """configs/demo.yaml."""
    return shipped(Path("demo.yaml"))


def shipped(name: Path) -> Path:
    """A file or folder of configs/, in a checkout or inside the installed package."""
    package = Path(__file__).parents[1]
    inside = package / "configs" / name
    return inside if inside.exists() else package.parent / "configs" / name


def load_config(
    file: Path | str | None,
    overrides: list[str] | None = None,
    profile: Path | None = None,
    base: Config | None = None,
) -> Config:
    """The checked configuration: `base` (default: the defaults) < YAML `file` < site `profile` < `key=value`
    overrides, with OmegaConf's interpolations, as ${seed} or ${oc.env:USER}, in any of them but `base`.

    Raises:
        ConfigError: naming the file or dotted field and what would be valid.
    """
    sources = [
        (str(path), _read_file(option, Path(path)))
        for option, path in (("--config", file), ("--profile", profile))
        if path is not None
    ]
    sources += [
        (f"override {shown(override)}", _nested(*parse_override(override))) for override in overrides or []
    ]
    origins: dict[str, str] = {}
    parts = [_known(values, Config, "", origin, origins) for origin, values in sources]
    return _checked(_merged([_literal(dataclasses.asdict(base or Config())), *parts]), origins)


def beaten(file: Path, profile: Path) -> list[str]:
    """Fields that a file and a profile set to different values, of which the profile's counts; with both."""
    mine, site = (
        _leaves(_known(_read_file(option, path), Config, "", str(path), {}))
        for option, path in (("--config", file), ("--profile", profile))
    )
    return [
        f"{name}={shown(site[name])} (not {shown(mine[name])})"
        for name in site
        if name in mine and site[name] != mine[name]
    ]


def _leaves(values: Any, parent: str = "") -> dict[str, Any]:
    """Dotted name -> value."""
    if not isinstance(values, dict):
        return {parent: values}
    inner = [_leaves(value, f"{parent}.{name}" if parent else str(name)) for name, value in values.items()]
    return {name: value for one in inner for name, value in one.items()}


def config_from_dict(values: dict[str, Any]) -> Config:
    """The tree back from `dataclasses.asdict`, checked again.

    Raises:
        ConfigError: when another version of lt_hpc, with other fields, wrote it.
    """
    return _checked(_known(values, Config, "", "the pinned plan", {}), {})


def config_to_yaml(config: Config) -> str:
    """The resolved tree, as `load_config` reads it back."""
    import yaml

    return str(yaml.safe_dump(_literal(dataclasses.asdict(config)), sort_keys=False, allow_unicode=True))


def _literal(value: Any) -> Any:
    """Without what OmegaConf would take for an interpolation."""
    if isinstance(value, dict):
        return {key: _literal(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_literal(one) for one in value]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value


def _checked(values: Any, origins: dict[str, str]) -> Config:
    """`origins`: dotted name -> the file that it comes from."""
    try:
        config = typed(Config, values)
    except WrongValueError as error:
        field = error.field.partition("[")[0]
        origin = origins.get(field) or origins.get(field.rpartition(".")[0])
        near = did_you_mean(error.field, _names()) if error.unknown else ""
        raise ConfigError(f"{f'{origin}: ' if origin else ''}{error}{near}") from error
    assert isinstance(config, Config)
    check(config)
    return config


def _names() -> list[str]:
    """Of all fields and sections."""
    fields = [name for name, _, _ in walk(Config())]
    return [*dict.fromkeys(name.rpartition(".")[0] for name in fields if "." in name), *fields]


def _nested(names: list[str], value: Any) -> Any:
    """a.b and 3 as {a: {b: 3}}."""
    for name in reversed(names):
        value = {name: value}
    return value


def _read_file(option: str, path: Path) -> dict[str, Any]:
    where = f"{option} {path}"
    try:
        if not path.is_file():
            raise ConfigError(f"{where}: no such file{_nearest(path)}")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # also bytes that are not UTF-8, and NUL in a path
        raise ConfigError(f"{where}: cannot be read as text: {error}") from error
    values = parse(text, where)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: expected a mapping of sections at the top")
    return values


def _nearest(path: Path) -> str:
    """The file beside it, or the configuration that is shipped, whose name is nearest."""
    files = [*path.parent.glob("*.yaml"), *shipped(Path()).glob("*.yaml")]
    near = did_you_mean(path.stem, {file.stem for file in files})
    return next((near.replace(file.stem, str(file)) for file in files if f" {file.stem}?" in near), "")


def _merged(parts: list[dict[str, Any]]) -> Any:
    """One over the other, with interpolations resolved."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        tree = OmegaConf.create(functools.reduce(_over, parts))
        return OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        lines = str(error).strip().splitlines()
        where = f"{error.full_key}: " if error.full_key else ""
        advice = "; a text with ${ in it is written \\\\${" if "nterpolation" in lines[0] else ""
        raise ConfigError(f"config: {where}{lines[0]}{advice}") from error


def _over(base: Any, more: Any) -> Any:
    """`more` in place of `base`; of two mappings, name by name."""
    if not isinstance(base, dict) or not isinstance(more, dict):
        return more
    return {**base, **{key: _over(base.get(key), value) for key, value in more.items()}}


def _known(values: Any, section: Any, parent: str, origin: str, origins: dict[str, str]) -> Any:
    """The values of a section, those under names of earlier releases under today's; notes in `origins`
    from which file each is."""
    if not isinstance(values, dict):
        return values
    values = dict(values)
    for item in dataclasses.fields(section):
        was = declared(item).was
        if was is not None and was in values:
            if item.name in values:
                raise ConfigError(f"{origin}: {was} is an earlier name of {item.name}; give one of them")
            values[item.name] = values.pop(was)
        if item.name in values and section_of(item):
            inner = _known(values[item.name], section_of(item), f"{parent}{item.name}.", origin, origins)
            values[item.name] = inner
    for name in values:
        if origin.startswith("override"):  # which says it itself
            origins.pop(f"{parent}{name}", None)
        else:
            origins[f"{parent}{name}"] = origin
    return values
