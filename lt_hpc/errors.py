"""The exception tree. Every error a user can cause is an LtError with an exit code.

LtError
├── ConfigError      2   a setting, file or argument is wrong; nothing was started
├── IncompleteError  3   an input of a stage is missing or fails verification
├── StageError       4   a stage failed; the message names it and its log
└── Interrupted     75   stopped by a signal with all finished work kept; run again to continue
"""

from __future__ import annotations


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


class Interrupted(LtError):
    """Stopped on request; whatever was committed is kept (75 is EX_TEMPFAIL)."""

    exit_code = 75
