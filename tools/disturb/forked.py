"""Launches as forks of one process that has imported everything they need.

The same code, processes, signals and files as `python -m lt_hpc.launch` has, without the seconds that
Python takes to import torch in each task: what hundreds of faults need (tools/chaos.py). Launch and tasks
count their calls that change what is on disk, and one of these can be disturbed.
"""

from __future__ import annotations

import errno
import functools
import importlib
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from lt_hpc import launch
from lt_hpc.cluster import processes
from lt_hpc.stages import __main__ as stages

CALLS = ("write", "fsync", "replace", "rename", "link", "unlink")
"""What changes the disk where others see it; names in `os`."""
LAUNCH = "launch"
POLL_SECONDS = 0.02
COMMAND_SECONDS = 300


@dataclass(frozen=True)
class Strike:
    """What happens at one call of one process.

    Attributes:
        process: `launch`, or a task such as `sample-01.0`.
        number: Of its calls, from 1.
        kill: A signal that the process gets before (or `after`) the call.
        error: An errno that the call fails with, and where it `stays` every later one.
    """

    process: str
    number: int
    kill: int = 0
    after: bool = False
    error: int = 0
    stays: bool = False

    def __str__(self) -> str:
        if self.error:
            what = f"{errno.errorcode[self.error]} at{' and after' if self.stays else ''}"
        else:
            what = f"{signal.Signals(self.kill).name} {'after' if self.after else 'before'}"
        return f"{what} call {self.number} of {self.process}"


class Forked:
    """A process that runs a function: what `subprocess.Popen` is to a command."""

    def __init__(self, function: Callable[[], int], output: int, environment: dict[str, str]) -> None:
        self.returncode: int | None = None
        kept = _OPEN or set(map(int, os.listdir("/proc/self/fd")))
        self.pid = os.fork()
        if not self.pid:
            _become(function, output, environment, kept)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired("a forked process", timeout)
            time.sleep(POLL_SECONDS)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


_OPEN: set[int] = set()
"""Descriptors of the process that everything is forked from; a fork closes those that came later."""


def import_everything(modules: list[str]) -> None:
    """What an earlier run had imported (see `start`), once and for all."""
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception:  # parts of libraries that can't be imported by themselves
            continue
    _OPEN.update(map(int, os.listdir("/proc/self/fd")))


def start(
    arguments: list[str], notes: Path, output: Path, strike: Strike | None = None, clock_seconds: float = 0.0
) -> Forked:
    """`python -m lt_hpc.launch` with these arguments. In the folder `notes` it leaves the `pids` of its
    processes, and of each that ended by itself a line in `calls` and the names of its `modules`."""
    with output.open("wb") as stream:
        return Forked(
            lambda: _launch(arguments, notes, strike, clock_seconds), stream.fileno(), dict(os.environ)
        )


def run(command: Callable[[], int], output: Path) -> tuple[int, str]:
    """Exit code and output of another command."""
    with output.open("wb") as stream:
        process = Forked(command, stream.fileno(), dict(os.environ))
    return process.wait(COMMAND_SECONDS), output.read_text(errors="replace")


def _launch(arguments: list[str], notes: Path, strike: Strike | None, clock_seconds: float) -> int:
    def start_task(command: list[str], *, stdout: Any, env: dict[str, str], **_: Any) -> Forked:
        def task() -> int:
            sys.argv = command[2:]
            stages.main()
            return 0

        stage = command[command.index("lt_hpc.stages") + 3]
        name = command[command.index("--name") + 1] if "--name" in command else "0"
        return Forked(_watched(f"{stage}.{name}", task, notes, strike), stdout.fileno(), env)

    if clock_seconds:
        real = time.time
        time.time = lambda: real() + clock_seconds
    processes.subprocess = SimpleNamespace(  # type: ignore
        Popen=start_task, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired
    )
    return _watched(LAUNCH, lambda: launch.main(arguments), notes, strike)()


def _watched(
    process: str, function: Callable[[], int], notes: Path, strike: Strike | None
) -> Callable[[], int]:
    """The function with its calls counted and disturbed, in the process that runs it."""

    def watched() -> int:
        _note(notes / "pids", f"{os.getpid()}")
        count = Count(strike if strike and strike.process == process else None)
        originals = {name: getattr(os, name) for name in CALLS}
        for name, call in originals.items():
            setattr(os, name, count.counted(call))
        code = function()
        for name, call in originals.items():
            setattr(os, name, call)
        _note(notes / "calls", f"{process} {count.calls}")
        _note(notes / "modules", "\n".join(sys.modules))
        return code

    return watched


class Count:
    """Counts calls, and strikes."""

    def __init__(self, strike: Strike | None) -> None:
        self.calls, self.strike = 0, strike

    def counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def counted(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            strike = self.strike
            if strike is None or self.calls < strike.number:
                return call(*arguments, **options)
            here = self.calls == strike.number
            if strike.error and (here or strike.stays):
                if call.__name__ == "write":  # a full disk takes a part
                    call(arguments[0], arguments[1][: len(arguments[1]) // 2])
                name = arguments[0] if isinstance(arguments[0], str | os.PathLike) else None
                raise OSError(strike.error, os.strerror(strike.error), name)
            if strike.kill and here and not strike.after:
                os.kill(os.getpid(), strike.kill)
            result = call(*arguments, **options)
            if strike.kill and here and strike.after:
                os.kill(os.getpid(), strike.kill)
            return result

        return counted


def _note(path: Path, line: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def _become(
    function: Callable[[], int], output: int, environment: dict[str, str], kept: set[int]
) -> NoReturn:
    """Run a function as a new program would: signals, files and environment of its own."""
    code = 1
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        for descriptor in set(map(int, os.listdir("/proc/self/fd"))) - kept - {0, 1, 2}:
            try:
                os.close(descriptor)
            except OSError:  # the one that listed them
                continue
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        os.environ.clear()
        os.environ.update(environment)
        code = function()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)
