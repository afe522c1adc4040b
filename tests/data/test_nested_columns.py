"""Texts and thoughts in structs, as the reference implementation publishes its documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lt_hpc.config.schema import CorpusConfig
from lt_hpc.data.sources import Document, check, documents, identity
from lt_hpc.errors import ConfigError
from tests.data.test_sources import WRITERS, corpus, refusal, write_jsonl, write_parquet, write_saved

PIECES = ("One cat sat. ", "It slept.", "\nThe end.")
ROW = {
    "text": "".join(PIECES),
    "num_chunks": 3,
    "chunks": [
        {"suffix": text, "latent": f"thought {number}", "elbo": -1.5} for number, text in enumerate(PIECES)
    ],
}
THOUGHTS = ("thought 0", "thought 1", "thought 2")
TAUGHT = Document(text=PIECES, thought=THOUGHTS)


def nested(source: Path | str, **settings: Any) -> CorpusConfig:
    return corpus(source, **{"text_column": "chunks.suffix", "thought_column": "chunks.latent", **settings})


@pytest.mark.parametrize("name", WRITERS)
def test_chunks_with_their_thoughts_are_read_from_every_kind_of_source(tmp_path: Path, name: str) -> None:
    config = nested(WRITERS[name](tmp_path / name, [ROW] * 5))
    check(config, "warm", "sentences", needs_thought=True)
    assert list(documents(config, "sentences")) == [TAUGHT] * 5


def test_a_hub_data_set_is_read_in_both_forms_of_its_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of structs, and a struct of lists, as which its Sequence is read."""
    import datasets

    turned = {"chunks": {"suffix": list(PIECES), "latent": list(THOUGHTS)}}
    for row in (ROW, turned):
        rows = datasets.Dataset.from_list([row, row]).to_iterable_dataset()
        monkeypatch.setattr(datasets, "load_dataset", lambda *_, rows=rows, **__: rows)
        assert list(documents(nested("owner/name"), "sentences")) == [TAUGHT] * 2
        with pytest.raises(ConfigError, match=r"owner/name row 0: field 'chunks.*' has no 'prefix'"):
            list(documents(nested("owner/name", text_column="chunks.prefix"), "sentences"))
    with pytest.raises(ConfigError, match=r"owner/name: no column 'pieces\.suffix'; it has: "):
        list(documents(nested("owner/name", text_column="pieces.suffix"), "sentences"))


def test_a_text_of_one_struct_and_a_column_with_a_dot_in_its_name(tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "a.jsonl", [{"doc": {"text": "in"}, "doc.text": "own"}, {"doc": {"text": "in"}}]
    )
    config = corpus(path, text_column="doc.text")
    check(config, "corpus", "sentences", needs_thought=False)
    assert [document.text for document in documents(config, "sentences")] == ["own", "in"]
    parquet = write_parquet(tmp_path / "a.parquet", [{"doc": {"text": "in"}}])
    assert list(documents(corpus(parquet, text_column="doc.text"), "sentences")) == [Document(text="in")]


def test_a_row_without_chunks_is_an_empty_document(tmp_path: Path) -> None:
    config = nested(write_jsonl(tmp_path / "a.jsonl", [ROW, {"chunks": []}, {"text": "alone"}]))
    check(config, "warm", "sentences", needs_thought=True)
    assert list(documents(config, "sentences")) == [TAUGHT, Document(text=(), thought=()), Document()]


WRONG = [
    ("abc", "'chunks' is str, expected a list of objects with 'suffix'"),
    (7, "'chunks' is int, expected a list"),
    (None, "'chunks' is null, expected a list"),
    (["a", "b"], "'chunks[0]' is str, expected an object with 'suffix'"),
    ([ROW["chunks"][0], {"latent": "z"}], "'chunks[1]' has no 'suffix'; it has: latent"),  # type: ignore[index]
    ([{"suffix": "a"}], "'chunks[0]' has no 'latent'; it has: suffix"),
    ([{"suffix": None, "latent": "z"}], "'chunks[0].suffix' is null, expected a string"),
    ([{"suffix": "a", "latent": 3}], "'chunks[0].latent' is int, expected a string"),
    ([{"suffix": "a", "latent": ["z"]}], "'chunks[0].latent' is list, expected a string"),
    ({"suffix": ["a", "b"], "latent": ["z"]}, "fields of different lengths, 2 in 'chunks.suffix' and 1 in"),
    ({"suffix": ["a", 4], "latent": ["z", "z"]}, "'chunks.suffix[1]' is int, expected a string"),
]


