"""prepare: documents -> chunks -> token ids, once. Every later stage works on these ids.

Writes base/ (the base model with the markers) and the folders corpus/, warm/ and heldout/.
A part file holds a fixed number of documents, so a run that was stopped goes on after the
last part that is complete.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lt_hpc.config.schema import ChunkingConfig, CorpusConfig
from lt_hpc.data import base_model, chunking, sources
from lt_hpc.data.sources import Document
from lt_hpc.errors import ConfigError
from lt_hpc.run.plan import CORPORA
from lt_hpc.stages.task import Task, read_vocabulary
from lt_hpc.store import manifest, tables
from lt_hpc.store.atomic import atomic_folder
from lt_hpc.store.manifest import FileEntry, Manifest
from lt_hpc.store.parts import Parts
from lt_hpc.store.paths import documents_part, relative_paths

PART_DOCUMENTS = 4096
SPACE = "\u2581"
"""SentencePiece's space."""


def run(task: Task) -> None:
    """Write whatever of base/ and the three corpora is missing."""
    outputs = task.stage.outputs
    base = relative_paths().base
    if str(base) in outputs:
        _prepare_base(task, task.paths.base, outputs[str(base)])
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(task.paths.base)
    vocabulary = read_vocabulary(task.paths.base)
    names = [name for name in outputs if name != str(base)]
    folders = {name: task.paths.documents(name) for name in names}
    missing = [name for name in names if manifest.problem(folders[name], outputs[name], checksums=True)]
    task.progress.start(len(names), "corpora", len(names) - len(missing))
    for name in missing:
        corpus, eos = _source(task, name), vocabulary.eos
        _Preparation(task, name, corpus, tokenizer, eos, folders[name], outputs[name]).run()
        task.progress.advance()


def _source(task: Task, name: str) -> CorpusConfig:
    """Where the documents of a folder come from: each iteration's fresh ones follow those before."""
    config = task.plan.config
    if name in CORPORA:
        return getattr(config, name)  # type: ignore[no-any-return]
    assert config.corpus.num_documents is not None  # checked with the configuration
    skipped = (task.stage.iteration - 1) * config.corpus.num_documents
    return dataclasses.replace(config.corpus, offset=config.corpus.offset + skipped)


def _prepare_base(task: Task, folder: Path, fingerprint: str) -> None:
    if manifest.problem(folder, fingerprint, checksums=True) is None:
        return
    started = time.monotonic()
    with atomic_folder(folder) as temporary:
        base_model.build(task.plan.config.model, temporary)
        files = tuple(manifest.describe(path) for path in sorted(temporary.iterdir()))
        manifest.write(
            temporary,
            Manifest(
                "base", fingerprint, True, files, seconds=time.monotonic() - started,
                provenance=manifest.provenance(),
            ),
        )  # fmt: skip


@dataclass
class _Preparation:
    """One corpus on its way into a folder."""

    task: Task
    name: str
    corpus: CorpusConfig
    tokenizer: Any
    eos: int | None
    folder: Path
    fingerprint: str

    def run(self) -> None:
        mode = self.task.plan.config.chunking.mode
        parts = Parts(self.folder, "documents", self.fingerprint)
        counts: Counter[str] = Counter()
        stream = sources.documents(self.corpus, mode)
        for part in itertools.count():
            started = time.monotonic()
            batch = list(itertools.islice(stream, PART_DOCUMENTS))
            if not batch:
                break
            self.task.stop_if_asked()
            entry = parts.get(documents_part(part))
            if entry is None:
                entry = self._write_part(part, batch, counts["chunks"])
                parts.add(entry, time.monotonic() - started)
                self.task.progress.advance(0, f"{self.name}: part {part + 1}")
            counts.update(entry.counts)
        if not counts["chunks"]:
            reasons = ", ".join(f"{k} {v}" for k, v in sorted(counts.items()) if k.startswith("dropped"))
            raise ConfigError(
                f"{self.name}.source={self.corpus.source!r}: no usable document ({reasons or 'empty'})"
            )
        parts.finish()

    def _write_part(self, part: int, batch: list[Document], first_chunk: int) -> FileEntry:
        config = self.task.plan.config
        counts: Counter[str] = Counter()
        columns: dict[str, list[Any]] = {name: [] for name in tables.DOCUMENTS.names}
        taught = self.name == "warm"
        for index, row in enumerate(_tokenise(batch, self.tokenizer, config.chunking, taught, self.eos)):
            counts["documents"] += 1
            dropped = row.reason(taught, config.sample.max_thought_tokens)
            if dropped:
                counts[f"dropped: {dropped}"] += 1
                continue
            columns["document"].append(part * PART_DOCUMENTS + index)
            columns["first_chunk"].append(first_chunk + counts["chunks"])
            columns["context"].append(row.question)
            columns["tokens"].append([token for chunk in row.chunks for token in chunk])
            columns["chunk_lengths"].append([len(chunk) for chunk in row.chunks])
            columns["chunk_bytes"].append(row.num_bytes)
            columns["thoughts"].append(row.thoughts)
            counts["chunks"] += len(row.chunks)
            counts["tokens"] += len(row.question) + sum(map(len, row.chunks))
        path = self.folder / documents_part(part)
        tables.write(path, tables.DOCUMENTS, columns)
        counts["kept"] = len(columns["document"])
        counts.setdefault("chunks", 0)
        return manifest.describe(path, counts)


