"""Rows and columns of files that users bring: JSON Lines, Parquet, save_to_disk folders.

Every error names the file, and the line (from 1) or row (from 0).
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import itertools
import json
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lt_hpc.errors import ConfigError

PROBE_ROWS = 100
"""Rows of a JSON Lines file in which a column must show up."""
END_BYTES = 1 << 20
"""Of each end of a file that is known by its ends."""
PARQUET_ROWS = 256
"""Rows decoded at a time."""
Rows = Generator[tuple[str, Mapping[str, Any]], None, int]
"""Yields (place for messages, row), returns how many of the rows to skip are still to skip."""


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
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{where}: not a complete save_to_disk: {first_line(error)}") from error


def jsonl_rows(path: Path, start: int) -> Rows:
    """Rows of a JSON Lines file after the first `start`; blank lines are no rows."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if line.isspace():
                    continue
                if start:
                    start -= 1
                    continue
                place = f"{path} line {number}"
                yield place, _parse(line, place)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ConfigError(f"{path}: not a complete gzip file: {first_line(error)}") from error
    return start


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
        with pyarrow.parquet.ParquetFile(path) as file:
            yield file
    except pyarrow.ArrowException as error:
        raise ConfigError(f"{path}: can't be read as Parquet: {first_line(error)}") from error


def parquet_rows(path: Path, columns: list[str], start: int) -> Rows:
    """Rows of a Parquet file after the first `start`; whole row groups are skipped unread."""
    with _parquet(path) as file:
        require(columns, file.schema_arrow.names, str(path))
        row = 0
        for group in range(file.num_row_groups):
            num_rows = file.metadata.row_group(group).num_rows
            if start >= num_rows:
                start, row = start - num_rows, row + num_rows
                continue
            for batch in file.iter_batches(PARQUET_ROWS, row_groups=[group], columns=columns):
                skipped = min(start, batch.num_rows)
                start, row = start - skipped, row + skipped
                for values in batch.slice(skipped).to_pylist():
                    yield f"{path} row {row}", values
                    row += 1
    return start


def require(columns: Iterable[str], existing: list[str], place: str) -> None:
    for column in columns:
        if column not in existing:
            raise ConfigError(f"{place}: no column {column!r}; it has: {', '.join(existing)}")


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def jsonl_columns(path: Path, wanted: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for _, row in itertools.islice(jsonl_rows(path, 0), PROBE_ROWS):
        for column, value in row.items():
            if found.get(column, "NoneType") == "NoneType":
                found[column] = type(value).__name__
        if all(found.get(column, "NoneType") != "NoneType" for column in wanted):
            break
    return found


def parquet_columns(path: Path) -> dict[str, str]:
    with _parquet(path) as file:
        return {field.name: str(field.type) for field in file.schema_arrow if file.metadata.num_rows}


def saved_columns(path: Path) -> dict[str, str]:
    features = read_json(path / "dataset_info.json", str(path)).get("features") or {}
    values = {name: feature if isinstance(feature, dict) else {} for name, feature in features.items()}
    return {name: str(value.get("dtype", value.get("_type"))) for name, value in values.items()}
