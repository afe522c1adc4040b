"""Training checkpoints: one folder each, one safetensors file per rank, a manifest written last.

    step-00000400-ATTEMPT/rank-00003.safetensors     what rank 3 held (training/partitions.py)
                          rank-00003.json            its size, checksum and seconds, when it is whole
                          manifest.json              written by rank 0 once every rank's file is there

An attempt is one start of training and has a name of its own, so no folder is ever written
twice. A kill at any moment leaves the last folder with a manifest as the one to resume from.
The files hold pieces of parameters with their places, so any number of ranks and any ZeRO
stage can read them. Tensors and JSON: nothing in a checkpoint is executed when it is read.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lt_hpc.errors import IncompleteError, StageError
from lt_hpc.store import manifest
from lt_hpc.store.atomic import atomic_file, write_json
from lt_hpc.store.manifest import FileEntry, Manifest

if TYPE_CHECKING:
    from torch import Tensor

WAIT_SECONDS = 900
"""How long rank 0 waits for the files of the others before it gives a checkpoint up."""
_NAME = re.compile(r"step-(\d{8})-(.+)")


@dataclass(frozen=True, order=True)
class Checkpoint:
    """After `step` optimizer steps, written by `attempt`."""

    step: int
    attempt: str

    @property
    def name(self) -> str:
        return f"step-{self.step:08d}-{self.attempt}"


@dataclass(frozen=True)
class Cost:
    """What a checkpoint took: seconds until it was complete, those of them in which training
    stood still, bytes over all ranks."""

    seconds: float
    bytes: int
    blocked_seconds: float = 0.0


def all_of(folder: Path) -> list[Checkpoint]:
    """Every checkpoint folder, finished or not, oldest step first."""
    inside = folder.iterdir() if folder.is_dir() else ()
    matches = (_NAME.fullmatch(path.name) for path in inside if path.is_dir())
    return sorted(Checkpoint(int(match.group(1)), match.group(2)) for match in matches if match)


def write_part(path: Path, rank: int, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write this rank's file of the checkpoint in `path`, then the entry that says it is whole."""
    from safetensors.torch import save_file

    file = path / f"rank-{rank:05d}.safetensors"
    with atomic_file(file) as temporary:
        save_file(dict(tensors), temporary, dict(metadata))
    write_json(path / f"rank-{rank:05d}.json", asdict(manifest.describe(file)))


def commit(
    path: Path,
    expected: str,
    world_size: int,
    started: float,
    abandoned: Callable[[], bool] = lambda: False,
) -> Cost:
    """On rank 0: wait for every rank's file, then declare the checkpoint complete. `started` is
    the time.monotonic() at which it was begun; `abandoned` says that nobody will write any more.

    Raises:
        StageError: when a file does not appear in time.
    """
    entries = tuple(_entry(path / f"rank-{rank:05d}.json", abandoned) for rank in range(world_size))
    seconds = time.monotonic() - started
    manifest.write(path, Manifest("checkpoint", expected, True, entries, seconds=seconds))
    return Cost(seconds, sum(entry.bytes for entry in entries))


def _entry(path: Path, abandoned: Callable[[], bool]) -> FileEntry:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return FileEntry(**json.loads(path.read_text()))
        except FileNotFoundError:
            if abandoned() or time.monotonic() > deadline:
                raise StageError(
                    f"checkpoint: {path} was not written: that rank has ended, or its file system hangs; "
                    "launch again goes on from the checkpoint before"
                ) from None
        time.sleep(0.02)


def latest(folder: Path, expected: str) -> Checkpoint | None:
    """The newest checkpoint with the fingerprint `expected` whose files have the right sizes."""
    for checkpoint in reversed(all_of(folder)):
        if manifest.problem(folder / checkpoint.name, expected) is None:
            return checkpoint
    return None


def _entries(folder: Path, checkpoint: Checkpoint) -> tuple[FileEntry, ...]:
    path = folder / checkpoint.name
    os.listdir(folder)  # makes a network file system look again
    found = manifest.read(path)
    if found is None:
        raise IncompleteError(
            f"{path / manifest.NAME}: rank 0 has read it, this rank can't; all nodes have to see the "
            "run folder"
        )
    return found.files


def files(folder: Path, checkpoint: Checkpoint) -> list[Path]:
    """The files of a finished checkpoint, in rank order.

    Raises:
        IncompleteError: when this rank does not see its manifest.
    """
    return [folder / checkpoint.name / entry.name for entry in _entries(folder, checkpoint)]


def is_sound(folder: Path, checkpoint: Checkpoint, rank: int, world_size: int) -> bool:
    """Whether this rank's share of the files matches its checksums: together the ranks read
    every byte once."""
    share = _entries(folder, checkpoint)[rank::world_size]
    return all(
        manifest.file_problem(folder / checkpoint.name, entry, checksums=True) is None for entry in share
    )


def discard(folder: Path, checkpoint: Checkpoint) -> None:
    """Withdraw a checkpoint that went bad; the next `prune` deletes it."""
    (folder / checkpoint.name / manifest.NAME).unlink(missing_ok=True)


def prune(folder: Path, keep: int, newest: Checkpoint) -> None:
    """Delete all but the newest `keep` finished checkpoints up to `newest`, which was just
    finished, and every unfinished one, save those its own attempt may be writing."""
    found = all_of(folder)
    finished = [c for c in found if manifest.read(folder / c.name) is not None]
    unfinished = [c for c in found if c not in finished]
    coming = [c for c in unfinished if c.attempt == newest.attempt and c.step > newest.step]
    for checkpoint in [*finished[:-keep], *(c for c in unfinished if c not in coming)]:
        shutil.rmtree(folder / checkpoint.name, ignore_errors=True)
