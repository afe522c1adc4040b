"""The command line of every command: its help, and what is said of a wrong argument."""

from __future__ import annotations

import argparse
import re
from typing import Any, NoReturn

from lt_hpc.errors import did_you_mean

COMMANDS = {
    "launch": "plan a run and do what is missing, here or on Slurm",
    "doctor": "whether a plan can end where it is to run, and what to change",
    "rehearse": "preempt a small copy of a run in every stage, and compare what it makes",
    "status": "what is done, running and missing",
    "benchmark": "have a model answer tasks of lm-evaluation-harness",
    "prefetch": "fetch a run's model and the data of its benchmarks from the hub",
    "report": "write the report of a run and print its table; of several, compare them",
    "experiment": "run the arms of an experiment with several seeds and print their tables",
    "completion": "print what has bash or zsh complete these commands",
}
_CHOICE = re.compile(r"invalid choice: '(?P<wrong>[^']*)' \(choose from (?P<valid>.*)\)", re.DOTALL)
_OPTION = re.compile(r"unrecognized arguments: (?P<wrong>--?[^\s=]+)")


class Parser(argparse.ArgumentParser):
    """An ordinary parser that names the nearest valid word beside a wrong one."""

    def __init__(self, prog: str, description: str | None, **more: Any) -> None:
        super().__init__(
            prog=prog,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **more,
        )

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and end with exit code 2."""
        choice, option = _CHOICE.search(message), _OPTION.search(message)
        if choice:
            message += did_you_mean(choice["wrong"], re.findall(r"[^\s,']+", choice["valid"]))
        elif option:
            message += did_you_mean(option["wrong"], self._option_string_actions)
        super().error(message)
