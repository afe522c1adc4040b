"""Which training checkpoints count: those whose own manifest, written last, verifies.

A checkpoint of step n lies in step-0000n/ and is never written twice under one name.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from lt_hpc.store import manifest
from lt_hpc.store.manifest import Manifest

_TAG = re.compile(r"step-(\d{8})")


def tag(step: int) -> str:
    """DeepSpeed's tag for the checkpoint after `step` optimizer steps."""
    return f"step-{step:08d}"


def _steps(folder: Path) -> list[int]:
    matches = (_TAG.fullmatch(path.name) for path in folder.iterdir() if path.is_dir())
    return sorted(int(match.group(1)) for match in matches if match)


def _fingerprint(fingerprint: str, world_size: int) -> str:
    return manifest.fingerprint("checkpoint", {"world_size": world_size}, {"model": fingerprint})


def clear(folder: Path, step: int) -> None:
    """Make room for a checkpoint: what a killed attempt left under its name goes."""
    shutil.rmtree(folder / tag(step), ignore_errors=True)


def commit(folder: Path, step: int, fingerprint: str, world_size: int) -> None:
    """Declare a checkpoint complete, after every rank has written its part."""
    path = folder / tag(step)
    files = tuple(manifest.describe(file, root=path) for file in sorted(path.rglob("*")) if file.is_file())
    manifest.write(path, Manifest("checkpoint", _fingerprint(fingerprint, world_size), True, files))


def latest(folder: Path, fingerprint: str, world_size: int) -> int | None:
    """The newest step whose checkpoint verifies for this model and world size, or None."""
    expected = _fingerprint(fingerprint, world_size)
    for step in reversed(_steps(folder)):
        if manifest.problem(folder / tag(step), expected, checksums=True) is None:
            return step
    return None


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints."""
    for step in _steps(folder)[:-keep]:
        shutil.rmtree(folder / tag(step), ignore_errors=True)
