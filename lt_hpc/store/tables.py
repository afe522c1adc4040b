"""The Parquet tables that stages hand to each other, and their one reader and writer.

documents   one row per document: token ids of its chunks, end to end, and where they end
samples     one row per chunk: K thoughts with their log-probabilities; pooled: some of earlier iterations
taught      one row per chunk: a teacher's thought
selected    one row per chunk: the selected thoughts, all K log-weights and the ESS
measured    one row per held-out chunk: its log-probabilities, K log-weights and answers
answers     one row per request of a benchmark: a thought and what was said after it
items       one row per item and filter of a benchmark: what was said, and the figures it got
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lt_hpc.errors import IncompleteError
from lt_hpc.store.atomic import atomic_file
from lt_hpc.store.lists import Lists, slices

_IDS = pa.list_(pa.int32())
_LARGE = 2**24
_LATER = ("hash", "drawn")
"""Columns that some files don't have: those of earlier releases, and samples that were all drawn anew."""

DOCUMENTS = pa.schema(
    [
        ("document", pa.int64()),  # ordinal in the corpus
        ("first_chunk", pa.int64()),  # chunk id of its first chunk; ids are consecutive
        ("context", _IDS),  # given question; empty for plain text
        ("tokens", _IDS),  # all chunks end to end
        ("chunk_lengths", _IDS),  # tokens of each chunk
        ("chunk_bytes", _IDS),  # UTF-8 bytes of each chunk's text
        ("thoughts", pa.list_(_IDS)),  # the teacher's, one per chunk, or an empty list
        ("hash", pa.int64()),  # of its text; files of earlier releases don't have it
    ]
)
SAMPLES = pa.schema(
    [
        ("chunk", pa.int64()),
        ("document", pa.int64()),  # its document, by the id of that one's first chunk
        ("thoughts", pa.list_(_IDS)),  # K, each with its <EOL>
        ("cut", pa.list_(pa.bool_())),  # the <EOL> was not sampled but put at the limit
        ("log_q", pa.list_(pa.float64())),  # nats, over the ids of the thought, a forced <EOL> left out
        ("log_prior", pa.list_(pa.float64())),  # log p(z | c)
        ("log_likelihood", pa.list_(pa.float64())),  # log p(x | c, z)
        ("log_proposal", pa.list_(pa.float64())),  # log density of what the K were drawn from
        ("suffix_length", pa.int32()),  # tokens of x
    ]
)
POOLED = SAMPLES.append(pa.field("drawn", pa.list_(pa.int32())))  # the iteration that drew each thought
TAUGHT = pa.schema(
    [
        ("chunk", pa.int64()),
        ("answers", pa.list_(_IDS)),  # of a teacher, those that were accepted, without <EOL>
        ("problems", pa.list_(pa.string())),  # of each answer that was refused, why
    ]
)
SELECTED = pa.schema(
    [
        ("chunk", pa.int64()),
        # D: as many as merge.num_selected, or with merge.select=weighted all different ones of some weight
        ("samples", pa.list_(pa.int32())),  # D indices; one of -1 where all K were cut
        ("thoughts", pa.list_(_IDS)),  # D, each without its <EOL>
        ("loss_weights", pa.list_(pa.float64())),  # D, of each one's loss
        ("log_weights", pa.list_(pa.float64())),  # K, nats
        ("ess", pa.float64()),
    ]
)
MEASURED = pa.schema(
    [
        ("chunk", pa.int64()),
        ("document", pa.int64()),  # ordinal in the held-out corpus
        ("tokens", pa.int32()),  # of x, but for the first one of a text without any prefix
        ("bytes", pa.int32()),  # of these
        ("nll", pa.float64()),  # nats, of the raw text
        # Null for a model that was trained without markers:
        ("nll_marked", pa.float64()),  # nats, of x after c <SOL><EOL>
        ("log_weights", pa.list_(pa.float64())),  # K, nats
        ("cut", pa.int32()),  # of these K thoughts
        # For some chunks, else null: many log-weights, or the one log p(x | c) of a model without markers.
        ("many_log_weights", pa.list_(pa.float64())),
        # For question -> answer data, else null:
        ("likelihood_prior", pa.float64()),  # p(x | c, z), mean over the thoughts of the K from the prior
        ("thought", _IDS),  # the greedy one
        ("answer_thought", pa.string()),
        ("correct_thought", pa.bool_()),
        ("answer_direct", pa.string()),  # without any thought
        ("correct_direct", pa.bool_()),
        ("answers_sampled", pa.list_(pa.string())),  # after sampled thoughts
        ("correct_sampled", pa.list_(pa.bool_())),
        ("correct_majority", pa.bool_()),  # the most frequent one of these
    ]
)
ANSWERS = pa.schema(
    [
        ("task", pa.string()),
        ("document", pa.int64()),  # of the task, from 0
        ("request", pa.int32()),  # about this document
        ("repeat", pa.int32()),  # where the task asks the same several times
        ("trial", pa.int32()),
        ("hash", pa.string()),  # of what was asked
        ("prompt_tokens", pa.int32()),
        ("lost_tokens", pa.int32()),  # oldest tokens of the prompt that did not fit
        ("thought", pa.string()),  # null where none was asked for
        ("thought_tokens", pa.int32()),
        ("thought_cut", pa.bool_()),
        ("answer", pa.string()),  # what was generated; else null
        ("answer_tokens", pa.int32()),  # generated, or scored
        ("answer_cut", pa.bool_()),  # it reached the limit of tokens
        ("log_likelihood", pa.float64()),  # nats, of what was scored; else null
        ("greedy", pa.bool_()),  # whether this is also what greedy decoding says; null where not asked
    ]
)
ITEMS = pa.schema(
    [
        ("task", pa.string()),
        ("trial", pa.int32()),
        ("document", pa.int64()),
        ("filter", pa.string()),  # of the harness: how the answer is read out
        ("target", pa.string()),
        ("thought", pa.string()),  # before the first request about the document
        ("answers", pa.list_(pa.string())),  # after the filter, one per request
        ("metrics", pa.list_(pa.string())),
        ("values", pa.list_(pa.float64())),  # of these; null where one is no number
    ]
)


