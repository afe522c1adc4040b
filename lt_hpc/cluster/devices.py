"""Which GPUs of a node belong to which of the tasks that share it.

srun and a local launcher show every task all GPUs of the node: each has to take its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lt_hpc import hardware
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


def require(found: Sequence[str], asked: int, field: str, computes: bool) -> None:
    """Refuse to fall back to the CPU where GPUs are visible, or where the plan asks for `asked` per node.
    `computes`: torch itself will.

    Raises:
        ConfigError: when torch can't use a GPU that is here, or none is here that `field` asks for.
    """
    if not found and not asked:
        return
    import torch

    if not found:
        raise ConfigError(f"{field}={asked}, but no GPU is visible on this node")
    instead = "or set CUDA_VISIBLE_DEVICES= to run on the CPU"
    if not torch.cuda.is_available():
        version = torch.version.cuda
        build = f"for CUDA {version}" if version else "a CPU build"
        advice = hardware.too_old(version) or "install a build for the driver's CUDA (nvidia-smi names it)"
        raise ConfigError(
            f"GPUs {','.join(found)} are visible, but torch {torch.__version__} ({build}) can't use them: "
            f"{advice}, {instead}"
        )
    if not computes:
        return  # an engine of its own, whose workers may still have to be forked: no GPU is touched
    for number in range(torch.cuda.device_count()):
        capability = torch.cuda.get_device_capability(number)
        if not hardware.runs_on(torch.cuda.get_arch_list(), *capability):
            raise ConfigError(
                f"{torch.cuda.get_device_name(number)}: torch {torch.__version__} was built for "
                f"{', '.join(torch.cuda.get_arch_list())}, not for this generation of GPUs; install a torch "
                f"for an earlier CUDA, {instead}"
            )
