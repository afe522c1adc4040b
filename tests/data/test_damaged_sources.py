"""Damaged files, folders of another shape and whatever a hub answers are one line with the place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lt_hpc.errors import ConfigError
from tests.data.test_sources import ROWS, corpus, refusal, texts, write_saved


def test_a_damaged_page_and_a_cell_that_is_no_text_are_named_by_row(tmp_path: Path) -> None:
    rows = [{"text": f"Row {i} has words to fill the page."} for i in range(3000)]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, compression="snappy")
    content = bytearray(path.read_bytes())
    content[1000:3000] = bytes(2000)
    path.write_bytes(content)
    bad = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.array([0, 2, 4], pa.int32()).buffers()[1], pa.py_buffer(b"a.\xff\xfe")]
    )
    pq.write_table(pa.table({"text": bad}), tmp_path / "b.parquet")
    for name in ("a.parquet", "b.parquet"):
        with pytest.raises(ConfigError, match=rf"{name} row 0 or after: can't be read as Parquet"):
            texts(corpus(tmp_path / name))


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("dataset_dict.json", '{"splits": 5}'), ("state.json", '{"_data_files": 5}'),
        ("state.json", '{"_data_files": [{"x": 1}]}'), ("state.json", "[]"), ("dataset_info.json", "["),
    ],
)  # fmt: skip
def test_a_saved_dataset_of_another_shape_is_refused(tmp_path: Path, file: str, text: str) -> None:
    saved = write_saved(tmp_path / "saved", ROWS)
    (saved / file).write_text(text)
    assert "not a complete save_to_disk" in refusal(corpus(saved))


@pytest.mark.parametrize("error", [RuntimeError("no scripts\nany more"), KeyError("x"), TypeError("y")])
def test_whatever_the_hub_answers_is_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    import datasets

    asked: dict[str, Any] = {}

    def load(name: str, config_name: str | None, **options: Any) -> Any:
        asked.update(options)
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(ConfigError, match="owner/name near row 0: ") as caught:
        texts(corpus("owner/name", revision="0123abc"))
    assert "\n" not in str(caught.value)
    assert (asked["revision"], asked["split"]) == ("0123abc", "train")


def test_a_saved_dataset_whose_table_is_damaged_is_named(tmp_path: Path) -> None:
    saved = write_saved(tmp_path / "saved", ROWS)
    (table,) = saved.glob("*.arrow")
    table.write_bytes(table.read_bytes()[:200])
    with pytest.raises(ConfigError, match="saved near row 0"):
        texts(corpus(saved))
