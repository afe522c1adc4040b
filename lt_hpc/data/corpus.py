"""A tokenised corpus: documents read back from the run folder, seen as (prefix, suffix) chunks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lt_hpc.latent.layout import prefix_budgets
from lt_hpc.store import manifest, tables
from lt_hpc.store.lists import Lists
from lt_hpc.store.tables import Joined

_LISTS = ("context", "tokens", "chunk_lengths", "chunk_bytes")


@dataclass(frozen=True)
class Chunk:
    """One chunk as token ids.

    Attributes:
        chunk_id: consecutive over the whole corpus.
        prefix, suffix: c and x, token ids; c begins with the bos token where the run has one.
        num_bytes: UTF-8 bytes of the suffix's text.
        given: the prefix is no chunk of the corpus itself (a question), so that training takes its
            loss here.
        thought: token ids of the teacher's thought without its <EOL>, or None.
        num_cut: tokens cut from the left of the prefix.
    """

    chunk_id: int
    prefix: list[int]
    suffix: list[int]
    num_bytes: int
    given: bool
    thought: list[int] | None = None
    num_cut: int = 0


@dataclass(frozen=True)
class View:
    """How chunks are seen, the same in every stage: chunks of prefix at most, and two budgets in tokens,
    of a whole sequence and of a thought. `bos`: the id that begins every prefix, or None."""

    prefix_chunks: int
    context_length: int
    max_thought_tokens: int
    bos: int | None = None


@dataclass(frozen=True)
class Corpus:
    """Documents of one folder (or of a range of chunks of it), as flat arrays. Chunk n is the n-th of
    them, with the id first_chunk[0] + n.

    A list of lists (`Lists`) is its values, int32 and one-dimensional, and its offsets [lists + 1], int64:
    list i is values[offsets[i] : offsets[i + 1]]. For two documents with chunks of 3 and 2, and of 4
    tokens, `tokens` has 9 values and the offsets [0, 5, 9], `lengths` ([3, 2, 4], [0, 2, 3]).

    Attributes:
        question: one list per document, the token ids of its question; empty for plain text.
        tokens: one list per document, the token ids of its chunks end to end.
        lengths: one list per document, the tokens of each chunk.
        bytes: [num_chunks] int32, UTF-8 bytes of each chunk's text.
        thoughts: one list per thought, its token ids without <EOL>: the thoughts of all documents that
            have them, one after the other. A document has one thought per chunk or none.
        first_thought: [documents] int64, index of a document's first thought in `thoughts`, or -1.
        first_chunk: [documents] int64, chunk id of a document's first chunk.
    """

    view: View
    question: Lists
    tokens: Lists
    lengths: Lists
    bytes: np.ndarray
    thoughts: Lists
    first_thought: np.ndarray
    first_chunk: np.ndarray

    @property
    def num_chunks(self) -> int:
        return int(self.lengths[1][-1])

    @cached_property
    def document(self) -> np.ndarray:
        """[num_chunks] int64, the document of each chunk, as an index."""
        return np.repeat(np.arange(len(self.first_chunk)), np.diff(self.lengths[1]))

    @cached_property
    def ends(self) -> np.ndarray:
        """[num_chunks + 1] int64, where in the values of `tokens` chunk n begins, and n - 1 ends."""
        return np.concatenate([[0], np.cumsum(self.lengths[0], dtype=np.int64)])

    @cached_property
    def given(self) -> np.ndarray:
        """[num_chunks] bool, whether the prefix is a question (see `Chunk`)."""
        given = np.zeros(self.num_chunks, bool)
        asked = np.flatnonzero((np.diff(self.question[1]) > 0) & (np.diff(self.lengths[1]) > 0))
        given[self.lengths[1][asked]] = True
        return given

    @cached_property
    def _whole_prefixes(self) -> np.ndarray:
        """[num_chunks] int64, tokens of each chunk's prefix before it is cut."""
        question = np.diff(self.question[1])[self.document]
        return np.asarray(question + self.ends[:-1] - self.ends[self._first_of_prefix])

    @cached_property
    def prefix_lengths(self) -> np.ndarray:
        """[num_chunks] int64, tokens of each chunk's prefix after it is cut, its bos token counted."""
        return self._num_kept + (self.view.bos is not None)

    @cached_property
    def _num_kept(self) -> np.ndarray:
        """[num_chunks] int64, tokens of text in each chunk's prefix."""
        longest = self.view.context_length - (self.view.bos is not None)
        budgets = prefix_budgets(longest, self.view.max_thought_tokens, self.lengths[0])
        return np.asarray(np.minimum(self._whole_prefixes, budgets))

    @cached_property
    def _first_of_prefix(self) -> np.ndarray:
        """[num_chunks] int64, the first chunk of each chunk's prefix; the chunk itself where there is
        none."""
        first_of_document = self.lengths[1][self.document]
        earliest = np.arange(self.num_chunks) - self.view.prefix_chunks
        return np.asarray(np.maximum(first_of_document, earliest))

    @cached_property
    def thought_rows(self) -> np.ndarray:
        """[num_chunks] int64, index of each chunk's own thought in `thoughts`, or -1."""
        first = self.first_thought[self.document]
        index = np.arange(self.num_chunks) - self.lengths[1][self.document]
        return np.where(first >= 0, first + index, -1)

    def chunk(self, n: int) -> Chunk:
        """The n-th chunk."""
        begin, end = self.ends[self._first_of_prefix[n]], self.ends[n]
        before = np.concatenate([row(self.question, self.document[n]), self.tokens[0][begin:end]])
        thought, bos = self.thought_rows[n], self.view.bos
        return Chunk(
            chunk_id=int(self.first_chunk[0]) + n,
            prefix=([] if bos is None else [bos]) + before[len(before) - self._num_kept[n] :].tolist(),
            suffix=self.tokens[0][end : self.ends[n + 1]].tolist(),
            num_bytes=int(self.bytes[n]),
            given=bool(self.given[n]),
            thought=row(self.thoughts, thought).tolist() if thought >= 0 else None,
            num_cut=int(self._whole_prefixes[n] - self._num_kept[n]),
        )

    def chunks(self) -> Iterator[Chunk]:
        """All chunks in order of their ids."""
        return map(self.chunk, range(self.num_chunks))


