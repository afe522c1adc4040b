"""The ranks of a training as a process group of torch.distributed."""

from __future__ import annotations

import datetime
import os
import re
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from lt_hpc.errors import ConfigError, HardwareError

TEXT_BYTES = 512
COLLECTIVE_TIMEOUT = datetime.timedelta(minutes=30)
"""More than rank 0 waits for the others' parts of a checkpoint. No rank waits as long for one that failed:
that one's process ends at once, and its job with it."""


_LOST = re.compile(
    r"connection (closed|reset)|broken pipe|socket (timeout|closed)|timed out waiting|NCCL|CUDA error|ECC",
    re.IGNORECASE,
)
"""What gloo, NCCL and CUDA say where a peer, a cable or a card is gone."""


@contextmanager
def hardware_errors() -> Iterator[None]:
    """Failures of a card or of the network, and of a peer that is gone, as HardwareError. Lack of memory
    is neither."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (dist.DistError, torch.AcceleratorError) as error:
        raise HardwareError(_first_line(error)) from error
    except RuntimeError as error:
        if _LOST.search(str(error)) is None:
            raise
        raise HardwareError(_first_line(error)) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]


def device() -> str:
    """What this process trains on."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def join(store: Any, rank: int, count: int) -> ProcessGroup:
    """Meet the other ranks through a store; waits for all `count` of them.

    Raises:
        ConfigError: when two ranks would compute on one GPU.
    """
    local = int(os.environ.get("LOCAL_RANK", rank))
    options: dict[str, Any] = {}
    if device() == "cuda":
        # Where a task sees one GPU alone, that is its own, whatever its rank.
        local = local if local < torch.cuda.device_count() else 0
        _check_own(store, rank, count, str(torch.cuda.get_device_properties(local).uuid))
        torch.cuda.set_device(local)
        options["device_id"] = torch.device("cuda", local)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(count), LOCAL_RANK=str(local))
    backend = "nccl" if options else "gloo"
    dist.init_process_group(
        backend, store=store, rank=rank, world_size=count, timeout=COLLECTIVE_TIMEOUT, **options
    )
    joined = ProcessGroup()
    joined.all_sum(1.0)  # a network that does not work shows here, not when the model is loaded
    return joined


def _check_own(store: Any, rank: int, count: int, gpu: str) -> None:
    """Raise on all ranks when two of them have the same GPU, which NCCL would notice much later."""
    store.set(f"gpu-{rank}", f"{socket.gethostname()} {gpu}")
    if rank == 0:
        found = [store.get(f"gpu-{other}").decode() for other in range(count)]
        shared = [one for one in found if found.count(one) > 1]
        store.set("gpu-shared", f"{len(shared)} ranks share {shared[0]}" if shared else "")
    shared_text = store.get("gpu-shared").decode()
    if shared_text:
        raise ConfigError(
            f"more ranks than GPUs: {shared_text}; slurm.train.tasks_per_node may not be above gpus_per_node"
        )


class ProcessGroup:
    """The `Ranks` (see protocol.py) of this process, once it has joined."""

    @property
    def rank(self) -> int:
        return int(dist.get_rank())

    @property
    def count(self) -> int:
        return int(dist.get_world_size())

    def all_sum(self, *values: float) -> list[float]:
        tensor = torch.tensor(values, dtype=torch.float64, device=device())
        dist.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    def from_first(self, text: str) -> str:
        data = torch.zeros(TEXT_BYTES, dtype=torch.uint8, device=device())
        raw = text.encode()
        data[: len(raw)] = torch.tensor(list(raw), dtype=torch.uint8)
        dist.broadcast(data, 0)
        return bytes(data.tolist()).rstrip(b"\0").decode()

    def peak_memory(self) -> int:
        if torch.cuda.is_available():
            return int(torch.cuda.max_memory_allocated())
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def leave(self) -> None:
        """Without it gloo may abort at exit."""
        dist.destroy_process_group()
