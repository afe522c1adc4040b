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
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lt_hpc.config.schema import CORPORA, Config, CorpusConfig
from lt_hpc.data import base_model, sources
from lt_hpc.data.encoding import Encoder
from lt_hpc.data.sources import Document
from lt_hpc.data.tokenising import Row, tokenise
from lt_hpc.errors import ConfigError
from lt_hpc.latent.cost import longest_sequence
from lt_hpc.latent.layout import NUM_JOINT_MARKERS, longest_chunk
from lt_hpc.run.build import build_plan
from lt_hpc.stages import probe
from lt_hpc.stages.overlap import Overlap
from lt_hpc.stages.task import Task, Vocabulary, read_vocabulary
from lt_hpc.store import manifest, tables
from lt_hpc.store.atomic import atomic_folder
from lt_hpc.store.counts import DROPPED, LEFT_OUT, UNKNOWN_TOKENS, dropped, left_out, num_left_out
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
    names = [name for name in outputs if name != str(base)]
    if not names:  # the base alone is benchmarked
        return
    encoder = Encoder(base_model.load_tokenizer(task.paths.base, task.plan.config.model))
    vocabulary = read_vocabulary(task.paths.base)
    _check_layout(task.plan.config, vocabulary)
    folders = {name: task.paths.documents(name) for name in names}
    missing = [name for name in names if manifest.problem(folders[name], outputs[name], checksums=True)]
    task.progress.start(len(names), "corpora", len(names) - len(missing))
    for name in missing:
        _refuse_changed(task, name)
        source = _source(task, name)
        preparation = _Preparation(task, name, source, encoder, vocabulary, folders[name], outputs[name])
        preparation.run(is_last=name == missing[-1])
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
    if config.objective == "none":
        identities["benchmark"] = {"markers": base_model.has_markers(config.model)}
    base = str(relative_paths().base)
    section = "model" if name == base else name if name in CORPORA else "corpus"
    if section != "model":
        identities[section] = sources.identity_in(config, section)
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
        model = task.plan.config.model
        markers = task.plan.config.objective != "none" or base_model.has_markers(model)
        network = base_model.build(model, temporary, markers)
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

    def run(self, is_last: bool) -> None:
        """`is_last`: then the stage is done, and with it the counts of the folders made before."""
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
        overlap = Overlap(self.task, self.name, parts.files)
        if is_last:
            overlap.renew()
        parts.finish(overlap.counts())

    def _check_dropped(self, counts: Counter[str], stream_ended: bool) -> None:
        """A few documents say little of a share, unless there are no more."""
        if not stream_ended and counts["documents"] < PART_DOCUMENTS:
            return
        documents, out = counts["documents"], num_left_out(counts)
        chunks = counts["chunks"] + out
        shares = (
            (documents - counts["kept"], documents, "documents", "dropped", dropped(counts)),
            (out, max(1, chunks), "chunks", "left out", left_out(counts)),
        )
        for lost, total, what, how, reasons in shares:
            if lost / total > self.corpus.max_dropped:
                raise ConfigError(
                    f"{self.name}.max_dropped={self.corpus.max_dropped}: {lost / total:.1%} of {total} "
                    f"{what} of {self.corpus.source!r} are {how} ({reasons})"
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

    def _check_answer(self, row: Row) -> None:
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
        taught = self.name == "warm" and config.warm_is_taught
        rows = tokenise(batch, self.encoder, config.chunking, taught, self.vocabulary.eos)
        for index, (document, row) in enumerate(zip(batch, rows, strict=True)):
            counts["documents"] += 1
            reason = row.reason(taught)
            if taught and reason is None:
                row, faults = row.teachable(config.sample.max_thought_tokens)
                reason = None if row.chunks else faults[0]
                counts.update(f"{LEFT_OUT}{fault}" for fault in faults if reason is None)
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
            columns["hash"].append(document.hash)
            counts["chunks"] += len(row.chunks)
            counts["tokens"] += len(row.question) + sum(map(len, row.chunks))
            counts["thought tokens"] += sum(map(len, row.thoughts))
            counts[UNKNOWN_TOKENS] += sum(row.unknown)
        path = self.folder / documents_part(part)
        tables.write(path, tables.DOCUMENTS, columns)
        counts["kept"] = len(columns["document"])
        counts.setdefault("chunks", 0)
        return manifest.describe(
            path, {key: n for key, n in counts.items() if n or key in ("kept", "chunks")}
        )
