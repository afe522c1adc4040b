"""Which GPUs of a node belong to which of the tasks that share it.

srun and a local launcher show every task all GPUs of the node: each has to take its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lt_hpc.errors import ConfigError


def visible(environment: Mapping[str, str]) -> list[str]:
    """The GPUs that this process may use."""
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [device for device in named.split(",") if device]
    return [str(index) for index in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]


def share(devices: Sequence[str], index: int, size: int) -> list[str]:
    """`size` of the devices for the task with this index on its node; the tasks take turns where
    there are more of them. All, where they don't suffice: the engine says what it lacks."""
    groups = len(devices) // size
    start = index % groups * size if groups else 0
    return list(devices[start : start + size]) if groups else list(devices)


def require(found: Sequence[str], asked: int, field: str) -> None:
    """Refuse to fall back to the CPU where GPUs are visible, or where the plan asks for `asked` per node.

    Raises:
        ConfigError: when torch can't use a GPU that is here, or none is here that `field` asks for.
    """
    if not found and not asked:
        return
    import torch

    if not found:
        raise ConfigError(f"{field}={asked}, but no GPU is visible on this node")
    if torch.cuda.is_available():
        return
    build = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU build"
    raise ConfigError(
        f"GPUs {','.join(found)} are visible, but torch {torch.__version__} ({build}) can't use them: "
        "install a build for the driver's CUDA (nvidia-smi names it), or set CUDA_VISIBLE_DEVICES= to run on "
        "the CPU"
    )
