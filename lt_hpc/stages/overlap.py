"""Which documents of a run are in more than one of its folders, by the hashes of their texts.

The later of two folders counts what it shares with the other: warm with corpus, heldout with both; the fresh
corpus of an iteration with warm and heldout.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lt_hpc.config.schema import CORPORA
from lt_hpc.run.plan import Plan
from lt_hpc.stages.task import Task
from lt_hpc.store import manifest, tables
from lt_hpc.store.counts import SHARED
from lt_hpc.store.manifest import FileEntry


@dataclass(frozen=True)
class Overlap:
    """Counts what the folders of a plan share, while one of them, `made` of `files`, is all there but for its
    manifest. Documents are the same where they differ in whitespace alone. Folders that are not done or have
    no hashes, those of earlier releases, are left out. Holds 8 bytes per document of two folders at a time.
    """

    task: Task
    made: str
    files: tuple[FileEntry, ...]

    def counts(self) -> dict[str, int]:
        """For the folder in the making: how many of its documents each one that it is compared with has."""
        return self._counts(self.made, self.files)

    def renew(self) -> None:
        """Bring the manifests up to date of the finished folders that are compared with one that the stage
        makes."""
        for name in self.task.plan.documents:
            compared = set(_compared(self.task.plan, name)) & set(self.task.stage.outputs)
            record = self._done(name) if compared and name != self.made else None
            if record:
                counts = {key: n for key, n in record.counts.items() if not key.startswith(SHARED)}
                counts |= self._counts(name, record.files)
                if counts != record.counts:
                    manifest.write(self.task.paths.root / name, replace(record, counts=counts))

    def _counts(self, name: str, files: tuple[FileEntry, ...]) -> dict[str, int]:
        own = self._hashes(name, files)
        found: dict[str, int] = {}
        for other in _compared(self.task.plan, name):
            record = None if other == self.made else self._done(other)
            others = self.files if other == self.made else record.files if record else None
            hashes = None if others is None else self._hashes(other, others)
            if own is not None and hashes is not None:
                found[f"{SHARED}{other}"] = int(np.isin(own, hashes).sum())
        return found

    def _done(self, name: str) -> manifest.Manifest | None:
        folder = self.task.paths.root / name
        problem = manifest.problem(folder, self.task.plan.output(name), checksums=True)
        return None if problem else manifest.read(folder)

    def _hashes(self, name: str, files: tuple[FileEntry, ...]) -> np.ndarray | None:
        """[documents] int64; None where a file has none."""
        found = [tables.hashes(self.task.paths.root / name / file.name) for file in files]
        known = [one for one in found if one is not None]
        return np.concatenate([np.zeros(0, np.int64), *known]) if len(known) == len(found) else None


def _compared(plan: Plan, name: str) -> list[str]:
    """The folders whose documents are looked for in a folder."""
    others = CORPORA[: CORPORA.index(name)] if name in CORPORA else CORPORA
    return [other for other in others if other in plan.documents]
