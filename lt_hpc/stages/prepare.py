"""prepare: documents -> chunks -> token ids, once. Every later stage works on these ids.

Writes base/ (the base model with the markers) and the folders corpus/, warm/ and heldout/.
A part file holds a fixed number of documents, so a run that was stopped goes on after the
last part that is complete.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lt_hpc.config.schema import ChunkingConfig, Config, CorpusConfig
from lt_hpc.data import base_model, chunking, sources
from lt_hpc.data.encoding import Encoder
from lt_hpc.data.sources import Document
from lt_hpc.errors import ConfigError
from lt_hpc.latent.cost import longest_sequence
from lt_hpc.latent.layout import NUM_JOINT_MARKERS, longest_chunk
from lt_hpc.run.plan import CORPORA, build_plan
from lt_hpc.stages import probe
from lt_hpc.stages.task import Task, Vocabulary, read_vocabulary
from lt_hpc.store import manifest, tables
from lt_hpc.store.atomic import atomic_folder
from lt_hpc.store.counts import DROPPED, UNKNOWN_TOKENS, dropped
from lt_hpc.store.manifest import FileEntry, Manifest
from lt_hpc.store.parts import Parts
from lt_hpc.store.paths import documents_part, relative_paths

PART_DOCUMENTS = 4096


def run(task: Task) -> None:
    """Write whatever of base/ and the three corpora is missing."""
    outputs = task.stage.outputs
    base = relative_paths().base
    if str(base) in outputs:
        _prepare_base(task, task.paths.base, outputs[str(base)])
    encoder = Encoder(base_model.load_tokenizer(task.paths.base, task.plan.config.model))
    vocabulary = read_vocabulary(task.paths.base)
    _check_layout(task.plan.config, vocabulary)
    names = [name for name in outputs if name != str(base)]
    folders = {name: task.paths.documents(name) for name in names}
    missing = [name for name in names if manifest.problem(folders[name], outputs[name], checksums=True)]
    task.progress.start(len(names), "corpora", len(names) - len(missing))
    for name in missing:
        _refuse_changed(task, name)
        source = _source(task, name)
        _Preparation(task, name, source, encoder, vocabulary, folders[name], outputs[name]).run()
        task.progress.advance()


def _check_layout(config: Config, vocabulary: Vocabulary) -> None:
    """What can't be known before the tokenizer is there."""
    chunking, bos = config.chunking, vocabulary.bos is not None
    room = longest_chunk(config.model.context_length, config.sample.max_thought_tokens) - bos
    if chunking.mode == "given" and vocabulary.eos is None:
        raise ConfigError(
            f"model.path={config.model.path!r}: its tokenizer has no eos_token, so no answer could end; name "
            "one in its tokenizer_config.json, or use chunking.mode=sentences"
        )
    if chunking.max_chunk_tokens > room:
        raise ConfigError(
            f"chunking.max_chunk_tokens={chunking.max_chunk_tokens}: with a bos token before every sequence "
            f"(model.bos) a chunk may have at most {room} tokens"
        )


