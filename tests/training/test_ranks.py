"""One of four ranks fails: the others don't wait for it, and every process ends at once; they say that they
were left, not that they failed."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from lt_hpc.errors import HardwareError
from lt_hpc.training.ranks import _check_own, hardware_errors

RANK = """
import os, signal, sys
from pathlib import Path
from lt_hpc.cluster import rendezvous
from lt_hpc.cluster.place import Place
from lt_hpc.cluster.signals import fail
from lt_hpc.errors import HardwareError
from lt_hpc.training import ranks
rank, folder, how = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
joined = ranks.join(rendezvous.store(folder, Place(rank, 4, rank, "test")), rank, 4)
if rank == 2 and how == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
try:
    with ranks.hardware_errors():
        if rank == 2:
            raise RuntimeError("a shape that does not fit")
        while True:
            joined.all_sum(1.0)
except HardwareError as error:
    fail(error.exit_code, str(error))
except RuntimeError as error:
    fail(1, str(error))
"""
SECONDS = 60
"""Far below the timeout of a collective; most of it is for four imports of torch."""


@pytest.mark.parametrize(("how", "code"), [("raises", 1), ("killed", -9)])
def test_a_rank_that_fails_ends_the_training(how: str, code: int, tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), str(tmp_path), how], stderr=subprocess.PIPE, text=True
        )
        for rank in range(4)
    ]
    outputs = [process.communicate(timeout=SECONDS)[1] for process in processes]
    lost = HardwareError.exit_code
    assert [process.returncode for process in processes] == [lost, lost, code, lost], outputs
    if how == "raises":
        assert "exit code 1: a shape that does not fit" in outputs[2]


def test_lack_of_memory_is_no_fault_of_the_hardware() -> None:
    with pytest.raises(torch.OutOfMemoryError), hardware_errors():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    with pytest.raises(HardwareError, match="ECC"), hardware_errors():
        raise torch.AcceleratorError(
            "CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might be"
        )


@pytest.mark.parametrize(("gpus", "refused"), [(["A", "B", "A"], True), (["A", "B", "C"], False)])
def test_ranks_that_would_share_a_gpu_are_refused_on_every_one_of_them(
    gpus: list[str], refused: bool
) -> None:
    """Before any of them has started NCCL: all that is known of the GPUs are their names."""
    store = dist.HashStore()
    with ThreadPoolExecutor(len(gpus)) as threads:
        ranks = [threads.submit(_check_own, store, rank, len(gpus), gpu) for rank, gpu in enumerate(gpus)]
    said = [str(rank.exception()) if rank.exception() else "" for rank in ranks]
    assert all(("more ranks than GPUs: 2 ranks share" in one) is refused for one in said)
