"""What a plan has to know of its benchmarks, importing the harness only where there are some."""

from __future__ import annotations

from typing import Any

from lt_hpc.config.schema import Config
from lt_hpc.data import base_model
from lt_hpc.errors import ConfigError
from lt_hpc.latent.layout import MARKERS


def identity(config: Config) -> dict[str, Any] | None:
    """What answers depend on beside the settings; where nothing is trained, also what held-out measures do.
    None where a model is trained and there are no benchmarks.

    Raises:
        ConfigError: naming the field, when a task can't be answered, or not by this model; or when nothing is
            trained and nothing asked.
    """
    tasks, found = config.benchmark.tasks, dict[str, Any]()
    if config.objective == "none":
        if not tasks and not config.corpora:
            raise ConfigError(
                "benchmark.tasks, heldout.source: objective=none needs one of them, as "
                "benchmark.tasks=[gsm8k] or heldout.source=FILE heldout.text_column=text"
            )
        found["markers"] = base_model.has_markers(config.model)
        if tasks and config.benchmark.thoughts and not found["markers"]:
            raise ConfigError(
                f"benchmark.thoughts=true: {config.model.path!r} has no markers {' '.join(MARKERS)}, as "
                "models trained here have; use benchmark.thoughts=false"
            )
    if not tasks:
        return found or None
    from lt_hpc.benchmarks import harness

    return {**harness.identity(config.benchmark), **found}
