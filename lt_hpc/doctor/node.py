"""What a job of `lt-hpc doctor --probe` does on its node: look, write an answer into the run folder, end."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from lt_hpc.cluster import devices
from lt_hpc.doctor import files
from lt_hpc.store.atomic import read_sealed, sealed, write_json

HELLO = "hello.json"
IMPORT_SECONDS = 240
NETWORK_SECONDS = 5.0
_LOOKS = {
    "torch": """
import json, torch
gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
free = [torch.cuda.mem_get_info(number)[0] for number in range(gpus)]
print(json.dumps({"version": torch.__version__, "gpus": gpus, "free": free}))
"""
}
_LOOK = "import json, {0}; print(json.dumps({{'version': {0}.__version__}}))"


def answer_file(folder: Path, name: str) -> Path:
    """Of the job of one kind of stage."""
    return folder / f"answer-{name}.json"


def run(arguments: list[str]) -> None:
    """As a Slurm task, with the arguments that tasks of stages have: the folder is that of the visit, and the
    answer is named after the stage.

    Raises:
        OSError: when the node does not see what was written on the login node.
        ValueError: when it sees something else.
    """
    folder, key = Path(arguments[0]), arguments[2]
    asked = read_sealed(folder / HELLO)
    write_json(answer_file(folder, key), sealed(look(folder, asked["packages"], asked["hub"])))


def look(folder: Path, packages: list[str], hub: str) -> dict[str, Any]:
    """What is to be known of this node, as JSON."""
    return {
        "host": socket.gethostname(),
        "files": dataclasses.asdict(files.look(folder)),
        "memory": _available_memory(),
        "devices": devices.visible(os.environ),
        "packages": {name: _imported(name) for name in packages},
        "network": _network(hub),
    }


def _available_memory() -> int | None:
    """Bytes, of the node."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), None)


def _imported(package: str) -> dict[str, Any]:
    """What a package says of itself, imported in a process of its own, which may abort."""
    code = _LOOKS.get(package, _LOOK.format(package))
    try:
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=IMPORT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"its import takes more than {IMPORT_SECONDS} s"}
    try:
        found = json.loads(result.stdout.splitlines()[-1])
        return dict(found)
    except (IndexError, ValueError):
        lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        return {"error": lines[-1][:300]}


def _network(host: str) -> str:
    """Why a host is not reached; empty where it is."""
    try:
        socket.create_connection((host, 443), NETWORK_SECONDS).close()
    except OSError as error:
        return str(error)
    return ""