def _refuse_changed(task: Task, name: str) -> None:
    """A source is what it was when the run was planned: its fingerprint names that.

    Raises:
        ConfigError: when it has changed since.
    """
    config = task.plan.config
    identities: dict[str, Any] = dict.fromkeys(CORPORA)
    identities["model"] = base_model.identity(config.model)
    base = str(relative_paths().base)
    section = "model" if name == base else name if name in CORPORA else "corpus"
    if section != "model":
        identities[section] = sources.identity(getattr(config, section))
    now = build_plan(config, task.plan.iterations, identities)
    if now.output(base) != task.plan.output(base):
        raise ConfigError(f"model.path={config.model.path!r}: has changed since the launch; launch again")
    if now.output(name) != task.plan.output(name):
        source = getattr(config, section).source
        raise ConfigError(f"{section}.source={source!r}: has changed since the launch; launch again")


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
        network = base_model.build(task.plan.config.model, temporary)
        _refuse_changed(task, folder.name)
        print(probe.check(temporary, network, task.plan.config), flush=True)
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
    encoder: Encoder
    vocabulary: Vocabulary
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
            self._check_unknown(counts)
            self._check_dropped(counts, stream_ended=len(batch) < PART_DOCUMENTS)
        if not counts["chunks"]:
            reasons = dropped(counts) or "empty"
            raise ConfigError(f"{self.name}.source={self.corpus.source!r}: no usable document ({reasons})")
        _refuse_changed(self.task, self.name)  # and not while they were read
        parts.finish()

    def _check_dropped(self, counts: Counter[str], stream_ended: bool) -> None:
        """A few documents say little of a share, unless there are no more."""
        share = 1 - counts["kept"] / counts["documents"]
        if share > self.corpus.max_dropped and (stream_ended or counts["documents"] >= PART_DOCUMENTS):
            raise ConfigError(
                f"{self.name}.max_dropped={self.corpus.max_dropped}: {share:.1%} of {counts['documents']} "
                f"documents of {self.corpus.source!r} are dropped ({dropped(counts)})"
            )

    def _check_unknown(self, counts: Counter[str]) -> None:
        """Another tokenizer than the text's leaves nothing to learn from."""
        share = counts[UNKNOWN_TOKENS] / max(1, counts["tokens"] + counts["thought tokens"])
        if share > self.corpus.max_unknown:
            example = self.encoder.unknown_example
            raise ConfigError(
                f"{self.name}.max_unknown={self.corpus.max_unknown}: the tokenizer of "
                f"model.path={self.task.plan.config.model.path!r} does not know {share:.1%} of the tokens of "
                f"{self.corpus.source!r}" + (f", for example {example[:40]!r}" if example else "")
            )

    @cached_property
    def longest(self) -> int | None:
        """Tokens that the base has positions for."""
        return longest_sequence(json.loads((self.task.paths.base / "config.json").read_text()))

    def _check_answer(self, row: _Row) -> None:
        """A question, a thought and the longest answer that may be generated need a position each."""
        config, bos = self.task.plan.config, self.vocabulary.bos is not None
        thought, answer = config.sample.max_thought_tokens, config.evaluate.max_answer_tokens
        room = longest_chunk(config.model.context_length, thought) - len(row.chunks[0])
        needed = min(len(row.question) + bos, room) + NUM_JOINT_MARKERS + thought + answer
        if self.longest is not None and needed > self.longest:
            raise ConfigError(
                f"evaluate.max_answer_tokens={answer}: with its question and thought an answer may need "
                f"{needed} positions, the model has {self.longest}: lower it, or model.context_length"
            )

    def _write_part(self, part: int, batch: list[Document], first_chunk: int) -> FileEntry:
        config = self.task.plan.config
        counts: Counter[str] = Counter()
        columns: dict[str, list[Any]] = {name: [] for name in tables.DOCUMENTS.names}
        taught = self.name == "warm" and config.teacher.kind == "corpus"
        for index, row in enumerate(
            tokenise(batch, self.encoder, config.chunking, taught, self.vocabulary.eos)
        ):
            counts["documents"] += 1
            reason = row.reason(taught, config.sample.max_thought_tokens)
            if reason:
                counts[f"{DROPPED}{reason}"] += 1
                continue
            if row.given and self.name == "heldout":
                self._check_answer(row)
            columns["document"].append(part * PART_DOCUMENTS + index)
            columns["first_chunk"].append(first_chunk + counts["chunks"])
            columns["context"].append(row.question)
            columns["tokens"].append([token for chunk in row.chunks for token in chunk])
            columns["chunk_lengths"].append([len(chunk) for chunk in row.chunks])
            columns["chunk_bytes"].append(row.num_bytes)
            columns["thoughts"].append(row.thoughts)
            counts["chunks"] += len(row.chunks)
            counts["tokens"] += len(row.question) + sum(map(len, row.chunks))
            counts["thought tokens"] += sum(map(len, row.thoughts))
            counts[UNKNOWN_TOKENS] += row.unknown
        path = self.folder / documents_part(part)
        tables.write(path, tables.DOCUMENTS, columns)
        counts["kept"] = len(columns["document"])
        counts.setdefault("chunks", 0)
        return manifest.describe(
            path, {key: n for key, n in counts.items() if n or key in ("kept", "chunks")}
        )