def table(schema: pa.Schema, columns: dict[str, Any]) -> pa.Table:
    """Columns of Python values as a table."""
    return pa.table({name: pa.array(columns[name], schema.field(name).type) for name in schema.names})


def write(path: Path, schema: pa.Schema, columns: dict[str, Any]) -> None:
    """Write one table atomically; the same columns give the same bytes."""
    made = table(schema, columns)
    with atomic_file(path) as temporary:
        pq.write_table(made, temporary, compression="zstd")


@contextmanager
def writer(path: Path, schema: pa.Schema) -> Iterator[Callable[[dict[str, pa.Array]], None]]:
    """Write one table atomically, some rows after the other: yields what takes the columns of the next ones,
    a row group."""
    with atomic_file(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as file:
        yield lambda columns: file.write_table(pa.table(columns, schema))


def read(path: Path, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
    """Read one table, or some of its columns.

    Raises:
        IncompleteError: when it has other columns than `schema`, but for those that came later.
    """
    # Less work for a small file than pq.read_table; threads for large ones alone, where they save time.
    with pq.ParquetFile(path) as file:
        _check_columns(path, file, schema)
        return file.read(columns=columns, use_threads=path.stat().st_size > _LARGE)


def batches(
    path: Path, schema: pa.Schema, num_rows: int, columns: list[str] | None = None
) -> Iterator[pa.Table]:
    """The same in order, at most `num_rows` rows at a time, of which alone memory is taken.

    Raises:
        IncompleteError: as `read`.
    """
    with pq.ParquetFile(path, memory_map=True, pre_buffer=False) as file:
        _check_columns(path, file, schema)
        for batch in file.iter_batches(num_rows, columns=columns, use_threads=False):
            yield pa.Table.from_batches([batch])


def row_groups(path: Path, schema: pa.Schema) -> Iterator[pa.Table]:
    """The same by the row groups that were written.

    Raises:
        IncompleteError: as `read`.
    """
    with pq.ParquetFile(path, memory_map=True, pre_buffer=False) as file:
        _check_columns(path, file, schema)
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, use_threads=False)


def _check_columns(path: Path, file: pq.ParquetFile, schema: pa.Schema) -> None:
    found = file.schema_arrow
    if found.equals(schema):
        return
    earlier = pa.schema([field for field in schema if field.name not in _LATER])
    if not found.equals(earlier):
        raise IncompleteError(f"{path} has the columns {found.names}, expected {schema.names}")


def hashes(path: Path) -> np.ndarray | None:
    """[documents] int64, the hashes of documents; None of a file of an earlier release."""
    if "hash" not in pq.read_schema(path).names:
        return None
    return np.asarray(pq.read_table(path, columns=["hash"])["hash"].to_numpy())


def flat_lists(column: pa.ChunkedArray | pa.Array) -> Lists:
    """A list column. Put together here, since Arrow's own offsets have 32 bits and a corpus may have more
    tokens than that."""
    pieces = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    values, offsets, total = [], [np.zeros(1, np.int64)], 0
    for piece in pieces:
        edges = piece.offsets.to_numpy().astype(np.int64)
        values.append(piece.values.to_numpy(zero_copy_only=False)[edges[0] : edges[-1]])
        offsets.append(edges[1:] - edges[0] + total)
        total += edges[-1] - edges[0]
    if len(values) == 1:
        return values[0], np.concatenate(offsets)
    if not values:
        return np.zeros(0, column.type.value_type.to_pandas_dtype()), offsets[0]
    return np.concatenate(values), np.concatenate(offsets)


def nested_lists(column: pa.ChunkedArray) -> tuple[Lists, np.ndarray]:
    """A column of lists of lists as (all inner lists, as from `flat_lists`; outer offsets [rows + 1])."""
    inner = pa.chunked_array([piece.flatten() for piece in column.chunks], column.type.value_type)
    lengths = np.concatenate([[0], *(piece.value_lengths().to_numpy() for piece in column.chunks)])
    return flat_lists(inner), np.cumsum(lengths, dtype=np.int64)


def end_to_end(parts: Sequence[Lists]) -> Lists:
    """Of columns with N lists each, N lists: the n-th of every column, one after the other."""
    lengths = np.stack([np.diff(offsets) for _, offsets in parts])
    ends = np.concatenate([[0], np.cumsum(lengths.sum(axis=0), dtype=np.int64)])
    starts = ends[:-1] + np.cumsum(lengths, axis=0) - lengths
    joined = np.zeros(ends[-1], np.int32)
    for (values, offsets), length, start in zip(parts, lengths, starts, strict=True):
        joined[np.repeat(start - offsets[:-1], length) + np.arange(len(values))] = values
    return joined, ends


def rows(lists: Lists, chosen: np.ndarray) -> Lists:
    """The lists with these indices [N], an empty one for -1."""
    values, offsets = lists
    length = np.where(chosen >= 0, np.append(np.diff(offsets), 0)[chosen], 0)
    start = np.where(chosen >= 0, offsets[:-1][chosen] if len(offsets) > 1 else 0, 0)
    return slices(values, start, length)


def matrix(column: pa.ChunkedArray, width: int) -> np.ndarray:
    """A list column whose rows all have `width` values, as [rows, width]."""
    return flat_lists(column)[0].reshape(-1, width)
