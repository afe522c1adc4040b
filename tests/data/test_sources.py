"""Documents from real files, folders and built-in tasks, and every mistake a user can make."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lt_hpc.config.schema import CorpusConfig, ModelConfig
from lt_hpc.data import base_model
from lt_hpc.data.builtin import NAMES as BUILTINS
from lt_hpc.data.sources import Document, check, documents, identity, remarks
from lt_hpc.errors import ConfigError

TEXTS = ["One sentence.", "", " \n\t", "a" * 1_000_000, "今天很好。नमस्ते। مرحبا؟ 👋🏽", "the last"]
ROWS = [{"text": text, "label": index} for index, text in enumerate(TEXTS)]
PAIRS = [{"q": "1+1?", "a": "2", "t": "one and one"}, {"q": "2+2?", "a": "4", "t": None}, {"q": "3?"}]


def write_jsonl(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_gzip(path: Path, rows: Iterable[Any]) -> Path:
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    return path


def write_parquet(path: Path, rows: Iterable[Any]) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=2)
    return path


def write_folder(path: Path, rows: Iterable[Any]) -> Path:
    rows = list(rows)
    path.mkdir()
    write_parquet(path / "b.parquet", rows[1:4])
    write_jsonl(path / "a.jsonl", rows[:1])
    write_gzip(path / "c.jsonl.gz", rows[4:])
    (path / "README.md").write_text("not a document")
    return path


def write_saved(path: Path, rows: Iterable[Any]) -> Path:
    import datasets

    datasets.Dataset.from_list(list(rows)).save_to_disk(str(path))
    return path


WRITERS: dict[str, Callable[[Path, Iterable[Any]], Path]] = {
    "documents.jsonl": write_jsonl,
    "documents.jsonl.gz": write_gzip,
    "documents.parquet": write_parquet,
    "folder": write_folder,
    "saved": write_saved,
}


def corpus(source: str | Path, **settings: Any) -> CorpusConfig:
    return CorpusConfig(source=str(source), **settings)


def given_corpus(source: Path, **settings: Any) -> CorpusConfig:
    return corpus(source, question_column="q", answer_column="a", **settings)


def texts(config: CorpusConfig) -> list[str]:
    return [document.text for document in documents(config, "sentences")]


def refusal(config: CorpusConfig, mode: str = "sentences", needs_thought: bool = False) -> str:
    """The message with which `check` refuses the section "warm"."""
    with pytest.raises(ConfigError) as caught:
        check(config, "warm", mode, needs_thought)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_source_gives_the_same_documents(tmp_path: Path, name: str) -> None:
    config = corpus(WRITERS[name](tmp_path / name, ROWS))
    check(config, "corpus", "sentences", needs_thought=False)
    assert list(documents(config, "sentences")) == [Document(text=text) for text in TEXTS]


@pytest.mark.parametrize("name", WRITERS)
def test_offset_and_num_documents_slice_the_stream(tmp_path: Path, name: str) -> None:
    path = WRITERS[name](tmp_path / name, ROWS)
    for offset in range(len(ROWS) + 2):
        for number in (None, 0, 1, 3, 99):
            stop = None if number is None else offset + number
            config = corpus(path, offset=offset, num_documents=number)
            assert texts(config) == TEXTS[offset:stop]


@pytest.mark.parametrize("name", ["documents.jsonl", "documents.parquet", "saved"])
def test_question_answer_and_thought_columns(tmp_path: Path, name: str) -> None:
    config = given_corpus(WRITERS[name](tmp_path / name, PAIRS), thought_column="t")
    check(config, "corpus", "given", needs_thought=True)
    first, second, without_answer = documents(config, "given")
    assert first == Document(question="1+1?", answer="2", thought="one and one")
    assert second == Document(question="2+2?", answer="4")
    assert without_answer == Document()


def test_a_row_without_text_is_an_empty_document(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "one"}, {"text": None}, {"other": 1}, {"text": "two"}])
    assert texts(corpus(path)) == ["one", "", "", "two"]


def test_blank_lines_are_no_rows_and_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "one"}\r\n\r\n  \n{"text": "two"}')
    assert texts(corpus(path)) == ["one", "two"]
    assert texts(corpus(path, offset=1)) == ["two"]


def test_a_lone_surrogate_becomes_a_replacement_character(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a \\ud800 b \\ud83d\\ude00"}\n')
    assert texts(corpus(path)) == ["a \ufffd b \U0001f600"]


def test_the_split_of_a_saved_dataset_is_honoured(tmp_path: Path) -> None:
    import datasets

    parts = {"train": ROWS[:2], "test": ROWS[4:]}
    saved = datasets.DatasetDict({name: datasets.Dataset.from_list(rows) for name, rows in parts.items()})
    saved.save_to_disk(str(tmp_path / "saved"))
    config = corpus(tmp_path / "saved", split="test")
    check(config, "heldout", "sentences", needs_thought=False)
    assert texts(config) == TEXTS[4:]
    assert "has the splits: train, test" in refusal(corpus(tmp_path / "saved", split="dev"))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"text": "one"}\n\nnot JSON\n', "line 3: not valid JSON"),
        (b'{"text": "one"}\n{"text": "tw', "line 2: not valid JSON"),
        (b'{"text": "one"}\n{"text": "\xff"}\n', "line 2: not valid JSON"),
        (b'{"text": "one"}\n["two"]\n', "line 2: holds list"),
        (b'{"text": "one"}\n{"text": 2}\n', "line 2: field 'text' is int"),
        (b'{"text": "one"}\n{"text": [2]}\n', "line 2: field 'text' is int"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    stream = documents(corpus(path), "sentences")
    assert next(stream) == Document(text="one")
    with pytest.raises(ConfigError) as caught:
        next(stream)
    assert f"{path} {problem}" in str(caught.value)


@pytest.mark.parametrize("name", ["documents.parquet", "saved"])
def test_a_number_in_a_typed_text_column_is_named_by_row(tmp_path: Path, name: str) -> None:
    path = WRITERS[name](tmp_path / name, ROWS)
    with pytest.raises(ConfigError, match="row 3: field 'label' is int"):
        list(documents(corpus(path, text_column="label", offset=3), "sentences"))


@pytest.mark.parametrize("name", ["documents.parquet", "saved"])
def test_documents_of_a_missing_column_are_refused(tmp_path: Path, name: str) -> None:
    path = WRITERS[name](tmp_path / name, ROWS)
    with pytest.raises(ConfigError, match="no column 'body'; it has: text, label"):
        list(documents(corpus(path, text_column="body"), "sentences"))


def test_check_refuses_a_source_that_does_not_exist(tmp_path: Path) -> None:
    for source in (tmp_path / "none.jsonl", tmp_path / "none", "data/train.jsonl", "none", ""):
        message = refusal(corpus(source))
        assert message.startswith(f"warm.source={str(source)!r}: no such file or folder; choose one of")
        assert "builtin:chain" in message and "*.parquet" in message


def test_check_refuses_an_unknown_builtin_and_kind_of_file(tmp_path: Path) -> None:
    message = refusal(corpus("builtin:chian"))
    assert (
        "warm.source='builtin:chian'" in message and "builtin:chain, builtin:routes, builtin:gsm" in message
    )
    (tmp_path / "a.csv").write_text("text\none\n")
    assert "can't read this kind of file; choose one of" in refusal(corpus(tmp_path / "a.csv"))


def test_check_refuses_a_folder_or_file_without_rows(tmp_path: Path) -> None:
    assert "no *.jsonl (also .gz, .bz2, .xz, .zst, .lz4), *.parquet in this folder" in refusal(
        corpus(tmp_path)
    )
    for name, write in (("a.jsonl", write_jsonl), ("b.jsonl.gz", write_gzip)):
        assert refusal(corpus(write(tmp_path / name, []))).endswith("holds no rows")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "c.parquet")
    assert refusal(corpus(tmp_path / "c.parquet")).endswith("holds no rows")
    assert refusal(corpus(tmp_path)).endswith("holds no rows")


@pytest.mark.parametrize("name", WRITERS)
def test_check_names_the_columns_that_exist(tmp_path: Path, name: str) -> None:
    path = WRITERS[name](tmp_path / name, ROWS)
    message = refusal(corpus(path, text_column="body"))
    assert message == f"warm.text_column='body': no such column; {path} has: text, label"
    assert "warm.text_column='label': holds int" in refusal(corpus(path, text_column="label"))
    message = refusal(corpus(path), needs_thought=True)
    assert message == f"warm.thought_column: the warm start needs it; {path} has: text, label"
    message = refusal(corpus(path, thought_column="cot"), needs_thought=True)
    assert "warm.thought_column='cot': no such column" in message
    message = refusal(corpus(path, question_column="text"), mode="given")
    assert message.startswith("warm.answer_column: chunking.mode=given needs it")


@pytest.mark.parametrize("name", ["documents.jsonl", "documents.parquet", "saved"])
def test_texts_may_come_cut_into_chunks_and_questions_may_not(tmp_path: Path, name: str) -> None:
    path = WRITERS[name](tmp_path / name, [{"text": ["one", "two"], "cot": ["1", None]}])
    config = corpus(path, thought_column="cot")
    check(config, "warm", "sentences", needs_thought=True)
    assert list(documents(config, "sentences")) == [Document(text=("one", "two"), thought=("1", ""))]
    message = refusal(corpus(path, question_column="text", answer_column="text"), mode="given")
    assert "expected strings" in message


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.jsonl.gz"])
def test_check_refuses_a_file_that_is_not_what_its_name_says(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"something else\n")
    message = refusal(corpus(tmp_path / name))
    assert message.startswith("warm.source: ") and str(tmp_path / name) in message


def test_documents_of_a_truncated_gzip_file_are_refused(tmp_path: Path) -> None:
    path = write_gzip(tmp_path / "a.jsonl.gz", ROWS)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ConfigError, match="not a complete gz file"):
        list(documents(corpus(path), "sentences"))


def test_check_refuses_an_incomplete_saved_dataset(tmp_path: Path) -> None:
    path = write_saved(tmp_path / "saved", ROWS)
    next(path.glob("*.arrow")).unlink()
    assert "the folder is not complete" in refusal(corpus(path))


def test_check_refuses_settings_that_would_be_ignored(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    assert "warm.split='test'" in refusal(corpus(path, split="test"))
    assert "set warm.seed" in refusal(corpus("builtin:chain", split="test", num_documents=1))
    assert "warm.config_name='main'" in refusal(corpus(path, config_name="main"))


def test_a_builtin_corpus_needs_a_number_of_documents() -> None:
    for source in BUILTINS:
        assert refusal(corpus(source)).startswith("warm.num_documents: ")
        with pytest.raises(ConfigError, match="num_documents"):
            next(documents(corpus(source), "given"))


def test_builtin_gsm_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)  # Python's own "not importable"
    message = refusal(corpus("builtin:gsm", num_documents=1))
    assert message == "warm.source: needs reasoning-gym; run pip install 'lt_hpc[gsm]'"


def test_check_passes_a_hub_name_but_asks_for_the_thought_column() -> None:
    check(corpus("owner/name-v1.0", split="test", config_name="main"), "warm", "sentences", False)
    assert refusal(corpus("owner/name"), needs_thought=True).startswith("warm.thought_column")


def test_check_loads_no_slow_library(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    saved = write_saved(tmp_path / "saved", ROWS)
    program = (
        "import sys; from lt_hpc.config.schema import CorpusConfig; from lt_hpc.data.sources import check\n"
        "for source in sys.argv[1:]:\n"
        "    check(CorpusConfig(source=source, num_documents=1), 'corpus', 'sentences', False)\n"
        "print(*{'torch', 'transformers', 'datasets', 'pyarrow', 'reasoning_gym'} & set(sys.modules))\n"
    )
    sources = [str(path), str(saved), "builtin:chain", "builtin:routes", "owner/name"]
    done = subprocess.run(
        [sys.executable, "-c", program, *sources], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


@pytest.mark.parametrize("source", BUILTINS)
def test_a_builtin_stream_is_reproducible_and_told_apart_by_its_seed(source: str) -> None:
    config = corpus(source, num_documents=30)
    check(config, "corpus", "given", needs_thought=True)
    stream = list(documents(config, "given"))
    assert len(stream) == 30
    assert all(document.question and document.answer and document.thought for document in stream)
    assert list(documents(corpus(source, offset=10, num_documents=5), "given")) == stream[10:15]
    other = documents(corpus(source, num_documents=30, seed=1), "given")
    assert not {document.question for document in other} & {document.question for document in stream}
    plain = documents(corpus(source, num_documents=30), "sentences")
    assert [document.text for document in plain] == [f"{d.question} {d.answer}" for d in stream]


def test_identity_follows_the_content_and_not_the_path(tmp_path: Path) -> None:
    for name, write in WRITERS.items():
        path = write(tmp_path / name, ROWS)
        before = identity(corpus(path))
        assert str(tmp_path) not in json.dumps(before)
        (tmp_path / "moved").mkdir(exist_ok=True)
        assert identity(corpus(shutil.move(path, tmp_path / "moved" / name))) == before
        assert identity(corpus(write(tmp_path / f"other_{name}", ROWS[:-1]))) != before


def test_identity_sees_an_edit_at_either_end_and_every_setting(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": str(index) * 700_000} for index in range(5)])
    config = corpus(path)
    seen = [identity(config), identity(corpus(path, offset=1)), identity(corpus(path, num_documents=1))]
    content = path.read_bytes()
    for edited in (b'{"Text' + content[6:], content[:-3] + b'5"}', content + b"\n"):
        path.write_bytes(edited)
        seen.append(identity(config))
    assert len({json.dumps(value, sort_keys=True) for value in seen}) == len(seen)


def test_identity_of_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        identity(corpus(tmp_path / "none.jsonl"))


@pytest.mark.parametrize(
    ("size", "apart", "overlapping"),
    [
        (10, "626d86b32fc7ed7d", "caa917b5cddc5e71"),
        (3 << 19, "bf885565ffd8a052", "bc4d0fcf36d0b320"),
        (5 << 19, "c52b3159d016578f", "c52b3159d016578f"),
    ],
)
def test_what_a_file_is_known_by_is_as_in_the_first_release(
    tmp_path: Path, size: int, apart: str, overlapping: str
) -> None:
    content = bytes(n * n % 251 for n in range(size))
    for name in ("config.json", "rows.jsonl"):
        (tmp_path / name).write_bytes(content)
    (source,) = identity(corpus(tmp_path / "rows.jsonl"))["source"]  # type: ignore[misc]
    assert source["sha256"][:16] == apart
    assert base_model.identity(ModelConfig(path=str(tmp_path)))["files"][0][2][:16] == overlapping


def test_lists_of_older_saved_datasets_are_read(tmp_path: Path) -> None:
    saved = write_saved(tmp_path / "saved", [{"text": ["a.", "b."]}, {"text": ["c."]}])
    info = json.loads((saved / "dataset_info.json").read_text())
    info["features"]["text"] = [{"dtype": "string", "_type": "Value"}]
    (saved / "dataset_info.json").write_text(json.dumps(info))
    check(corpus(saved), "corpus", "sentences", needs_thought=False)
    assert [document.text for document in documents(corpus(saved), "sentences")] == [("a.", "b."), ("c.",)]


def test_a_hub_dataset_without_a_revision_is_said_to_be_unpinned() -> None:
    assert "give a commit as revision" in remarks(corpus("owner/name"))[0]
    assert remarks(corpus("owner/name", revision="0123abc")) == []
    assert identity(corpus("owner/name")) != identity(corpus("owner/name", revision="0123abc"))
