"""What the M-step trains on: a function of the plan alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from lt_hpc.data import base_model
from lt_hpc.data.corpus import Corpus, joined
from lt_hpc.data.encoding import Encoder
from lt_hpc.errors import IncompleteError
from lt_hpc.run.build import WHOLE_DOCUMENTS
from lt_hpc.stages.shards import part_files
from lt_hpc.stages.task import Task
from lt_hpc.store import shards, tables
from lt_hpc.store.arrays import IN_MEMORY, Arrays, Columns, spans
from lt_hpc.store.lists import Lists
from lt_hpc.training.batches import Blocks, Examples, examples_in
from lt_hpc.training.raw_text import examples_of_text, in_other_words, with_thoughts

_ROWS = 1 << 12
"""Chunks of which thoughts are read at once."""
_THOUGHTS = {"ids": np.int32, "ends": np.int64}


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


def data_of(task: Task, arrays: Arrays = IN_MEMORY) -> Data:
    """The iteration's training examples, in the order of chunks and documents, put into `arrays`.

    Raises:
        IncompleteError: when the corpus or the selection does not verify.
    """
    corpus = task.documents("data", arrays=arrays)
    whole = task.stage.settings.get("text") == WHOLE_DOCUMENTS
    mixed = task.plan.training(task.stage).raw_share > 0
    length = task.plan.config.model.context_length
    text = examples_of_text(corpus, length, arrays, "text") if whole or mixed else None
    if whole:
        return Data([], text)
    if "selected" in task.stage.inputs:
        return Data(_with_selected(task, corpus, arrays), text)
    if "taught" in task.stage.inputs:
        return Data(_with_taught(task, corpus, arrays), text)

    def everything() -> Blocks:  # with the teacher's thoughts, where it has any
        for chunks in _chunks(corpus):
            yield chunks, corpus.thought_rows(chunks), None

    return Data([examples_in(arrays, "examples", corpus, corpus.thoughts, everything)], text)


def _chunks(corpus: Corpus) -> Iterator[np.ndarray]:
    return (np.arange(span.start, span.stop) for span in spans(corpus.num_chunks))


def _with_taught(task: Task, corpus: Corpus, arrays: Arrays) -> list[Examples]:
    """What the teacher's answers are used for, once for each answer of a chunk; one with fewer than others
    comes with the same again."""
    accepted, edges = _taught(task, corpus.num_chunks, arrays)
    teacher, length = task.plan.config.teacher, task.plan.config.model.context_length

    def rows(number: int, chunks: np.ndarray) -> np.ndarray:
        counts = edges[chunks + 1] - edges[chunks]
        return np.where(counts > 0, edges[chunks] + number % np.maximum(counts, 1), -1)

    def thoughts(number: int) -> Blocks:
        for chunks in _chunks(corpus):
            own = rows(number, chunks)
            yield chunks[own >= 0], own[own >= 0], None

    def examples(number: int) -> Examples:
        if teacher.use == "thought":
            return examples_in(arrays, f"examples-{number}", corpus, accepted, partial(thoughts, number))
        parts = partial(_rewritten, task, corpus, accepted, partial(rows, number))
        text = joined(arrays, f"written-{number}", corpus.view, parts)
        return examples_of_text(text, length, arrays, f"examples-{number}")

    return [examples(number) for number in range(teacher.answers)]


def _rewritten(
    task: Task, corpus: Corpus, accepted: Lists, rows: Callable[[np.ndarray], np.ndarray]
) -> Iterator[Corpus]:
    """Documents of plain text, made of those of a corpus and of an answer for each chunk, by `rows`."""
    surface = task.plan.config.teacher.use == "surface"
    between = _separator(task) if surface else []
    written = 0
    for first, part in corpus.parts():
        start = int(corpus.lengths[1][first])
        own = tables.rows(accepted, rows(np.arange(start, start + part.num_chunks)))
        if surface:
            yield with_thoughts(part, own, between)
        else:
            text = in_other_words(part, own, task.vocabulary.eos)
            yield replace(text, first_chunk=text.first_chunk + written)
            written += text.num_chunks


def _separator(task: Task) -> list[int]:
    """A line's end as the run's tokenizer has it; nothing where it has none."""
    tokenizer = base_model.load_tokenizer(task.paths.base, task.plan.config.model)
    (encoded,) = Encoder(tokenizer).encode(["\n"], [False])
    return [] if encoded.unknown else encoded.ids


def _taught(task: Task, num_chunks: int, arrays: Arrays) -> tuple[Lists, np.ndarray]:
    """The accepted answers of all chunks, and where those of each begin [chunks + 1]."""
    folder = task.folder("taught")

    def columns() -> Iterator[Columns]:
        task.input("taught")
        shard_map, counted, written = shards.read(folder), 0, 0
        assert shard_map is not None  # it verifies
        yield {"ends": np.zeros(1, np.int64), "edges": np.zeros(1, np.int64)}
        for shard in range(shard_map.num_shards):
            for path in part_files(folder, shard_map, shard):
                for table in tables.batches(path, tables.TAUGHT, _ROWS, ["answers"]):
                    (ids, ends), edges = tables.nested_lists(table["answers"])
                    yield {"ids": ids, "ends": ends[1:] + written, "edges": edges[1:] + counted}
                    written, counted = written + len(ids), counted + int(edges[-1])

    found = arrays.columns("answers", {**_THOUGHTS, "edges": np.int64}, columns)
    if len(found["edges"]) - 1 != num_chunks:
        raise IncompleteError(f"{folder}: its rows are not the {num_chunks} chunks of the documents")
    return (found["ids"], found["ends"]), found["edges"]


def _with_selected(task: Task, corpus: Corpus, arrays: Arrays) -> list[Examples]:
    """The chunks with their selected thoughts."""
    merge, folder = task.plan.config.merge, task.folder("selected")

    def read(*columns: str) -> Iterator[pa.Table]:
        for entry in task.record("selected", checksums=False).files:
            yield from tables.batches(folder / entry.name, tables.SELECTED, _ROWS, list(columns))

    def selected() -> Iterator[Columns]:
        task.record("selected")
        chunks = written = 0
        yield {"ends": np.zeros(1, np.int64)}
        for table in read("chunk", "thoughts"):
            (ids, ends), _ = tables.nested_lists(table["thoughts"])
            _check_chunks(folder, corpus, table["chunk"].to_numpy(), chunks)
            yield {"ids": ids, "ends": ends[1:] + written}
            chunks, written = chunks + table.num_rows, written + len(ids)
        if chunks != corpus.num_chunks:
            raise _not_the_chunks(folder, corpus)

    found = arrays.columns("thoughts", _THOUGHTS, selected)
    thoughts = found["ids"], found["ends"]

    def blocks(draw: int | None) -> Blocks:
        first = 0
        for table in read("chunk", "samples", "loss_weights"):
            samples, edges = tables.flat_lists(table["samples"])
            counts = np.diff(edges)
            rows = np.where(samples >= 0, first + np.arange(len(samples)), -1)
            kept = np.ones(len(rows), bool) if merge.unfinished == "raw" else rows >= 0
            if draw is not None:
                kept &= np.arange(len(rows)) - np.repeat(edges[:-1], counts) == draw
            of_chunk, losses = np.repeat(table["chunk"].to_numpy(), counts), table["loss_weights"]
            yield of_chunk[kept], rows[kept], tables.flat_lists(losses)[0][kept]
            first += len(samples)

    # Weighted ones are all of one epoch.
    draws = [None] if merge.select == "weighted" else list(range(merge.num_selected))
    return [
        examples_in(arrays, f"examples-{n}", corpus, thoughts, partial(blocks, draw))
        for n, draw in enumerate(draws)
    ]


def _check_chunks(folder: Path, corpus: Corpus, chunks: np.ndarray, first: int) -> None:
    if (chunks != np.arange(first, first + len(chunks))).any():
        raise _not_the_chunks(folder, corpus)


def _not_the_chunks(folder: Path, corpus: Corpus) -> IncompleteError:
    return IncompleteError(f"{folder}: its rows are not the {corpus.num_chunks} chunks of the corpus")
