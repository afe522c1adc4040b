"""Manifests: what a folder holds, from what it was made, and whether that is all there.

A stage's output is done when its manifest is complete, carries the expected fingerprint
and every file in it verifies. Nothing else marks work as done.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import socket
import stat
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from lt_hpc import __version__, hardware
from lt_hpc.errors import IncompleteError
from lt_hpc.store.atomic import read_sealed, sealed, write_json

FORMAT = 2
NAME = "manifest.json"


@dataclass(frozen=True)
class FileEntry:
    """One file of a folder: its size in bytes, SHA-256 and counts (rows, chunks, tokens)."""

    name: str
    bytes: int
    sha256: str
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """The record of a folder. `statistics` are for people and reports, never for identity."""

    stage: str
    fingerprint: str
    complete: bool
    files: tuple[FileEntry, ...]
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    statistics: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT


def _names(cls: type[FileEntry] | type[Manifest]) -> tuple[frozenset[str], frozenset[str]]:
    """The fields that a record must have, and those that it may."""
    known = {item.name: item.default is MISSING and item.default_factory is MISSING for item in fields(cls)}
    return frozenset(name for name, required in known.items() if required), frozenset(known)


_FIELDS, _FILE_FIELDS = _names(Manifest), _names(FileEntry)


def sha256(path: Path) -> str:
    """Checksum of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def describe(path: Path, counts: Mapping[str, int] | None = None, root: Path | None = None) -> FileEntry:
    """The entry of a file that lies under `root` (default: its own folder)."""
    name = path.relative_to(root or path.parent).as_posix()
    return FileEntry(name, path.stat().st_size, sha256(path), dict(counts or {}))


def provenance(attention: str = "") -> dict[str, Any]:
    """Where and by what something was made; `attention`: by which kernel."""
    return {
        "host": socket.gethostname(),
        "threads": os.environ.get("OMP_NUM_THREADS"),  # sums on a CPU depend on their number
        "python": platform.python_version(),
        "lt_hpc": __version__,
        **hardware.found(attention),
    }


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of `folder`; its files must already be in place."""
    write_json(folder / NAME, sealed(asdict(manifest)))


def read(folder: Path | str) -> Manifest | None:
    """The manifest of `folder`, or None where there is none that can be read."""
    raw = _read(folder)
    if raw is None:
        return None
    return Manifest(**{**raw, "files": tuple(FileEntry(**entry) for entry in raw["files"])})


def _read(folder: Path | str) -> dict[str, Any] | None:
    """The same as in the file. A fifth of the time of a look at thousands of shards would go into objects."""
    try:
        raw = read_sealed(f"{folder}/{NAME}")
        of_its_format = raw.get("format") == FORMAT and _fits(raw, _FIELDS)
        return raw if of_its_format and all(_fits(entry, _FILE_FIELDS) for entry in raw["files"]) else None
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _fits(value: dict[str, Any], fields: tuple[frozenset[str], frozenset[str]]) -> bool:
    required, known = fields
    return value.keys() >= required and value.keys() <= known


def file_problem(folder: Path | str, entry: FileEntry, checksums: bool) -> str | None:
    """What is wrong with one file, or None."""
    return _problem_of_file(f"{folder}/{entry.name}", entry.bytes, entry.sha256 if checksums else None)


def _problem_of_file(path: str, size: int, checksum: str | None) -> str | None:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return f"{path} is missing"
    if not stat.S_ISREG(found.st_mode):
        return f"{path} is missing"
    if found.st_size != size:
        return f"{path} has {found.st_size} bytes, its manifest says {size}"
    if checksum is not None and sha256(Path(path)) != checksum:
        return f"{path} does not match its checksum"
    return None


def none_in(folder: Path | str) -> str:
    """What is wrong with a folder that has none."""
    return f"{folder} has no manifest"


def problem(folder: Path | str, expected: str, checksums: bool = False) -> str | None:
    """Why `folder` is not done for the fingerprint `expected`, or None when it is. JSON files are small and
    every stage depends on them: their checksums are always compared."""
    raw = _read(folder)
    if raw is None:
        bad = os.path.exists(f"{folder}/{NAME}")
        return f"{folder} has a manifest that can not be read" if bad else none_in(folder)
    if raw["fingerprint"] != expected:
        return f"{folder} was made from other settings or inputs"
    if not raw["complete"]:
        return f"{folder} is not finished"
    for entry in raw["files"]:
        name = entry["name"]
        checksum = entry["sha256"] if checksums or name.endswith(".json") else None
        found = _problem_of_file(f"{folder}/{name}", entry["bytes"], checksum)
        if found:
            return found
    return None


def damage(folder: Path) -> str | None:
    """What is wrong with a folder that was done once, whatever for: a manifest or a file that is bad."""
    manifest = read(folder)
    if manifest is None:
        return problem(folder, "") if (folder / NAME).exists() else None
    return problem(folder, manifest.fingerprint, checksums=True) if manifest.complete else None


def reopen(folder: Path) -> None:
    """Declare a folder unfinished again, because a file in it went bad; the rest stays listed."""
    manifest = read(folder)
    if manifest is not None and manifest.complete:
        write(folder, replace(manifest, complete=False))


def withdrawn(folder: Path, reason: str) -> IncompleteError:
    """The error to raise for a bad file of a folder that was done: it is no more, so that the next launch
    makes it again. (In a folder of somebody else nothing can be declared.)"""
    with contextlib.suppress(OSError):
        reopen(folder)
    return IncompleteError(f"{reason}; the next launch that needs it makes it again")


def verified(folder: Path, expected: str, checksums: bool = True) -> Manifest:
    """The manifest of a finished folder.

    Raises:
        IncompleteError: with the reason, when the folder is not done.
    """
    found = problem(folder, expected)
    if found:
        raise IncompleteError(found)
    found = problem(folder, expected, checksums=True) if checksums else None
    if found:
        raise withdrawn(folder, found)
    manifest = read(folder)
    assert manifest is not None
    return manifest
