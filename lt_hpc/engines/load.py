"""One place that turns an engine's name into an engine, importing only that one."""

from __future__ import annotations

from pathlib import Path

from lt_hpc.config import Config
from lt_hpc.engines.protocol import Engine


def load(config: Config, model_path: Path, dtype: str) -> Engine:
    """The configured engine on the model in `model_path`."""
    from lt_hpc.engines.torch_engine import TorchEngine

    return TorchEngine(model_path, dtype, config.sample.batch_tokens, config.model.trust_remote_code)
