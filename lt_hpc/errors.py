"""The exception tree. Every error a user can cause is an LtError with an exit code.

LtError
├── ConfigError      2   a setting, file or argument is wrong; nothing was started
├── IncompleteError  3   an input of a stage is missing or fails verification
├── StageError       4   a stage failed; the message names it and its log
├── HardwareError   71   a GPU, a driver or the network between ranks failed
└── Interrupted     75   stopped by a signal with all finished work kept; run again to continue

A command ends with 74 (EX_IOERR) for a file that can't be read or written, 130 on Ctrl-C, 141 when nobody
reads its output any more, and 70 (EX_SOFTWARE) for a fault of lt_hpc itself; see `guarded`.
"""

from __future__ import annotations

import difflib
import errno
import functools
import io
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Protocol


class LtError(Exception):
    """Base of the project's errors; the message is one line for the user."""

    exit_code = 1


class ConfigError(LtError):
    """A wrong setting, file or argument. Names the field and what would be valid."""

    exit_code = 2


class IncompleteError(LtError):
    """An input that should be complete is missing, partial or corrupt."""

    exit_code = 3


class StageError(LtError):
    """A stage ended without its output."""

    exit_code = 4


class HardwareError(LtError):
    """A GPU, its driver or the network between ranks failed, or another rank is gone: the same work may
    succeed elsewhere (71 is EX_OSERR)."""

    exit_code = 71


class Interrupted(LtError):
    """Stopped on request; whatever was committed is kept (75 is EX_TEMPFAIL)."""

    exit_code = 75


class Command(Protocol):
    """The main function of a command; its arguments are those of the process where none are given."""

    def __call__(self, arguments: list[str] | None = None) -> int: ...


def did_you_mean(word: str, valid: Iterable[str]) -> str:
    """What to add to a message about a word that is not valid: the nearest that is, or nothing. Of dotted
    names those with the same end are the nearest."""
    words = list(valid)
    end = word.rpartition(".")[2]
    nearest = [one for one in words if one.endswith(f".{end}")][:3]
    nearest = nearest or difflib.get_close_matches(word, words, n=1, cutoff=0.7)
    return f" (did you mean {' or '.join(nearest)}?)" if nearest else ""


FILE_ERROR, INTERNAL_ERROR, INTERRUPTED, READER_GONE = 74, 70, 130, 141
_ADVICE = {
    errno.ENOSPC: "make room, then run the same command: it goes on",
    errno.EDQUOT: "the quota is used up; make room, then run the same command: it goes on",
    errno.EROFS: "a finished run can be looked at there, none can go on",
    errno.EACCES: "another user's, or its mode forbids it",
    errno.EPERM: "another user's, or its mode forbids it",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.ENOTDIR: "a part of the path is a file",
    errno.EISDIR: "a folder stands where a file belongs; move it away",
    errno.EEXIST: "a file stands where a folder belongs; move it away",
    errno.ESTALE: "the file server forgot it; run the same command again",
    errno.EIO: "the disk or the file server failed; run the same command again",
}


def guarded(command: Callable[[list[str] | None], int]) -> Command:
    """A command that ends with an exit code, and one line in place of a traceback, whatever happens; a
    traceback stays where the fault is in lt_hpc."""

    @functools.wraps(command)
    def run(arguments: list[str] | None = None) -> int:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a terminal that can't show a name
        try:
            code = command(arguments)
            sys.stdout.flush()
            return code
        except KeyboardInterrupt:
            print("stopped; the same command goes on from here", file=sys.stderr)
            return INTERRUPTED
        except LtError as error:
            print(error if isinstance(error, Interrupted) else f"error: {error}", file=sys.stderr)
            return error.exit_code
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
            return READER_GONE
        except OSError as error:
            print(f"error: {explained(error)}", file=sys.stderr)
            return FILE_ERROR
        except Exception:
            traceback.print_exc()
            print("error: a fault of lt_hpc itself; please report it with the lines above", file=sys.stderr)
            return INTERNAL_ERROR

    return run


def explained(error: OSError) -> str:
    """Path, reason and what to do, on one line."""
    path = f"{error.filename}: " if error.filename else ""
    advice = _ADVICE.get(error.errno or 0)
    return f"{path}{error.strerror or error}{f'; {advice}' if advice else ''}".replace("\n", " ")
