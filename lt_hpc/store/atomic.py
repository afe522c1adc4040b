"""The one way a file or folder appears: temporary name, fsync, rename, fsync of the folder."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TEMPORARY_PREFIX = ".tmp-"
SEAL = "sha256"
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
"""What file systems without hard links say."""
_OLD_SECONDS = 7 * 24 * 3600
_SORTED = json.JSONEncoder(sort_keys=True, allow_nan=False, check_circular=False)


def temporary_name(path: Path) -> Path:
    """Beside a file or folder, of this process alone."""
    unique = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    return path.with_name(f"{TEMPORARY_PREFIX}{path.name}.{unique}")


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path; on success it is fsynced and renamed to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        yield temporary
        _fsync(temporary)
        os.replace(temporary, path)
        _fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new temporary folder; on success it takes the place of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    temporary.mkdir()
    try:
        yield temporary
        mode = temporary.stat().st_mode & 0o666  # as the umask says; some writers choose their own
        for file in temporary.rglob("*"):
            if file.is_file():
                file.chmod(mode)
            _fsync(file)
        _fsync(temporary)
        if path.exists():  # a folder can't be replaced in one step: its manifest goes with it
            discarded = temporary_name(path)
            os.rename(path, discarded)
            shutil.rmtree(discarded, ignore_errors=True)
        os.rename(temporary, path)
        _fsync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically; NaN and infinities are refused (they are not JSON)."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def sealed(value: dict[str, Any]) -> dict[str, Any]:
    """With a checksum of its own content, for files that nothing else guards."""
    return {**value, SEAL: _checksum(value)}


def read_sealed(path: Path | str) -> dict[str, Any]:
    """A JSON object without its checksum; one of an earlier release has none.

    Raises:
        OSError: when it can't be read.
        ValueError: when it is no JSON object, or does not match its checksum.
    """
    value = json.loads(_read(path))
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    seal = value.pop(SEAL, None)
    if seal is not None and seal != _checksum(value):
        raise ValueError("does not match its own checksum")
    return value


def _read(path: Path | str) -> bytes:
    """A file, in less than two thirds of the time of `open`: a launch reads thousands of small ones."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return b"".join(iter(lambda: os.read(descriptor, 1 << 16), b""))
    finally:
        os.close(descriptor)


def _checksum(value: dict[str, Any]) -> str:
    return hashlib.sha256(_SORTED.encode(value).encode()).hexdigest()[:16]


def create_json(path: Path, value: Any) -> bool:
    """Write a JSON file unless it exists, whoever else tries at the same time; True if written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        _fsync(temporary)
        try:
            os.link(temporary, path)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS or path.exists():
                raise
            os.replace(temporary, path)  # of two at the same moment the later one stays
        _fsync(path.parent)
        return True
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)


def append_line(path: Path, value: dict[str, Any]) -> None:
    """Append one JSON line. Locked, because O_APPEND alone is no promise between hosts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = (json.dumps(value, allow_nan=False) + "\n").encode()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":  # a full disk or a crash cut it off
            line = b"\n" + line
        while line:
            line = line[os.write(descriptor, line) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_lines(path: Path, containing: str = "") -> list[dict[str, Any]]:
    """The JSON lines of a file that contain a text, none where there is none; without those that were cut
    off."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    lines = (line for line in text.splitlines() if containing in line)
    return [value for value in map(_parsed, lines) if isinstance(value, dict)]


def sealed_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file that match their own checksums, without these."""
    found = []
    for value in read_lines(path):
        seal = value.pop(SEAL, None)
        if seal == _checksum(value):
            found.append(value)
    return found


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def clean_temporaries(folder: Path, alone: bool = True) -> None:
    """Remove what killed writers left directly in `folder`. Unless this process is `alone` there, only what
    no writer can be at: of dead processes of this host, or a week old."""
    if not folder.is_dir():
        return
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        if not alone and _may_be_at_work(leftover):
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _runs(process: str) -> bool:
    """Not one that ended and that nobody has taken note of, which may stay for long in a container."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def _may_be_at_work(leftover: Path) -> bool:
    writer = re.search(rf"\.{re.escape(socket.gethostname())}-(\d+)-[0-9a-f]+$", leftover.name)
    if writer:  # see temporary_name
        return _runs(writer[1])
    return time.time() - leftover.lstat().st_mtime < _OLD_SECONDS
