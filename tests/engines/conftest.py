"""The tiny models, and the engine that is slow to start, as fixtures of these tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lt_hpc.config.schema import VllmConfig
from tests.runs.tiny_models import make_llama, model_path, tiny_path

if TYPE_CHECKING:
    from lt_hpc.engines.vllm_engine import VllmEngine

__all__ = ["model_path", "tiny_path"]


@pytest.fixture(scope="session")
def served_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vocabulary of 6, 128 positions, and heads that vLLM takes as they are."""
    return make_llama(tmp_path_factory.mktemp("served"), 6, head_dim=32, spread=0.15)


@pytest.fixture(scope="session")
def vllm_engine(served_path: Path) -> VllmEngine:
    """Started once: that takes longer than all that is asked of it."""
    from lt_hpc.engines.vllm_engine import VllmEngine

    return VllmEngine(served_path, "float32", VllmConfig(kv_cache_gb=0.1), 128)
