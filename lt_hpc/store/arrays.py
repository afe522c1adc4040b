"""Arrays that may be larger than a process should hold: made in blocks, and where that is wanted as files
that the processes of a machine share through its page cache.

Whoever makes them and whoever only reads them runs the same code: `columns` is asked for arrays by name, and
calls what makes them where they are to be made. The files are raw numbers, NAME.COLUMN.TYPE, in the byte
order of the machine.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

BLOCK = 1 << 16
"""Rows that are worked on at once: some MB of memory, however many there are."""

Columns = Mapping[str, np.ndarray]
"""Arrays by name, of one dimension each."""


class Arrays(Protocol):
    """Where large arrays are put."""

    def columns(
        self, name: str, types: Mapping[str, type], blocks: Callable[[], Iterable[Columns]]
    ) -> dict[str, np.ndarray]:
        """The arrays of all `types`, each made of what `blocks` gives of it, end to end. A block need not
        have every column."""
        ...

    def scratch(self, count: int) -> np.ndarray:
        """[count] int64 to be written, for as long as it is used."""
        ...


class InMemory:
    """Arrays of this process: they are resized and keep their memory, so that of billions of numbers no more
    than a block is held twice."""

    def columns(
        self, name: str, types: Mapping[str, type], blocks: Callable[[], Iterable[Columns]]
    ) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {column: np.zeros(0, kind) for column, kind in types.items()}
        for block in blocks():
            for column, values in block.items():
                start = len(found[column])
                found[column].resize(start + len(values), refcheck=False)
                found[column][start:] = values
        return found

    def scratch(self, count: int) -> np.ndarray:
        return np.empty(count, np.int64)


IN_MEMORY = InMemory()


@dataclass(frozen=True)
class Mapped:
    """Files in `folder`, written by the process that is `making` them and only read by others."""

    folder: Path
    making: bool = False
    check: Callable[[], None] = lambda: None
    """Called between two blocks; raises what is to end the making."""

    def columns(
        self, name: str, types: Mapping[str, type], blocks: Callable[[], Iterable[Columns]]
    ) -> dict[str, np.ndarray]:
        kinds = {column: np.dtype(kind) for column, kind in types.items()}
        paths = {column: self.folder / f"{name}.{column}.{kind}" for column, kind in kinds.items()}
        if self.making:
            with contextlib.ExitStack() as stack:
                files = {column: stack.enter_context(path.open("xb")) for column, path in paths.items()}
                for block in blocks():
                    self.check()
                    for column, values in block.items():
                        files[column].write(np.ascontiguousarray(values, kinds[column]).data)
        return {column: _mapped(paths[column], kind) for column, kind in kinds.items()}

    def scratch(self, count: int) -> np.ndarray:
        """In a file too, which has no name: its pages are the kernel's to write out and to take back."""
        if not count:
            return np.empty(0, np.int64)
        size = count * np.dtype(np.int64).itemsize
        with tempfile.TemporaryFile(dir=self.folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk is an error here, and a signal later
            return np.frombuffer(mmap.mmap(file.fileno(), size), np.int64)


def _mapped(path: Path, kind: np.dtype) -> np.ndarray:
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:  # nothing that could be mapped
            return np.zeros(0, kind)
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), kind)


def spans(count: int) -> Iterator[slice]:
    """The blocks of `count` rows, in order."""
    return (slice(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK))
