"""lt-hpc COMMAND ARGS...

The console script: `lt-hpc COMMAND ARGS...` is `python -m lt_hpc.COMMAND ARGS...`.
"""

from __future__ import annotations

import argparse
import sys

from lt_hpc import __version__

COMMANDS = {
    "launch": "plan a run and do what is missing, here or on Slurm",
    "doctor": "whether a plan can end where it is to run, and what to change",
    "status": "what is done, running and missing",
    "benchmark": "have a model answer tasks of lm-evaluation-harness",
    "prefetch": "fetch a run's model and the data of its benchmarks from the hub",
    "report": "write report.json and report.html of a run and print its table",
    "experiment": "run the arms of an experiment with several seeds and print their tables",
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code (see lt_hpc.errors); only that command is imported."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="lt-hpc",
        usage="%(prog)s [-h] [--version] COMMAND ARGS...",
        description="\n".join(f"{name:10}  {text}" for name, text in COMMANDS.items()),
        epilog="lt-hpc COMMAND --help lists the arguments of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lt-hpc {__version__}")
    parser.add_argument("command", choices=COMMANDS, help=argparse.SUPPRESS)
    command = parser.parse_args(arguments[:1]).command
    if command == "launch":
        from lt_hpc.launch import main as run
    elif command == "doctor":
        from lt_hpc.doctor.__main__ import main as run
    elif command == "status":
        from lt_hpc.status import main as run
    elif command == "experiment":
        from lt_hpc.experiment import main as run
    elif command == "benchmark":
        from lt_hpc.benchmark import main as run
    elif command == "prefetch":
        from lt_hpc.prefetch import main as run
    else:
        from lt_hpc.report.__main__ import main as run
    return run(arguments[1:])


if __name__ == "__main__":
    sys.exit(main())
