"""python -m lt_hpc.report RUN_DIR [RUN_DIR ...] [--output FILE]

Collects what the manifests, metrics and events of a run say into its report.json and report.html. Of
several runs, such as a control and others: one page, comparison.html in the folder of the first, with their
measures, settings and costs beside each other and each one's last model against that of the first, paired
over documents where the held-out ones are the same. Each page is one file that needs no other.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lt_hpc.arguments import Parser
from lt_hpc.errors import guarded
from lt_hpc.report import comparison, output
from lt_hpc.report.collect import collect
from lt_hpc.run.state import last_plan
from lt_hpc.store.paths import RunPaths


@guarded
def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = parser().parse_args(arguments)
    if len(options.run_dirs) > 1:
        runs = comparison.read(options.run_dirs)
        page = options.output or runs[0].paths.comparison_html
        output.print_comparison(runs)
        output.write_page(runs, page)
        output.print_place(page)
        return 0
    paths = RunPaths(options.run_dirs[0])
    if options.output is not None:
        runs = comparison.read(options.run_dirs)
        output.write_page(runs, options.output)
        output.print_table(runs[0].report, options.output)
        return 0
    plan = last_plan(paths)
    try:
        report = output.write(plan, paths)
    except OSError:  # what can be seen is shown
        output.print_table(collect(plan, paths), paths.report_html)
        raise
    output.print_table(report, paths.report_html)
    return 0


def parser() -> Parser:
    """Of the command line."""
    made = Parser("python -m lt_hpc.report", __doc__)
    made.add_argument("run_dirs", type=Path, nargs="+", metavar="RUN_DIR")
    made.add_argument("--output", type=Path, metavar="FILE", help="where the page goes, and nothing else")
    return made


if __name__ == "__main__":
    sys.exit(main())
