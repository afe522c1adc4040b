"""Rows and columns of files that users bring: JSON Lines, Parquet, save_to_disk folders.

Every error names the file, and the line (from 1) or row (from 0).
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import io
import itertools
import json
import lzma
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lt_hpc.data import columns as named
from lt_hpc.errors import ConfigError

_BY_PYTHON: dict[str, Any] = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}
_BY_PYARROW = {"zst": "zstd", "lz4": "lz4"}
_COMPRESSED = {*_BY_PYTHON, *_BY_PYARROW}
PROBE_ROWS = 100
"""Rows of a JSON Lines file in which a column must show up."""
END_BYTES = 1 << 20
"""Of each end of a file that is known by its ends."""
PARQUET_ROWS = 256
"""Rows decoded at a time."""
Rows = Generator[tuple[str, Mapping[str, Any]], None, int]
"""Yields (place for messages, row), returns the ordinal after that of the last row."""


class Wanted:
    """Which rows of a source to read, by their ordinals, which rise and never end. `next`: the first one
    that is still to come."""

    def __init__(self, ordinals: Iterator[int]) -> None:
        self._ordinals = ordinals
        self.next = next(ordinals)

    def take(self, ordinal: int) -> bool:
        """Whether to read a row; rows before `next` may be passed over, no other, and none is asked twice."""
        if ordinal != self.next:
            return False
        self.next = next(self._ordinals)
        return True


def ends_hash(path: Path, overlap: bool) -> str:
    """SHA-256 of the first and the last MiB of a file. `overlap`: of a file shorter than the two, some is
    hashed twice. Fingerprints hold both forms: neither may change."""
    start = path.stat().st_size - END_BYTES
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        digest.update(stream.read(END_BYTES))
        stream.seek(max(0 if overlap else END_BYTES, start))
        digest.update(stream.read(END_BYTES))
    return digest.hexdigest()


def read_json(path: Path, where: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise TypeError(f"{path.name} is no JSON object")
        return value
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{where}: not a complete save_to_disk: {first_line(error)}") from error


def jsonl_rows(path: Path, ordinal: int, wanted: Wanted) -> Rows:
    """The wanted rows of a JSON Lines file whose first has this ordinal; blank lines are no rows."""
    try:
        with _opened(path) as stream:
            for number, line in enumerate(stream, 1):
                if line.isspace():
                    continue
                if wanted.take(ordinal):
                    place = f"{path} line {number}"
                    yield place, _parse(line, place)
                ordinal += 1
    except (OSError, zlib.error, lzma.LZMAError, EOFError, ValueError) as error:
        kind = path.suffix.lower().removeprefix(".")
        whole = f"not a complete {kind} file" if kind in _COMPRESSED else "can't be read"
        raise ConfigError(f"{path}: {whole}: {first_line(error)}") from error
    return ordinal


def _opened(path: Path) -> Any:
    """A stream of bytes, of what was compressed where it was."""
    kind = path.suffix.lower().removeprefix(".")
    if kind not in _COMPRESSED:
        return path.open("rb")
    if kind in _BY_PYTHON:
        return _BY_PYTHON[kind](path)
    import pyarrow

    # Read through a buffer: the stream itself has no lines.
    return io.BufferedReader(pyarrow.input_stream(str(path), compression=_BY_PYARROW[kind]))


def _parse(line: bytes, place: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{place}: not valid JSON: {first_line(error)}") from error
    if isinstance(row, dict):
        return row
    raise ConfigError(f"{place}: holds {type(row).__name__}, expected a JSON object of columns")


@contextlib.contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read as Parquet: {first_line(error)}") from error


def parquet_rows(path: Path, columns: list[str], ordinal: int, wanted: Wanted) -> Rows:
    """The wanted rows of a Parquet file whose first has this ordinal; row groups without any stay unread."""
    with _parquet(path) as file:
        existing = named.require(columns, file.schema_arrow.names, str(path))
        first = ordinal
        for group in range(file.num_row_groups):
            after = ordinal + file.metadata.row_group(group).num_rows
            if wanted.next >= after:
                ordinal = after
                continue
            batches = file.iter_batches(PARQUET_ROWS, row_groups=[group], columns=existing)
            while ordinal < after:
                rows = _batch(batches, f"{path} row {ordinal - first} or after")
                for values in rows:
                    if wanted.take(ordinal):
                        yield f"{path} row {ordinal - first}", values
                    ordinal += 1
    return ordinal


def _batch(batches: Iterator[Any], place: str) -> list[dict[str, Any]]:
    """The rows of the next batch of a Parquet file."""
    import pyarrow

    try:
        rows: list[dict[str, Any]] = next(batches).to_pylist()
        return rows
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError, StopIteration) as error:
        raise ConfigError(f"{place}: can't be read as Parquet: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def jsonl_columns(path: Path, wanted: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    rows = jsonl_rows(path, 0, Wanted(itertools.count()))
    for _, row in itertools.islice(rows, PROBE_ROWS):
        for column, value in row.items():
            for name, kind in named.of_json(column, value):
                if found.get(name, named.NULL) == named.NULL:
                    found[name] = kind
        if all(found.get(column, named.NULL) != named.NULL for column in wanted):
            break
    return found


def parquet_columns(path: Path) -> dict[str, str]:
    with _parquet(path) as file:
        fields = file.schema_arrow if file.metadata.num_rows else ()
        return {name: kind for field in fields for name, kind in named.of_arrow(field)}


def saved_columns(path: Path) -> dict[str, str]:
    features = read_json(path / "dataset_info.json", str(path)).get("features") or {}
    items = features.items() if isinstance(features, dict) else ()
    return {dotted: kind for name, feature in items for dotted, kind in named.of_feature(name, feature)}
