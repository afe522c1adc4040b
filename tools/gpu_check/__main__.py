"""python -m tools.gpu_check [--json FILE] [--only CHECK ...] [--rehearse]

Whether this machine's GPU trains and samples as documented, in about ten minutes: one table, and with
--json the same with all figures. It runs with what is installed, and names what is missing. Each
check is a process of its own, so that one that hangs or runs out of memory costs no other.

Exit code 1 when a check fails. Without a GPU one line and exit code 0. --rehearse runs the same code
on the CPU at toy sizes: it shows that the checks themselves work, and says nothing of any GPU.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tools.gpu_check.rows import FULL, REHEARSAL, Row

CHECKS = {
    "platform": ("machine", 60),
    "ranks": ("machine", 180),
    "attention": ("training", 90),
    "zero": ("training", 180),
    "training": ("training", 180),
    "draws": ("engines", 60),
    "engine": ("engines", 150),
    "reference": ("engines", 90),
    "vllm": ("vllm", 240),
    "vllm_v1": ("vllm", 240),
    "vllm_queue": ("vllm", 240),
    "vllm_scoring": ("vllm", 120),
    "launch": ("run", 420),
    "two_gpus": ("training", 180),
    "vllm_parallel": ("vllm", 240),
}
"""Check -> (its module here, seconds it may take)."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="tools/gpu_check.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write all figures into this file")
    parser.add_argument("--only", nargs="+", choices=list(CHECKS), default=list(CHECKS), metavar="CHECK")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, at toy sizes")
    parser.add_argument("--one", nargs=2, metavar=("CHECK", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return _one(options.one[0], Path(options.one[1]), options.rehearse)
    if not options.rehearse and not _has_gpu():
        print("gpu_check: torch finds no GPU here; nothing was checked (--rehearse runs it on the CPU)")
        return 0
    found: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        for check in options.only:
            found[check] = _run(check, Path(folder), options.rehearse)
            for row in found[check]:
                print(f"{row.status:9} {check:10} {row.what:34} {row.text}", flush=True)
            if options.json:  # after every check: what is known so far is kept whatever comes
                rows = {name: [asdict(row) for row in of_check] for name, of_check in found.items()}
                options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return int(any(row.status == "FAIL" for rows in found.values() for row in rows))


def _has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _run(check: str, folder: Path, rehearse: bool) -> list[Row]:
    """One check in a process of its own."""
    limit, started = CHECKS[check][1], time.monotonic()
    command = [sys.executable, "-m", "tools.gpu_check", "--one", check, str(folder)]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    if rehearse:
        command, environment = [*command, "--rehearse"], environment | {"CUDA_VISIBLE_DEVICES": ""}
    problem, tail = "", ""
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit)
        tail = (done.stderr.strip() or done.stdout.strip())[-2000:]
        if done.returncode:
            problem = f"exit code {done.returncode}: {tail.splitlines()[-1] if tail else ''}"
    except subprocess.TimeoutExpired:
        problem = f"not finished within {limit} s"
    rows = [Row(**row) for row in _read(folder / f"{check}.json")]
    if problem:
        rows.append(Row("whole check", "FAIL", problem, {"output": tail}))
    return [*rows, Row("seconds", "measured", f"{time.monotonic() - started:.0f}")]


def _read(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text())) if path.exists() else []


def _one(check: str, folder: Path, rehearse: bool) -> int:
    rows: list[dict[str, Any]] = []
    module = importlib.import_module(f"tools.gpu_check.{CHECKS[check][0]}")
    for row in getattr(module, check)(REHEARSAL if rehearse else FULL, folder):
        rows.append(asdict(row))
        (folder / f"{check}.json").write_text(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
