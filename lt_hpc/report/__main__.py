"""python -m lt_hpc.report RUN_DIR

Collects what the manifests and metrics of a run say into report.json and report.html.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lt_hpc.errors import guarded
from lt_hpc.report import output
from lt_hpc.report.collect import collect
from lt_hpc.run.state import last_plan
from lt_hpc.store.paths import RunPaths


@guarded
def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m lt_hpc.report", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    options = parser.parse_args(arguments)
    paths = RunPaths(options.run_dir)
    plan = last_plan(paths)
    try:
        report = output.write(plan, paths)
    except OSError:  # what can be seen is shown
        output.print_table(collect(plan, paths), paths)
        raise
    output.print_table(report, paths)
    return 0


if __name__ == "__main__":
    sys.exit(main())
