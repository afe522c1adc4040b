"""From YAML files, a site profile and dotted overrides to a checked configuration.

`load_config(file, overrides)` merges defaults < file < overrides and checks every field, so that
a wrong value is refused with the dotted field and the valid choices before any work. A field that
was renamed may be called by its earlier name in any of them.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from lt_hpc.config.checks import check
from lt_hpc.config.fields import declared, section_of
from lt_hpc.config.schema import Config
from lt_hpc.errors import ConfigError


def demo_file() -> Path:
    """configs/demo.yaml, in a checkout or inside the installed package."""
    package = Path(__file__).parents[1]
    inside = package / "configs" / "demo.yaml"
    return inside if inside.is_file() else package.parent / "configs" / "demo.yaml"


def load_config(
    file: Path | str | None, overrides: list[str] | None = None, profile: Path | None = None
) -> Config:
    """The checked configuration: defaults < YAML `file` < site `profile` < `key=value` overrides.

    Raises:
        ConfigError: naming the file or dotted field and what would be valid.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    tree = OmegaConf.structured(Config)
    try:
        if file is not None:
            tree = _merge(tree, _read_yaml(Path(file)), str(file))
        if profile is not None:
            tree = _merge(tree, _read_yaml(profile), str(profile))
        for override in overrides or []:
            tree = _merge(tree, _parse_override(override), f"override {override!r}")
    except OmegaConfBaseException as error:
        raise ConfigError(f"config: {_one_line(error)}") from error
    return _typed(tree)


def config_from_dict(values: dict[str, Any]) -> Config:
    """The tree back from `dataclasses.asdict`, checked again.

    Raises:
        ConfigError: when another version of lt_hpc, with other fields, wrote it.
    """
    from omegaconf import OmegaConf

    return _typed(_merge(OmegaConf.structured(Config), values, "the pinned plan"))


def _typed(tree: Any) -> Config:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        config = OmegaConf.to_object(tree)
    except OmegaConfBaseException as error:
        raise ConfigError(f"config: {_one_line(error)}") from error
    assert isinstance(config, Config)
    check(config)
    return config


def _parse_override(override: str) -> Any:
    import yaml
    from omegaconf import OmegaConf

    key, separator, value = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r}: write it as key=value, for example seed=1")
    if value == "???":  # OmegaConf's word for "no value": it would be passed over silently
        raise ConfigError(f"override {override!r}: {key} has no value")
    try:
        return OmegaConf.from_dotlist([override])
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: not YAML: {_one_line(error)}") from error


def _read_yaml(file: Path) -> Any:
    import yaml
    from omegaconf import DictConfig, OmegaConf

    if not file.is_file():
        raise ConfigError(f"--config {file}: no such file")
    try:
        tree = OmegaConf.load(file)
    except yaml.YAMLError as error:
        raise ConfigError(f"--config {file}: not YAML: {_one_line(error)}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {file}: cannot be read as YAML text: {_one_line(error)}") from error
    if not isinstance(tree, DictConfig):
        raise ConfigError(f"--config {file}: expected a mapping of sections at the top")
    return tree


def _merge(tree: Any, more: Any, origin: str) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

    plain = OmegaConf.to_container(more) if OmegaConf.is_config(more) else more
    try:
        return OmegaConf.merge(tree, _renamed(plain, Config, origin))
    except (ConfigKeyError, ConfigAttributeError) as error:
        full_key = str(error.full_key or error.key)
        parent = full_key.rpartition(".")[0]
        node = OmegaConf.select(tree, parent) if parent else tree
        valid = ", ".join(str(key) for key in node) if OmegaConf.is_dict(node) else "nothing"
        where = f"'{parent}'" if parent else "the top level"
        raise ConfigError(f"{origin}: no field {full_key!r}; {where} has: {valid}") from error
    except OmegaConfBaseException as error:
        problem = _one_line(error)
        closed_set = re.fullmatch(r"Invalid value ('.*'), expected one of \[(.*)\]", problem)
        if closed_set:
            choices = closed_set[2].replace("'", "")
            raise ConfigError(f"{error.full_key}={closed_set[1]}: choose one of {choices}") from error
        where = f"{error.full_key}: " if error.full_key else ""
        raise ConfigError(f"{origin}: {where}{problem}") from error


def _renamed(values: Any, section: Any, origin: str) -> Any:
    """The values of a section, those under names of earlier releases under today's."""
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
            values[item.name] = _renamed(values[item.name], section_of(item), origin)
    return values


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def config_to_yaml(config: Config) -> str:
    """The resolved tree, as `load_config` reads it back."""
    from omegaconf import OmegaConf

    return str(OmegaConf.to_yaml(OmegaConf.structured(config)))
