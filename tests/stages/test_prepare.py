"""Documents become token ids once, whatever they look like, and no finished part is made twice."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from lt_hpc.config.schema import CORPORA, ChunkingConfig
from lt_hpc.data import sources
from lt_hpc.data.corpus import Corpus, View, read_corpus
from lt_hpc.data.encoding import Encoder
from lt_hpc.data.tokenising import tokenise
from lt_hpc.errors import ConfigError, Interrupted
from lt_hpc.run import state
from lt_hpc.stages import documents, prepare, tokenised
from lt_hpc.stages.task import Task
from lt_hpc.store import manifest
from tests.runs.tiny_run import CONTEXT, THOUGHT, tasks


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def read(task: Task, name: str) -> Corpus:
    view = View(prefix_chunks=3, context_length=128, max_thought_tokens=24)
    return read_corpus(task.paths.documents(name), task.plan.output(name), view)


def test_odd_documents_survive_and_dropped_ones_are_counted_with_the_reason(tmp_path: Path) -> None:
    texts = [
        "", " \n\t ", "One sentence without an end", "x" * 100_000, "word " * 200_000,
        "他说。真的吗？是的。", "كيف حالك؟ بخير.", "नमस्ते। आप कैसे हैं?", "\u200b\U0001f600",
    ]  # fmt: skip
    source = write(tmp_path / "odd.jsonl", [{"text": text, "thought": "z"} for text in texts])
    task = tasks(tmp_path, f"corpus.source={source}")("prepare")
    prepare.run(task)
    found = manifest.read(task.paths.documents("corpus"))
    assert found is not None and found.complete
    assert found.counts["documents"] == len(texts)
    assert found.counts["dropped: empty or only whitespace"] == 2
    assert found.counts["kept"] == len(texts) - 2
    tokenizer = AutoTokenizer.from_pretrained(task.paths.base)
    table = pq.read_table(task.paths.documents("corpus") / "documents-00000.parquet").to_pylist()
    for row, text in zip(table, [t for t in texts if t.strip()], strict=True):
        assert max(row["chunk_lengths"]) <= task.plan.config.chunking.max_chunk_tokens + 1
        assert sum(row["chunk_bytes"]) == len(text.encode())
        assert tokenizer.decode(row["tokens"][:-1]) == text


def test_teacher_thoughts_of_chunks_keep_their_prefixes(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"text": ["The cat sat.", " The dog sat.", " The hen sat."], "thought": ["one", "two", "three"]},
        {"text": "The fox sat. Then the fox was gone.", "thought": "alone"},
        {"text": ["The cat sat.", " The dog sat."], "thought": ["one"]},
        {"text": ["The cat sat.", " The dog sat."], "thought": ["one", None]},
    ]
    task = tasks(tmp_path, f"warm.source={write(tmp_path / 'taught.jsonl', rows)}")("prepare")
    prepare.run(task)
    found, warm = manifest.read(task.paths.documents("warm")), read(task, "warm")
    assert found is not None
    assert found.counts["dropped: not one teacher thought per chunk"] == 1
    assert found.counts["left out: no teacher thought"] == 1
    tokenizer = AutoTokenizer.from_pretrained(task.paths.base)
    seen = [
        tuple(tokenizer.decode(ids) for ids in (chunk.prefix, chunk.suffix, chunk.thought or []))
        for chunk in warm.chunks()
    ]
    assert seen == [
        ("", "The cat sat.", "one"),
        ("The cat sat.", " The dog sat.", "two"),
        ("The cat sat. The dog sat.", " The hen sat.<eos>", "three"),
        ("", "The fox sat. Then the fox was gone.<eos>", "alone"),
        ("", "The cat sat.", "one"),
    ]


def decoded(task: Task, name: str) -> list[tuple[str, ...]]:
    """Prefix, suffix and thought of each chunk, as text."""
    tokenizer = AutoTokenizer.from_pretrained(task.paths.base)
    return [
        tuple(tokenizer.decode(ids) for ids in (chunk.prefix, chunk.suffix, chunk.thought or []))
        for chunk in read(task, name).chunks()
    ]


CHUNKS = ["chunks.suffix", "chunks.latent"]
"""Columns of the reference implementation."""


def published(*pairs: tuple[str, str]) -> dict[str, Any]:
    """A row as the reference implementation publishes them."""
    chunks = [{"suffix": text, "latent": thought} for text, thought in pairs]
    text = "".join(text for text, _ in pairs)
    return {"text": text, "num_chunks": len(chunks), "chunks": chunks}


def test_documents_of_the_reference_implementation_are_prepared_with_their_thoughts(tmp_path: Path) -> None:
    rows = [
        published(("The cat sat. ", "one"), ("The dog sat.", "two")),
        published(("The hen was gone.", "three")),
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "taught.parquet")
    sources = {"warm": write(tmp_path / "taught.jsonl", rows), "corpus": tmp_path / "taught.parquet"}
    words = [f"{name}.source={source}" for name, source in sources.items()]
    columns = dict(zip(("text_column", "thought_column"), CHUNKS, strict=True))
    words += [f"{name}.{key}={column}" for name in sources for key, column in columns.items()]
    task = tasks(tmp_path, *words)("prepare")
    prepare.run(task)
    assert decoded(task, "warm") == [
        ("", "The cat sat. ", "one"),
        ("The cat sat. ", "The dog sat.<eos>", "two"),
        ("", "The hen was gone.<eos>", "three"),
    ]
    assert [chunk[:2] for chunk in decoded(task, "corpus")] == [chunk[:2] for chunk in decoded(task, "warm")]


def test_what_is_too_long_costs_its_chunk_and_not_the_document(tmp_path: Path) -> None:
    short, long = "The cat sat. ", "The cat sat on the mat. " * 12
    rows = [
        published((short, "one"), ("The hen sat. ", "cat " * 40), (long, "two"), ("The dog sat.", "three")),
        published((short, "four"), ("The end.", "mat " * 40)),
        published((short, "log " * 40)),
        published((long, "five")),
    ]
    source = write(tmp_path / "taught.jsonl", rows)
    words = [f"warm.source={source}", f"warm.text_column={CHUNKS[0]}", f"warm.thought_column={CHUNKS[1]}"]
    make = tasks(tmp_path, *words, "chunking.max_chunk_tokens=40")
    prepare.run(make("prepare"))
    assert decoded(make("prepare"), "warm") == [
        ("", short, "one"),
        (short, "The dog sat.<eos>", "three"),
        ("", short, "four"),  # no <eos>: the document does not end here
    ]
    found = manifest.read(make("prepare").paths.documents("warm"))
    assert found is not None and (found.counts["documents"], found.counts["kept"]) == (4, 2)
    assert state.remarks(make("prepare").paths, make("prepare").stage)[:2] == [
        "warm: 2 of 4 documents dropped (50.0%): 1 teacher thought too long, 1 chunk with a teacher thought "
        "too long",
        "warm: 3 of 6 chunks left out (50.0%): 2 teacher thought too long, 1 chunk with a teacher thought "
        "too long",
    ]


def test_a_share_of_chunks_left_out_may_be_refused(tmp_path: Path) -> None:
    rows = [published(("The cat sat. ", "one"), ("The hen sat. ", "cat " * 40), ("The dog sat.", "two"))]
    words = [f"warm.source={write(tmp_path / 'a.jsonl', rows)}", f"warm.text_column={CHUNKS[0]}"]
    words += [f"warm.thought_column={CHUNKS[1]}", "warm.max_dropped=0.3"]
    with pytest.raises(
        ConfigError, match=r"warm\.max_dropped=0\.3: 33\.3% of 3 chunks of .* are left out \(1 teacher"
    ):
        prepare.run(tasks(tmp_path, *words)("prepare"))


def test_stopped_twice_it_makes_no_part_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "PART_DOCUMENTS", 1)
    make = tasks(tmp_path)
    folder = make("prepare").paths.documents("corpus")

    def stopped_before(part: int) -> dict[Path, int]:
        calls = itertools.count()
        with pytest.raises(Interrupted):
            prepare.run(make("prepare", lambda: next(calls) >= part))
        return {path: path.stat().st_mtime_ns for path in folder.glob("documents-*")}

    first = stopped_before(5)
    assert len(first) == 5
    assert stopped_before(2) == first
    prepare.run(make("prepare"))
    again = {path: path.stat().st_mtime_ns for path in folder.glob("documents-*")}
    assert len(again) == 8 and {path: again[path] for path in first} == first


@pytest.mark.slow
def test_any_number_of_processes_writes_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "PART_DOCUMENTS", 5)
    monkeypatch.setattr(documents, "ROW_GROUP_TOKENS", 20)
    monkeypatch.setattr(tokenised, "GROUP_CHARACTERS", 100)
    monkeypatch.setattr(tokenised, "ALONE", 1)
    written = []
    for processes in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", processes)
        (tmp_path / processes).mkdir()
        task = tasks(tmp_path / processes)("prepare")
        prepare.run(task)
        files = sorted(task.paths.documents("corpus").glob("*.parquet"))
        assert [pq.ParquetFile(file).num_row_groups for file in files] == [3, 2]
        written.append([file.read_bytes() for file in files])
    assert written[0] == written[1]
    chunks = list(read(task, "corpus").chunks())
    assert [chunk.chunk_id for chunk in chunks] == list(range(len(chunks)))
    monkeypatch.undo()
    (tmp_path / "whole").mkdir()
    whole = tasks(tmp_path / "whole")("prepare")
    prepare.run(whole)
    assert list(read(whole, "corpus").chunks()) == chunks


def sentencepiece(letters: str) -> PreTrainedTokenizerFast:
    """A tokenizer like Llama 2's: a space before every text, bytes for what it does not know."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *letters]
    merges = [("\u2581", letter) for letter in letters]
    vocabulary = {piece: index for index, piece in enumerate([*pieces, *(a + b for a, b in merges)])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def test_chunks_of_a_text_are_joined_to_what_the_whole_text_is_to_the_tokenizer() -> None:
    tokenizer = sentencepiece("ABC.!?")
    text = "A B. C.\nB A!\n\nC C? A\u3002B."
    settings = ChunkingConfig(mean_sentences=1, max_sentences=1)
    document = sources.Document(text=text)
    (row,) = tokenise([document], Encoder(tokenizer), settings, False, None)
    assert len(row.chunks) > 3
    joined = [token for chunk in row.chunks for token in chunk]
    assert tokenizer.decode(joined) == text
    assert joined == tokenizer(text)["input_ids"]
    assert [tokenizer.decode(chunk) for chunk in row.chunks][1].startswith(("C", "\n"))


def test_only_what_this_attempt_wrote_counts_as_kept(tmp_path: Path) -> None:
    """A job that keeps nothing of all its time is not put back into the queue for ever."""
    task = tasks(tmp_path)
    first, again = task("prepare"), task("prepare")
    prepare.run(first)
    prepare.run(again)
    assert first.progress.kept and not again.progress.kept
    assert (again.progress.done, again.progress.total) == (3, 3)


def test_text_that_the_tokenizer_does_not_know_is_counted_and_above_a_share_refused(tmp_path: Path) -> None:
    prose = write(tmp_path / "prose.jsonl", [{"text": "The river rose in the night."}])
    words = ("model.path=builtin:demo_base", f"corpus.source={prose}", "corpus.thought_column=null")
    make = tasks(tmp_path, *words)
    with pytest.raises(ConfigError, match=r"corpus\.max_unknown=0\.1: .* not know 8.*, for example 'The'"):
        prepare.run(make("prepare"))
    make = tasks(tmp_path, *words, *(f"{name}.max_unknown=1" for name in CORPORA))
    prepare.run(make("prepare"))
    found = manifest.read(make("prepare").paths.documents("corpus"))
    assert found is not None and (found.counts["unknown tokens"], found.counts["tokens"]) == (6, 7)


GIVEN = ["chunking.mode=given", *(f"{n}.{k}_column={k}" for n in CORPORA for k in ("question", "answer"))]


def test_a_given_answer_is_one_chunk_or_dropped(tmp_path: Path) -> None:
    rows = [{"question": "Who?", "answer": answer} for answer in ("The cat.", "The cat sat on the mat. " * 9)]
    source = write(tmp_path / "heldout.jsonl", rows)
    task = tasks(
        tmp_path, *GIVEN, f"heldout.source={source}", "heldout.thought_column=null",
        "chunking.max_chunk_tokens=40",
    )("prepare")  # fmt: skip
    prepare.run(task)
    found = manifest.read(task.paths.documents("heldout"))
    assert found is not None and (found.counts["chunks"], found.counts["kept"]) == (1, 1)
    assert found.counts["dropped: answer longer than chunking.max_chunk_tokens"] == 1


def test_answers_need_a_token_that_ends_them(tmp_path: Path) -> None:
    make = tasks(tmp_path, *GIVEN, edit=lambda model: change(model / "tokenizer_config.json", eos_token=None))
    with pytest.raises(ConfigError, match="has no eos_token, so no answer could end"):
        prepare.run(make("prepare"))


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_blank_texts_and_thoughts_are_as_good_as_none(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"text": ["The cat sat.", " \n", "The dog sat.", "  "], "thought": ["one", "none", "two", "none"]},
        {"text": "The fox sat.", "thought": " \n"},
    ]
    task = tasks(tmp_path, f"warm.source={write(tmp_path / 'taught.jsonl', rows)}")("prepare")
    prepare.run(task)
    found, warm = manifest.read(task.paths.documents("warm")), read(task, "warm")
    assert found is not None and found.counts["kept"] == 1
    assert found.counts["dropped: no teacher thought"] == 1
    tokenizer = AutoTokenizer.from_pretrained(task.paths.base)
    seen = [tuple(tokenizer.decode(ids) for ids in (c.suffix, c.thought or [])) for c in warm.chunks()]
    assert seen == [("The cat sat.", "one"), (" \nThe dog sat.  <eos>", "two")]


