"""Which files of a folder are its documents, and which forms of a file are read."""

from __future__ import annotations

import bz2
import gzip
import lzma
from dataclasses import replace
from pathlib import Path

import pytest

from lt_hpc.config.schema import CorpusConfig
from lt_hpc.data.sources import check, remarks
from lt_hpc.errors import ConfigError
from tests.data.test_sources import ROWS, TEXTS, corpus, refusal, texts, write_gzip, write_jsonl


def folder_of(path: Path, *names: str, column: str = "text") -> CorpusConfig:
    """A folder of JSON Lines files with one row each, which says the file's name."""
    path.mkdir()
    for name in names:
        write_jsonl(path / name, [{column: name}])
    return corpus(path)


def test_every_form_of_json_lines_is_read(tmp_path: Path) -> None:
    import pyarrow

    row = b'{"text": "one"}\n{"text": "two"}\n'
    forms = {
        "gz": gzip.compress(row), "bz2": bz2.compress(row), "xz": lzma.compress(row),
        "zst": pyarrow.compress(row, codec="zstd", asbytes=True),
    }  # fmt: skip
    for suffix, content in forms.items():
        path = tmp_path / f"a.jsonl.{suffix}"
        path.write_bytes(content)
        check(corpus(path), "corpus", "sentences", needs_thought=False)
        assert texts(corpus(path)) == ["one", "two"]
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(ConfigError, match=f"not a complete {suffix} file"):
            texts(corpus(path))
    for name in ("b.ndjson", "c.JSONL", "d.json"):
        assert texts(corpus(write_jsonl(tmp_path / name, ROWS[:1]))) == TEXTS[:1]


def test_what_a_folder_holds_is_read_or_named(tmp_path: Path) -> None:
    config = folder_of(
        tmp_path / "f", "part-0.jsonl", "part-1.ndjson", "part-2.JSONL", "part-3.json", "notes.csv"
    )
    write_jsonl(tmp_path / "f" / "README.md", [])
    (tmp_path / "f" / "sub").mkdir()
    (tmp_path / "f" / "part-9.jsonl").symlink_to(tmp_path / "nowhere")
    assert sorted(texts(config)) == ["part-0.jsonl", "part-1.ndjson", "part-2.JSONL"]
    (line,) = remarks(config)
    assert line.endswith(
        "not read: notes.csv (another kind of file), part-3.json (may be JSON of another kind), part-9.jsonl "
        "(a link to nothing), sub (a folder)"
    )
    assert texts(folder_of(tmp_path / "g", "part-3.json")) == ["part-3.json"]


def test_one_part_in_two_forms_is_refused(tmp_path: Path) -> None:
    config = folder_of(tmp_path / "f", "a.jsonl", "b.jsonl")
    write_gzip(tmp_path / "f" / "a.jsonl.gz", ROWS)
    assert "a.jsonl, a.jsonl.gz are one part in two forms" in refusal(config)


def test_the_splits_of_a_folder_are_told_apart(tmp_path: Path) -> None:
    names = ["train-00.jsonl", "train-01.jsonl", "test.jsonl", "my_dev.jsonl"]
    config = folder_of(tmp_path / "f", *names)
    assert texts(config) == names[:2]
    assert remarks(config)[0].endswith("not read: my_dev.jsonl (split validation), test.jsonl (split test)")
    assert texts(replace(config, split="test")) == ["test.jsonl"]
    assert texts(replace(config, split="validation")) == ["my_dev.jsonl"]
    assert texts(folder_of(tmp_path / "g", "test.jsonl", "test2.jsonl")) == ["test.jsonl", "test2.jsonl"]
    assert texts(folder_of(tmp_path / "h", "latest.jsonl", "contest.jsonl")) == [
        "contest.jsonl",
        "latest.jsonl",
    ]
    assert "test.jsonl looks like another split than a.jsonl" in refusal(
        folder_of(tmp_path / "i", "a.jsonl", "test.jsonl")
    )
    assert "no file of" in refusal(replace(folder_of(tmp_path / "j", "a.jsonl"), split="test"))


def test_a_second_file_without_the_column_is_refused(tmp_path: Path) -> None:
    config = folder_of(tmp_path / "f", "0.jsonl")
    write_jsonl(tmp_path / "f" / "1.jsonl", [{"content": "one"}])
    message = refusal(config)
    assert "warm.text_column='text'" in message and "1.jsonl; it has: content" in message
