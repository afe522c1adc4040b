"""What a process computes on: its GPUs, their driver, torch and the back-ends that are loaded here.

Nothing is loaded for it and no GPU is touched: vLLM's workers may still have to be forked.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

PROC = Path("/proc/driver/nvidia")
LEAST_DRIVER = {12: 525, 13: 580}
"""Major version of CUDA -> the first NVIDIA driver that it runs on."""


def driver() -> str | None:
    """The version of the NVIDIA driver, or None where there is none."""
    try:
        found = re.search(r"\b(\d+\.\d+(?:\.\d+)?)\b", (PROC / "version").read_text())
    except OSError:
        return None
    return found[1] if found else None


def gpus() -> list[str]:
    """The models of this node's GPUs, each once."""
    texts = [path.read_text() for path in sorted(PROC.glob("gpus/*/information")) if path.is_file()]
    models = [found[1].strip() for text in texts if (found := re.search(r"Model:(.*)", text))]
    return list(dict.fromkeys(models))


def too_old(cuda: str | None) -> str | None:
    """What to do about a driver that is too old for a torch built for this CUDA; None where it is not."""
    version = driver()
    least = LEAST_DRIVER.get(int(cuda.partition(".")[0])) if cuda else None
    if version is None or least is None or int(version.partition(".")[0]) >= least:
        return None
    return (
        f"driver {version} is older than the {least} that CUDA {cuda} needs: ask the site, or install a "
        "torch for an earlier CUDA"
    )


def runs_on(built: Sequence[str], major: int, minor: int) -> bool:
    """Whether code built for these targets (sm_80, compute_90, ...) runs on a GPU of compute capability
    major.minor: binaries within their generation from their own on, code for a virtual GPU on every later
    one. Pure."""
    for target in built:
        kind, _, number = target.partition("_")
        digits = "".join(character for character in number if character.isdigit())
        if not digits:
            continue
        wanted = int(digits[:-1]), int(digits[-1])
        if kind == "compute" and wanted <= (major, minor):
            return True
        if kind == "sm" and wanted[0] == major and wanted[1] <= minor:
            return True
    return False


def found(attention: str = "") -> dict[str, str]:
    """Facts by name, of what is loaded; `attention`: the kernel that the caller has chosen."""
    torch, vllm = sys.modules.get("torch"), sys.modules.get("vllm")
    facts: dict[str, str] = {}
    if torch is None:
        return facts
    on_gpu = torch.cuda.is_available()
    facts["device"] = (" and ".join(gpus()) or "GPU") if on_gpu else "CPU"
    if on_gpu:
        facts |= {"driver": driver() or "?", "cuda": str(torch.version.cuda)}
    facts["torch"] = str(torch.__version__)
    ranks = torch.distributed
    if ranks.is_available() and ranks.is_initialized() and ranks.get_world_size() > 1:
        facts["ranks"] = f"{ranks.get_world_size()} over {ranks.get_backend()}"
    if vllm is not None:
        platform = sys.modules["vllm.platforms"].current_platform.device_type
        runner = "V2" if os.environ.get("VLLM_USE_V2_MODEL_RUNNER") == "1" else "V1"
        facts["vllm"] = f"{vllm.__version__} on {platform}, model runner {runner}"
    if attention:
        facts["attention"] = attention
    return facts


def line(facts: dict[str, str]) -> str:
    """The same for a log."""
    return "computes with " + ", ".join(f"{name} {value}" for name, value in facts.items())
