"""What a plan has to know of its benchmarks, importing the harness only where there are some."""

from __future__ import annotations

from typing import Any

from lt_hpc.config.schema import Config
from lt_hpc.data import base_model
from lt_hpc.errors import ConfigError
from lt_hpc.latent.layout import MARKERS


def identity(config: Config) -> dict[str, Any] | None:
    """What answers depend on beside the settings. None where there are no benchmarks.

    Raises:
        ConfigError: naming the field, when a task can't be answered, or not by this model.
    """
    if not config.benchmark.tasks:
        if config.objective == "none":
            raise ConfigError("benchmark.tasks: objective=none needs some, as benchmark.tasks=[gsm8k]")
        return None
    found: dict[str, Any] = {}
    if config.objective == "none":
        found["markers"] = base_model.has_markers(config.model)
        if config.benchmark.thoughts and not found["markers"]:
            raise ConfigError(
                f"benchmark.thoughts=true: {config.model.path!r} has no markers {' '.join(MARKERS)}, as "
                "models trained here have; use benchmark.thoughts=false"
            )
    from lt_hpc.benchmarks import harness

    return {**harness.identity(config.benchmark), **found}
