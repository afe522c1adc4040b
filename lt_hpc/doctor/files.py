"""What the file system of a run folder can do: the things that atomic files, locks and manifests need."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lt_hpc.doctor.rows import Row, duration, size

GROUP = "files"
MOST_SKEW_SECONDS = 5.0
"""Between file server and host; times in logs and of leftover files are compared across hosts."""


@dataclass(frozen=True)
class Found:
    """What was tried in a folder. `failed`: operation -> the system's words; `skew`: seconds that the clock
    of the file system is ahead of this host's; `fsync`: seconds of one."""

    folder: str
    free: int
    failed: dict[str, str]
    skew: float
    fsync: float


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder.resolve(), *folder.resolve().parents) if path.is_dir())


def look(folder: Path) -> Found:
    """Try everything in a folder of its own there, which is removed again.

    Raises:
        OSError: when nothing can be written there.
    """
    with tempfile.TemporaryDirectory(prefix=".tmp-doctor-", dir=folder) as name:
        inside = Path(name)
        file = inside / "file"
        with file.open("w") as stream:
            stream.write("lt_hpc\n")
        skew, started = file.stat().st_mtime - time.time(), time.monotonic()
        operations: dict[str, Callable[[], object]] = {
            "fsync": lambda: _with(file, os.fsync),
            "fsync of a folder": lambda: _with(inside, os.fsync),
            "rename": lambda: os.replace(file, inside / "renamed"),
            "flock": lambda: _with(
                inside / "renamed", lambda one: fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ),
            "hard links": lambda: os.link(inside / "renamed", inside / "linked"),
        }
        failed: dict[str, str] = {}
        spent = 0.0
        for what, operation in operations.items():
            try:
                operation()
            except OSError as error:
                failed[what] = error.strerror or str(error)
            spent = spent or time.monotonic() - started
        return Found(str(folder), shutil.disk_usage(folder).free, failed, skew, spent)


def _with(path: Path, act: Callable[[int], object]) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        act(descriptor)
    finally:
        os.close(descriptor)


def rows(found: Found, needed: float | None, group: str = GROUP) -> Iterator[Row]:
    """What follows. `needed`: bytes that the run will take at most at one time; None: not known. Pure."""
    yield _space(found, needed, group)
    for what in ("rename", "fsync", "flock", "hard links"):
        said = found.failed.get(what)
        if said is None:
            continue
        if what == "hard links":
            yield Row(
                group, what, said, "of two launches at one moment the later one names the run", "warning",
                "--run-dir on another file system, or never two launches at once",
            )  # fmt: skip
        else:
            yield Row(group, what, said, "a run needs it", "refused", "--run-dir on another file system")
    good = [what for what in ("rename", "fsync", "flock", "hard links") if what not in found.failed]
    yield Row(group, "operations", f"{', '.join(good)} work", f"an fsync takes {duration(found.fsync)}")
    apart = abs(found.skew) > MOST_SKEW_SECONDS
    yield Row(
        group, "clock", f"the file system's is {found.skew:+.1f} s from this host's", "",
        "warning" if apart else "ok", "ask the site: their clocks are not kept together" if apart else "",
    )  # fmt: skip


def _space(found: Found, needed: float | None, group: str) -> Row:
    text = f"{size(found.free)} free in {found.folder} (quotas are not seen)"
    if needed is None:
        return Row(
            group, "space", text, "what the run takes is known with the model's shape: estimate.parameters"
        )
    plan = f"the run takes {size(needed)} and its documents"
    if found.free >= needed:
        return Row(group, "space", text, plan)
    change = "--run-dir where there is more; fewer checkpoints: train.keep_checkpoints=1"
    return Row(group, "space", text, plan, "refused", change)