@dataclass(frozen=True)
class _Row:
    """Token ids of a document: its question, its chunks (of `num_texts` texts, some of which may have
    been split), and the teacher's thoughts."""

    question: list[int]
    chunks: list[list[int]]
    num_bytes: list[int]
    num_texts: int
    thoughts: list[list[int]]

    def reason(self, needs_thought: bool, max_thought_tokens: int) -> str | None:
        """Why the document is dropped, or None."""
        if not self.chunks:
            return "empty or only whitespace"
        if not needs_thought:
            return None
        if not self.thoughts or not all(self.thoughts):
            return "no teacher thought"
        if len(self.thoughts) != self.num_texts:
            return "not one teacher thought per chunk"
        if len(self.chunks) > self.num_texts:
            return "chunk with a teacher thought too long"
        if max(map(len, self.thoughts)) >= max_thought_tokens:
            return "teacher thought too long"
        return None


def _tokenise(
    batch: list[Document], tokenizer: Any, settings: ChunkingConfig, taught: bool, eos: int | None
) -> Iterator[_Row]:
    """Token ids of every document, all texts of the batch through the tokenizer at once; `taught`
    ones with their teacher's thoughts."""
    texts: list[str] = []
    inside: list[bool] = []
    shapes: list[tuple[list[int], int]] = []
    for document in batch:
        pieces = _pieces(document, settings, taught)
        thoughts = _thoughts(document) if pieces and taught else []
        texts += [*pieces, *thoughts]
        inside += [settings.mode != "given" and index > 0 for index in range(len(pieces))]
        inside += [False] * len(thoughts)
        shapes.append(([len(text.encode()) for text in pieces], len(thoughts)))
    encoded = iter(_encode(texts, inside, tokenizer))
    for num_bytes, num_thoughts in shapes:
        ids = list(itertools.islice(encoded, len(num_bytes)))
        thoughts_ids = list(itertools.islice(encoded, num_thoughts))
        given = settings.mode == "given" and bool(ids)
        question = ids.pop(0) if given else []
        num_bytes = num_bytes[1:] if given else num_bytes
        yield _row(question, ids, num_bytes, thoughts_ids, settings.max_chunk_tokens, eos)


def _encode(texts: list[str], inside: list[bool], tokenizer: Any) -> list[list[int]]:
    """Token ids of texts; those that lie `inside` of a document are the text after an earlier chunk.

    SentencePiece as in Llama 2 puts a space before every text, which would stand between two chunks:
    such a chunk is encoded behind a line break, which is taken off again.
    """
    if not texts:
        return []
    lead = tokenizer("\n", add_special_tokens=False)["input_ids"]
    if not any(token.startswith(SPACE) for token in tokenizer.convert_ids_to_tokens(lead[:1])):
        inside = [False] * len(texts)
    led = ["\n" + text if later else text for text, later in zip(texts, inside, strict=True)]
    encoded = tokenizer(led, add_special_tokens=False)["input_ids"]
    return [
        ids[len(lead) :] if later and ids[: len(lead)] == lead else ids
        for ids, later in zip(encoded, inside, strict=True)
    ]


def _pieces(document: Document, settings: ChunkingConfig, taught: bool) -> list[str]:
    """The texts of one document: its chunks, with the question first when the split is given."""
    if settings.mode == "given":
        question, answer = document.question or "", document.answer or ""
        return [question, answer] if question.strip() and answer.strip() else []
    if isinstance(document.text, tuple):
        return list(document.text)
    if taught:  # one thought, one chunk
        return [document.text] if document.text.strip() else []
    return chunking.chunk_text(
        document.text, mean=settings.mean_sentences, low=settings.min_sentences, high=settings.max_sentences
    )


def _thoughts(document: Document) -> list[str]:
    if document.thought is None:
        return []
    return [document.thought] if isinstance(document.thought, str) else list(document.thought)


def _row(
    question: list[int],
    ids: list[list[int]],
    num_bytes: list[int],
    thoughts: list[list[int]],
    limit: int,
    eos: int | None,
) -> _Row:
    chunks: list[list[int]] = []
    sizes: list[int] = []
    # A normalising tokenizer may leave nothing of a text of invisible characters.
    kept = [index for index, chunk in enumerate(ids) if chunk]
    if len(thoughts) == len(ids):
        thoughts = [thoughts[index] for index in kept]
    ids, num_bytes = [ids[index] for index in kept], [num_bytes[index] for index in kept]
    if ids and eos is not None:
        ids[-1] = [*ids[-1], eos]  # the end of a document is part of its last chunk
    for chunk, size in zip(ids, num_bytes, strict=True):
        pieces = chunking.split_long(chunk, limit)
        shares = [size * len(piece) // len(chunk) for piece in pieces]
        shares[-1] += size - sum(shares)
        chunks += pieces
        sizes += shares
    return _Row(question, chunks, sizes, len(ids), thoughts)