def test_a_chunk_leaves_room_for_the_bos_token(tmp_path: Path) -> None:
    make = tasks(tmp_path, "model.bos=always", f"chunking.max_chunk_tokens={CONTEXT - THOUGHT - 5}")
    with pytest.raises(ConfigError, match=f"at most {CONTEXT - THOUGHT - 6} tokens"):
        prepare.run(make("prepare"))


def test_an_answer_that_the_model_has_no_positions_for_is_refused_before_anything_is_trained(
    tmp_path: Path,
) -> None:
    question = "Who sat on the mat when the fox was gone and the dog was on the log? " * 3
    source = write(tmp_path / "heldout.jsonl", [{"question": question, "answer": "The cat."}])
    words = [*GIVEN, f"heldout.source={source}", "heldout.thought_column=null"]
    prepare.run(tasks(tmp_path, *words, "evaluate.max_answer_tokens=2")("prepare"))
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"evaluate\.max_answer_tokens=40: .* positions, the model has 96"):
        prepare.run(tasks(tmp_path, *words, "evaluate.max_answer_tokens=40")("prepare"))


def holes(file: Path) -> None:
    """Take two tokens out of the middle of a vocabulary: entries are fewer than the largest id."""
    raw = json.loads(file.read_text())
    vocabulary, merges = raw["model"]["vocab"], raw["model"]["merges"]
    gone = [token for token, index in vocabulary.items() if index in (260, 261)]
    for token in gone:
        del vocabulary[token]
    raw["model"]["merges"] = [pair for pair in merges if not any(one in "".join(pair) for one in gone)]
    file.write_text(json.dumps(raw))


