"""An engine's name leads to that engine, or to an error that names the field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lt_hpc.config.load import demo_file, load_config
from lt_hpc.engines.load import load
from lt_hpc.errors import ConfigError


def test_an_unknown_engine_is_refused_with_the_ones_there_are() -> None:
    config = load_config(demo_file())
    unknown: Any = "sglang"
    config.sample.engine = unknown
    with pytest.raises(ConfigError, match=r"sample\.engine=sglang: choose one of torch, vllm"):
        load(config, Path("model"), "float32")
