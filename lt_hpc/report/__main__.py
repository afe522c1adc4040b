"""python -m lt_hpc.report RUN_DIR [--against OTHER_RUN_DIR]

Collects what the manifests and metrics of a run say into report.json and report.html. Against another run,
such as a control: compares the last models of both on the same held-out documents, with what each has cost.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lt_hpc.arguments import Parser
from lt_hpc.errors import guarded
from lt_hpc.report import output
from lt_hpc.report.arms import versus
from lt_hpc.report.collect import collect
from lt_hpc.run.state import last_plan
from lt_hpc.store.paths import RunPaths


@guarded
def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = parser().parse_args(arguments)
    paths = RunPaths(options.run_dir)
    plan = last_plan(paths)
    try:
        report = output.write(plan, paths)
    except OSError:  # what can be seen is shown
        output.print_table(collect(plan, paths), paths)
        raise
    output.print_table(report, paths)
    if options.against is not None:
        for line in versus(report, paths, options.against):
            print(line)
    return 0


def parser() -> Parser:
    """Of the command line."""
    made = Parser("python -m lt_hpc.report", __doc__)
    made.add_argument("run_dir", type=Path)
    made.add_argument("--against", type=Path, metavar="OTHER_RUN_DIR", help="compare the last models")
    return made


if __name__ == "__main__":
    sys.exit(main())
