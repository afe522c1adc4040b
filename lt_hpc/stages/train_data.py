"""What the M-step trains on, and in which optimizer steps: a function of the plan alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lt_hpc.data.corpus import Corpus
from lt_hpc.errors import IncompleteError, StageError
from lt_hpc.stages.task import Task
from lt_hpc.store import tables
from lt_hpc.store.tables import Joined
from lt_hpc.training.batches import Epoch, Examples, examples_of_corpus, pack_epoch


def examples_of(task: Task) -> list[Examples]:
    """The iteration's training examples, in chunk order, once for each selected thought of a
    chunk: epoch e trains on list e modulo their number.

    Raises:
        IncompleteError: when the corpus or the selection does not verify.
    """
    corpus = task.documents("data")
    if "selected" in task.stage.inputs:
        return _with_selected(task, corpus)
    everything = np.arange(corpus.num_chunks)  # with the teacher's thoughts, where it has any
    return [examples_of_corpus(corpus, everything, corpus.thoughts, corpus.thought_rows)]


def _with_selected(task: Task, corpus: Corpus) -> list[Examples]:
    """The chunks with their selected thoughts."""
    merge, folder = task.plan.config.merge, task.folder("selected")
    found = task.record("selected")
    joined = Joined()
    chunk, has = [np.zeros(0, np.int64)], [np.zeros(0, bool)]
    for entry in found.files:
        table = tables.read(folder / entry.name, tables.SELECTED)
        joined.add(tables.nested_lists(table["thoughts"])[0])
        chunk.append(table["chunk"].to_numpy())
        has.append(tables.matrix(table["samples"], merge.num_selected)[:, 0] >= 0)
    chunks, has_thought = np.concatenate(chunk), np.concatenate(has)
    if len(chunks) != corpus.num_chunks or (chunks != np.arange(len(chunks))).any():
        raise IncompleteError(f"{folder}: its rows are not the {corpus.num_chunks} chunks of the corpus")
    thoughts, first = joined.lists(), np.arange(len(chunks)) * merge.num_selected
    kept = np.arange(len(chunks)) if merge.unfinished == "raw" else np.flatnonzero(has_thought)
    return [
        examples_of_corpus(corpus, kept, thoughts, np.where(has_thought, first + draw, -1)[kept])
        for draw in range(merge.num_selected)
    ]


@dataclass(frozen=True)
class StepSize:
    """Tokens that take a loss, all tokens, and the packed documents that they make up."""

    scored: int
    tokens: int
    documents: int


@dataclass(frozen=True)
class Steps:
    """Which packed rows each optimizer step takes: the same for every world size."""

    epochs: list[Epoch]
    rows: list[tuple[int, int]]  # (epoch, row)
    rows_per_step: int
    count: int

    def of(self, step: int) -> list[tuple[int, int]]:
        start = step * self.rows_per_step
        return self.rows[start : start + self.rows_per_step]

    def size(self, step: int) -> StepSize:
        """What a step trains on, over all ranks."""
        tokens = unscored = documents = 0
        for e, row in self.of(step):
            epoch = self.epochs[e]
            members = epoch.rows[row]
            tokens += int(epoch.lengths[members].sum())
            unscored += int(epoch.examples.unscored[members].sum())
            documents += len(members)
        return StepSize(tokens - unscored, tokens, documents)


def plan_steps(task: Task, draws: list[Examples]) -> Steps:
    """Pack as many epochs as the settings ask for. The last step may be smaller: no chunk is
    dropped, and a step's loss is normalised by its own tokens."""
    config = task.plan.config
    settings = task.plan.training(task.stage)
    if not len(draws[0]):
        raise StageError("no chunk is left to train on: none had a finished thought")
    capacity = config.model.context_length
    rows_per_step = settings.batch_tokens // capacity
    epochs: list[Epoch] = []
    rows: list[tuple[int, int]] = []

    def enough() -> bool:
        if settings.steps is not None:
            return len(rows) >= settings.steps * rows_per_step
        return len(epochs) >= settings.epochs

    while not enough():
        examples = draws[len(epochs) % len(draws)]
        epoch = pack_epoch(examples, config.seed, task.stage.iteration, len(epochs), capacity)
        share = 1.0 if settings.steps is not None else min(1.0, settings.epochs - len(epochs))
        rows += [(len(epochs), row) for row in range(max(1, round(share * len(epoch.rows))))]
        epochs.append(epoch)
    count = settings.steps or -(-len(rows) // rows_per_step)
    return Steps(epochs, rows[: count * rows_per_step], rows_per_step, count)