def test_markers_never_take_the_ids_of_other_tokens(tmp_path: Path) -> None:
    make = tasks(tmp_path, edit=lambda model: holes(model / "tokenizer.json"))
    with pytest.raises(ConfigError, match="its vocabulary has holes"):
        prepare.run(make("prepare"))


def test_a_source_that_changes_after_the_launch_is_refused(tmp_path: Path) -> None:
    make = tasks(tmp_path)
    with (tmp_path / "corpus.jsonl").open("a") as stream:
        stream.write('\n{"text": "One more.", "thought": "late"}')
    with pytest.raises(ConfigError, match=r"corpus\.source=.* has changed since the launch"):
        prepare.run(make("prepare"))
    (tmp_path / "other").mkdir()
    make = tasks(tmp_path / "other")
    change(tmp_path / "other" / "model" / "config.json", rope_theta=5.0)
    with pytest.raises(ConfigError, match=r"model\.path=.* has changed since the launch"):
        prepare.run(make("prepare"))
    assert not make("prepare").paths.base.exists()


def test_a_share_of_dropped_documents_may_be_refused(tmp_path: Path) -> None:
    rows = [{"text": text} for text in ("The cat sat.", " ", "", "The dog sat.")]
    words = [f"heldout.source={write(tmp_path / 'some.jsonl', rows)}", "heldout.thought_column=null"]
    make = tasks(tmp_path, *words, "heldout.max_dropped=0.4")
    with pytest.raises(
        ConfigError, match=r"heldout\.max_dropped=0\.4: 50\.0% of 4 .* \(2 empty or only white"
    ):
        prepare.run(make("prepare"))
    make = tasks(tmp_path, *words, "heldout.max_dropped=0.5")
    prepare.run(make("prepare"))
    assert state.remarks(make("prepare").paths, make("prepare").stage) == [
        "heldout: 2 of 4 documents dropped (50.0%): 2 empty or only whitespace"
    ]


def test_a_tokenizer_with_code_of_its_own_works_where_that_is_asked_for_and_travels_with_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))

    def own_code(model: Path) -> None:
        (model / "tokenization_mine.py").write_text(
            "from transformers import PreTrainedTokenizerFast\n\n\n"
            "class MineTokenizerFast(PreTrainedTokenizerFast):\n    mine = True\n"
        )
        file = model / "tokenizer_config.json"
        own = {"AutoTokenizer": [None, "tokenization_mine.MineTokenizerFast"]}
        settings = json.loads(file.read_text()) | {"tokenizer_class": "MineTokenizerFast", "auto_map": own}
        file.write_text(json.dumps(settings))

    task = tasks(tmp_path, "model.trust_remote_code=true", edit=own_code)
    prepare.run(task("prepare"))
    base = task("prepare").paths.base
    assert (base / "tokenization_mine.py").exists()
    assert AutoTokenizer.from_pretrained(base, trust_remote_code=True).mine
