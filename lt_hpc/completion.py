"""lt-hpc completion bash|zsh

Prints what has a shell complete commands, options, files, experiments and the fields of the configuration:
  bash:  eval "$(lt-hpc completion bash)"    now, or in ~/.bashrc
  zsh:   eval "$(lt-hpc completion zsh)"     after compinit, now, or in ~/.zshrc
"""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any

from lt_hpc import benchmark, experiment, launch, prefetch, status
from lt_hpc.arguments import COMMANDS, Parser
from lt_hpc.config.fields import walk
from lt_hpc.config.schema import Config
from lt_hpc.doctor import __main__ as doctor
from lt_hpc.errors import ConfigError, guarded
from lt_hpc.experiments import definition
from lt_hpc.rehearse import __main__ as rehearse
from lt_hpc.report import __main__ as report

FILES, FOLDERS = ("config", "profile", "output"), ("run_dir", "run_dirs", "out", "model")
"""Arguments that are paths."""
WORDS = {"overrides": "_lt_hpc_fields", "name": "_lt_hpc_experiments"}
"""Arguments with a function of `_FUNCTIONS`."""
_FUNCTIONS = {
    "bash": """_lt_hpc_fields() { compgen -W "FIELDS" -- "$1"; }
_lt_hpc_experiments() { compgen -W "EXPERIMENTS" -- "$1"; compgen -f -X '!*.yaml' -- "$1"; }""",
    "zsh": """_lt_hpc_fields() { compadd -S '' -- FIELDS; }
_lt_hpc_experiments() { compadd -- EXPERIMENTS; _files -g '*.yaml'; }""",
}
_NO_SPACE = """
_lt_hpc() { _shtab_lt_hpc "$@"; if [[ ${COMPREPLY[0]-} == *= ]]; then compopt -o nospace 2>/dev/null; fi; }
complete -o filenames -F _lt_hpc lt-hpc
"""
"""After a field no space: its value follows."""


@guarded
def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    shell = parser().parse_args(arguments).shell
    try:
        import shtab
    except ImportError as error:
        raise ConfigError(f"completion: needs the package shtab ({error}); bash tools/setup.sh") from error
    everything = _everything(shtab.FILE, shtab.DIRECTORY)
    fields = " ".join(f"{name}=" for name, _, _ in walk(Config()))
    functions = _FUNCTIONS[shell].replace("FIELDS", fields)
    functions = functions.replace("EXPERIMENTS", " ".join(definition.names()))
    script = shtab.complete(everything, shell, root_prefix="lt_hpc", preamble={shell: functions})
    # shtab has zsh complete the first of several words alone.
    script = re.sub(r'"\(\*\)::([^"]*:_lt_hpc_fields)"', r'"*:\1"', script)
    print(script, end=_NO_SPACE if shell == "bash" else "")
    return 0


def parser() -> Parser:
    """Of the command line."""
    made = Parser("lt-hpc completion", __doc__)
    made.add_argument("shell", choices=sorted(_FUNCTIONS))
    return made


def _everything(file: Any, folder: Any) -> argparse.ArgumentParser:
    """One parser of all commands. `file`, `folder`: how shtab says that an argument is one."""
    made = Parser("lt-hpc", None)
    made.add_argument("--version", action="version", version="")
    commands = made.add_subparsers()
    modules = (launch, doctor, rehearse, status, benchmark, prefetch, report, experiment)
    parsers = [*(module.parser() for module in modules), parser()]
    for (name, text), one in zip(COMMANDS.items(), parsers, strict=True):
        below = commands.add_parser(
            name, prog=f"lt-hpc {name}", description=text, help=text, parents=[one], add_help=False
        )
        for action in below._actions:
            words = {shell: WORDS.get(action.dest, "") for shell in _FUNCTIONS}
            found = file if action.dest in FILES else folder if action.dest in FOLDERS else words
            if found is not words or words["bash"]:
                action.complete = found  # type: ignore[attr-defined]
    return made


if __name__ == "__main__":
    sys.exit(main())
