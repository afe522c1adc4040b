"""Nobody else writes into a run folder, because jobs run what lies there.

submitit's hand-over is a pickle, and a plan has lines of shell.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path

from lt_hpc.errors import ConfigError
from lt_hpc.store.paths import RunPaths


def refuse(paths: RunPaths) -> None:
    """Keep others from writing what this process and its tasks create from now on.

    Raises:
        ConfigError: when they can write into the run folder already.
    """
    for folder in (paths.root, paths.plans, paths.slurm):
        if folder.is_dir() and writers(folder):
            raise ConfigError(
                f"--run-dir {paths.root}: {writers(folder)} can write into {folder}, and jobs run what lies "
                f"there: chmod -R go-w {paths.root}, or --allow-shared if you trust them"
            )
    os.umask(os.umask(0o022) | 0o022)


def writers(folder: Path) -> str:
    """Who besides its owner can write into a folder, in words; empty for nobody. (A group that has the
    owner alone, as many systems make one for every user, is nobody else.)"""
    found = folder.stat()
    if found.st_mode & stat.S_IWOTH:
        return "everybody"
    if not found.st_mode & stat.S_IWGRP:
        return ""
    try:
        group, owner = grp.getgrgid(found.st_gid), pwd.getpwuid(found.st_uid)
    except KeyError:
        return "a group"
    alone = group.gr_name == owner.pw_name and set(group.gr_mem) <= {owner.pw_name}
    return "" if alone else f"the group {group.gr_name}"