def row(lists: Lists, index: int) -> np.ndarray:
    """The list with this index: its values, a view."""
    values, offsets = lists
    return values[offsets[index] : offsets[index + 1]]


def read_corpus(
    folder: Path, fingerprint: str, view: View, start: int = 0, stop: int | None = None
) -> Corpus:
    """The documents whose chunks may have ids in [start, stop), from verified files only; stop None: to
    the end. Whole files are read, so there may be more documents than asked for.

    Raises:
        IncompleteError: when the folder or a file that is needed does not verify.
    """
    found = manifest.verified(folder, fingerprint, checksums=False)
    joined = {name: Joined() for name in (*_LISTS, "thoughts")}
    counts, first_chunks, seen = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], 0
    for entry in found.files:
        first, seen = seen, seen + entry.counts["chunks"]
        if seen > start and (stop is None or first < stop):
            problem = manifest.file_problem(folder, entry, checksums=True)
            if problem:
                raise manifest.withdrawn(folder, problem)
            table = tables.read(folder / entry.name, tables.DOCUMENTS)
            for name in _LISTS:
                joined[name].add(tables.flat_lists(table[name]))
            thoughts, rows = tables.nested_lists(table["thoughts"])
            joined["thoughts"].add(thoughts)
            counts.append(np.diff(rows))
            first_chunks.append(table["first_chunk"].to_numpy())
    count = np.concatenate(counts)
    return Corpus(
        view=view,
        question=joined["context"].lists(),
        tokens=joined["tokens"].lists(),
        lengths=joined["chunk_lengths"].lists(),
        bytes=joined["chunk_bytes"].lists()[0],
        thoughts=joined["thoughts"].lists(),
        first_thought=np.where(count > 0, np.cumsum(count) - count, -1),
        first_chunk=np.concatenate(first_chunks),
    )
