"""Outputs that another run has already made, taken over in place of making them again.

An output is known by its fingerprint alone: of which run, stage or settings it is does not matter. What has
been taken over verifies under the plan of the run that took it, file by file, or it is not there.

Files are linked where the file system has hard links, so that runs which share a corpus or a model need its
space once. That is safe because no file that a manifest lists is ever changed in place: whoever writes one
writes a new file and renames it (store/atomic.py), a manifest that is declared unfinished is a new file too,
removal removes a name, and moving to superseded/ renames a folder. So each run keeps what it has, whatever
happens to the others; only the disk itself can damage a file for all of them, and each reads its checksums.
Other files in a folder, such as what a teacher was asked, are appended to: these are copied.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from lt_hpc.errors import IncompleteError
from lt_hpc.run import state
from lt_hpc.run.plan import Plan
from lt_hpc.store import manifest, shards
from lt_hpc.store.atomic import TEMPORARY_PREFIX, atomic_folder, clean_temporaries
from lt_hpc.store.paths import RunPaths, shard_folder, shard_map_file


def adopt(paths: RunPaths, plan: Plan, others: Sequence[RunPaths]) -> list[str]:
    """Take over what a run has to make and one of the others has; returns the folders.

    What is there already stays, so that work of its own that a run has begun goes on. The caller holds the
    run's lock, and no job works on the run.
    """
    pending = state.pending(paths, plan)
    for folder in {paths.root, *((paths.root / name).parent for s in pending for name in s.outputs)}:
        clean_temporaries(folder, alone=False)
    return [
        name
        for stage in pending
        for name, expected in stage.outputs.items()
        if not (paths.root / name).exists()
        and any(_taken(one.root / name, paths.root / name, expected, stage.kind.sharded) for one in others)
    ]


def _taken(source: Path, target: Path, expected: str, sharded: bool) -> bool:
    """Whether `target` is now what `source` is; nothing is left of it where `source` is not done."""
    if _problem(source, expected, sharded, checksums=False) is not None:
        return False
    try:
        with atomic_folder(target) as temporary:
            _copy(source, temporary)
            # What is here now, not what was there: the source may have been withdrawn meanwhile.
            found = _problem(temporary, expected, sharded, checksums=True)
            if found is not None:
                raise IncompleteError(found)
    except (IncompleteError, FileNotFoundError):
        return False
    return True


def _problem(folder: Path, expected: str, sharded: bool, checksums: bool) -> str | None:
    """Why a folder is not done; of one in shards, every shard of its map."""
    if not sharded:
        return manifest.problem(folder, expected, checksums)
    found = shards.problem(folder, expected)
    pinned = shards.read(folder)
    if found is None and pinned is not None and checksums:
        found = next(iter(shards.problems(folder, pinned, checksums=True).values()), None)
    return found


def _copy(source: Path, target: Path) -> None:
    """The files of a folder, and of its shards, the manifests last."""
    pinned = shards.read(source)
    for shard in range(pinned.num_shards if pinned else 0):
        folder = shard_folder(target, shard)
        folder.mkdir()
        _copy(shard_folder(source, shard), folder)
    record = manifest.read(source)
    listed = {source / entry.name for entry in record.files} if record else set()
    last = {source / manifest.NAME, shard_map_file(source)}
    files = {path for path in source.iterdir() if path.is_file()} | listed
    for path in sorted(files - last) + sorted(files & last):
        if path.name.startswith(TEMPORARY_PREFIX):
            continue
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path in listed or path in last:
            _link(path, copy)
        else:
            shutil.copyfile(path, copy)


def _link(path: Path, copy: Path) -> None:
    try:
        os.link(path, copy)
    except FileNotFoundError:
        raise
    except OSError:  # no hard links here, or another file system
        shutil.copyfile(path, copy)
