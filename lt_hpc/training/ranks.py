"""The ranks of a training as a process group of torch.distributed."""

from __future__ import annotations

import os
import resource
from typing import Any

import torch
import torch.distributed as dist

TEXT_BYTES = 512


def device() -> str:
    """What this process trains on."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def join(store: Any, rank: int, count: int) -> ProcessGroup:
    """Meet the other ranks through a store; waits for all `count` of them."""
    local = int(os.environ.get("LOCAL_RANK", rank))
    if torch.cuda.is_available():
        local %= torch.cuda.device_count()
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(count), LOCAL_RANK=str(local))
    backend = "nccl" if device() == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=count)
    return ProcessGroup()


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
