"""python -m lt_hpc.report RUN_DIR

Collects what the manifests and metrics of a run say into report.json and report.html.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lt_hpc.errors import LtError
from lt_hpc.report import output
from lt_hpc.run.state import last_plan
from lt_hpc.store.paths import RunPaths


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m lt_hpc.report", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    options = parser.parse_args(arguments)
    paths = RunPaths(options.run_dir)
    try:
        plan = last_plan(paths)
        output.print_table(output.write(plan, paths), paths)
    except LtError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
