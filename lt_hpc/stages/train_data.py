"""What the M-step trains on, and in which optimizer steps: a function of the plan alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lt_hpc.data import base_model
from lt_hpc.data.corpus import Corpus
from lt_hpc.data.encoding import Encoder
from lt_hpc.errors import IncompleteError, StageError
from lt_hpc.run.build import WHOLE_DOCUMENTS
from lt_hpc.stages.shards import part_files
from lt_hpc.stages.task import Task
from lt_hpc.store import shards, tables
from lt_hpc.store.lists import Lists
from lt_hpc.store.tables import Joined
from lt_hpc.training.batches import Epoch, Examples, examples_of_corpus, pack_epoch
from lt_hpc.training.raw_text import examples_of_text, in_other_words, with_thoughts


@dataclass(frozen=True)
class Data:
    """What is trained on. `draws`: chunks with thoughts, once for each selected thought of a chunk; epoch e
    takes list e modulo their number. `text`: whole documents without any; None where there are none of the
    one or the other."""

    draws: list[Examples]
    text: Examples | None

    def __len__(self) -> int:
        """Examples of one epoch."""
        return sum(len(one) for one in (*self.draws[:1], self.text) if one is not None)


def data_of(task: Task) -> Data:
    """The iteration's training examples, in the order of chunks and documents.

    Raises:
        IncompleteError: when the corpus or the selection does not verify.
    """
    corpus = task.documents("data")
    whole = task.stage.settings.get("text") == WHOLE_DOCUMENTS
    mixed = task.plan.training(task.stage).raw_share > 0
    text = examples_of_text(corpus, task.plan.config.model.context_length) if whole or mixed else None
    if whole:
        return Data([], text)
    if "selected" in task.stage.inputs:
        return Data(_with_selected(task, corpus), text)
    if "taught" in task.stage.inputs:
        return Data(_with_taught(task, corpus), text)
    everything = np.arange(corpus.num_chunks)  # with the teacher's thoughts, where it has any
    return Data([examples_of_corpus(corpus, everything, corpus.thoughts, corpus.thought_rows)], text)


def _with_taught(task: Task, corpus: Corpus) -> list[Examples]:
    """What the teacher's answers are used for, once for each answer of a chunk; one with fewer than others
    comes with the same again."""
    accepted, edges = _taught(task, corpus.num_chunks)
    counts = np.diff(edges)
    lists, teacher = [], task.plan.config.teacher
    for number in range(teacher.answers):
        rows = np.where(counts > 0, edges[:-1] + number % np.maximum(counts, 1), -1)
        if teacher.use == "thought":
            taught = np.flatnonzero(counts)
            lists.append(examples_of_corpus(corpus, taught, accepted, rows[taught]))
            continue
        own = tables.rows(accepted, rows)
        if teacher.use == "surface":
            text = with_thoughts(corpus, own, _separator(task))
        else:
            text = in_other_words(corpus, own, task.vocabulary.eos)
        lists.append(examples_of_text(text, task.plan.config.model.context_length))
    return lists


def _separator(task: Task) -> list[int]:
    """A line's end as the run's tokenizer has it; nothing where it has none."""
    tokenizer = base_model.load_tokenizer(task.paths.base, task.plan.config.model)
    (encoded,) = Encoder(tokenizer).encode(["\n"], [False])
    return [] if encoded.unknown else encoded.ids


def _taught(task: Task, num_chunks: int) -> tuple[Lists, np.ndarray]:
    """The accepted answers of all chunks, and where those of each begin [chunks + 1]."""
    folder = task.input("taught")
    shard_map = shards.read(folder)
    assert shard_map is not None  # it verifies
    joined, counts = Joined(), [np.zeros(0, np.int64)]
    for shard in range(shard_map.num_shards):
        for path in part_files(folder, shard_map, shard):
            answers, edges = tables.nested_lists(tables.read(path, tables.TAUGHT)["answers"])
            joined.add(answers)
            counts.append(np.diff(edges))
    edges = np.append(0, np.cumsum(np.concatenate(counts)))
    if len(edges) - 1 != num_chunks:
        raise IncompleteError(f"{folder}: its rows are not the {num_chunks} chunks of the documents")
    return joined.lists(), edges


def _with_selected(task: Task, corpus: Corpus) -> list[Examples]:
    """The chunks with their selected thoughts."""
    merge, folder = task.plan.config.merge, task.folder("selected")
    found = task.record("selected")
    joined = Joined()
    chunk, counts, loss = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    sample = [np.zeros(0, np.int64)]
    for entry in found.files:
        table = tables.read(folder / entry.name, tables.SELECTED)
        joined.add(tables.nested_lists(table["thoughts"])[0])
        chunk.append(table["chunk"].to_numpy())
        values, edges = tables.flat_lists(table["samples"])
        sample.append(values)
        counts.append(np.diff(edges))
        loss.append(tables.flat_lists(table["loss_weights"])[0])
    chunks, count = np.concatenate(chunk), np.concatenate(counts)
    if len(chunks) != corpus.num_chunks or (chunks != np.arange(len(chunks))).any():
        raise IncompleteError(f"{folder}: its rows are not the {corpus.num_chunks} chunks of the corpus")
    thoughts, samples, losses = joined.lists(), np.concatenate(sample), np.concatenate(loss)
    of_chunk, rows = np.repeat(chunks, count), np.where(samples >= 0, np.arange(len(samples)), -1)
    kept = np.ones(len(rows), bool) if merge.unfinished == "raw" else rows >= 0
    draw = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
    # Weighted ones are all of one epoch.
    lists = [kept] if merge.select == "weighted" else [kept & (draw == d) for d in range(merge.num_selected)]
    return [examples_of_corpus(corpus, of_chunk[one], thoughts, rows[one], losses[one]) for one in lists]


@dataclass(frozen=True)
class StepSize:
    """Tokens that take a loss, as many as these weigh, all tokens, and the packed documents that they make
    up."""

    scored: int
    weight: float
    tokens: int
    documents: int


Row = tuple[Epoch, int]
"""A packed row: its epoch, and which one there."""


@dataclass(frozen=True)
class Steps:
    """Which packed rows each optimizer step takes: the same for every world size."""

    rows: list[Row]
    rows_per_step: int
    count: int

    def of(self, step: int) -> list[Row]:
        start = step * self.rows_per_step
        return self.rows[start : start + self.rows_per_step]

    def size(self, step: int) -> StepSize:
        """What a step trains on, over all ranks."""
        tokens = scored = documents = 0
        weight = 0.0
        for epoch, row in self.of(step):
            members = epoch.rows[row]
            losses = epoch.lengths[members] - epoch.examples.unscored[members]
            tokens += int(epoch.lengths[members].sum())
            scored += int(losses.sum())
            weight += float(losses @ epoch.examples.weights[members])
            documents += len(members)
        return StepSize(scored, weight, tokens, documents)

    def passes(self, over: Sequence[Examples]) -> float:
        """How often these examples are gone through, all of them together."""
        return sum(
            1 / len(epoch.rows) for epoch, _ in self.rows if any(epoch.examples is one for one in over)
        )


def plan_steps(task: Task, data: Data) -> Steps:
    """Pack as many epochs as the settings ask for. The last step may be smaller: no chunk is
    dropped, and a step's loss is normalised by its own tokens."""
    settings = task.plan.training(task.stage)
    rows_per_step = settings.batch_tokens // task.plan.config.model.context_length
    wanted = None if settings.steps is None else settings.steps * rows_per_step
    draws, text = data.draws, [data.text] if data.text is not None else []
    if not len((draws or text)[0]):
        raise StageError(
            "nothing is left to train on: all thoughts of every chunk were cut (raise "
            "sample.max_thought_tokens, or merge.unfinished=raw), or no text has two tokens"
        )
    rows = _rows(task, draws or text, settings.epochs, wanted)
    if draws and text:
        rows = _mixed(rows, _endless(task, text), settings.raw_share)
    count = settings.steps or -(-len(rows) // rows_per_step)
    return Steps(rows[: count * rows_per_step], rows_per_step, count)


def _epoch(task: Task, draws: list[Examples], index: int) -> Epoch:
    config = task.plan.config
    examples = draws[index % len(draws)]
    return pack_epoch(examples, config.seed, task.stage.iteration, index, config.model.context_length)


def _rows(task: Task, draws: list[Examples], epochs: float, wanted: int | None) -> list[Row]:
    """The rows of so many epochs, or of as many as make up the wanted number or more."""
    rows: list[Row] = []
    for index in itertools.count():
        if len(rows) >= wanted if wanted is not None else index >= epochs:
            return rows
        epoch = _epoch(task, draws, index)
        share = 1.0 if wanted is not None else min(1.0, epochs - index)
        rows += [(epoch, row) for row in range(max(1, round(share * len(epoch.rows))))]
    raise AssertionError


def _endless(task: Task, draws: list[Examples]) -> Iterator[Row]:
    for index in itertools.count():
        epoch = _epoch(task, draws, index)
        yield from ((epoch, row) for row in range(len(epoch.rows)))


def _mixed(rows: list[Row], others: Iterator[Row], share: float) -> list[Row]:
    """Rows with others evenly between them, which make up that share of the tokens."""
    mixed: list[Row] = []
    own = other = 0
    for row in rows:
        mixed.append(row)
        own += _tokens(row)
        while other < share * (own + other):
            mixed.append(next(others))
            other += _tokens(mixed[-1])
    return mixed


def _tokens(row: Row) -> int:
    epoch, number = row
    return int(epoch.lengths[epoch.rows[number]].sum())
