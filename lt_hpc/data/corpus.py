"""A tokenised corpus: documents read back from the run folder, seen as (prefix, suffix) chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from lt_hpc.latent.layout import prefix_budgets
from lt_hpc.store import manifest, tables
from lt_hpc.store.arrays import IN_MEMORY, Arrays, Columns
from lt_hpc.store.lists import Lists

_BATCH_TOKENS = 1 << 20
"""Tokens of text that are read or worked on at once, where no document has more."""
_CUT_BITS = 28
"""Of a number below the most tokens that a prefix may be cut by."""
_LISTS = ("question", "tokens", "lengths", "thoughts")
_TYPES = {
    **dict.fromkeys(_LISTS, np.int32),
    **{f"{name}_ends": np.int64 for name in _LISTS},
    "bytes": np.int32,
    "first_thought": np.int64,
    "first_chunk": np.int64,
    "chunk_ends": np.int64,
}


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
    of a whole sequence and of a thought. `bos`: the id that begins every prefix, or None. A prefix begins at
    every `prefix_stride`-th chunk of a document only, so that those of neighbours begin alike."""

    prefix_chunks: int
    context_length: int
    max_thought_tokens: int
    bos: int | None = None
    prefix_stride: int = 1


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
        chunk_ends: `ends`, where they need not be worked out.
    """

    view: View
    question: Lists
    tokens: Lists
    lengths: Lists
    bytes: np.ndarray
    thoughts: Lists
    first_thought: np.ndarray
    first_chunk: np.ndarray
    chunk_ends: np.ndarray | None = None

    @property
    def num_chunks(self) -> int:
        return int(self.lengths[1][-1])

    @cached_property
    def document(self) -> np.ndarray:
        """[num_chunks] int64, the document of each chunk, as an index."""
        return self.documents_of(np.arange(self.num_chunks))

    def documents_of(self, chunks: np.ndarray) -> np.ndarray:
        """[...] int64, the documents of these chunks [...], as indices."""
        return np.asarray(np.searchsorted(self.lengths[1], chunks, side="right") - 1)

    @cached_property
    def ends(self) -> np.ndarray:
        """[num_chunks + 1] int64, where in the values of `tokens` chunk n begins, and n - 1 ends."""
        if self.chunk_ends is not None:
            return self.chunk_ends
        return np.concatenate([[0], np.cumsum(self.lengths[0], dtype=np.int64)])

    def given(self, chunks: np.ndarray) -> np.ndarray:
        """[...] bool, whether the prefix of these chunks [...] is a question (see `Chunk`)."""
        document = self.documents_of(chunks)
        return np.asarray((self._asked(document) > 0) & (chunks == self.lengths[1][document]))

    def _asked(self, document: np.ndarray) -> np.ndarray:
        return np.asarray(self.question[1][document + 1] - self.question[1][document])

    def prefix_lengths(self, chunks: np.ndarray) -> np.ndarray:
        """[...] int64, tokens of the prefixes of these chunks [...] after they are cut, the bos token
        counted."""
        return self._prefixes(chunks)[2] + (self.view.bos is not None)

    def _prefixes(self, chunks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the prefixes of these chunks [...]: where in the values of `tokens` they begin, their tokens
        with the question, and how many of these are kept; the bos token not counted."""
        begin, end = self.ends[self._first_of_prefix(chunks)], self.ends[chunks]
        whole = self._asked(self.documents_of(chunks)) + end - begin
        longest = self.view.context_length - (self.view.bos is not None)
        budgets = prefix_budgets(longest, self.view.max_thought_tokens, self.ends[chunks + 1] - end)
        return begin, whole, np.minimum(whole, budgets)

    def _first_of_prefix(self, chunks: np.ndarray) -> np.ndarray:
        """[...] int64, the first chunks of these chunks' prefixes; the chunk itself where there is none."""
        first, stride = self.lengths[1][self.documents_of(chunks)], self.view.prefix_stride
        earliest = chunks - first - self.view.prefix_chunks
        return np.asarray(first + np.maximum(0, -(-earliest // stride) * stride))

    def prefix_origins(self, chunks: np.ndarray) -> np.ndarray:
        """[...] int64, the same for two of these chunks [...] where their prefixes begin at one token: the
        shorter prefix is the beginning of the longer one."""
        _, whole, kept = self._prefixes(chunks)
        return np.asarray((self._first_of_prefix(chunks) << _CUT_BITS) + whole - kept)

    def thought_rows(self, chunks: np.ndarray) -> np.ndarray:
        """[...] int64, index of the own thought of these chunks [...] in `thoughts`, or -1."""
        document = self.documents_of(chunks)
        first = self.first_thought[document]
        return np.where(first >= 0, first + chunks - self.lengths[1][document], -1)

    def chunk(self, n: int) -> Chunk:
        """The n-th chunk."""
        one = np.asarray(n)
        begin, whole, kept = self._prefixes(one)
        end, bos, thought = self.ends[n], self.view.bos, int(self.thought_rows(one))
        before = np.concatenate([row(self.question, int(self.documents_of(one))), self.tokens[0][begin:end]])
        return Chunk(
            chunk_id=int(self.first_chunk[0]) + n,
            prefix=([] if bos is None else [bos]) + before[len(before) - kept :].tolist(),
            suffix=self.tokens[0][end : self.ends[n + 1]].tolist(),
            num_bytes=int(self.bytes[n]),
            given=bool(self.given(one)),
            thought=row(self.thoughts, thought).tolist() if thought >= 0 else None,
            num_cut=int(whole - kept),
        )

    def chunks(self) -> Iterator[Chunk]:
        """All chunks in order of their ids."""
        return map(self.chunk, range(self.num_chunks))

    def part(self, start: int, stop: int) -> Corpus:
        """Documents start to stop - 1; not empty."""
        first = self.first_thought[start:stop]
        taught = np.flatnonzero(first >= 0)
        begin = end = 0
        if len(taught):
            begin, last = int(first[taught[0]]), taught[-1]
            counts = self.lengths[1][start + last : start + last + 2]
            end = int(first[last] + counts[1] - counts[0])
        chunks = self.lengths[1][start], self.lengths[1][stop]
        return replace(
            self,
            question=_part(self.question, start, stop),
            tokens=_part(self.tokens, start, stop),
            lengths=_part(self.lengths, start, stop),
            bytes=self.bytes[slice(*chunks)],
            thoughts=_part(self.thoughts, begin, end),
            first_thought=np.where(first >= 0, first - begin, -1),
            first_chunk=self.first_chunk[start:stop],
            chunk_ends=None,
        )

    def parts(self) -> Iterator[tuple[int, Corpus]]:
        """All documents, some at a time, with the index of the first of them."""
        start, ends = 0, self.tokens[1]
        while start < len(self.first_chunk):
            stop = int(np.searchsorted(ends, ends[start] + _BATCH_TOKENS, side="right")) - 1
            stop = min(max(stop, start + 1), start + _BATCH_TOKENS)
            yield start, self.part(start, stop)
            start = stop


def row(lists: Lists, index: int) -> np.ndarray:
    """The list with this index: its values, a view."""
    values, offsets = lists
    return values[offsets[index] : offsets[index + 1]]


def _part(lists: Lists, start: int, stop: int) -> Lists:
    """Lists start to stop - 1."""
    values, offsets = lists
    return values[offsets[start] : offsets[stop]], offsets[start : stop + 1] - offsets[start]


def read_corpus(
    folder: Path,
    fingerprint: str,
    view: View,
    start: int = 0,
    stop: int | None = None,
    arrays: Arrays = IN_MEMORY,
) -> Corpus:
    """The documents whose chunks may have ids in [start, stop), from verified files only; stop None: to
    the end. Whole files are read, so there may be more documents than asked for.

    Raises:
        IncompleteError: when the folder or a file that is needed does not verify.
    """
    return joined(arrays, "documents", view, lambda: _read_parts(folder, fingerprint, view, start, stop))


def _read_parts(folder: Path, fingerprint: str, view: View, start: int, stop: int | None) -> Iterator[Corpus]:
    seen = 0
    for entry in manifest.verified(folder, fingerprint, checksums=False).files:
        first, seen = seen, seen + entry.counts["chunks"]
        if seen > start and (stop is None or first < stop):
            problem = manifest.file_problem(folder, entry, checksums=True)
            if problem:
                raise manifest.withdrawn(folder, problem)
            per_document = entry.counts.get("tokens", 0) // max(1, entry.counts.get("kept", 1))
            num_rows = max(1, _BATCH_TOKENS // max(1, per_document))
            for table in tables.batches(folder / entry.name, tables.DOCUMENTS, num_rows):
                thoughts, rows = tables.nested_lists(table["thoughts"])
                yield Corpus(
                    view=view,
                    question=tables.flat_lists(table["context"]),
                    tokens=tables.flat_lists(table["tokens"]),
                    lengths=tables.flat_lists(table["chunk_lengths"]),
                    bytes=tables.flat_lists(table["chunk_bytes"])[0],
                    thoughts=thoughts,
                    first_thought=np.where(np.diff(rows) > 0, rows[:-1], -1),
                    first_chunk=table["first_chunk"].to_numpy(),
                )


def joined(arrays: Arrays, name: str, view: View, parts: Callable[[], Iterator[Corpus]]) -> Corpus:
    """The documents of all parts, one after the other, as one corpus in `arrays`."""

    def blocks() -> Iterator[Columns]:
        lists, values = dict.fromkeys(_LISTS, 0), dict.fromkeys(_LISTS, 0)
        yield {name: np.zeros(1, np.int64) for name in ("chunk_ends", *(f"{one}_ends" for one in _LISTS))}
        for part in parts():
            first = part.first_thought
            columns = {
                "bytes": part.bytes,
                "first_thought": np.where(first >= 0, first + lists["thoughts"], -1),
                "first_chunk": part.first_chunk,
                "chunk_ends": part.ends[1:] + values["tokens"],
            }
            for one in _LISTS:
                of_part, offsets = getattr(part, one)
                columns |= {one: of_part, f"{one}_ends": offsets[1:] + values[one]}
                lists[one] += len(offsets) - 1
                values[one] += len(of_part)
            yield columns

    found = arrays.columns(name, _TYPES, blocks)
    return Corpus(
        view=view,
        question=(found["question"], found["question_ends"]),
        tokens=(found["tokens"], found["tokens_ends"]),
        lengths=(found["lengths"], found["lengths_ends"]),
        bytes=found["bytes"],
        thoughts=(found["thoughts"], found["thoughts_ends"]),
        first_thought=found["first_thought"],
        first_chunk=found["first_chunk"],
        chunk_ends=found["chunk_ends"],
    )
