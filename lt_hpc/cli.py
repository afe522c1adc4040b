"""lt-hpc COMMAND ARGS...

The console script: `lt-hpc COMMAND ARGS...` is `python -m lt_hpc.COMMAND ARGS...`.
"""

from __future__ import annotations

import argparse
import sys

from lt_hpc import __version__
from lt_hpc.arguments import COMMANDS, Parser


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code (see lt_hpc.errors); only that command is imported."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = Parser(
        "lt-hpc",
        "\n".join(f"{name:10}  {text}" for name, text in COMMANDS.items()),
        usage="%(prog)s [-h] [--version] COMMAND ARGS...",
        epilog="lt-hpc COMMAND --help lists the arguments of a command.",
    )
    parser.add_argument("--version", action="version", version=f"lt-hpc {__version__}")
    parser.add_argument("command", choices=COMMANDS, help=argparse.SUPPRESS)
    command = parser.parse_args(arguments[:1]).command
    if command == "launch":
        from lt_hpc.launch import main as run
    elif command == "doctor":
        from lt_hpc.doctor.__main__ import main as run
    elif command == "rehearse":
        from lt_hpc.rehearse.__main__ import main as run
    elif command == "status":
        from lt_hpc.status import main as run
    elif command == "experiment":
        from lt_hpc.experiment import main as run
    elif command == "benchmark":
        from lt_hpc.benchmark import main as run
    elif command == "prefetch":
        from lt_hpc.prefetch import main as run
    elif command == "completion":
        from lt_hpc.completion import main as run
    else:
        from lt_hpc.report.__main__ import main as run
    return run(arguments[1:])


if __name__ == "__main__":
    sys.exit(main())
