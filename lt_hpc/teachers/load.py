"""One place that turns the `teacher` section into a teacher, importing only that one."""

from __future__ import annotations

import os
from typing import Any, assert_never

from lt_hpc.config import prompts
from lt_hpc.config.schema import Config, ModelConfig, TeacherConfig
from lt_hpc.data import base_model
from lt_hpc.errors import ConfigError
from lt_hpc.teachers.protocol import Teacher


def identity(settings: TeacherConfig) -> dict[str, Any] | None:
    """What the teacher's answers depend on beside its settings: prompt and, run here, weights. None where the
    documents have their thoughts.

    Raises:
        ConfigError: naming the field.
    """
    if settings.kind == "corpus":
        return None
    if settings.model is None:
        raise ConfigError(f"teacher.model: teacher.kind={settings.kind} needs it")
    found: dict[str, Any] = {"prompt": prompts.digest(prompts.read(settings.prompt))}
    if settings.kind == "local":
        model = ModelConfig(path=settings.model)
        if isinstance(base_model.resolve(model), str):
            raise ConfigError(f"teacher.model={settings.model!r}: give a folder, downloaded before")
        found["model"] = base_model.identity(model)
    return found


def missing_key(settings: TeacherConfig) -> str | None:
    """What an endpoint will ask for and the environment has not, or None."""
    if settings.kind != "openai" or os.environ.get(settings.api_key_name):
        return None
    return (
        f"teacher.api_key_name={settings.api_key_name!r}: the environment has no such variable; "
        "export it with the key (for a server that takes none: with any word)"
    )


def load(config: Config) -> Teacher:
    """The configured teacher.

    Raises:
        ConfigError: when a package, the key or the model for it is missing.
    """
    kind = config.teacher.kind
    match kind:
        case "corpus":
            raise AssertionError("the thoughts are in the corpus")
        case "openai":
            try:
                from lt_hpc.teachers.openai_teacher import OpenAITeacher
            except ImportError as error:
                raise ConfigError(
                    f"teacher.kind=openai: needs the openai package; bash tools/setup.sh teacher ({error})"
                ) from error
            missing = missing_key(config.teacher)
            if missing:
                raise ConfigError(missing)
            return OpenAITeacher(config.teacher)
        case "local":
            from lt_hpc.teachers.local_teacher import LocalTeacher

            return LocalTeacher(config)
        case _:
            assert_never(kind)
