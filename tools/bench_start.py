"""python tools/bench_start.py [RUN] [--repeats 5]

Wall seconds from the start of a command to its end, against an interpreter that does nothing: the help
of each command and, of a run folder, `status RUN` and `report RUN` (which writes its report again). All
arms take turns in each repeat, after one that warms the disk's cache.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lt_hpc.arguments import COMMANDS

BARE = "python -c pass"


def arms(run: Path | None) -> dict[str, list[str]]:
    """What the table calls a command -> the command; the bare interpreter is the first."""
    found = {BARE: [sys.executable, "-c", "pass"]}
    given = [[name, "--help"] for name in COMMANDS]
    if run is not None:
        given += [[name, str(run)] for name in ("status", "report")]
    for words in given:
        found[" ".join(["lt-hpc", *words])] = [sys.executable, "-m", "lt_hpc.cli", *words]
    return found


def seconds(command: Sequence[str]) -> float:
    """Wall seconds of one start."""
    started = time.perf_counter()
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    taken = time.perf_counter() - started
    unfinished = result.returncode == 1 and "status" in command  # status of a run with work left to do
    if result.returncode and not unfinished:
        sys.exit(f"{' '.join(command)}: exit code {result.returncode}\n{result.stderr}")
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, help="a run folder")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    commands = arms(options.run)
    measured: dict[str, list[float]] = {name: [] for name in commands}
    for repeat in range(options.repeats + 1):
        for name, command in commands.items():
            taken = seconds(command)
            if repeat:
                measured[name].append(taken)
    bare = statistics.median(measured[BARE])
    print("| command | seconds, median (lowest to highest) | beyond the bare interpreter, s |\n|---|---|---|")
    for name, values in measured.items():
        median = statistics.median(values)
        beyond = "" if name == BARE else f"{median - bare:.2f}"
        print(f"| `{name}` | {median:.2f} ({min(values):.2f} to {max(values):.2f}) | {beyond} |")


if __name__ == "__main__":
    main()
