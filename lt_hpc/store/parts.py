"""A folder that fills part by part: what a stop, a kill or a bad file costs is one part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lt_hpc.store import manifest
from lt_hpc.store.atomic import clean_temporaries
from lt_hpc.store.manifest import FileEntry, Manifest


class Parts:
    """The parts in `folder` that were made for `fingerprint` and still verify, and the manifest
    that records each new one as soon as it is written.

    `seconds` and `statistics` go on from an earlier attempt. `complete`: nothing is left to do. `attention`:
    the kernel that its parts are made with, for the record.
    """

    def __init__(self, folder: Path, stage: str, fingerprint: str) -> None:
        self.folder, self.stage, self.fingerprint = folder, stage, fingerprint
        self.seconds, self.attention = 0.0, ""
        self.statistics: dict[str, Any] = {}
        self._entries: dict[str, FileEntry] = {}
        self.complete = False
        folder.mkdir(parents=True, exist_ok=True)
        clean_temporaries(folder)
        earlier = manifest.read(folder)
        if earlier is not None and earlier.fingerprint == fingerprint:
            self.seconds, self.statistics = earlier.seconds, dict(earlier.statistics)
            self._entries = {
                entry.name: entry
                for entry in earlier.files
                if manifest.file_problem(folder, entry, checksums=True) is None
            }
            self.complete = earlier.complete and len(self._entries) == len(earlier.files)

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """The entries of all parts that are there, in their order."""
        # By number: a name grows a digit after its 99,999.
        return tuple(sorted(self._entries.values(), key=lambda entry: (len(entry.name), entry.name)))

    def get(self, name: str) -> FileEntry | None:
        """The entry of a part that is there, or None."""
        return self._entries.get(name)

    def add(self, entry: FileEntry, seconds: float) -> None:
        """Record a part that has been written, and took `seconds` to make."""
        self._entries[entry.name] = entry
        self.seconds += seconds
        self._write(complete=False)

    def note(self, name: str, value: Any) -> None:
        """Add to the statistics of what has been recorded."""
        self.statistics[name] = value
        self._write(self.complete)

    def finish(self, counts: Mapping[str, int] | None = None) -> None:
        """Declare the folder complete: all parts have been added. `counts`: of all of them together."""
        self._write(complete=True, counts=counts)
        self.complete = True

    def _write(self, complete: bool, counts: Mapping[str, int] | None = None) -> None:
        total: Counter[str] = Counter()
        for entry in self.files:
            total.update(entry.counts)
        total.update(counts or {})
        record = Manifest(
            self.stage, self.fingerprint, complete, self.files, dict(total), self.seconds,
            self.statistics, manifest.provenance(self.attention),
        )  # fmt: skip
        manifest.write(self.folder, record)
