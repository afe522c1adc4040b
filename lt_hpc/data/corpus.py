"""A tokenised corpus: documents read back from the run folder, seen as (prefix, suffix) chunks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lt_hpc.errors import IncompleteError
from lt_hpc.latent.layout import cut_prefix, prefix_budget
from lt_hpc.store import manifest, tables


@dataclass(frozen=True)
class Chunk:
    """One chunk as token ids. `given` says that the prefix is no chunk of the corpus itself
    (a question), so that training takes its loss here."""

    chunk_id: int
    prefix: list[int]
    suffix: list[int]
    num_bytes: int
    given: bool
    thought: list[int] | None = None


@dataclass(frozen=True)
class View:
    """How chunks are seen: prefix chunks and the length budget, the same in every stage."""

    prefix_chunks: int
    context_length: int
    max_thought_tokens: int


@dataclass(frozen=True)
class Corpus:
    """Documents of one folder (or of a range of chunks of it)."""

    view: View
    context: tuple[np.ndarray, np.ndarray]
    tokens: tuple[np.ndarray, np.ndarray]
    lengths: tuple[np.ndarray, np.ndarray]
    bytes: np.ndarray
    thoughts: list[list[list[int]]]
    first_chunk: np.ndarray

    @property
    def num_chunks(self) -> int:
        return int(self.lengths[1][-1])

    def chunks(self) -> Iterator[Chunk]:
        """All chunks in order of their ids."""
        for document in range(len(self.first_chunk)):
            yield from self._document_chunks(document)

    def _document_chunks(self, document: int) -> Iterator[Chunk]:
        context = _row(self.context, document)
        tokens = _row(self.tokens, document)
        lengths = _row(self.lengths, document)
        ends = np.concatenate([[0], np.cumsum(lengths)])
        thoughts = self.thoughts[document]
        for index in range(len(lengths)):
            suffix = tokens[ends[index] : ends[index + 1]].tolist()
            start = ends[max(0, index - self.view.prefix_chunks)]
            prefix = [*context.tolist(), *tokens[start : ends[index]].tolist()]
            budget = prefix_budget(self.view.context_length, self.view.max_thought_tokens, len(suffix))
            yield Chunk(
                chunk_id=int(self.first_chunk[document]) + index,
                prefix=cut_prefix(prefix, budget),
                suffix=suffix,
                num_bytes=int(self.bytes[self.lengths[1][document] + index]),
                given=len(context) > 0 and index == 0,
                thought=thoughts[index] if thoughts else None,
            )


def _row(flat: tuple[np.ndarray, np.ndarray], row: int) -> np.ndarray:
    values, offsets = flat
    return values[offsets[row] : offsets[row + 1]]


def read(folder: Path, fingerprint: str, view: View, start: int = 0, stop: int | None = None) -> Corpus:
    """The documents whose chunks may lie in [start, stop), from verified files only.

    Raises:
        IncompleteError: when the folder or a file that is needed does not verify.
    """
    found = manifest.verified(folder, fingerprint, checksums=False)
    needed, seen = [], 0
    for entry in found.files:
        first, seen = seen, seen + entry.counts["chunks"]
        if seen > start and (stop is None or first < stop):
            problem = manifest.file_problem(folder, entry, checksums=True)
            if problem:
                raise IncompleteError(problem)
            needed.append(tables.read(folder / entry.name, tables.DOCUMENTS))
    import pyarrow as pa

    table = pa.concat_tables(needed) if needed else tables.DOCUMENTS.empty_table()
    return Corpus(
        view=view,
        context=tables.flat_lists(table["context"]),
        tokens=tables.flat_lists(table["tokens"]),
        lengths=tables.flat_lists(table["chunk_lengths"]),
        bytes=tables.flat_lists(table["chunk_bytes"])[0],
        thoughts=table["thoughts"].to_pylist(),
        first_chunk=table["first_chunk"].to_numpy(),
    )


def read_chunks(folder: Path, fingerprint: str, view: View, start: int, stop: int) -> list[Chunk]:
    """The chunks with ids in [start, stop)."""
    corpus = read(folder, fingerprint, view, start, stop)
    return [chunk for chunk in corpus.chunks() if start <= chunk.chunk_id < stop]
