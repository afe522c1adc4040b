"""How a task learns that it has to stop, and how its process ends.

The one signal supervisor: TERM, INT, USR1 and USR2 set a flag that stages read between steps.

A handler does nothing else, and only in the process that installed it: forked children
inherit handlers, and a checkpoint must be written once.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from typing import NoReturn

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
_PR_SET_PDEATHSIG = 1


class Supervisor:
    """Installed once at the start of a task; `stop_requested` is the flag, `began` when that was, on the
    monotonic clock."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self._owner = os.getpid()
        self._requested = False
        for number in STOP_SIGNALS:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: object) -> None:
        if os.getpid() == self._owner:
            self._requested = True

    def stop_requested(self) -> bool:
        return self._requested


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when process `parent` dies, so that a launcher killed
    with -9 leaves no orphan behind that writes beside its successor (Linux)."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os.kill(os.getpid(), signal.SIGKILL)


def fail(code: int, cause: str) -> NoReturn:
    """End this process at once with an exit code and its cause.

    Nothing that runs when an interpreter exits may hold it up: a process group waits for ranks that are
    in an exchange with this one, and these are only ended when this one has.
    """
    print(f"exit code {code}: {cause}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(code)
