"""lt-hpc benchmark MODEL [benchmark.tasks=[TASK,...]] [heldout.source=FILE heldout.text_column=text]
[--run-dir DIR] [--dry-run] [key=value ...]

Has a model answer tasks of lm-evaluation-harness, or measures it on a held-out text, here or on Slurm: a
model that a run has trained, as runs/demo/iter-03/model, or any Hugging Face folder or hub id (with
benchmark.thoughts=false). It is a run like others, in which nothing is trained: the same command again goes
on where it was stopped.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lt_hpc import launch
from lt_hpc.arguments import Parser
from lt_hpc.config.load import shipped
from lt_hpc.config.schema import ModelConfig
from lt_hpc.data import base_model
from lt_hpc.errors import guarded

LONGEST = 4096
"""Tokens of a prompt with its answer, unless model.context_length says otherwise: as many as the model has
positions for, up to this."""


@guarded
def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code (see lt_hpc.errors)."""
    options = parser().parse_intermixed_args(arguments)
    model = ModelConfig(path=options.model)
    own = [f"name={_name(options.model)}", "objective=none", f"model.path={options.model}"]
    if options.config is None:
        options.config = shipped(Path("benchmark.yaml"))
        own.append(f"model.context_length={min(base_model.positions(model) or LONGEST, LONGEST)}")
    options.overrides = [*own, *options.overrides]
    options.iters = 0
    launch.launch(options)
    return 0


def parser() -> Parser:
    """Of the command line."""
    made = Parser("lt-hpc benchmark", __doc__)
    made.add_argument("model", metavar="MODEL", help="Hugging Face folder, hub id, or builtin:demo_base")
    launch.add_options(made)
    return made


def _name(model: str) -> str:
    """Of the run of a model, from the end of its path."""
    parts = [part for part in Path(model).parts[-3:] if part.strip("/.")]
    return "-".join(["benchmark", *parts]).replace(":", "-")


if __name__ == "__main__":
    sys.exit(main())
