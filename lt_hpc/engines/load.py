"""One place that turns an engine's name into an engine, importing only that one."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from lt_hpc import hardware
from lt_hpc.config.schema import Config, EngineName
from lt_hpc.data.base_model import stored_parameters
from lt_hpc.engines.protocol import Engine
from lt_hpc.errors import ConfigError
from lt_hpc.latent.cost import reference_bytes

if TYPE_CHECKING:
    from lt_hpc.engines.torch_engine import TorchEngine


def load(config: Config, model_path: Path, dtype: str) -> Engine:
    """The configured engine on the model in `model_path`: what `load` of engines/NAME_engine.py makes.
    Prints what it computes with.

    Raises:
        ConfigError: when there is no such engine, it does not import here, or it can't run the model
            as configured.
    """
    name = config.sample.engine
    if name not in get_args(EngineName):
        raise ConfigError(f"sample.engine={name}: choose one of {', '.join(get_args(EngineName))}")
    try:
        module = importlib.import_module(f"lt_hpc.engines.{name}_engine")
    except ImportError as error:
        raise ConfigError(f"sample.engine={name}: {name} does not import here ({error})") from error
    engine: Engine = module.load(config, model_path, dtype)
    print(hardware.line(hardware.found(engine.attention)), flush=True)
    return engine


def load_reference(config: Config, model_path: Path) -> TorchEngine:
    """A float32 engine to check another one's log-probabilities against.

    Raises:
        MemoryError: when it does not fit beside the other one; on a GPU that is seen before it is loaded.
    """
    import torch
    from transformers import AutoConfig

    from lt_hpc.engines.torch_engine import TorchEngine, memory_errors

    with memory_errors():
        if torch.cuda.is_available():
            settings = AutoConfig.from_pretrained(
                model_path, trust_remote_code=config.model.trust_remote_code
            ).get_text_config()
            needed = reference_bytes(
                stored_parameters(model_path), config.model.context_length, settings.vocab_size
            )
            free = torch.cuda.mem_get_info()[0]
            if free < needed:
                raise MemoryError(
                    f"float32 needs {needed / 1e9:.1f} GB of the GPU, {free / 1e9:.1f} are free"
                )
        return TorchEngine(model_path, "float32", config.sample.batch_tokens, config.model.trust_remote_code)


def release_memory() -> None:
    """Give what engines that are gone have taken of a GPU back to it, for processes other than this."""
    import torch

    torch.cuda.empty_cache()
