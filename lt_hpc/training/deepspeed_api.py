"""The only file that imports deepspeed: what the trainer uses of it, set up."""

from __future__ import annotations

import os

import torch

# DeepSpeed guesses by device files, which a container or a job without GPUs may have all the same.
os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")

import deepspeed
from deepspeed import init_distributed, initialize
from deepspeed.utils import logger, safe_get_local_fp32_param, safe_get_local_optimizer_state

from lt_hpc import versions

__all__ = [
    "check_version",
    "init_distributed",
    "initialize",
    "safe_get_local_fp32_param",
    "safe_get_local_optimizer_state",
]

logger.setLevel("WARNING")
if os.environ["DS_ACCELERATOR"] == "cpu":
    # DeepSpeed would compile a shared-memory all-reduce at the first start: minutes, a C++
    # compiler, and a build lock that blocks every later start if this one is killed. Gloo does it.
    assert "deepspeed_shm_comm" in deepspeed.ops.__compatible_ops__, "DeepSpeed has renamed this operation"
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def check_version() -> None:
    """See `versions.check`."""
    versions.check("deepspeed", deepspeed.__version__)
