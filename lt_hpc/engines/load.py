"""One place that turns an engine's name into an engine, importing only that one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lt_hpc.config.schema import Config
from lt_hpc.engines.protocol import Engine
from lt_hpc.errors import ConfigError

if TYPE_CHECKING:
    from lt_hpc.engines.torch_engine import TorchEngine


def load(config: Config, model_path: Path, dtype: str) -> Engine:
    """The configured engine on the model in `model_path`.

    Raises:
        ConfigError: when vLLM does not import here, or can't run the model as configured.
    """
    trusted = config.model.trust_remote_code
    if config.sample.engine == "torch":
        from lt_hpc.engines.torch_engine import TorchEngine

        return TorchEngine(model_path, dtype, config.sample.batch_tokens, trusted)
    try:
        from lt_hpc.engines.vllm_engine import VllmEngine
    except ImportError as error:
        raise ConfigError(f"sample.engine=vllm: vLLM does not import here ({error})") from error
    # In evaluation an answer may follow a thought that fills the context.
    longest = config.model.context_length + config.evaluate.max_answer_tokens
    return VllmEngine(model_path, dtype, config.sample.vllm, longest, trusted)


def load_reference(config: Config, model_path: Path) -> TorchEngine:
    """A float32 engine to check another one's log-probabilities against.

    Raises:
        MemoryError: when it does not fit beside the other one.
    """
    from lt_hpc.engines.torch_engine import TorchEngine, memory_errors

    with memory_errors():
        return TorchEngine(model_path, "float32", config.sample.batch_tokens, config.model.trust_remote_code)


def release_memory() -> None:
    """Give what engines that are gone have taken of a GPU back to it, for processes other than this."""
    import torch

    torch.cuda.empty_cache()
