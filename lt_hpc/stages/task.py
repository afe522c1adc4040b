"""What a stage's task is given: the plan, its inputs, its place among the tasks, a way to stop."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lt_hpc.cluster.place import Place
from lt_hpc.data.corpus import Corpus, View, read_corpus
from lt_hpc.errors import IncompleteError, Interrupted
from lt_hpc.latent.layout import Layout
from lt_hpc.run import state
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.run.progress import Progress
from lt_hpc.store import manifest
from lt_hpc.store.arrays import IN_MEMORY, Arrays
from lt_hpc.store.manifest import Manifest
from lt_hpc.store.paths import LAYOUT, RunPaths


@dataclass(frozen=True)
class Vocabulary:
    """The ids that stages need, so that none of them has to load a tokenizer."""

    layout: Layout
    bos: int | None
    eos: int | None
    pad: int


@dataclass(frozen=True)
class Task:
    """One task of a stage, at its place among those that were started with it.

    `shards`: of a sharded stage, those that this task handles.
    """

    plan: Plan
    stage: Stage
    paths: RunPaths
    place: Place
    shards: tuple[int, ...]
    progress: Progress
    should_stop: Callable[[], bool]

    def folder(self, role: str) -> Path:
        """Where an input lies, whether or not it is done."""
        return self.paths.root / self.stage.inputs[role]

    def input(self, role: str, checksums: bool = True) -> Path:
        """The folder of an input, verified: with its files' sizes and, unless told otherwise, their
        checksums.

        Raises:
            IncompleteError: with the reason, when it is not done.
        """
        maker = self.plan.producer(self.stage.inputs[role])
        if maker.kind.sharded:
            found = state.problem(self.paths, maker)
            if found is not None:
                raise IncompleteError(found)
        else:
            self.record(role, checksums)
        return self.folder(role)

    def record(self, role: str, checksums: bool = True) -> Manifest:
        """The manifest of an input that is no folder of shards, verified like `input`."""
        expected = self.plan.output(self.stage.inputs[role])
        return manifest.verified(self.folder(role), expected, checksums)

    def documents(
        self, role: str, start: int = 0, stop: int | None = None, arrays: Arrays = IN_MEMORY
    ) -> Corpus:
        """An input of documents: those whose chunks may lie in [start, stop), from verified files, put into
        `arrays`.

        Raises:
            IncompleteError: with the reason, when they are not done.
        """
        fingerprint = self.plan.output(self.stage.inputs[role])
        return read_corpus(self.folder(role), fingerprint, self.view, start, stop, arrays)

    def check_inputs(self) -> None:
        """A stage may start after what it needs has failed. One that repairs its input looks at each
        shard itself.

        Raises:
            IncompleteError: naming the stage that is not done, and why.
        """
        if self.stage.kind.repairs is not None:
            return
        for maker, reason in state.Look(self.paths).missing_inputs(self.plan, self.stage).items():
            raise IncompleteError(f"{maker} is not done: {reason}")

    @property
    def output(self) -> Path:
        """The folder that the stage fills."""
        return self.paths.root / self.stage.output

    @property
    def view(self) -> View:
        config = self.plan.config
        return View(
            config.chunking.prefix_chunks,
            config.model.context_length,
            config.sample.max_thought_tokens,
            self.vocabulary.bos,
            config.chunking.prefix_stride,
        )

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The markers and special ids of the run's tokenizer, from the verified base (which stands there
        before any documents)."""
        base = str(self.paths.base.relative_to(self.paths.root))
        manifest.verified(self.paths.base, self.plan.output(base), checksums=False)
        return read_vocabulary(self.paths.base)

    def stop_if_asked(self) -> None:
        """Raise Interrupted when a signal asked this task to stop; call it where all is saved."""
        if self.should_stop():
            raise Interrupted(f"{self.stage.key}: stopped on request; finished work is kept")


def read_vocabulary(base: Path) -> Vocabulary:
    """From the base's folder; one of an earlier release puts no bos token before sequences."""
    raw = json.loads((base / LAYOUT).read_text())
    layout = Layout(raw["sol"], raw["eol"], raw["prior"], raw["post"])
    return Vocabulary(layout, raw.get("bos"), raw["eos"], raw["pad"])
