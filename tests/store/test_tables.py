"""Tables: what is written reads back, and the same columns are the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.errors import IncompleteError
from lt_hpc.store import tables

SAMPLES = {
    "chunk": [7, 8],
    "document": [6, 8],
    "thoughts": [[[1, 2, 0], [3, 0]], [[0], [4, 0]]],
    "cut": [[True, False], [False, True]],
    "log_q": [[-1.25, -0.1], [0.0, -np.inf]],
    "log_prior": [[-2.5, -3.5e-300], [-0.5, -1 / 3]],
    "log_likelihood": [[-0.5, -1.0], [-2.0, -1e300]],
    "log_proposal": [[-1.25, -0.2], [-0.1, -1.5]],
    "suffix_length": [3, 1],
}


def test_a_table_reads_back_exactly(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "part.parquet"
    tables.write(path, tables.SAMPLES, SAMPLES)
    assert tables.read(path, tables.SAMPLES).to_pydict() == SAMPLES
    assert [found.name for found in path.parent.iterdir()] == ["part.parquet"]


def test_the_same_columns_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        tables.write(tmp_path / name, tables.SAMPLES, SAMPLES)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


@pytest.mark.parametrize("schema", [tables.DOCUMENTS, tables.SAMPLES, tables.SELECTED])
def test_a_table_may_be_empty(tmp_path: Path, schema: pa.Schema) -> None:
    tables.write(tmp_path / "part", schema, {name: [] for name in schema.names})
    table = tables.read(tmp_path / "part", schema)
    assert table.num_rows == 0 and table.schema.equals(schema)


def test_columns_that_do_not_fit_leave_the_old_table(tmp_path: Path) -> None:
    path = tmp_path / "part"
    tables.write(path, tables.SAMPLES, SAMPLES)
    for wrong in ({**SAMPLES, "chunk": [7]}, {**SAMPLES, "chunk": ["seven", "eight"]}):
        with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
            tables.write(path, tables.SAMPLES, wrong)
    assert tables.read(path, tables.SAMPLES).to_pydict() == SAMPLES
    assert [found.name for found in tmp_path.iterdir()] == ["part"]


def test_a_damaged_table_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "part"
    tables.write(path, tables.SAMPLES, SAMPLES)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(pa.ArrowInvalid):
        tables.read(path, tables.SAMPLES)


@given(
    st.lists(st.lists(st.lists(st.integers(-9, 9), max_size=4), max_size=5), max_size=4),
    st.integers(0, 12),
    st.integers(0, 12),
)
def test_flat_lists_hold_the_rows_of_any_slice_of_any_pieces(
    pieces: list[list[list[int]]], start: int, length: int
) -> None:
    kind = pa.list_(pa.int32())
    column = pa.chunked_array([pa.array(piece, kind) for piece in pieces], kind).slice(start, length)
    values, offsets = tables.flat_lists(column)
    rows = [values[offsets[row] : offsets[row + 1]].tolist() for row in range(len(offsets) - 1)]
    assert rows == column.to_pylist()
    assert offsets[0] == 0 and len(values) == offsets[-1]


@pytest.mark.parametrize("num_rows", [1, 3, 100])
def test_a_table_is_read_some_rows_at_a_time(tmp_path: Path, num_rows: int) -> None:
    many = {name: values * 5 for name, values in SAMPLES.items()}
    tables.write(tmp_path / "part", tables.SAMPLES, many)
    found = list(tables.batches(tmp_path / "part", tables.SAMPLES, num_rows))
    assert pa.concat_tables(found).to_pydict() == many
    assert all(table.num_rows <= num_rows for table in found)
    lists = [tables.nested_lists(table["thoughts"])[0] for table in found]
    ids = [v[o[n] : o[n + 1]].tolist() for v, o in lists for n in range(len(o) - 1)]
    assert ids == [thought for row in many["thoughts"] for thought in row]


def test_a_matrix_has_a_row_a_chunk(tmp_path: Path) -> None:
    tables.write(tmp_path / "part", tables.SAMPLES, SAMPLES)
    table = tables.read(tmp_path / "part", tables.SAMPLES)
    assert tables.matrix(table["log_q"], 2).tolist() == SAMPLES["log_q"]
    assert tables.matrix(table["cut"], 2).tolist() == SAMPLES["cut"]


def test_another_table_is_refused_with_the_columns_it_has(tmp_path: Path) -> None:
    tables.write(tmp_path / "part", tables.SAMPLES, SAMPLES)
    with pytest.raises(IncompleteError, match="log_likelihood"):
        tables.read(tmp_path / "part", tables.SELECTED)