@pytest.mark.parametrize(("chunks", "problem"), WRONG)
@pytest.mark.parametrize("before", [[], [ROW]])
def test_chunks_of_another_shape_are_refused_by_line_before_anything_is_prepared(
    tmp_path: Path, chunks: Any, problem: str, before: list[Any]
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [*before, {"chunks": chunks}])
    message = refusal(nested(path), needs_thought=True)
    assert message.startswith(f"warm.source: {path} line {1 + len(before)}: ") and problem in message


def test_chunks_of_another_shape_are_refused_by_row_of_a_parquet_file(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [ROW, {"chunks": None}])
    assert f"{path} row 1: field 'chunks' is null" in refusal(nested(path), needs_thought=True)
    path = write_parquet(tmp_path / "b.parquet", [{"chunks": [{"suffix": "a", "latent": 3}]}])
    assert f"{path} row 0: field 'chunks[0].latent' is int" in refusal(nested(path), needs_thought=True)


@pytest.mark.parametrize("name", ["documents.jsonl", "documents.parquet", "saved"])
def test_a_column_of_structs_is_no_column_of_texts_and_its_fields_are_named(
    tmp_path: Path, name: str
) -> None:
    path = WRITERS[name](tmp_path / name, [ROW])
    message = refusal(corpus(path, text_column="chunks", thought_column="text"), needs_thought=True)
    assert message.startswith("warm.text_column='chunks': holds ")
    assert message.endswith("its fields: chunks.suffix, chunks.latent, chunks.elbo")
    message = refusal(corpus(path, text_column="body"))
    assert message.endswith("has: text, num_chunks, chunks, chunks.suffix, chunks.latent, chunks.elbo")
    assert "elbo" in refusal(nested(path, thought_column="chunks.elbo"))


def test_a_whole_text_with_thoughts_of_its_chunks_is_refused(tmp_path: Path) -> None:
    message = refusal(nested(write_jsonl(tmp_path / "a.jsonl", [ROW]), text_column="text"))
    assert "line 1: fields of different lengths, 1 in 'text' and 3 in 'chunks.latent'" in message


def test_a_bad_row_after_those_that_are_looked_at_first_is_named_when_it_is_read(tmp_path: Path) -> None:
    config = nested(write_jsonl(tmp_path / "a.jsonl", [*[ROW] * 200, {"chunks": [{"suffix": "a"}]}]))
    check(config, "warm", "sentences", needs_thought=True)
    with pytest.raises(ConfigError, match=r"a\.jsonl line 201: field 'chunks\[0\]' has no 'latent'"):
        list(documents(config, "sentences"))


def test_rows_before_the_offset_are_not_looked_at(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"chunks": "a heading"}, ROW])
    check(nested(path, offset=1), "warm", "sentences", needs_thought=True)


def test_the_structs_of_older_saved_datasets_are_read(tmp_path: Path) -> None:
    saved = write_saved(tmp_path / "saved", [{"chunks": ROW["chunks"]}])
    info = json.loads((saved / "dataset_info.json").read_text())
    info["features"]["chunks"] = [info["features"]["chunks"]["feature"]]
    (saved / "dataset_info.json").write_text(json.dumps(info))
    check(nested(saved), "warm", "sentences", needs_thought=True)
    assert list(documents(nested(saved), "sentences")) == [TAUGHT]


def test_lists_of_lists_of_strings_are_no_texts(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [[["a"], ["b"]]]}), tmp_path / "a.parquet")
    assert "expected strings or lists of strings" in refusal(corpus(tmp_path / "a.parquet"))


def test_taught_chunks_are_known_by_what_becomes_of_long_ones(tmp_path: Path) -> None:
    """Documents that earlier releases prepared otherwise are made again, all others are kept."""
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "One.", "pieces": ["One."]}])
    assert identity(corpus(path), taught=True) == identity(corpus(path))
    lists = corpus(path, text_column="pieces")
    assert identity(lists, taught=True) != identity(lists)