@dataclass(frozen=True)
class _Row:
    """Token ids of a document: its question, its chunks (of `num_texts` texts, some of which may have
    been split), and the teacher's thoughts; how many of its tokens are unknown."""

    given: bool
    question: list[int]
    chunks: list[list[int]]
    num_bytes: list[int]
    num_texts: int
    thoughts: list[list[int]]
    unknown: int

    def reason(self, needs_thought: bool, max_thought_tokens: int) -> str | None:
        """Why the document is dropped, or None."""
        if not self.chunks:
            return "empty or only whitespace"
        if self.given and len(self.chunks) > self.num_texts:
            return "answer longer than chunking.max_chunk_tokens"
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


def tokenise(
    batch: list[Document], encoder: Encoder, settings: ChunkingConfig, taught: bool, eos: int | None
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
    encoded = iter(encoder.encode(texts, inside))
    for num_bytes, num_thoughts in shapes:
        found = list(itertools.islice(encoded, len(num_bytes) + num_thoughts))
        ids = [one.ids for one in found]
        unknown = sum(one.unknown for one in found)
        yield _row(ids[: len(num_bytes)], num_bytes, ids[len(num_bytes) :], unknown, settings, eos)


def _pieces(document: Document, settings: ChunkingConfig, taught: bool) -> list[str]:
    """The texts of one document: its chunks, with the question first when the split is given."""
    if settings.mode == "given":
        question, answer = document.question or "", document.answer or ""
        return [question, answer] if question.strip() and answer.strip() else []
    if isinstance(document.text, tuple):
        return chunking.join_blank(document.text)
    if taught:  # one thought, one chunk
        return [document.text] if document.text.strip() else []
    return chunking.chunk_text(
        document.text, mean=settings.mean_sentences, low=settings.min_sentences, high=settings.max_sentences
    )


def _thoughts(document: Document) -> list[str]:
    if document.thought is None:
        return []
    thoughts = [document.thought] if isinstance(document.thought, str) else document.thought
    return [thought if thought.strip() else "" for thought in thoughts]


def _row(
    ids: list[list[int]],
    num_bytes: list[int],
    thoughts: list[list[int]],
    unknown: int,
    settings: ChunkingConfig,
    eos: int | None,
) -> _Row:
    """Of a document's pieces and thoughts, as ids."""
    given = settings.mode == "given" and bool(ids)
    question = ids[0] if given else []
    ids, num_bytes = ids[given:], num_bytes[given:]
    # Blank texts of a list are empty, and a normalising tokenizer may leave nothing of invisible characters.
    kept = [index for index, chunk in enumerate(ids) if chunk]
    if len(thoughts) == len(ids):
        thoughts = [thoughts[index] for index in kept]
    ids, num_bytes = [ids[index] for index in kept], [num_bytes[index] for index in kept]
    if ids and eos is not None:
        ids[-1] = [*ids[-1], eos]  # the end of a document is part of its last chunk
    chunks: list[list[int]] = []
    sizes: list[int] = []
    for chunk, size in zip(ids, num_bytes, strict=True):
        pieces = chunking.split_long(chunk, settings.max_chunk_tokens)
        shares = [size * len(piece) // len(chunk) for piece in pieces]
        shares[-1] += size - sum(shares)
        chunks += pieces
        sizes += shares
    return _Row(given, question, chunks, sizes, len(ids), thoughts, unknown)
